//! The calls that no crate offers without `unsafe`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use memmap2::MmapRaw;
use nix::libc;

fn answer(code: libc::c_int) -> io::Result<()> {
    if code == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Asks for a mapping to be made writable.
pub fn make_writable(map: &MmapRaw) -> io::Result<()> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the whole of one mapping; rights are added and none is taken away.
    answer(unsafe { libc::mprotect(map.as_mut_ptr().cast(), map.len(), access) })
}

/// Asks for the pages under a mapping to be taken out of its file.
pub fn punch_through(map: &MmapRaw) -> io::Result<()> {
    // SAFETY: the whole of one mapping, of which no reference to any byte exists.
    answer(unsafe { libc::madvise(map.as_mut_ptr().cast(), map.len(), libc::MADV_REMOVE) })
}

/// Asks for a lease: the system would make whoever opens the file wait until it is given back.
pub fn lease(file: &File, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: an open file, and a command that takes a number.
    answer(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) })
}
