//! A writer killed at every store and every system call: nothing torn, nothing lost that had returned, and
//! the next start needs no help.
//!
//! For each operation a process is run up to its first point and killed there; another one up to the second
//! point; and so on, until one is through with the operation before it has come to its point. So no point
//! is left out, and how many there are need not be known beforehand. [`tracer`] says what a point is.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "../common/mod.rs"]
mod common;

mod aftermath;
mod contents;
mod mappings;
mod operations;
mod tracer;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::{child, child_args};
use contents::Contents;
use erlmcp_shm_layout::Header;
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use operations::{ALL, BASE, Before, COMPACT, Operation, PUT, apply, options};
use tempfile::TempDir;
use tracer::{Call, Point, Traced};

#[test]
fn child_operation() {
    let Some(args) = child_args() else { return };
    let (path, name) = args.split_once('\n').unwrap();
    Operation::named(name).run(Path::new(path));
}

/// A run that took another way than those before it (a timer ran out, say) counts as no point of theirs and
/// is made again; so many in a row mean that the way cannot be had again at all.
const STRAYED: usize = 20;

#[derive(Default)]
struct Tally {
    stores: usize,
    calls: usize,
    kills: usize,
    strayed: usize,
    took: Duration,
}

#[test]
fn killed_at_every_point_it_leaves_nothing_torn_or_lost() {
    match Run::start(&PUT, &Template::new(Before::Closed)) {
        Ok(_) => {}
        Err(errno @ (Errno::EPERM | Errno::EACCES | Errno::ENOSYS)) => {
            println!("SKIPPED: the system permits no ptrace: {errno}");
            return;
        }
        Err(errno) => panic!("{errno}"),
    }
    let todo = Mutex::new(ALL.iter().collect::<Vec<_>>());
    let tallies = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for cpu in cpus() {
            let (todo, tallies) = (&todo, &tallies);
            scope.spawn(move || {
                // A process and its tracer take turns: on one CPU that is a matter of a microsecond.
                let _ = sched_setaffinity(Pid::from_raw(0), &cpu);
                loop {
                    let Some(operation) = todo.lock().unwrap().pop() else {
                        return;
                    };
                    let tally = cover(operation);
                    tallies.lock().unwrap().push((operation, tally));
                }
            });
        }
    });
    let mut tallies = tallies.into_inner().unwrap();
    tallies.sort_by_key(|(operation, _)| ALL.iter().position(|o| o.name == operation.name));
    println!("killed at every point of            stores  system calls  kills     time");
    for (operation, tally) in &tallies {
        println!(
            "{:<34} {:>7} {:>13} {:>6} {:>6.1} s",
            operation.name,
            tally.stores,
            tally.calls,
            tally.kills,
            tally.took.as_secs_f64()
        );
        let (stores, calls) = operation.least;
        let plausible = tally.stores >= stores && tally.calls >= calls;
        assert!(plausible, "{operation:?} cannot do with so few points");
    }
    let sum = |of: fn(&Tally) -> usize| tallies.iter().map(|(_, tally)| of(tally)).sum::<usize>();
    println!(
        "{} kills: 0 torn, 0 lost, every next start without help; {} more took another way than the rest",
        sum(|tally| tally.kills),
        sum(|tally| tally.strayed)
    );
}

/// The CPUs that may be used, one set each.
fn cpus() -> Vec<CpuSet> {
    let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let usable = (0..CpuSet::count()).filter(|cpu| all.is_set(*cpu).unwrap());
    let alone = |cpu| {
        let mut set = CpuSet::new();
        set.set(cpu).unwrap();
        set
    };
    usable.map(alone).collect()
}

/// Kills at every point of an operation.
fn cover(operation: &Operation) -> Tally {
    let begun = Instant::now();
    let template = Template::new(operation.before);
    let mut tally = Tally::default();
    // The calls that an undisturbed run makes, as far as known.
    let mut way: Vec<Call> = Vec::new();
    let mut target = Point::default();
    let mut strayed = 0;
    loop {
        let mut run = Run::start(operation, &template).unwrap();
        let ended = run.until(target);
        let Traced { point, calls, .. } = &run.traced;
        let (point, calls) = (*point, calls.clone());
        run.kill_and_examine();
        tally.kills += 1;
        let common = way.len().min(calls.len());
        if way[..common] != calls[..common] {
            strayed += 1;
            tally.strayed += 1;
            assert!(strayed < STRAYED, "{}: {way:?}\n{calls:?}", operation.name);
            continue;
        }
        strayed = 0;
        if calls.len() > way.len() {
            way = calls;
        }
        if ended {
            tally.took = begun.elapsed();
            return tally;
        }
        match point.stores {
            0 => tally.calls += usize::from(point.calls > 0),
            _ => tally.stores += 1,
        }
        target = Point {
            stores: point.stores + 1,
            ..point
        };
    }
}

/// What is at the path before the operation, to be copied.
struct Template {
    before: Before,
    folder: TempDir,
}

/// In memory where that can be had: there is much to be made and removed.
fn folder() -> TempDir {
    let folder = tempfile::tempdir_in("/dev/shm");
    folder.or_else(|_| tempfile::tempdir()).unwrap()
}

impl Template {
    fn new(before: Before) -> Self {
        let folder = match before {
            Before::Nothing => folder(),
            Before::Closed => {
                let folder = folder();
                let writer = options().open(folder.path().join("store")).unwrap();
                BASE.iter()
                    .for_each(|change| apply(&writer, std::slice::from_ref(change)));
                writer.close();
                folder
            }
            Before::KilledInPut => killed(&PUT, |run| run.traced.point.stores == 5),
            Before::KilledInBuild => killed(&COMPACT, |run| building(&run.folder) == Some(true)),
            Before::KilledInSwitch => killed(&COMPACT, |run| {
                let last = run.traced.calls.last();
                last.is_some_and(|(_, call)| *call == libc::SYS_renameat2 as u64)
            }),
        };
        Self { before, folder }
    }

    fn copy(&self) -> TempDir {
        let copy = folder();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        copy
    }
}

/// What a writer leaves that is killed at the first point of which `here` is true.
fn killed(operation: &Operation, here: impl Fn(&Run) -> bool) -> TempDir {
    let mut run = Run::start(operation, &Template::new(operation.before)).unwrap();
    while !here(&run) {
        assert!(run.traced.returned == 0, "it has come to its end");
        run.traced.advance(true).unwrap();
    }
    let Run { folder, traced, .. } = run;
    drop(traced);
    folder
}

/// Whether a generation is being built: `None`, or whether a record has begun to be copied into it.
fn building(folder: &TempDir) -> Option<bool> {
    let names = std::fs::read_dir(folder.path()).unwrap();
    let mut paths = names.map(|entry| entry.unwrap().path());
    let temporary = paths.find(|path| path.extension().is_some_and(|end| end == "tmp"))?;
    let bytes = std::fs::read(temporary).unwrap();
    let header = Header::decode(&bytes, bytes.len() as u64).ok()?;
    let mut log = bytes[header.log_offset() as usize..].iter();
    Some(log.any(|byte| *byte != 0))
}

/// A child in the middle of an operation.
struct Run<'a> {
    operation: &'a Operation,
    traced: Traced,
    path: PathBuf,
    early: erlmcp_shm_reader::Reader,
    base: Contents,
    folder: TempDir,
}

impl<'a> Run<'a> {
    fn start(operation: &'a Operation, template: &Template) -> nix::Result<Self> {
        let folder = template.copy();
        let path = folder.path().join("store");
        let args = format!("{}\n{}", path.display(), operation.name);
        let child = child("child_operation", &args);
        let mut traced = Traced::begin(child)?;
        if operation.beside_build {
            traced.hold_until(|| building(&folder))?;
        }
        let early = aftermath::reader(&path);
        let base = aftermath::contents(&early);
        if template.before != Before::Nothing {
            let mut expected = Contents::default();
            BASE.iter().for_each(|change| expected.change(change));
            assert_eq!(base, expected);
        }
        Ok(Self {
            operation,
            traced,
            path,
            early,
            base,
            folder,
        })
    }

    /// Runs to the first point that is not before `target`; whether the operation ended before.
    fn until(&mut self, target: Point) -> bool {
        while self.traced.point < target {
            if self.traced.returned == self.operation.actions.len() {
                return true;
            }
            let stepping = self.traced.point.calls >= target.calls;
            self.traced.advance(stepping).unwrap();
        }
        false
    }

    fn kill_and_examine(self) {
        let Self { traced, .. } = self;
        let candidates = self.operation.candidates(&self.base, traced.returned);
        drop(traced);
        aftermath::examine(&self.path, &self.early, &candidates);
    }
}
