//! `defrost report`: writes the report of a run, a page for a browser.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Session;
use super::output::escaped;
use super::progress::Progress;
use crate::{Result, report};

const EXAMPLES: &str = "\
Examples:
  defrost report runs/photos
  defrost report runs/photos --data photos/test

`defrost train` writes the report at its end; this writes it again, or for the first time.";

/// Write the report of a run: one page, report.html, that needs no other file
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ReportCommand {
    /// The run folder
    run: PathBuf,
    /// Report on these labelled images instead of the validation images: a folder of class folders, or a table (.csv)
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
}

impl ReportCommand {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        let device = session.device()?;
        let mut progress = Progress::new(out);
        let path = report::write(&self.run, self.data.as_deref(), &device, &mut progress)?;
        drop(progress);
        if out.json {
            out.event("done", json!({ "report": path.to_string_lossy() }));
        } else {
            out.line(escaped(path.display()));
        }
        Ok(())
    }
}
