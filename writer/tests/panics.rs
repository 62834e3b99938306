//! A panic at every point under the writer's lock: that writer is failed until it is opened again, what had
//! returned is lost neither to readers nor to the next writer, and nothing of it is left behind.

mod common;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{KIND, key, payload, read, small};
use erlmcp_shm_reader::{Reader, Verdict};
use erlmcp_shm_writer::{Attempt, Attributes, Op, Phase, WriteError, Writer, fault};

/// Keys, each put so often that the store rolls over while the program runs.
const KEYS: u64 = 12;
const ROUNDS: u64 = 6;
const LEN: usize = 300;

/// The counter of each key that was last returned (0: deleted), and of the change that was under way.
#[derive(Default)]
struct Promised {
    returned: BTreeMap<u64, u64>,
    under_way: Option<(u64, u64)>,
}

impl Promised {
    /// Makes a change; says whether the program may go on.
    fn change(
        &mut self,
        key: u64,
        counter: u64,
        change: impl FnOnce() -> Result<(), WriteError>,
    ) -> bool {
        match catch_unwind(AssertUnwindSafe(change)) {
            Ok(Ok(())) => {
                self.returned.insert(key, counter);
                true
            }
            // The builder's panic, or one before: nothing was written.
            Ok(Err(error)) => {
                assert_eq!(error, WriteError::Failed);
                false
            }
            Err(_) => {
                self.under_way = Some((key, counter));
                false
            }
        }
    }

    /// Every key is what it was when the last change of it returned, or what the interrupted one made of it.
    fn check(&self, reader: &Reader) {
        for (&number, &counter) in &self.returned {
            let found = read(reader, number).unwrap_or(0);
            let also = self.under_way.filter(|change| change.0 == number);
            assert!(
                found == counter || also == Some((number, found)),
                "key {number}: {found} instead of {counter}, under way {also:?}"
            );
        }
    }
}

/// Puts, deletes, and a compaction, until something panics.
fn run(writer: &Writer, promised: &mut Promised) {
    for counter in 2..ROUNDS + 2 {
        for number in 0..KEYS {
            let go_on = match (number + counter) % 7 {
                0 => promised.change(number, 0, || writer.delete(KIND, &key(number)).map(|_| ())),
                _ => promised.change(number, counter, || {
                    let data = payload(number, counter, LEN);
                    writer.put(KIND, &key(number), &data, b"{}").map(|_| ())
                }),
            };
            if !go_on {
                return;
            }
        }
    }
    let compacted = catch_unwind(AssertUnwindSafe(|| writer.compact()));
    assert!(matches!(compacted, Ok(Ok(()) | Err(WriteError::Failed))));
}

fn every_call_says_failed(writer: &Writer) {
    let data = payload(99, 1, LEN);
    let put = Op::Put {
        kind: KIND,
        key: b"late",
        data: &data,
        metadata: b"{}",
        attributes: Attributes::default(),
    };
    let failed = Some(WriteError::Failed);
    assert_eq!(writer.put(KIND, b"late", &data, b"{}").err(), failed);
    let tried = writer.try_put_with(
        KIND,
        b"late",
        &data,
        b"{}",
        Attributes::default(),
        Duration::ZERO,
    );
    // Busy: the builder holds the lock for a moment.
    assert!(matches!(tried, Err(WriteError::Failed) | Ok(Attempt::Busy)));
    assert_eq!(writer.delete(KIND, b"late").err(), failed);
    assert_eq!(writer.put_batch(&[put]).err().map(|e| e.error), failed);
    assert_eq!(writer.compact().err(), failed);
    assert_eq!(writer.heartbeat().err(), failed);
    assert_eq!(writer.stats().phase, Phase::Failed);
}

/// Mappings of the store's files in this process, and descriptors of them.
fn held(path: &Path) -> (usize, usize) {
    let path = path.to_str().unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let ours = |file: &std::fs::DirEntry| {
        std::fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy().contains(path))
    };
    (
        maps.lines().filter(|line| line.contains(path)).count(),
        descriptors.flatten().filter(ours).count(),
    )
}

fn eventually_nothing_held(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while held(path) != (0, 0) {
        assert!(Instant::now() < deadline, "left: {:?}", held(path));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// One run, with the panic at the `n`-th point. `false`: it did not get there.
fn panic_at(n: u64) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let writer = small().open(&path).unwrap();
    let mut promised = Promised::default();
    for number in 0..KEYS {
        assert!(promised.change(number, 1, || {
            let data = payload(number, 1, LEN);
            writer.put(KIND, &key(number), &data, b"{}").map(|_| ())
        }));
    }
    // It follows marks alone, so a generation that goes without its mark would hold it back.
    let reader = Reader::options().watcher(false).open(&path).unwrap();
    let stays = Reader::options().watcher(false).open(&path).unwrap();
    let kept = stays.view().unwrap();

    fault::arm(n);
    run(&writer, &mut promised);
    if fault::arm(0) > 0 {
        return false;
    }
    every_call_says_failed(&writer);
    promised.check(&reader);
    writer.close();
    // Dead: half way through a switch, the close no longer knows which generation to mark.
    let verdict = reader.liveness().verdict();
    assert!(matches!(verdict, Verdict::Closed | Verdict::Dead));
    promised.check(&reader);

    let again = small().open(&path).unwrap();
    promised.check(&reader);
    let data = payload(0, 1000, LEN);
    again.put(KIND, &key(0), &data, b"{}").unwrap();
    assert_eq!(read(&reader, 0), Some(1000), "the reader follows");
    assert_eq!(read(&stays, 0), Some(1000), "one that was idle too");
    let names = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names, 2, "the store and its lock");
    drop(kept);
    drop((reader, stays, again));
    // The failed writer is closed, but its handle is still here.
    eventually_nothing_held(&path);
    drop(writer);
    true
}

#[test]
fn a_panic_under_the_lock_fails_that_writer_alone() {
    std::panic::set_hook(Box::new(|info| {
        // The one that is made on purpose comes too often to be told.
        let on_purpose = info
            .payload_as_str()
            .is_some_and(|s| s.contains("on purpose"));
        if !on_purpose {
            eprintln!("{info}");
        }
    }));
    let points = (1..).take_while(|&n| panic_at(n)).count() as u64;
    println!("panics under the lock: {points}, each at a point of its own");
    // Four points a change, and a build with all its steps.
    assert!(points > 4 * KEYS * ROUNDS / 2, "{points}");
}
