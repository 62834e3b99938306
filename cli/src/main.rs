//! The command `erlmcp-shm`: looks into a store from outside the processes that use it, or is its writer itself.
//!
//! Data goes to stdout as it is, everything else to stderr. Exit codes: 0 found and well, 1 not found
//! or damaged, 2 wrong usage or a store that cannot be opened.

#![forbid(unsafe_code)]

mod commands;
mod dump;
mod facts;
mod globals;
mod key;
mod output;
mod progress;
mod publication;
mod snapshot;
mod tree;
mod uri;
mod wake;
mod writing;

use clap::Parser;
use globals::Globals;
use std::process::ExitCode;

/// Looks into an erlmcp-shm store: what an Erlang node publishes in shared memory
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: commands::Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 found; 1 not found, or damaged; 2 wrong usage, or a store that cannot be opened.
Data goes to stdout as it is, everything else to stderr.";

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    if let Some(file) = cli.command.file() {
        cli.globals.path = file.to_owned();
    }
    match cli.command.run(&cli.globals) {
        Ok(answer) => answer.into(),
        Err(failure) => {
            if let Some(message) = failure.message(&cli.globals.path) {
                output::say(message);
            }
            failure.into()
        }
    }
}
