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
mod usage;
mod wake;
mod writing;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = usage::parse();
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
