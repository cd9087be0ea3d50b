//! The command `defrost`: options become library calls, results become text or JSON. No logic.

mod adapt;
mod bench;
mod calibrate;
mod certify;
mod completions;
mod convert;
mod data;
mod demo;
mod devices;
mod environment;
mod eval;
mod explain;
mod export;
mod fewshot;
mod inspect;
mod lr_find;
mod models;
mod names;
mod network;
mod output;
mod predict;
mod pretrain;
mod progress;
mod report;
mod settings;
mod train;
mod tune;
mod weights;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::gpu::DeviceChoice;
use crate::models::Hub;
use crate::plan::{Chosen, Device};
use crate::{Error, Result};
use environment::cache_folder;
use output::{Color, Output, escaped};

const EXAMPLES: &str = "\
Examples:
  defrost train photos/ --model resnet50
  defrost eval runs/photos-resnet50 test/
  defrost predict runs/photos-resnet50 image.jpg holidays/
  defrost explain runs/photos-resnet50 image.jpg -o why.png
  defrost export runs/photos-resnet50 photos-net/
  defrost inspect resnet50 --freeze-through layer3
  defrost devices
  defrost certify
  defrost bench resnet18

Results go to stdout, progress to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.";

/// Transfer learning on any GPU: train a pretrained network on your own images.
#[derive(Debug, Parser)]
#[command(name = "defrost", version, after_help = EXAMPLES, max_term_width = 110, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoCommand),
    Train(Box<train::Train>),
    LrFind(Box<lr_find::LrFind>),
    Eval(eval::Eval),
    Adapt(adapt::Adapt),
    Calibrate(calibrate::Calibrate),
    Fewshot(fewshot::FewshotCommand),
    Predict(predict::Predict),
    Explain(explain::Explain),
    Report(report::ReportCommand),
    Data(data::DataCommand),
    Inspect(inspect::Inspect),
    Devices(devices::Devices),
    Certify(certify::Certify),
    Bench(bench::Bench),
    Tune(tune::Tune),
    Models(models::Models),
    Weights(weights::WeightsCommand),
    Convert(convert::Convert),
    Pretrain(pretrain::PretrainCommand),
    Export(export::Export),
    Completions(completions::Completions),
    #[command(name = "man")]
    Manual(completions::Manual),
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Where to run: auto (the best real GPU, else the CPU), gpu, cpu, software (Vulkan without a GPU), or
    /// an adapter's number or name as `defrost devices` lists them [default: auto]
    #[arg(long, global = true, env = "DEFROST_DEVICE", hide_env_values = true)]
    device: Option<String>,
    /// Threads that decode images and, where the device is the CPU, compute; results do not depend on them [default:
    /// all]
    #[arg(long, global = true, value_name = "N", env = "DEFROST_THREADS", hide_env_values = true,
        value_parser = threads)]
    threads: Option<usize>,
    /// Download nothing: use only weights that are on this machine
    #[arg(long, global = true)]
    offline: bool,
    /// Write one JSON object a line to stdout instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Colours
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    color: Color,
    /// Only results, warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more: the device, every file that is not used, every class
    #[arg(short, long, global = true)]
    verbose: bool,
}

/// The settings shared by all commands.
struct Session {
    out: Output,
    /// The device option, where one was given.
    device: Option<String>,
    offline: bool,
}

impl Session {
    /// Where published weights come from.
    fn hub(&self) -> Hub {
        let hub = environment::hub();
        Hub { offline: hub.offline || self.offline, ..hub }
    }

    /// Opens the device of the options. Where no device was named and this is the CPU, prints the reason.
    fn device(&self) -> Result<Device> {
        let device = DeviceChoice::parse(self.device.as_deref().unwrap_or_default());
        let Chosen { device, why, warnings, .. } = Device::choose(&environment::gpu_options(device))?;
        warnings.iter().for_each(|warning| self.out.warn(warning));
        let because = if why.is_empty() { String::new() } else { format!(" ({why})") };
        if self.out.verbose || (matches!(device, Device::Cpu) && !why.is_empty()) {
            self.out.note(format_args!("device: {}{because}", device.describe()));
        }
        if let Device::Gpu(gpu) = &device {
            tune::recall(&self.out, gpu);
            gpu.keep_pipelines(&cache_folder().join("pipelines"));
        }
        Ok(device)
    }
}

/// Makes the one pool of threads that everything runs on.
fn start_threads(threads: Option<usize>) -> Result<()> {
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = threads {
        pool = pool.num_threads(threads);
    }
    let option = threads.map_or("--threads".into(), |threads| format!("--threads {threads}"));
    pool.build_global()
        .map_err(|e| usage_error(format!("{option}: the threads cannot be started: {e}; try fewer")))
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    crate::panics::keep_quiet();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    let Global { device, threads, offline, json, color, quiet, verbose } = cli.global;
    let session = Session { out: Output::new(json, quiet, verbose, color), device, offline };
    let outcome = start_threads(threads).and_then(|()| match cli.command {
        Command::Demo(command) => command.run(&session),
        Command::Train(command) => command.run(&session),
        Command::LrFind(command) => command.run(&session),
        Command::Eval(command) => command.run(&session),
        Command::Adapt(command) => command.run(&session),
        Command::Calibrate(command) => command.run(&session),
        Command::Fewshot(command) => command.run(&session),
        Command::Predict(command) => command.run(&session),
        Command::Explain(command) => command.run(&session),
        Command::Report(command) => command.run(&session),
        Command::Data(command) => command.run(&session),
        Command::Inspect(command) => command.run(&session),
        Command::Devices(command) => command.run(&session),
        Command::Certify(command) => command.run(&session),
        Command::Bench(command) => command.run(&session),
        Command::Tune(command) => command.run(&session),
        Command::Models(command) => command.run(&session),
        Command::Weights(command) => command.run(&session),
        Command::Convert(command) => command.run(&session),
        Command::Pretrain(command) => command.run(&session),
        Command::Export(command) => command.run(&session),
        Command::Completions(command) => command.run(&session),
        Command::Manual(command) => command.run(&session),
    });
    match outcome.and_then(|()| session.out.finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            session.out.error(&e);
            ExitCode::from(e.exit_code())
        }
    }
}

/// Help, version, or errors in the options, in clap's words.
fn usage(e: &clap::Error) -> ExitCode {
    if e.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
        let message = e.to_string();
        let message = message.strip_prefix("error: ").unwrap_or(&message).trim_end();
        Output::new(true, false, false, Color::Never)
            .event("error", serde_json::json!({ "message": message, "exit_code": e.exit_code() }));
    }
    // A shell's * may have put file names among the options, and clap repeats them as they are.
    let given = || std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    let parts = |arg: String| arg.split_once('=').map_or(String::new(), |(_, value)| value.into());
    let odd = given().chain(given().map(parts)).filter(|arg| escaped(arg) != *arg);
    let odd: Vec<String> = odd.collect();
    if e.use_stderr() && !odd.is_empty() {
        let text = odd.iter().fold(e.to_string(), |text, arg| text.replace(arg, &escaped(arg)));
        Output::new(false, false, false, Color::Never).aside(text.trim_end());
    } else {
        // A closed pipe is no error.
        let _ = e.print();
    }
    ExitCode::from(e.exit_code() as u8)
}

/// A number that counts something: at least one.
fn positive(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".into()),
        Ok(n) => Ok(n),
        Err(_) => Err("a whole number is needed".into()),
    }
}

/// A number of threads: no more than any machine has.
fn threads(text: &str) -> std::result::Result<usize, String> {
    const MOST: usize = 1024;
    match positive(text)? {
        n if n > MOST => Err(format!("at most {MOST} are understood")),
        n => Ok(n),
    }
}

/// A usage error.
fn usage_error(message: impl Into<String>) -> Error {
    Error::Usage(message.into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::error::ErrorKind;
    use clap::{CommandFactory, Parser};

    use super::Cli;

    #[test]
    fn the_options_are_consistent() {
        Cli::command().debug_assert();
    }

    /// The parser's error about the `defrost` command in a line of a shell, up to a pipe, a redirection or a comment.
    fn complaint(line: &str) -> Option<clap::Error> {
        let words = line.split_whitespace().skip_while(|word| *word != "defrost");
        let words = words.take_while(|word| !["|", ">", ">>", "#"].contains(word));
        Cli::try_parse_from(words.map(|word| word.trim_matches('\''))).err()
    }

    #[test]
    fn every_example_is_understood() {
        let mut examples = 0;
        let commands = Cli::command();
        for command in std::iter::once(&commands).chain(commands.get_subcommands()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let block = help.split("Examples:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
            for line in block.unwrap_or_default().replace("\\\n", " ").lines() {
                examples += 1;
                assert!(line.contains("defrost "), "{}: no example: {line}", command.get_name());
                if let Some(e) = complaint(line) {
                    panic!("help of {}: {}\n{e}", command.get_name(), line.trim());
                }
            }
        }
        assert!(examples > 50, "only {examples} examples were found");
    }

    /// Commands on lines of their own are run by `tests/docs.rs`.
    #[test]
    fn commands_within_sentences_are_understood() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let entries = ["docs", "docs/guide"].map(|folder| root.join(folder).read_dir().unwrap());
        let pages = entries.into_iter().flatten().map(|entry| entry.unwrap().path());
        let pages = pages.filter(|path| path.extension().is_some_and(|e| e == "md"));
        let mut found = 0;
        for path in pages.chain(["README.md", "CONTRIBUTING.md"].map(|name| root.join(name))) {
            let text = std::fs::read_to_string(&path).unwrap();
            let spans = text.split('`').skip(1).step_by(2).filter(|span| span.starts_with("defrost "));
            for span in spans.filter(|span| !span.contains("...")) {
                found += 1;
                let shortened = |e: &clap::Error| {
                    matches!(
                        e.kind(),
                        ErrorKind::MissingRequiredArgument
                            | ErrorKind::MissingSubcommand
                            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                    )
                };
                if let Some(e) = complaint(span).filter(|e| !shortened(e)) {
                    panic!("{}: `{span}`\n{e}", path.display());
                }
            }
        }
        assert!(found > 10, "only {found} commands were found");
    }
}
