//! The command line as a whole: the subcommands, and what holds for several of them.
//!
//! Two rules, for all: the store's file is `--path`, or the last argument of whatever looks into a store; and an option
//! that is everyone's is refused where it would mean nothing, and not shown there.

use crate::commands;
use crate::globals::Globals;
use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser};
use std::path::PathBuf;

/// Looks into an erlmcp-shm store: what an Erlang node publishes in shared memory
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: commands::Command,
}

const EXIT_CODES: &str = "\
Where FILE is an argument it is the store's file, and means the same as --path FILE.
Exit codes: 0 found; 1 not found, or damaged; 2 wrong usage, or a store that cannot be opened.
Data goes to stdout as it is, everything else to stderr.";

/// The id of the argument FILE.
const FILE: &str = "store_file";

/// What is said of a subcommand beside its own options.
struct About {
    name: &'static str,
    /// Whether FILE is its last argument.
    takes_file: bool,
    /// Ids of the global options that mean nothing to it.
    without: &'static [&'static str],
    examples: &'static str,
}

/// Whatever looks into a store has nothing to ask a server.
const fn looks(name: &'static str, examples: &'static str) -> About {
    About {
        name,
        takes_file: true,
        without: &["config"],
        examples,
    }
}

/// The same, with one form of answer only.
const fn looks_its_own_way(name: &'static str, examples: &'static str) -> About {
    About {
        without: &["config", "json"],
        ..looks(name, examples)
    }
}

/// A writer's file is its user's own, and mapped.
const fn writes(name: &'static str, examples: &'static str) -> About {
    About {
        takes_file: false,
        without: &["config", "trust_owner", "pread"],
        ..looks(name, examples)
    }
}

/// The client finds its store in its configuration.
const fn asks(name: &'static str, examples: &'static str) -> About {
    About {
        takes_file: false,
        without: &["pread"],
        ..looks(name, examples)
    }
}

const ABOUT: [About; 16] = [
    looks(
        "stat",
        "erlmcp-shm stat /dev/shm/erlmcp_export.bin\nerlmcp-shm stat --json | jq -e '.writer == \"alive\"'",
    ),
    looks(
        "list",
        "erlmcp-shm list --kind resource --prefix file:///etc/",
    ),
    looks(
        "get",
        "erlmcp-shm get resource file:///motd > motd\nerlmcp-shm get tool --escaped 'caf\\xe9' --metadata",
    ),
    looks("verify", "erlmcp-shm verify && echo sound"),
    looks("watch", "erlmcp-shm watch --kind tool"),
    looks("bench", "erlmcp-shm bench --reads 100000"),
    looks(
        "top",
        "erlmcp-shm top --sort updates\nerlmcp-shm top --once --json",
    ),
    looks_its_own_way(
        "serve",
        "erlmcp-shm serve --listen 9465\nerlmcp-shm serve --listen 0.0.0.0:9465 --allow-host node1.example",
    ),
    writes(
        "publish",
        "erlmcp-shm publish docs --path /dev/shm/docs.bin --prefix docs:// --watch",
    ),
    looks_its_own_way("dump", "erlmcp-shm dump > store.jsonl"),
    writes(
        "load",
        "erlmcp-shm load store.jsonl --path /dev/shm/copy.bin\n\
         erlmcp-shm dump | erlmcp-shm load - --path /dev/shm/copy.bin --replace",
    ),
    asks("read", "erlmcp-shm read file:///motd --config config.toml"),
    asks("tools", "erlmcp-shm tools --config config.toml"),
    asks(
        "call",
        "erlmcp-shm call add '{\"a\": 1, \"b\": 2}' --config config.toml",
    ),
    asks("prompts", "erlmcp-shm prompts --config config.toml"),
    asks("doctor", "erlmcp-shm doctor --config config.toml"),
];

/// What the command line asks for; or its help, or why it asks for nothing, and the end.
pub fn parse() -> Cli {
    let mut command = command();
    let matches = command.get_matches_mut();
    if let Some((name, given)) = matches.subcommand() {
        refuse(&mut command, name, given);
    }
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Some((_, given)) = matches.subcommand() {
        cli.globals.path_is_said = is_said(given, "path");
        if let Ok(Some(file)) = given.try_get_one::<PathBuf>(FILE) {
            cli.globals.path.clone_from(file);
        }
    }
    cli
}

fn command() -> clap::Command {
    let mut command = Cli::command();
    let globals: Vec<Arg> = command.get_arguments().cloned().collect();
    for about in &ABOUT {
        command = command.mut_subcommand(about.name, |sub| about.complete(sub, &globals));
    }
    command
}

impl About {
    fn complete(&self, mut sub: clap::Command, globals: &[Arg]) -> clap::Command {
        let meaningless = |arg: &&Arg| self.without.contains(&arg.get_id().as_str());
        sub = sub.args(
            globals
                .iter()
                .filter(meaningless)
                .map(|arg| arg.clone().hide(true)),
        );
        if self.takes_file {
            let file = Arg::new(FILE).value_name("FILE");
            let file = file.value_parser(ValueParser::path_buf());
            sub = sub.arg(file.help("The store's file, instead of --path"));
        }
        let before = match sub.get_after_help() {
            Some(help) => format!("{help}\n\n"),
            None => String::new(),
        };
        let examples = self.examples.replace('\n', "\n  ");
        sub.after_help(format!("{before}Examples:\n  {examples}"))
    }
}

/// Whether it was on the command line, and is no default and not out of the environment.
fn is_said(given: &ArgMatches, id: &str) -> bool {
    given.value_source(id) == Some(ValueSource::CommandLine)
}

fn refuse(command: &mut clap::Command, name: &str, given: &ArgMatches) {
    let about = ABOUT.iter().find(|about| about.name == name);
    let without = about.map_or(&[][..], |about| about.without);
    if let Some(id) = without.iter().find(|id| is_said(given, id)) {
        let option = id.replace('_', "-");
        let message = format!("the option '--{option}' means nothing to '{name}'");
        let sub = command.find_subcommand_mut(name);
        sub.expect("it was found before")
            .error(ErrorKind::UnknownArgument, message)
            .exit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_subcommand_is_told_of() {
        let command = command();
        command.clone().debug_assert();
        let there: Vec<_> = command
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        assert_eq!(there, ABOUT.map(|about| about.name));
        let globals: Vec<_> = command
            .get_arguments()
            .map(|arg| arg.get_id().as_str())
            .collect();
        for id in ABOUT.iter().flat_map(|about| about.without) {
            assert!(globals.contains(id), "{id}");
        }
    }

    #[test]
    fn every_example_is_a_command_line() {
        for about in &ABOUT {
            for line in about.examples.lines() {
                for part in line
                    .split(" | ")
                    .filter(|part| part.starts_with("erlmcp-shm "))
                {
                    let end = part.find(['>', '&']).unwrap_or(part.len());
                    // Quotes hold a word together, and one of ours has a blank in it.
                    let words = shell_words(&part[..end]);
                    let parsed = command().try_get_matches_from(&words);
                    assert!(parsed.is_ok(), "{words:?}: {parsed:?}");
                }
            }
            assert!(
                about
                    .examples
                    .starts_with(&format!("erlmcp-shm {}", about.name))
            );
        }
    }

    fn shell_words(text: &str) -> Vec<String> {
        let quoted = text.split('\'').enumerate();
        let words = quoted.flat_map(|(n, part)| match n % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        });
        words.collect()
    }
}
