//! What the subcommands that write are told of the store, and a writer that shows that it lives.

use crate::globals::Globals;
use crate::output::{Failure, say, shown};
use clap::Args;
use erlmcp_shm_writer::{Recover, WriteError, Writer};
use std::ops::Deref;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two heartbeats, and two wake-ups of who waits for changes.
const BEAT: Duration = Duration::from_millis(100);
/// What an entry takes beside its key, data and metadata: record, tombstone and slots, generously.
const OVERHEAD: u64 = 512;
/// The largest `max_size` that is asked for unasked; beyond it somebody should say so.
const LARGEST: u64 = 1 << 40;

/// How large the store is, and who may read it.
#[derive(Args)]
pub struct StoreOptions {
    /// Bytes of the store's first file, allocated in full; K, M and G are powers of 1024
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "10M")]
    size: u64,
    /// Bytes that the file may grow to, about half of which can be entries [default: 8 times the size, or what is
    /// to be written needs]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_size: Option<u64>,
    /// Permissions of the file, in octal; 644 lets other users read
    #[arg(long, value_name = "MODE", value_parser = octal, default_value = "600")]
    mode: u32,
}

/// How much is to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Need {
    /// Entries.
    pub entries: u64,
    /// Bytes of their keys, data and metadata.
    pub bytes: u64,
}

impl StoreOptions {
    /// Opens the store for writing.
    pub fn open(&self, globals: &Globals, need: Need, recover: Recover) -> Result<Alive, Failure> {
        // Live entries may take up half of it; and as much again, so that the next ones fit too.
        let needed = 4 * (need.bytes + need.entries * OVERHEAD);
        let default = self.size.saturating_mul(8).max(needed.min(LARGEST));
        let writer = Writer::options()
            .size(self.size)
            .max_size(self.max_size.unwrap_or(default))
            .mode(self.mode)
            .recover(recover)
            .heartbeat_interval(BEAT)
            .open(&globals.path)?;
        Ok(Alive::new(writer)?)
    }
}

/// A number of bytes: `4096`, `64K`, `10M`, `1G`.
fn bytes(text: &str) -> Result<u64, &'static str> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" | "k" | "KB" | "KiB" => 10,
        "M" | "m" | "MB" | "MiB" => 20,
        "G" | "g" | "GB" | "GiB" => 30,
        _ => return Err("bytes, or a number followed by K, M or G"),
    };
    let number: u64 = digits.parse().map_err(|_| "no number of bytes")?;
    number.checked_mul(1 << shift).ok_or("too many bytes")
}

fn octal(text: &str) -> Result<u32, &'static str> {
    u32::from_str_radix(text, 8).map_err(|_| "three octal digits, such as 600 or 644")
}

/// A writer whose heart beats in a thread of its own. Dropping it closes the store.
pub struct Alive {
    writer: Writer,
    /// Why it must not be used any more.
    ended: Arc<OnceLock<WriteError>>,
    /// `None` in the drop alone: the end of the channel is the end of the thread.
    beating: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Alive {
    fn new(writer: Writer) -> Result<Self, WriteError> {
        writer.heartbeat()?;
        let ended: Arc<OnceLock<WriteError>> = Arc::default();
        let (stop, stopped) = channel::<()>();
        let theirs = (writer.clone(), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            let (writer, ended) = theirs;
            let mut lost = false;
            while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                match writer.heartbeat() {
                    Ok(()) => lost = false,
                    Err(error @ WriteError::PathLost) => {
                        if !std::mem::replace(&mut lost, true) {
                            say(format_args!("{}: {error}", shown(writer.path())));
                        }
                    }
                    Err(error) => {
                        let _ = ended.set(error);
                        return;
                    }
                }
                let _ = writer.flush();
            }
        });
        Ok(Self {
            writer,
            ended,
            beating: Some((stop, thread)),
        })
    }

    /// Why the heart does not beat any more, for who has nothing to put and would not hear of it otherwise.
    pub fn check(&self) -> Result<(), WriteError> {
        self.ended.get().map_or(Ok(()), |error| Err(*error))
    }
}

impl Deref for Alive {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        &self.writer
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.beating.take() {
            drop(stop);
            let _ = thread.join();
        }
        let _ = self.writer.flush();
        self.writer.close();
    }
}

#[cfg(test)]
mod tests {
    use super::{bytes, octal};

    #[test]
    fn numbers_of_bytes() {
        let cases = [
            ("0", 0),
            ("8192", 8192),
            ("64K", 65536),
            ("10MB", 10 << 20),
            ("2GiB", 2 << 30),
        ];
        for (text, number) in cases {
            assert_eq!(bytes(text), Ok(number));
        }
        for wrong in ["", "M", "1T", "-1", "1.5M", "99999999999G", "1 M"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!((octal("644"), octal("9").is_err()), (Ok(0o644), true));
    }
}
