//! Random programs against a HashMap, on stores so small that rollovers are frequent.

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use erlmcp_shm_reader::{Kind, Reader};
use erlmcp_shm_writer::{Op, Recover, Writer};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

#[derive(Clone, Debug)]
enum Action {
    Put { key: u8, len: usize },
    Delete { key: u8 },
    Batch { keys: Vec<u8>, len: usize },
    Compact,
    Reopen,
    Clear,
}

fn action() -> impl Strategy<Value = Action> {
    let len = prop_oneof![8 => 0usize..400, 1 => Just(0), 1 => 3000usize..9000];
    prop_oneof![
        30 => (any::<u8>(), len).prop_map(|(key, len)| Action::Put { key, len }),
        10 => any::<u8>().prop_map(|key| Action::Delete { key }),
        4 => (prop::collection::vec(any::<u8>(), 1..20), 0usize..200)
            .prop_map(|(keys, len)| Action::Batch { keys, len }),
        1 => Just(Action::Compact),
        1 => Just(Action::Reopen),
        1 => Just(Action::Clear),
    ]
}

fn kind_of(key: u8) -> Kind {
    Kind::ALL[key as usize % 4]
}

type Model = HashMap<u8, (Vec<u8>, u64)>;

fn check(reader: &Reader, model: &Model) {
    let view = reader.view().unwrap();
    for key in 0..=u8::MAX {
        let entry = view.get(kind_of(key), [key]).unwrap();
        let found = entry.as_ref().map(|e| (e.data(), e.version()));
        let expected = model.get(&key).map(|(data, v)| (data.as_slice(), *v));
        assert_eq!(found, expected, "key {key}");
        if let Some(entry) = entry {
            assert_eq!(entry.metadata(), format!("{{\"v\":{key}}}").as_bytes());
        }
        let other = Kind::ALL[(key as usize + 1) % 4];
        assert!(view.get(other, [key]).unwrap().is_none());
    }
    assert_eq!(view.iter().count(), model.len());
}

fn run(actions: Vec<Action>) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut writer = common::small().open(&path).unwrap();
    let reader = Reader::open(&path).unwrap();
    let mut model = Model::new();
    let mut last_version = 0;
    let mut counter = 0u8;
    for action in actions {
        let mut put = |model: &mut Model, writer: &Writer, key: u8, len: usize| {
            counter = counter.wrapping_add(1);
            let data = vec![counter; len];
            let metadata = format!("{{\"v\":{key}}}");
            let version = writer
                .put(kind_of(key), &[key], &data, metadata.as_bytes())
                .unwrap();
            assert!(version > last_version);
            last_version = version;
            model.insert(key, (data, version));
        };
        match action {
            Action::Put { key, len } => {
                put(&mut model, &writer, key, len);
                let view = reader.view().unwrap();
                let entry = view.get(kind_of(key), [key]).unwrap().unwrap();
                assert_eq!(entry.data(), model[&key].0);
            }
            Action::Delete { key } => {
                let deleted = writer.delete(kind_of(key), &[key]).unwrap();
                assert_eq!(deleted.is_some(), model.remove(&key).is_some());
                last_version = deleted.unwrap_or(last_version);
                assert!(
                    reader
                        .view()
                        .unwrap()
                        .get(kind_of(key), [key])
                        .unwrap()
                        .is_none()
                );
            }
            Action::Batch { keys, len } => {
                let metadata: Vec<_> = keys.iter().map(|k| format!("{{\"v\":{k}}}")).collect();
                let data = vec![7; len];
                let ops: Vec<_> = std::iter::zip(&keys, &metadata)
                    .map(|(key, metadata)| Op::Put {
                        kind: kind_of(*key),
                        key: std::slice::from_ref(key),
                        data: &data,
                        metadata: metadata.as_bytes(),
                        attributes: Default::default(),
                    })
                    .collect();
                writer.put_batch(&ops).unwrap();
                for key in keys {
                    last_version += 1;
                    model.insert(key, (data.clone(), last_version));
                }
            }
            Action::Compact => writer.compact().unwrap(),
            Action::Reopen => {
                drop(writer);
                writer = common::small().open(&path).unwrap();
            }
            Action::Clear => {
                let id = reader.view().unwrap().store_id();
                writer.close();
                let options = common::small().recover(Recover::Clear);
                writer = options.open(&path).unwrap();
                assert_ne!(reader.view().unwrap().store_id(), id);
                model.clear();
            }
        }
        assert_eq!(writer.stats().stats.entries, model.len() as u64);
    }
    check(&reader, &model);
    let late = Reader::open(&path).unwrap();
    check(&late, &model);
    assert!(late.verify().unwrap().damaged.is_empty());
    writer.stats().stats.rollovers
}

#[test]
fn any_program_reads_back_as_a_map_would() {
    let rollovers = AtomicU64::new(0);
    let cases = ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(60, |n| n.parse().unwrap()),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    };
    proptest!(cases, |(actions in prop::collection::vec(action(), 1..400))| {
        rollovers.fetch_add(run(actions), Ordering::Relaxed);
    });
    let rollovers = rollovers.into_inner();
    println!("{rollovers} rollovers");
    assert!(rollovers > 100, "the stores are too large to test anything");
}
