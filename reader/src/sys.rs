//! What the host is asked for: clock, boot id, futex, the writer's lock, smaps.

use rustix::time::{ClockId, clock_gettime};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// CLOCK_BOOTTIME in ns, the clock of every time in a store (where there is none: the monotonic
/// clock).
pub(crate) fn boottime_now() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let now = clock_gettime(clock);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000) + now.tv_nsec as u64
}

/// The 16 bytes of the host's boot id, read once; zeros where the host has none.
pub(crate) fn boot_id() -> [u8; 16] {
    static ID: OnceLock<[u8; 16]> = OnceLock::new();
    *ID.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let id = text.ok().and_then(|text| parse_uuid(text.trim()));
        id.unwrap_or_default()
    })
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    let n = u128::from_str_radix(&hex, 16).ok()?;
    (hex.len() == 32).then(|| n.to_be_bytes())
}

/// Sleeps until the word may have changed from `seen`, or `timeout` has passed. May wake early.
pub(crate) fn futex_wait(word: &AtomicU32, seen: u32, timeout: Duration) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::thread::futex;
        // Shared: the writer wakes from another process, so the flag PRIVATE is not set.
        if let Ok(timeout) = timeout.try_into() {
            // Every outcome means the same: look again.
            let _ = futex::wait(word, futex::Flags::empty(), seen, Some(&timeout));
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (word, seen);
        poll_pause(timeout);
    }
}

/// How long to sleep between two looks where there is no futex.
pub(crate) fn poll_pause(timeout: Duration) {
    std::thread::sleep(timeout.min(Duration::from_millis(5)));
}

/// Whether someone holds the OFD lock of the lock file at `path`; `None` where that cannot be told.
pub(crate) fn lock_held(path: &Path) -> Option<bool> {
    match crate::open::open_file(path) {
        Ok(file) => probe_lock(&file),
        Err(crate::ReadError::NotFound) => Some(false),
        Err(_) => None,
    }
}

#[cfg(target_os = "linux")]
fn probe_lock(file: &std::fs::File) -> Option<bool> {
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc::{F_UNLCK, F_WRLCK, SEEK_SET, flock};
    let mut lock = flock {
        l_type: F_WRLCK as _,
        l_whence: SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).ok()?;
    Some(lock.l_type != F_UNLCK as _)
}

#[cfg(not(target_os = "linux"))]
fn probe_lock(_: &std::fs::File) -> Option<bool> {
    None
}

/// Bytes of an address range of this process that huge pages back; `None` where that is not told.
pub(crate) fn huge_page_bytes(range: Range<usize>) -> Option<u64> {
    huge_in(&std::fs::read_to_string("/proc/self/smaps").ok()?, range)
}

fn huge_in(smaps: &str, range: Range<usize>) -> Option<u64> {
    let mut inside = false;
    let mut kib = 0;
    for line in smaps.lines() {
        let (first, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        if let Some(field) = first.strip_suffix(':') {
            if inside && matches!(field, "ShmemPmdMapped" | "FilePmdMapped") {
                kib += rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
            }
        } else if let Some((start, _)) = first.split_once('-') {
            inside = range.contains(&usize::from_str_radix(start, 16).ok()?);
        }
    }
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_boot_id() {
        let id = parse_uuid("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        assert_eq!(id[..3], [0, 0x11, 0x22]);
        assert_eq!(parse_uuid("0011"), None);
        assert_eq!(parse_uuid(""), None);
    }

    #[test]
    fn adds_up_huge_pages_of_its_range_only() {
        let smaps = "1000-2000 r--s 0 00:1 5 /dev/shm/x\nShmemPmdMapped:  2048 kB\n\
                     5000-6000 r--s 0 00:1 5 /dev/shm/y\nShmemPmdMapped:  4096 kB\n\
                     FilePmdMapped:        0 kB\n";
        assert_eq!(huge_in(smaps, 0x1000..0x2000), Some(2 << 20));
        assert_eq!(huge_in(smaps, 0x5000..0x5800), Some(4 << 20));
        assert_eq!(huge_in(smaps, 0x7000..0x8000), Some(0));
    }

    #[test]
    fn clock_goes_forward() {
        let first = boottime_now();
        assert!(first > 0 && boottime_now() >= first);
    }
}
