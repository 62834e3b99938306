//! What goes to stdout and stderr, and which exit code says what.

use crate::key::escaped;
use erlmcp_shm_reader::ReadError;
use erlmcp_shm_writer::WriteError;
use rustix::io::Errno;
use serde::Serialize;
use serde_json::value::RawValue;
use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, StdoutLock, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

/// What a subcommand that could do its work has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Found; sound.
    Yes,
    /// Not found; damaged.
    No,
}

impl From<Answer> for ExitCode {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Yes => ExitCode::SUCCESS,
            Answer::No => ExitCode::from(1),
        }
    }
}

/// Why a subcommand could not do its work.
#[derive(Debug)]
pub enum Failure {
    /// The store cannot be opened or read.
    Read(ReadError),
    /// The store cannot be written.
    Write(WriteError),
    /// What is to be written cannot be read.
    Input(String),
    /// What is to be written is not as it was.
    Damaged(String),
    /// The client has no answer, or its configuration is wrong.
    Client(String),
    /// No tier has it, or the server refuses.
    Absent(String),
    /// Stdout takes no more.
    Output(io::Error),
}

impl Failure {
    /// What to tell the user, if anything: that nobody reads on is no news to whoever stopped.
    pub fn message(&self, path: &Path) -> Option<String> {
        match self {
            Failure::Read(error) => Some(format!("{}: {}", shown(path), explained(*error))),
            Failure::Write(error) => Some(format!("{}: {}", shown(path), refused(*error, path))),
            Failure::Client(message)
            | Failure::Absent(message)
            | Failure::Input(message)
            | Failure::Damaged(message) => Some(message.clone()),
            Failure::Output(error) if error.kind() == ErrorKind::BrokenPipe => None,
            Failure::Output(error) => Some(format!("stdout: {error}")),
        }
    }
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> Self {
        ExitCode::from(match failure {
            Failure::Read(ReadError::Corrupt(_)) | Failure::Absent(_) | Failure::Damaged(_) => 1,
            Failure::Output(error) if error.kind() == ErrorKind::BrokenPipe => 0,
            Failure::Read(_)
            | Failure::Write(_)
            | Failure::Input(_)
            | Failure::Client(_)
            | Failure::Output(_) => 2,
        })
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Failure::Read(error)
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Failure::Write(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

/// The reader's message, with our options for what it says of the library's.
pub fn explained(error: ReadError) -> String {
    match error {
        ReadError::NotFound => {
            "no store at the path: start the node that publishes it, make one with \
             `erlmcp-shm publish DIR --path FILE`, or check --path"
                .into()
        }
        ReadError::BadOwner => {
            "the file belongs to another user: check --path, or pass --trust-owner".into()
        }
        error => error.to_string(),
    }
}

/// The writer's message, with what helps here.
pub fn refused(error: WriteError, path: &Path) -> String {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = shown(folder);
    match error {
        WriteError::Locked => {
            "another writer has this store open: stop it, or give another --path".into()
        }
        WriteError::NoSpace => {
            "the store is full at its max_size: pass a larger --max-size, or take \
             something out"
                .into()
        }
        WriteError::Io(Errno::NOSPC | Errno::DQUOT) => format!(
            "no room in {name}{}: a store's file is allocated in full, and while it grows there are two: remove what \
             is not needed there, pass a smaller --size, or another --path",
            free(folder)
        ),
        WriteError::Io(Errno::NOMEM) => {
            "the memory limit of this group of processes (cgroup) has no room for the \
             file: raise it, or pass a smaller --size"
                .into()
        }
        WriteError::Io(Errno::FBIG) => {
            "files of that size are not allowed: raise `ulimit -f`, or pass a smaller --size".into()
        }
        WriteError::Io(Errno::NOENT) => {
            format!("there is no folder {name}: make it, or pass another --path")
        }
        WriteError::Io(errno @ (Errno::ACCESS | Errno::PERM | Errno::ROFS)) => format!(
            "the folder {name} or the file cannot be written: {}: pass a --path that is yours",
            io::Error::from(errno)
        ),
        WriteError::BadOption("max_size") => {
            "bad value of the option --max-size: no store can be less than its --size".into()
        }
        WriteError::BadOption(option) => format!("bad value of the option --{option}"),
        error => error.to_string(),
    }
}

/// How much of a file system is free, if it says.
fn free(folder: &Path) -> String {
    match rustix::fs::statvfs(folder) {
        Ok(there) => format!(
            " ({} free of {})",
            scaled(there.f_bavail.saturating_mul(there.f_frsize)),
            scaled(there.f_blocks.saturating_mul(there.f_frsize))
        ),
        Err(_) => String::new(),
    }
}

/// Tells the user something that is no data. Whether stderr can still be written is not our problem.
pub fn say(message: impl Display) {
    let _ = writeln!(io::stderr(), "erlmcp-shm: {message}");
}

/// A path as text.
pub fn shown(path: &Path) -> String {
    escaped(path.as_os_str().as_bytes())
}

/// Stdout, to be flushed at the end, for a drop would swallow the error.
pub struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub fn new() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// Bytes as they are; and a line's end behind them on a terminal, where the prompt would stand on the same line.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        if io::stdout().is_terminal() && !bytes.ends_with(b"\n") {
            self.0.write_all(b"\n")?;
        }
        Ok(())
    }

    /// A line of text.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.0, "{text}")
    }

    /// A line of JSON.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, value)?;
        self.0.write_all(b"\n")
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// JSON text as a part of a line: nothing in it changes but line breaks, which are only ever white
/// space there. `None` if it is no JSON.
pub fn embedded(json: &[u8]) -> Option<Box<RawValue>> {
    let text = str::from_utf8(json).ok()?;
    RawValue::from_string(text.replace(['\n', '\r'], " ")).ok()
}

/// Bytes with a unit that leaves few digits.
pub fn scaled(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "KiB", "MiB"] {
        if value < 1024.0 {
            return match unit {
                "bytes" => format!("{bytes} bytes"),
                _ => format!("{value:.1} {unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} GiB")
}

/// A number with its thousands apart.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn scales_bytes() {
        let cases = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (10 << 20, "10.0 MiB"),
            (3 << 40, "3072.0 GiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(super::scaled(bytes), text);
        }
    }

    #[test]
    fn groups_thousands() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1234567, "1,234,567"),
        ];
        for (n, text) in cases {
            assert_eq!(super::grouped(n), text);
        }
    }
}
