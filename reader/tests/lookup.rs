//! What a lookup answers, mapped and by pread alike.

#[path = "support/property.rs"]
mod property;
#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use erlmcp_shm_layout::Attributes;
use erlmcp_shm_reader::{Entry, Kind, ReadError, Reader, Scope, View};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use support::Image;

/// Runs `test` on the image's file with a mapping reader and with one that preads.
fn both(image: &Image, test: impl Fn(&Reader, &Path)) {
    let (_folder, path) = saved(image);
    for pread in [false, true] {
        test(&Reader::options().pread(pread).open(&path).unwrap(), &path);
    }
}

fn saved(image: &Image) -> (tempfile::TempDir, PathBuf) {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    image.save(&path);
    (folder, path)
}

fn data(view: &View, kind: Kind, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    let entry = view.get(kind, key).unwrap();
    entry.map(|entry| entry.data().to_vec())
}

#[test]
fn kinds_are_separate_name_spaces() {
    let mut image = Image::new(1 << 20, 64);
    for kind in Kind::ALL {
        image.put(kind, b"x", kind.as_str().as_bytes(), b"{}");
    }
    both(&image, |shm, _| {
        let view = shm.view().unwrap();
        for kind in Kind::ALL {
            assert_eq!(data(&view, kind, "x").unwrap(), kind.as_str().as_bytes());
        }
        assert_eq!(data(&view, Kind::Resource, "y"), None);
    });
}

#[test]
fn the_newest_value_counts_and_a_deleted_key_is_absent() {
    let mut image = Image::new(1 << 20, 64);
    image.put(Kind::Prompt, b"p", b"one", b"{}");
    let version = image.put(Kind::Prompt, b"p", b"two, longer", b"{\"a\":1}");
    image.put(Kind::Prompt, b"gone", b"x", b"{}");
    image.delete(Kind::Prompt, b"gone");
    both(&image, |shm, _| {
        let view = shm.view().unwrap();
        let entry = view.get(Kind::Prompt, b"p").unwrap().unwrap();
        assert_eq!(entry.data(), b"two, longer");
        assert_eq!(entry.metadata(), b"{\"a\":1}");
        assert_eq!((entry.kind(), entry.key()), (Kind::Prompt, &b"p"[..]));
        assert_eq!(entry.version(), version);
        assert_eq!(data(&view, Kind::Prompt, "gone"), None);
        let keys: Vec<_> = view.iter().map(|e| e.key().to_vec()).collect();
        assert_eq!(keys, [b"p"]);
    });
}

#[test]
fn publishes_of_a_key_are_counted() {
    let mut image = Image::new(1 << 20, 64);
    for value in [b"1", b"2", b"3"] {
        image.put(Kind::Resource, b"k", value, b"{}");
    }
    image.put(Kind::ToolSchema, b"k", b"x", b"{}");
    image.put(Kind::Resource, b"gone", b"x", b"{}");
    image.delete(Kind::Resource, b"gone");
    both(&image, |shm, _| {
        let view = shm.view().unwrap();
        let publishes = |kind, key: &[u8]| view.publishes(kind, key).unwrap();
        assert_eq!(publishes(Kind::Resource, b"k"), Some(3));
        assert_eq!(publishes(Kind::ToolSchema, b"k"), Some(1));
        assert_eq!(publishes(Kind::Resource, b"gone"), Some(2));
        assert_eq!(publishes(Kind::Prompt, b"k"), None);
        assert_eq!(publishes(Kind::Resource, &[b'k'; 1 << 17]), None);
    });
}

#[test]
fn a_check_says_how_far_it_is() {
    let mut image = Image::new(1 << 20, 4096);
    for n in 0..90u8 {
        image.put(Kind::Resource, &[n], &[n; 8000], b"{}");
    }
    both(&image, |shm, _| {
        let mut told = vec![];
        let view = shm.view().unwrap();
        let found = view.verify_with(|done, of| told.push((done, of))).unwrap();
        assert!(found.is_sound());
        assert!(told.len() > 2 && told.is_sorted(), "{told:?}");
        let slots = 2 * 4096 * 64;
        assert_eq!(told.last().unwrap().1, slots + found.log_bytes);
        assert!(told.iter().all(|(done, of)| done <= of), "{told:?}");
    });
}

#[test]
fn any_bytes_are_keys_and_every_length_of_value_works() {
    let mut image = Image::new(32 << 20, 1024);
    let keys: Vec<Vec<u8>> = [
        vec![0],
        vec![0xff; 3],
        vec![b'\n', 0, 0xc3, 0x28],
        vec![7; 65535],
        (0..=255).collect(),
    ]
    .into();
    let sizes = [0, 1, 7, 8, 9, 64 << 10, 8 << 20];
    for (i, key) in keys.iter().enumerate() {
        for (j, size) in sizes.into_iter().enumerate() {
            if size < 1 << 20 || i == 0 {
                let mut key = key.clone();
                key[0] ^= j as u8;
                image.put(Kind::Resource, &key, &vec![j as u8; size], b"");
            }
        }
    }
    both(&image, |shm, _| {
        let view = shm.view().unwrap();
        for (i, key) in keys.iter().enumerate() {
            for (j, size) in sizes.into_iter().enumerate() {
                if size < 1 << 20 || i == 0 {
                    let mut key = key.clone();
                    key[0] ^= j as u8;
                    let entry = view.get(Kind::Resource, &key).unwrap().unwrap();
                    assert!(entry.data().len() == size && entry.metadata().is_empty());
                    assert!(entry.data().iter().all(|b| *b == j as u8));
                    assert_eq!(entry.key(), key);
                }
            }
        }
    });
}

#[test]
fn data_is_aligned_in_the_mapping() {
    let mut image = Image::new(1 << 20, 64);
    for len in 1..20 {
        image.put(Kind::Resource, &vec![b'k'; len], b"12345", b"{}");
    }
    let (_folder, path) = saved(&image);
    let shm = Reader::open(path).unwrap();
    for entry in &shm.view().unwrap() {
        assert_eq!(entry.data().as_ptr().addr() % 8, 0);
    }
}

#[test]
fn a_key_that_cannot_be_is_a_miss() {
    let mut image = Image::new(1 << 20, 64);
    image.put(Kind::Resource, &[b'a'; 65535], b"longest", b"{}");
    both(&image, |shm, _| {
        let view = shm.view().unwrap();
        assert_eq!(data(&view, Kind::Resource, ""), None);
        assert_eq!(data(&view, Kind::Resource, vec![b'a'; 65536]), None);
        assert_eq!(data(&view, Kind::Resource, vec![b'a'; 65536 + 65535]), None);
        assert!(data(&view, Kind::Resource, vec![b'a'; 65535]).is_some());
    });
}

#[test]
fn a_full_index_ends_every_probe() {
    let mut image = Image::new(1 << 20, 16);
    for i in 0..16u8 {
        image.put(Kind::Resource, &[i + 1], &[i], b"");
    }
    both(&image, |shm, _| {
        let view = shm.view().unwrap();
        for i in 0..16u8 {
            assert_eq!(data(&view, Kind::Resource, [i + 1]), Some(vec![i]));
        }
        assert_eq!(data(&view, Kind::Resource, [99]), None);
    });
}

#[test]
fn attributes_come_back() {
    let mut image = Image::new(1 << 20, 64);
    let mut put = |key: &[u8], expires_at, scope| {
        let attributes = Attributes { expires_at, scope };
        image.put_with(Kind::Resource, key, b"x", b"{}", attributes);
    };
    put(b"past", 1, Scope::Public);
    put(b"future", u64::MAX, Scope::Private);
    put(b"never", 0, Scope::Public);
    both(&image, |shm, _| {
        let view = shm.view().unwrap();
        let get = |key: &str| view.get(Kind::Resource, key).unwrap().unwrap();
        let seen = |e: Entry<'_>| (e.expires_at(), e.is_expired(), e.scope());
        assert_eq!(seen(get("past")), (Some(1), true, Scope::Public));
        let future = (Some(u64::MAX), false, Scope::Private);
        assert_eq!(seen(get("future")), future);
        assert_eq!(seen(get("never")), (None, false, Scope::Public));
    });
}

#[test]
fn what_was_to_expire_in_an_earlier_boot_has_expired() {
    let mut image = Image::new(1 << 20, 64);
    image.header.boot_id = [1; 16];
    let mut image = Image::of(image.header);
    let attributes = Attributes {
        expires_at: u64::MAX,
        scope: Scope::Public,
    };
    image.put_with(Kind::Resource, b"x", b"x", b"{}", attributes);
    both(&image, |shm, _| {
        let view = shm.view().unwrap();
        let entry = view.get(Kind::Resource, "x").unwrap().unwrap();
        assert!(entry.is_expired());
    });
}

#[test]
fn bytes_and_borrowed_data_outlive_what_they_came_from() {
    let mut image = Image::new(1 << 20, 64);
    image.put(Kind::Resource, b"x", b"value", b"{}");
    image.put(Kind::Resource, b"empty", b"", b"{}");
    both(&image, |shm, _| {
        let shm = shm.clone();
        let bytes = shm.get_bytes(Kind::Resource, "x").unwrap().unwrap();
        let empty = shm.get_bytes(Kind::Resource, "empty").unwrap().unwrap();
        assert_eq!(shm.get_bytes(Kind::Resource, "y"), Ok(None));
        let view = shm.view().unwrap();
        let entry = view.get(Kind::Resource, "x").unwrap().unwrap();
        let cow = entry.into_data();
        drop(shm);
        assert_eq!(&*cow, b"value");
        drop(cow);
        drop(view);
        assert_eq!((&bytes[..], &empty[..]), (&b"value"[..], &b""[..]));
    });
}

#[test]
fn a_publish_is_seen_through_the_same_view() {
    let mut image = Image::new(1 << 20, 64);
    let (_folder, path) = saved(&image);
    for pread in [false, true] {
        let shm = Reader::options().pread(pread).open(&path).unwrap();
        let view = shm.view().unwrap();
        let before = shm.changes().unwrap();
        for i in 0..100u8 {
            image.put(Kind::Resource, b"x", &[i], b"{}");
            image.update(&path);
            assert_eq!(data(&view, Kind::Resource, "x"), Some(vec![i]));
        }
        assert!(view.is_current());
        assert_eq!(shm.changes().unwrap(), before + 100);
    }
}

#[test]
fn stats_are_those_of_the_file() {
    let mut image = Image::new(1 << 20, 64);
    image.put(Kind::Resource, b"a", b"x", b"{}");
    image.put(Kind::Resource, b"b", b"x", b"{}");
    image.delete(Kind::Resource, b"a");
    both(&image, |shm, path| {
        let stats = shm.stats().unwrap();
        assert_eq!((stats.entries, stats.used_slots), (1, 2));
        assert_eq!((stats.slot_count, stats.size), (64, 1 << 20));
        assert_eq!((stats.generation, stats.store_id), (1, [7; 16]));
        assert_eq!((stats.version, stats.changes), (3, 3));
        assert!(stats.log_used > 0 && stats.fill > 0.0 && stats.fill < 0.01);
        assert_eq!(shm.path(), path);
    });
}

#[test]
fn views_and_readers_go_anywhere() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Reader>();
    check::<View>();
    check::<ReadError>();
    check::<erlmcp_shm_reader::Bytes>();
}

proptest! {
    #![proptest_config(property::config(64, "tests/lookup.regressions"))]

    /// Small keys, so that many collide in an index of 64 slots.
    #[test]
    fn lookups_agree_with_a_map(
        ops in prop::collection::vec((0u8..4, 0u8..40, prop::collection::vec(any::<u8>(), 0..50)), 0..200),
        asked in prop::collection::vec((0u8..4, 0u8..50), 0..70),
    ) {
        let mut image = Image::new(1 << 20, 256);
        let mut model = std::collections::HashMap::new();
        for (kind, key, value) in &ops {
            let kind = Kind::ALL[*kind as usize];
            if value.len() % 5 == 4 {
                if model.remove(&(kind, *key)).is_some() {
                    image.delete(kind, &[*key]);
                }
            } else {
                image.put(kind, &[*key], value, b"{}");
                model.insert((kind, *key), value.clone());
            }
        }
        both(&image, |shm, _| {
            let view = shm.view().unwrap();
            let keys: Vec<_> = asked.iter().map(|(k, key)| (Kind::ALL[*k as usize], [*key])).collect();
            let many = view.get_many(&keys);
            assert_eq!(many.len(), keys.len());
            for ((kind, key), found) in keys.iter().zip(many) {
                let found = found.unwrap().map(|entry| entry.data().to_vec());
                assert_eq!(found.as_ref(), model.get(&(*kind, key[0])));
                assert_eq!(found, data(&view, *kind, key));
            }
            let all: Vec<_> = view.try_iter().map(Result::unwrap).collect();
            assert_eq!(all.len(), model.len());
            for entry in all {
                assert_eq!(Some(entry.data()), model.get(&(entry.kind(), entry.key()[0])).map(|v| &v[..]));
            }
            let found = shm.verify().unwrap();
            assert!(found.is_sound(), "{found:?}");
            assert_eq!(found.entries, model.len() as u64);
        });
    }
}
