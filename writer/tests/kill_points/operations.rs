//! The operations during which the writer is killed, and what a store holds after each change of theirs.

use std::path::Path;
use std::sync::{Arc, Barrier};

use erlmcp_shm_writer::{Options, Recover, Writer};

use super::common::{KIND, change, key, payload};
use super::contents::Contents;

/// One change to one key: its number, and a counter and a length from which its bytes follow.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Put(u64, u64, usize),
    Delete(u64),
}

/// A call of the writer's that either has returned or not.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    Open(Recover),
    /// Several are a batch.
    Change(&'static [Change]),
    Compact,
    Close,
}

/// What is at the path before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// [`BASE`], by a writer that closed it.
    Closed,
    /// [`BASE`], by a writer killed in the middle of the record of another put.
    KilledInPut,
    /// [`BASE`], by a writer killed in the middle of the copying into the next generation.
    KilledInBuild,
    /// [`BASE`], by a writer killed when the next generation had the path, and the old one did not know.
    KilledInSwitch,
}

#[derive(Debug)]
pub struct Operation {
    pub name: &'static str,
    pub before: Before,
    /// A compaction has begun to copy when it begins; `Compact` waits for its end.
    pub beside_build: bool,
    pub actions: &'static [Action],
    /// Stores and system calls that it cannot do with less of.
    pub least: (usize, usize),
}

/// What every store holds at first, deletes included.
pub const BASE: &[Change] = &[
    Change::Put(0, 1, 40),
    Change::Put(1, 2, 70),
    Change::Put(2, 3, 100),
    Change::Put(3, 4, 33),
    Change::Delete(3),
];

const KEEP: Action = Action::Open(Recover::Keep);
const REPLACE: Action = Action::Change(&[Change::Put(0, 10, 90)]);
const DELETE: Action = Action::Change(&[Change::Delete(1)]);

const fn operation(
    name: &'static str,
    before: Before,
    actions: &'static [Action],
    least: (usize, usize),
) -> Operation {
    Operation {
        name,
        before,
        beside_build: false,
        actions,
        least,
    }
}

pub const PUT: Operation = operation("put, replacing", Before::Closed, &[REPLACE], (25, 0));
pub const COMPACT: Operation = operation("compact", Before::Closed, &[Action::Compact], (50, 20));

pub const ALL: &[Operation] = &[
    operation("create", Before::Nothing, &[KEEP], (30, 30)),
    operation(
        "put, new key",
        Before::Closed,
        &[Action::Change(&[Change::Put(7, 10, 50)])],
        (25, 0),
    ),
    PUT,
    operation("delete", Before::Closed, &[DELETE], (20, 0)),
    operation(
        "batch of 4",
        Before::Closed,
        &[Action::Change(&[
            Change::Put(8, 10, 20),
            Change::Put(0, 11, 90),
            Change::Delete(1),
            Change::Put(1, 12, 30),
        ])],
        (100, 0),
    ),
    Operation {
        name: "put, delete in a build, its end",
        before: Before::Closed,
        beside_build: true,
        actions: &[REPLACE, DELETE, Action::Compact],
        least: (100, 5),
    },
    COMPACT,
    operation(
        "put that waits for a rollover",
        Before::Closed,
        &[
            Action::Change(&[Change::Put(11, 10, 1900)]),
            Action::Change(&[Change::Put(12, 11, 1900)]),
            Action::Change(&[Change::Put(13, 12, 1900)]),
        ],
        (100, 20),
    ),
    operation("open after a close", Before::Closed, &[KEEP], (50, 30)),
    operation(
        "open after a kill in a put",
        Before::KilledInPut,
        &[KEEP],
        (50, 30),
    ),
    operation(
        "open after a kill in a build",
        Before::KilledInBuild,
        &[KEEP],
        (50, 30),
    ),
    operation(
        "open after a kill in a switch",
        Before::KilledInSwitch,
        &[KEEP],
        (50, 30),
    ),
    operation(
        "open that clears",
        Before::KilledInPut,
        &[Action::Open(Recover::Clear)],
        (30, 30),
    ),
    operation("close", Before::Closed, &[Action::Close], (1, 3)),
];

/// As small as a store can be: every instruction is followed by a comparison of all of it.
pub fn options() -> Options {
    Writer::options().size(8 << 10).max_size(64 << 10)
}

pub fn apply(writer: &Writer, changes: &[Change]) {
    match changes {
        [Change::Put(number, counter, len)] => {
            let data = payload(*number, *counter, *len);
            writer.put(KIND, &key(*number), &data, b"{}").unwrap();
        }
        [Change::Delete(number)] => {
            writer.delete(KIND, &key(*number)).unwrap().unwrap();
        }
        batch => {
            let owned: Vec<_> = batch.iter().map(Change::parts).collect();
            let ops: Vec<_> = owned.iter().map(|(key, data)| change(key, data)).collect();
            writer.put_batch(&ops).unwrap();
        }
    }
}

impl Change {
    /// The key, and the data unless it is a delete.
    pub fn parts(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        match *self {
            Change::Put(number, counter, len) => (key(number), Some(payload(number, counter, len))),
            Change::Delete(number) => (key(number), None),
        }
    }
}

impl Operation {
    pub fn named(name: &str) -> &'static Self {
        ALL.iter().find(|operation| operation.name == name).unwrap()
    }

    fn opens(&self) -> bool {
        matches!(self.actions[0], Action::Open(_))
    }

    /// The child's part.
    pub fn run(&self, path: &Path) {
        let mut writer = (!self.opens()).then(|| options().open(path).unwrap());
        let started = Arc::new(Barrier::new(2));
        let mut compactor = self.beside_build.then(|| {
            let (writer, started) = (writer.clone().unwrap(), started.clone());
            std::thread::spawn(move || {
                started.wait();
                wait_for_a_line();
                writer.compact().unwrap();
            })
        });
        println!("\nready");
        wait_for_a_line();
        if self.beside_build {
            started.wait();
        }
        mark();
        for action in self.actions {
            match *action {
                Action::Open(recover) => {
                    writer = Some(options().recover(recover).open(path).unwrap())
                }
                Action::Change(changes) => apply(writer.as_ref().unwrap(), changes),
                Action::Close => writer.as_ref().unwrap().close(),
                Action::Compact => match compactor.take() {
                    Some(compactor) => compactor.join().unwrap(),
                    None => writer.as_ref().unwrap().compact().unwrap(),
                },
            }
            mark();
        }
        unreachable!("killed at the last mark, if not before");
    }

    /// What the store may hold, in the order in which it comes to hold it, when so many actions have
    /// returned: with none of the changes of the one in flight, with one of them, and so on.
    pub fn candidates(&self, base: &Contents, returned: usize) -> Vec<Contents> {
        let mut contents = base.clone();
        for action in &self.actions[..returned] {
            contents = contents.all_after(action).pop().unwrap();
        }
        match self.actions.get(returned) {
            Some(action) => contents.all_after(action),
            None => vec![contents],
        }
    }
}

fn wait_for_a_line() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Tells the tracer.
fn mark() {
    let _ = std::os::unix::process::parent_id();
}
