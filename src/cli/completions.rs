//! `defrost completions` and `defrost man`: shell completions and manual pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

use super::output::escaped;
use super::{Cli, Session};
use crate::{Error, Result};

const SHELLS: &str = "\
Examples:
  defrost completions bash > ~/.local/share/bash-completion/completions/defrost
  defrost completions zsh > \"${fpath[1]}/_defrost\"
  defrost completions fish > ~/.config/fish/completions/defrost.fish
  defrost completions powershell >> $PROFILE";

/// Write a shell's completions to stdout
#[derive(Debug, Args)]
#[command(after_help = SHELLS)]
pub(super) struct Completions {
    /// For which shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "defrost", &mut script);
        let script = String::from_utf8_lossy(&script);
        let out = &session.out;
        if out.json {
            out.event("completions", json!({ "shell": self.shell.to_string(), "script": script }));
        } else {
            out.raw(script.trim_end());
        }
        Ok(())
    }
}

const PAGES: &str = "\
Examples:
  defrost man | man -l -
  defrost man ~/.local/share/man/man1";

/// Write manual pages: of the whole command to stdout, or one for each subcommand into a folder
#[derive(Debug, Args)]
#[command(after_help = PAGES)]
pub(super) struct Manual {
    /// The folder [default: the page of the whole command, to stdout]
    folder: Option<PathBuf>,
}

impl Manual {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        // `defrost help` would have a page for each command again.
        let command = Cli::command().disable_help_subcommand(true);
        let Some(folder) = &self.folder else {
            let mut page = Vec::new();
            let written = clap_mangen::Man::new(command).render(&mut page);
            written.map_err(|e| Error::io("the manual page", "write", e))?;
            let page = String::from_utf8_lossy(&page);
            match out.json {
                true => out.event("man", json!({ "page": page })),
                false => out.raw(page.trim_end()),
            }
            return Ok(());
        };
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create folder", e))?;
        clap_mangen::generate_to(command, folder).map_err(|e| Error::io(folder, "write pages into", e))?;
        match out.json {
            true => out.event("man", json!({ "folder": folder.to_string_lossy() })),
            false => out.line(escaped(folder.display())),
        }
        Ok(())
    }
}
