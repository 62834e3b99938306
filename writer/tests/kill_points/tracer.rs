//! Runs a process up to one exact point and kills it there.
//!
//! A **point** is the moment after a system call, or after an instruction that stored into a file that
//! other processes may have mapped. The process's mappings of such files are write-protected, and made
//! writable for single instructions only, so none can store there without being seen, and there is no other
//! moment at which what the process leaves behind could differ: "before a system call" is the point before.
//!
//! Of the process's threads one runs at a time, until it waits for another; which one that is follows from
//! the calls they make, so that a run can be had again. A call that waits (for a futex, a pipe, a while)
//! counts when it is entered: the process is killed while the thread is inside.
//!
//! The child says where an operation begins, and after each part of it that it has returned, by getppid(2),
//! for which the writer has no use.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin};

use nix::errno::Errno;
use nix::libc::{self, user_regs_struct};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::mappings::Mappings;

const MARK: u64 = libc::SYS_getppid as u64;

/// So many system calls, and so many stores since the last of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub calls: usize,
    pub stores: usize,
}

/// A thread, by the order in which they came, and the number of a system call that it made.
pub type Call = (usize, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// On its way; only before the operation.
    Running,
    /// Not to be chosen for now.
    Held,
    /// Stopped, and able to go on.
    Ready,
    /// In a call that waits.
    Waiting,
    Gone,
}

/// A process under control. It is killed and reaped when this is dropped, whatever it is at.
pub struct Traced {
    process: Pid,
    input: ChildStdin,
    threads: Vec<(Pid, Doing)>,
    current: Option<usize>,
    /// The one that marks.
    main: usize,
    shared: Mappings,
    pub point: Point,
    pub calls: Vec<Call>,
    /// Parts of the operation that have returned.
    pub returned: usize,
}

impl Traced {
    /// Takes control of a child that is ready and waits for its input, and brings it to the beginning of
    /// its operation.
    pub fn begin(mut child: Child) -> nix::Result<Self> {
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.lines();
        while lines.next().expect("the child failed").unwrap() != "ready" {}
        let mut traced = Self {
            process: Pid::from_raw(child.id() as i32),
            input: child.stdin.take().unwrap(),
            threads: Vec::new(),
            current: None,
            main: 0,
            shared: Mappings::default(),
            point: Point::default(),
            calls: Vec::new(),
            returned: 0,
        };
        traced.seize()?;
        traced.go();
        traced.settle()?;
        traced.current = Some(traced.main);
        Ok(traced)
    }

    /// Lets the thread of the child go on that waits for its input.
    pub fn go(&mut self) {
        self.input.write_all(b"go\n").unwrap();
    }

    fn seize(&mut self) -> nix::Result<()> {
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_EXITKILL;
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process)).unwrap();
        let name = |task: std::io::Result<std::fs::DirEntry>| task.unwrap().file_name();
        let mut tasks: Vec<i32> = tasks
            .map(|task| name(task).to_str().unwrap().parse().unwrap())
            .collect();
        tasks.sort_unstable();
        for task in tasks.into_iter().map(Pid::from_raw) {
            ptrace::seize(task, options)?;
            self.threads.push((task, Doing::Running));
            ptrace::interrupt(task)?;
            self.wait(task)?;
            let last = self.threads.len() - 1;
            self.threads[last].1 = Doing::Running;
            ptrace::syscall(task, None)?;
        }
        Ok(())
    }

    /// Lets everything run until one thread stands at its first mark and all others wait.
    fn settle(&mut self) -> nix::Result<()> {
        let running = |(_, doing): &(Pid, Doing)| *doing == Doing::Running;
        let mut marked = false;
        while !marked || self.threads.iter().any(running) {
            let thread = self.wait_any(WaitPidFlag::empty())?.expect("it blocks");
            let tid = self.threads[thread].0;
            let entered = ptrace::syscall_info(tid)?.op == libc::PTRACE_SYSCALL_INFO_ENTRY;
            let regs = ptrace::getregs(tid)?;
            self.threads[thread].1 = match entered && waits(&regs) {
                true => Doing::Waiting,
                false => Doing::Running,
            };
            ptrace::syscall(tid, None)?;
            if entered && regs.orig_rax == MARK {
                self.wait(tid)?;
                (self.main, marked) = (thread, true);
                self.shared = Mappings::of(self.process, &regs);
            }
        }
        Ok(())
    }

    /// Lets the other threads go on, and not the main one, until `there`; from then on counts anew.
    pub fn hold_until(&mut self, mut there: impl FnMut() -> Option<bool>) -> nix::Result<()> {
        self.go();
        self.threads[self.main].1 = Doing::Held;
        self.current = None;
        loop {
            let near = there();
            if near == Some(true) {
                break;
            }
            self.advance(near.is_some())?;
        }
        self.threads[self.main].1 = Doing::Ready;
        self.current = Some(self.main);
        (self.point, self.calls) = (Point::default(), Vec::new());
        Ok(())
    }

    /// Runs on until the next point or mark; without `stores`, those do not count and cost no time.
    pub fn advance(&mut self, stores: bool) -> nix::Result<()> {
        let thread = self.choose()?;
        let tid = self.threads[thread].0;
        self.shared.protect(tid, stores)?;
        ptrace::syscall(tid, None)?;
        match self.wait(tid)? {
            Some(Signal::SIGSEGV) => self.store(tid),
            _ => self.call(thread),
        }
    }

    /// The thread to run: the one that did, while it can.
    fn choose(&mut self) -> nix::Result<usize> {
        while self.current.is_none() {
            while self.wait_any(WaitPidFlag::WNOHANG)?.is_some() {}
            let is_ready = |(_, doing): &(Pid, Doing)| *doing == Doing::Ready;
            self.current = self.threads.iter().position(is_ready);
            if self.current.is_none() {
                self.wait_any(WaitPidFlag::empty())?;
            }
        }
        Ok(self.current.expect("just seen"))
    }

    /// A thread has met a protected mapping: makes the one instruction.
    fn store(&mut self, tid: Pid) -> nix::Result<()> {
        assert!(
            self.shared.protected(),
            "the child has a segmentation fault of its own"
        );
        self.shared.protect(tid, false)?;
        ptrace::step(tid, None)?;
        let stopped = self.wait(tid)?;
        assert_eq!(
            stopped,
            Some(Signal::SIGTRAP),
            "the child has a fault of its own"
        );
        self.point.stores += 1;
        self.shared.protect(tid, true)
    }

    /// A thread is at the entry of a system call: lets it through.
    fn call(&mut self, thread: usize) -> nix::Result<()> {
        let tid = self.threads[thread].0;
        let regs = ptrace::getregs(tid)?;
        ptrace::syscall(tid, None)?;
        if waits(&regs) {
            self.threads[thread].1 = Doing::Waiting;
            self.current = None;
        } else {
            self.wait(tid)?;
        }
        if self.threads[thread].1 == Doing::Gone {
            self.current = None;
        }
        if regs.orig_rax == MARK {
            self.returned += 1;
            return Ok(());
        }
        self.calls.push((thread, regs.orig_rax));
        self.point = Point {
            calls: self.calls.len(),
            stores: 0,
        };
        self.shared.note(tid, &regs)
    }

    /// Waits until a thread that runs has stopped; says by which signal, if by one.
    fn wait(&mut self, tid: Pid) -> nix::Result<Option<Signal>> {
        loop {
            match waitpid(tid, Some(WaitPidFlag::__WALL))? {
                WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_CLONE) => {
                    let new = Pid::from_raw(ptrace::getevent(tid)? as i32);
                    waitpid(new, Some(WaitPidFlag::__WALL))?;
                    self.threads.push((new, Doing::Ready));
                    ptrace::syscall(tid, None)?;
                }
                status => return Ok(self.note(tid, status)),
            }
        }
    }

    /// Waits for any thread to stop (or looks whether one has, with `WNOHANG`), and says which.
    fn wait_any(&mut self, flag: WaitPidFlag) -> nix::Result<Option<usize>> {
        // Only for those of this thread: other threads run operations of their own.
        let flags = flag | WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let status = waitpid(None, Some(flags))?;
        let Some(tid) = status.pid() else {
            return Ok(None);
        };
        self.note(tid, status);
        Ok(self.threads.iter().position(|(other, _)| *other == tid))
    }

    fn note(&mut self, tid: Pid, status: WaitStatus) -> Option<Signal> {
        let (doing, signal) = match status {
            WaitStatus::PtraceSyscall(_) | WaitStatus::PtraceEvent(..) => (Doing::Ready, None),
            WaitStatus::Stopped(_, signal @ (Signal::SIGTRAP | Signal::SIGSEGV)) => {
                (Doing::Ready, Some(signal))
            }
            WaitStatus::Exited(..) if tid != self.process => (Doing::Gone, None),
            ended => panic!("the child is not to end by itself: {ended:?}"),
        };
        let thread = self.threads.iter_mut().find(|(other, _)| *other == tid);
        thread.expect("every thread is known").1 = doing;
        signal
    }
}

/// Whether it is a call in which a thread may stay until another one does something, or for a while. None of
/// them changes anything that is shared.
fn waits(regs: &user_regs_struct) -> bool {
    const MODIFIERS: i32 = libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME;
    const FUTEX_WAITS: [i32; 2] = [libc::FUTEX_WAIT, libc::FUTEX_WAIT_BITSET];
    const WAITS: [i64; 4] = [
        libc::SYS_sched_yield,
        libc::SYS_nanosleep,
        libc::SYS_clock_nanosleep,
        libc::SYS_restart_syscall,
    ];
    match regs.orig_rax as i64 {
        libc::SYS_futex => FUTEX_WAITS.contains(&(regs.rsi as i32 & !MODIFIERS)),
        libc::SYS_read => regs.rdi == 0, // the child's standard input, a pipe
        call => WAITS.contains(&call),
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = kill(self.process, Signal::SIGKILL);
        // A thread that was traced stays until its tracer has heard of its end, and the process stays
        // until its threads are gone.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::Signaled(pid, ..) | WaitStatus::Exited(pid, ..))
                    if pid == self.process =>
                {
                    return;
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}
