//! Why a configuration was refused: every reason in it, each with its place and, where there is one, a suggestion.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::path::PathBuf;

/// Why there is no configuration.
///
/// ```
/// use erlmcp_shm_client::config::Config;
/// let error = Config::parse("[mcp]\ntransprot = 1\n\n[cache]\nl1.size = \"10 megs\"").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "2:1: unknown key mcp.transprot: did you mean mcp.transport?\n\
///      5:11: cache.l1.size is \"10 megs\": expected a size such as \"10MB\" or \"512kB\", or a number of bytes"
/// );
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: {source}: check the path, and that it is UTF-8 text", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What it says cannot be so.
    #[error("{}", Lines { path, problems })]
    Refused {
        /// The file, if it was one.
        path: Option<PathBuf>,
        /// All that is wrong with it, in its order; at least one.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Line in the file, from 1.
    pub line: usize,
    /// Character in the line, from 1.
    pub column: usize,
    /// What it is.
    pub fault: Fault,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is not TOML.
    Syntax(String),
    /// There is no such key.
    UnknownKey {
        /// Its name, from the top of the file.
        key: String,
        /// The names that there are in its table.
        known: Vec<&'static str>,
    },
    /// The key is there, its value is none.
    WrongValue {
        /// Name of the key, from the top of the file.
        key: String,
        /// The value as it was written.
        found: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// The value is one, but not without another key.
    Needs {
        /// Name of the key, from the top of the file.
        key: &'static str,
        /// The value as it was written.
        found: String,
        /// What has to be set as well.
        needed: &'static str,
    },
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        match &self.fault {
            Fault::Syntax(message) => write!(f, "{message}")?,
            Fault::UnknownKey { key, known } => {
                write!(f, "unknown key {key}")?;
                if self.suggestion.is_none() {
                    write!(f, ": expected {}", known.join(", "))?;
                }
            }
            Fault::WrongValue {
                key,
                found,
                expected,
            } => write!(f, "{key} is {found}: expected {expected}")?,
            Fault::Needs { key, found, needed } => {
                write!(f, "{key} is {found}, which needs {needed} too")?;
            }
        }
        match &self.suggestion {
            Some(suggestion) => write!(f, ": did you mean {suggestion}?"),
            None => Ok(()),
        }
    }
}

/// One problem a line, as compilers write it, so that editors find the place.
struct Lines<'a> {
    path: &'a Option<PathBuf>,
    problems: &'a [Problem],
}

impl Display for Lines<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            if let Some(path) = self.path {
                write!(f, "{}:", path.display())?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
