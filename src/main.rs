//! The command `defrost`; see [`defrost::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    defrost::cli::main()
}
