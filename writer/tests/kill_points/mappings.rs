//! The mappings through which a process can change what others see, and their write protection.

use std::ops::Range;

use nix::libc::{self, user_regs_struct};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Bytes of the instruction that makes a system call.
const SYSCALL_LENGTH: u64 = 2;

/// The shared writable mappings of a traced process.
#[derive(Default)]
pub struct Mappings {
    ranges: Vec<Range<u64>>,
    protected: bool,
    /// Where in the process there is an instruction that makes a system call.
    doorway: u64,
}

impl Mappings {
    /// Those that there are in a process of which one thread is in the system call with these registers.
    pub fn of(process: Pid, call: &user_regs_struct) -> Self {
        let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
        let number = |hex: &str| u64::from_str_radix(hex, 16).unwrap();
        let range = |line: &str| {
            let (range, _) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            number(start)..number(end)
        };
        let shared = maps.lines().filter(|line| line.contains(" rw-s "));
        Self {
            ranges: shared.map(range).collect(),
            protected: false,
            doorway: call.rip - SYSCALL_LENGTH,
        }
    }

    /// After a system call of a thread, as it was at the entry.
    pub fn note(&mut self, tid: Pid, call: &user_regs_struct) -> nix::Result<()> {
        match call.orig_rax as i64 {
            libc::SYS_mmap => {
                let writable = call.rdx as i32 & libc::PROT_WRITE != 0;
                let start = ptrace::getregs(tid)?.rax;
                if writable && call.r10 as i32 & libc::MAP_SHARED != 0 && (start as i64) > 0 {
                    self.ranges.push(start..start + call.rsi);
                    if self.protected {
                        self.set(tid, &(start..start + call.rsi))?;
                    }
                }
            }
            libc::SYS_munmap => {
                let gone = call.rdi..call.rdi + call.rsi;
                self.ranges.retain(|range| !gone.contains(&range.start));
            }
            _ => {}
        }
        Ok(())
    }

    pub fn protected(&self) -> bool {
        self.protected
    }

    /// Protects them all, or makes them writable again, by means of a stopped thread.
    pub fn protect(&mut self, tid: Pid, on: bool) -> nix::Result<()> {
        if self.protected != on {
            self.protected = on;
            self.ranges
                .iter()
                .try_for_each(|range| self.set(tid, range))?;
        }
        Ok(())
    }

    /// Makes a stopped thread call mprotect(2), unknown to itself.
    fn set(&self, tid: Pid, range: &Range<u64>) -> nix::Result<()> {
        let before = ptrace::getregs(tid)?;
        let write = if self.protected { 0 } else { libc::PROT_WRITE };
        let call = user_regs_struct {
            rip: self.doorway,
            rax: libc::SYS_mprotect as u64,
            // No call that was under way is to be restarted.
            orig_rax: u64::MAX,
            rdi: range.start,
            rsi: range.end - range.start,
            rdx: (libc::PROT_READ | write) as u64,
            ..before
        };
        ptrace::setregs(tid, call)?;
        for _stop in ["at the entry", "at the exit"] {
            ptrace::syscall(tid, None)?;
            waitpid(tid, Some(WaitPidFlag::__WALL))?;
        }
        let result = ptrace::getregs(tid)?.rax as i64;
        // Another thread may be in the middle of unmapping it, and then there is nothing to protect.
        let gone = result == -i64::from(libc::ENOMEM);
        assert!(result == 0 || gone, "mprotect failed: {result}");
        ptrace::setregs(tid, before)
    }
}
