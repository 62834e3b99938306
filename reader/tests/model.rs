//! Writer and reader together: what a lookup says is what a map would say, over rollovers,
//! compactions and restarts, at the very next lookup, for every kind of reader.

#[path = "support/property.rs"]
mod property;
#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use erlmcp_shm_reader::{Bytes, Kind, Reader, View};
use erlmcp_shm_writer::Writer;
use proptest::prelude::*;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

static ROLLOVERS: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, u16),
    Delete(u8, u8),
    Compact,
    Restart,
    /// A value is kept until the end.
    Hold(u8, u8),
    CompareAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (0u8..4, 0u8..30, 0u16..4000).prop_map(|(k, key, len)| Step::Put(k, key, len)),
        8 => (0u8..4, 0u8..30).prop_map(|(k, key)| Step::Delete(k, key)),
        1 => Just(Step::Compact),
        1 => Just(Step::Restart),
        3 => (0u8..4, 0u8..30).prop_map(|(k, key)| Step::Hold(k, key)),
        1 => Just(Step::CompareAll),
    ]
}

type Model = HashMap<(Kind, Vec<u8>), Vec<u8>>;

fn open(path: &Path) -> Writer {
    let options = Writer::options().size(64 << 10).max_size(16 << 20);
    options.open(path).unwrap()
}

fn readers(path: &Path) -> Vec<Reader> {
    let all = [
        Reader::options(),
        Reader::options().watcher(false),
        Reader::options().pread(true),
        Reader::options().prefault(true),
    ];
    all.map(|options| options.open(path).unwrap()).into()
}

fn key(n: u8) -> Vec<u8> {
    format!("key-{n}").into_bytes()
}

fn agree(model: &Model, view: &View) {
    let keys: Vec<_> = (0..30)
        .flat_map(|n| Kind::ALL.map(|kind| (kind, key(n))))
        .collect();
    for (asked, found) in keys.iter().zip(view.get_many(&keys)) {
        let found = found.unwrap();
        assert_eq!(
            found.as_ref().map(|e| e.data()),
            model.get(asked).map(|v| &v[..])
        );
    }
    let all = view.try_iter().map(|entry| {
        let entry = entry.unwrap();
        ((entry.kind(), entry.key().to_vec()), entry.data().to_vec())
    });
    assert_eq!(&all.collect::<Model>(), model);
}

fn run(steps: &[Step]) {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    let mut writer = Some(open(&path));
    let readers = readers(&path);
    let mut views: Vec<View> = readers.iter().map(|shm| shm.view().unwrap()).collect();
    let mut model = Model::new();
    let mut held: Vec<(Bytes, Vec<u8>)> = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        let w = writer.as_ref().unwrap();
        let mut touched = None;
        match step {
            Step::Put(kind, n, len) => {
                let (kind, key) = (Kind::ALL[usize::from(*kind)], key(*n));
                let value = vec![i as u8; usize::from(*len)];
                w.put(kind, &key, &value, b"{}").unwrap();
                model.insert((kind, key.clone()), value);
                touched = Some((kind, key));
            }
            Step::Delete(kind, n) => {
                let (kind, key) = (Kind::ALL[usize::from(*kind)], key(*n));
                let was_there = w.delete(kind, &key).unwrap().is_some();
                assert_eq!(was_there, model.remove(&(kind, key.clone())).is_some());
                touched = Some((kind, key));
            }
            Step::Compact => w.compact().unwrap(),
            Step::Restart => {
                drop(writer.take());
                writer = Some(open(&path));
            }
            Step::Hold(kind, n) => {
                let (kind, key) = (Kind::ALL[usize::from(*kind)], key(*n));
                if let Some(bytes) = readers[0].get_bytes(kind, &key).unwrap() {
                    held.push((bytes, model[&(kind, key)].clone()));
                }
            }
            Step::CompareAll => {
                for shm in &readers {
                    agree(&model, &shm.view().unwrap());
                }
            }
        }
        let Some((kind, key)) = touched else { continue };
        let expected = model.get(&(kind, key.clone()));
        for (shm, view) in readers.iter().zip(&mut views) {
            let found = shm.get_bytes(kind, &key).unwrap();
            assert_eq!(found.as_deref(), expected.map(|v| &v[..]), "step {i}");
            view.refresh(shm).unwrap();
            let found = view.get(kind, &key).unwrap();
            assert_eq!(found.map(|e| e.data().to_vec()).as_ref(), expected);
        }
    }
    for shm in &readers {
        let found = shm.verify().unwrap();
        assert!(found.is_sound(), "{found:?}");
        assert_eq!(found.entries, model.len() as u64);
        assert_eq!(shm.stats().unwrap().entries, model.len() as u64);
        agree(&model, &shm.view().unwrap());
    }
    for (bytes, expected) in held {
        assert_eq!(bytes, expected);
    }
    ROLLOVERS.fetch_add(readers[0].stats().unwrap().rollovers, Ordering::Relaxed);
}

#[test]
fn readers_agree_with_a_map() {
    let config = property::config(40, "tests/model.regressions");
    let cases = config.cases;
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let programs = prop::collection::vec(step(), 50..400);
    let result = runner.run(&programs, |steps| {
        run(&steps);
        Ok(())
    });
    let rollovers = ROLLOVERS.load(Ordering::Relaxed);
    println!("{cases} programs, {rollovers} rollovers");
    result.unwrap();
    assert!(rollovers > 0, "no program made the store roll over");
}
