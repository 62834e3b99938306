//! Random programs of a writer process that is killed and started again, and of readers beside it: every key is
//! linearizable. A program that fails is shrunk to a small one.

#[path = "../common/mod.rs"]
mod common;
mod history;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{KIND, child, child_args, counter_of, key, payload, small};
use erlmcp_shm_reader::{ReadError, Reader};
use erlmcp_shm_writer::{Op, Recover};
use history::{Change, Read, Value, violation};
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestError, TestRunner};

const KEYS: u64 = 4;
/// Readings of one reader in one program, at most.
const READS: usize = 20_000;

/// What a writer does, between its start and its end.
#[derive(Clone, Debug)]
enum Act {
    Put {
        key: u64,
        len: usize,
    },
    Delete {
        key: u64,
    },
    /// Puts of all keys, at once.
    Batch {
        len: usize,
    },
    Compact,
}

/// The life of one writer process.
#[derive(Clone, Debug)]
struct Life {
    acts: Vec<Act>,
    /// It begins by forgetting what is there.
    clears: bool,
    /// Killed so many us after it opened the store; `None`: it comes to its end.
    killed_after: Option<u64>,
}

fn act() -> impl Strategy<Value = Act> {
    let len = || prop_oneof![16usize..64, 16usize..3000];
    prop_oneof![
        12 => (0..KEYS, len()).prop_map(|(key, len)| Act::Put { key, len }),
        4 => (0..KEYS).prop_map(|key| Act::Delete { key }),
        2 => len().prop_map(|len| Act::Batch { len }),
        1 => Just(Act::Compact),
    ]
}

fn life() -> impl Strategy<Value = Life> {
    let killed_after = prop::option::weighted(0.7, 0u64..4000);
    let acts = prop::collection::vec(act(), 0..80);
    (acts, prop::bool::weighted(0.1), killed_after).prop_map(|(acts, clears, killed_after)| Life {
        acts,
        clears,
        killed_after,
    })
}

fn program() -> impl Strategy<Value = Vec<Life>> {
    prop::collection::vec(life(), 1..5)
}

/// The one clock of all processes, in ns.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl Act {
    /// The keys it changes and to what, if `number` is the act's.
    fn changes(&self, number: u64) -> Vec<(u64, Value)> {
        match self {
            Act::Put { key, .. } => vec![(*key, Some(number))],
            Act::Delete { key } => vec![(*key, None)],
            Act::Batch { .. } => (0..KEYS).map(|key| (key, Some(number))).collect(),
            Act::Compact => vec![],
        }
    }

    fn encode(&self) -> String {
        match self {
            Act::Put { key, len } => format!("put {key} {len}"),
            Act::Delete { key } => format!("delete {key} 0"),
            Act::Batch { len } => format!("batch 0 {len}"),
            Act::Compact => "compact 0 0".into(),
        }
    }

    fn decode(line: &str) -> Self {
        let words: Vec<_> = line.split(' ').collect();
        let (key, len) = (words[1].parse().unwrap(), words[2].parse().unwrap());
        match words[0] {
            "put" => Act::Put { key, len },
            "delete" => Act::Delete { key },
            "batch" => Act::Batch { len },
            _ => Act::Compact,
        }
    }
}

/// The writer process. It says when it begins an act and when that has returned.
#[test]
fn child_writer() {
    let Some(args) = child_args() else { return };
    let mut lines = args.lines();
    let path = lines.next().unwrap();
    let recover = match lines.next().unwrap() {
        "clear" => Recover::Clear,
        _ => Recover::Keep,
    };
    let first: u64 = lines.next().unwrap().parse().unwrap();
    let options = small().lock_wait(Duration::from_secs(5)).recover(recover);
    println!("\nbegun {}", now());
    let writer = options.open(path).unwrap();
    println!("returned {}", now());
    for (number, act) in (first..).zip(lines.map(Act::decode)) {
        println!("begun {}", now());
        match act {
            Act::Put { key: k, len } => {
                let data = payload(k, number, len);
                writer.put(KIND, &key(k), &data, b"{}").unwrap();
            }
            Act::Delete { key: k } => {
                writer.delete(KIND, &key(k)).unwrap();
            }
            Act::Batch { len } => {
                let keys: Vec<_> = (0..KEYS).map(key).collect();
                let values: Vec<_> = (0..KEYS).map(|k| payload(k, number, len)).collect();
                let op = |(key, data)| Op::Put {
                    kind: KIND,
                    key,
                    data,
                    metadata: b"{}",
                    attributes: Default::default(),
                };
                let pairs = keys
                    .iter()
                    .map(Vec::as_slice)
                    .zip(values.iter().map(Vec::as_slice));
                writer
                    .put_batch(&pairs.map(op).collect::<Vec<_>>())
                    .unwrap();
            }
            Act::Compact => writer.compact().unwrap(),
        }
        println!("returned {}", now());
    }
}

/// Lives the life; adds what it did to the histories of the keys.
fn live(path: &Path, life: &Life, first: u64, changes: &mut [Vec<Change>]) {
    let head = format!(
        "{}\n{}\n{first}",
        path.display(),
        if life.clears { "clear" } else { "keep" }
    );
    let acts = life.acts.iter().map(Act::encode);
    let args: Vec<_> = std::iter::once(head).chain(acts).collect();
    let mut process = child("child_writer", &args.join("\n"));
    let output = process.stdout.take().unwrap();
    let times = BufReader::new(output).lines().map(Result::unwrap);
    let mut times = times.filter_map(|line| {
        let (what, at) = line.split_once(' ')?;
        let is_time = matches!(what, "begun" | "returned");
        is_time.then(|| at.parse::<u64>().ok())?
    });
    let mut note = |done: &[(u64, Value)], begun, returned| {
        for (key, value) in done {
            changes[*key as usize].push(Change {
                value: *value,
                begun,
                returned,
            });
        }
    };
    let (begun, returned) = (times.next().unwrap(), times.next());
    let forgotten: Vec<_> = (0..KEYS).map(|key| (key, None)).collect();
    note(if life.clears { &forgotten } else { &[] }, begun, returned);
    assert!(returned.is_some(), "a writer could not open the store");
    if let Some(delay) = life.killed_after {
        std::thread::sleep(Duration::from_micros(delay));
        process.kill().unwrap();
    }
    for (number, act) in (first..).zip(&life.acts) {
        let Some(begun) = times.next() else { break };
        note(&act.changes(number), begun, times.next());
    }
    let status = process.wait().unwrap();
    assert!(life.killed_after.is_some() || status.success());
}

/// Reads one key after the other until told to stop.
fn observe(path: &Path, stop: &AtomicBool) -> Vec<Vec<Read>> {
    let reader = Reader::open(path).unwrap();
    let mut reads = vec![Vec::new(); KEYS as usize];
    let mut left = READS;
    let mut last_round = false;
    while !last_round {
        last_round = stop.load(Ordering::Relaxed);
        for number in 0..KEYS {
            let begun = now();
            let found = reader.view().and_then(|view| {
                let entry = view.get(KIND, key(number))?;
                Ok(entry.map(|entry| counter_of(number, &entry)))
            });
            let returned = now();
            match found {
                Ok(value) if left > 0 || last_round => {
                    left = left.saturating_sub(1);
                    reads[number as usize].push(Read {
                        value,
                        begun,
                        returned,
                    });
                }
                Ok(_) | Err(ReadError::Contended) => {}
                Err(error) => panic!("a reader was told {error}"),
            }
        }
        std::thread::yield_now();
    }
    reads
}

/// How many reads there were, or the one that nothing explains.
fn run(program: &[Life]) -> Result<usize, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    small().open(&path).unwrap().close();
    let stop = AtomicBool::new(false);
    let mut changes = vec![Vec::new(); KEYS as usize];
    let reads: Vec<_> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| observe(&path, &stop)))
            .collect();
        let mut number = 1;
        for life in program {
            live(&path, life, number, &mut changes);
            number += life.acts.len() as u64;
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().map(|r| r.join().unwrap()).collect()
    });
    for (number, changes) in changes.iter().enumerate() {
        let reads: Vec<_> = reads
            .iter()
            .flat_map(|reader| &reader[number])
            .copied()
            .collect();
        if let Some(read) = violation(changes, &reads) {
            return Err(format!("key {number}: {read:?} of {changes:?}"));
        }
    }
    Ok(reads.iter().flatten().map(Vec::len).sum())
}

#[test]
fn every_key_is_linearizable() {
    let reads = AtomicU64::new(0);
    let cases = ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(200, |n| n.parse().unwrap()),
        max_shrink_iters: 500,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    };
    proptest!(cases, |(program in program())| {
        match run(&program) {
            Ok(count) => reads.fetch_add(count as u64, Ordering::Relaxed),
            Err(why) => return Err(TestCaseError::fail(why)),
        };
    });
    let reads = reads.into_inner();
    println!("{reads} reads, all linearizable");
    assert!(reads > 10_000, "the readers hardly looked");
}

/// A store that loses the change before a compaction: what is left of a program that shows it is that.
#[test]
fn a_program_that_fails_is_shrunk() {
    let loses = |program: &Vec<Life>| {
        let acts: Vec<_> = program.iter().flat_map(|life| &life.acts).collect();
        acts.windows(2)
            .any(|pair| matches!(pair, [Act::Put { .. }, Act::Compact]))
    };
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let found = runner.run(&program(), |program| {
        prop_assert!(!loses(&program));
        Ok(())
    });
    let Err(TestError::Fail(_, program)) = found else {
        panic!("{found:?}");
    };
    let acts = program.iter().map(|life| life.acts.len()).sum::<usize>();
    assert!(
        acts == 2 && program.iter().all(|life| !life.clears),
        "{program:?}"
    );
}
