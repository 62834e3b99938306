//! What every subcommand is told: which store, and how to read it.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use erlmcp_shm_reader::{Entry, Kind, Options, Reader};
use std::path::{Path, PathBuf};

use crate::key::Key;
use crate::output::Failure;
use crate::snapshot::Watched;

/// The options of every subcommand, where they mean something.
#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Globals {
    /// The store's file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "ERLMCP_SHM_PATH",
        hide_env_values = true,
        default_value = "/dev/shm/erlmcp_export.bin"
    )]
    pub path: PathBuf,
    /// Whether the command line says so.
    #[arg(skip)]
    pub path_is_said: bool,
    /// Answer in JSON: one object for an answer, or one object a line for many
    #[arg(long, global = true)]
    pub json: bool,
    /// Accept a file of this user too, not only one of your own
    #[arg(long, global = true, value_name = "UID")]
    pub trust_owner: Option<u32>,
    /// Read by system calls instead of mapping: for a file whose owner might truncate it
    #[arg(long, global = true)]
    pub pread: bool,
    /// The client's configuration, for `read`, `tools`, `call`, `prompts` and `doctor`
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "ERLMCP_SHM_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
}

impl Globals {
    /// How to open the store. There is no need of a watcher: whoever waits looks at the path himself.
    pub fn options(&self) -> Options {
        let options = Reader::options().watcher(false).pread(self.pread);
        match self.trust_owner {
            Some(uid) => options.trust_owner(uid),
            None => options,
        }
    }

    /// For who watches the path for long, whether or not there is a file by now.
    pub fn watched(&self) -> Result<Watched, Failure> {
        Ok(Watched::new(&self.path, self.options())?)
    }

    /// Where the client's configuration is, for who cannot do without.
    pub fn config(&self) -> Result<&Path, Failure> {
        let missing = || Failure::Client("no configuration: pass --config FILE".into());
        self.config.as_deref().ok_or_else(missing)
    }

    /// Opens the store.
    pub fn open(&self) -> Result<Reader, Failure> {
        Ok(self.options().open(&self.path)?)
    }
}

/// Which entries a subcommand is about.
#[derive(Args)]
pub struct Filter {
    /// Only entries of this kind
    #[arg(long, value_parser = kind_parser())]
    kind: Option<Kind>,
    /// Only entries whose key begins with these bytes
    #[arg(long, value_parser = Key::raw_parser())]
    prefix: Option<Key>,
    /// The same, with \xNN and \\ for bytes as `list` prints them
    #[arg(long, value_name = "PREFIX", value_parser = Key::escaped_parser(), conflicts_with = "prefix")]
    escaped_prefix: Option<Key>,
}

impl Filter {
    /// What is said where there is none.
    pub fn nothing(&self) -> &'static str {
        let all = self.kind.is_none() && self.prefix.is_none() && self.escaped_prefix.is_none();
        match all {
            true => "the store is empty: nothing is published in it",
            false => "no entry is of that kind and prefix",
        }
    }

    /// Whether the entry is one of them.
    pub fn accepts(&self, entry: &Entry<'_>) -> bool {
        let prefix = self.prefix.as_ref().or(self.escaped_prefix.as_ref());
        self.kind.is_none_or(|kind| kind == entry.kind())
            && prefix.is_none_or(|prefix| entry.key().starts_with(prefix.bytes()))
    }
}

/// Takes the name of a kind.
pub fn kind_parser() -> impl TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(Kind::ALL.map(Kind::as_str))
        .map(|name| name.parse().expect("one of the names of the kinds"))
}
