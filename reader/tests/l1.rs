//! The cache of decoded values beside lookups: whatever happens to the store, both say the same.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use erlmcp_shm_reader::l1::{Cache, CacheError, CacheOptions, Tier, Upstream};
use erlmcp_shm_reader::{Kind, ReadError, Reader};
use erlmcp_shm_writer::{Attributes, Recover, Writer};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const KIND: Kind = Kind::Resource;

fn writer(path: &Path, recover: Recover) -> Writer {
    let options = Writer::options().size(64 << 10).max_size(4 << 20);
    options.recover(recover).open(path).unwrap()
}

fn texts(shm: &Reader, options: CacheOptions) -> Cache<String> {
    Cache::new(shm, options, |entry| {
        Ok(String::from_utf8(entry.data().to_vec())?)
    })
}

fn upstream(shm: &Reader, ttl: Duration) -> Upstream {
    let seen = shm.changes().ok();
    let (weight, over) = (1, 0);
    Upstream {
        seen,
        ttl,
        weight,
        over,
    }
}

struct Store {
    folder: tempfile::TempDir,
    writer: Writer,
    shm: Reader,
}

impl Store {
    fn new() -> Self {
        let folder = support::folder();
        let path = folder.path().join("store.bin");
        let writer = writer(&path, Recover::Keep);
        let shm = Reader::open(&path).unwrap();
        Self {
            folder,
            writer,
            shm,
        }
    }

    fn put(&self, key: &str, data: &str) -> u64 {
        let put = self
            .writer
            .put(KIND, key.as_bytes(), data.as_bytes(), b"{}");
        put.unwrap()
    }
}

/// What a read answers: the text, and whether it came from the cache.
fn ask(cache: &Cache<String>, key: &str) -> Option<(String, Tier)> {
    let cached = cache.get(KIND, key).unwrap()?;
    Some((cached.to_string(), cached.tier()))
}

fn answer(text: &str, tier: Tier) -> Option<(String, Tier)> {
    Some((text.into(), tier))
}

#[test]
fn a_change_is_seen_by_the_very_next_read() {
    let store = Store::new();
    let cache = texts(&store.shm, CacheOptions::default());
    assert_eq!(ask(&cache, "k"), None);
    store.put("k", "one");
    assert_eq!(ask(&cache, "k"), answer("one", Tier::L2));
    assert_eq!(ask(&cache, "k"), answer("one", Tier::L1));
    store.put("k", "two");
    assert_eq!(ask(&cache, "k"), answer("two", Tier::L2));
    // Another key is nothing to this one.
    store.put("other", "x");
    assert_eq!(ask(&cache, "k"), answer("two", Tier::L1));
    store.writer.delete(KIND, b"k").unwrap();
    assert_eq!(ask(&cache, "k"), None);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.absent), (2, 2, 2));
    assert_eq!((stats.coherence_misses, stats.entries), (2, 0));
}

#[test]
fn a_value_survives_a_switch_without_being_decoded_again() {
    let store = Store::new();
    let decoded = Arc::new(AtomicU64::new(0));
    let count = decoded.clone();
    let cache = Cache::new(&store.shm, CacheOptions::default(), move |entry| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(entry.data().to_vec())
    });
    store.put("k", "one");
    let first = cache.get(KIND, "k").unwrap().unwrap().into_value();
    store.writer.compact().unwrap();
    for _ in 0..2 {
        let again = cache.get(KIND, "k").unwrap().unwrap();
        assert_eq!(again.tier(), Tier::L1);
        assert!(Arc::ptr_eq(&again.into_value(), &first));
    }
    assert_eq!(decoded.load(Ordering::Relaxed), 1);
}

#[test]
fn another_store_at_the_path_empties_the_cache() {
    let store = Store::new();
    let cache = texts(&store.shm, CacheOptions::default());
    for key in ["a", "b"] {
        store.put(key, "old");
        ask(&cache, key);
    }
    assert_eq!(cache.stats().entries, 2);
    store.writer.close();
    let next = writer(&store.folder.path().join("store.bin"), Recover::Clear);
    next.put(KIND, b"a", b"new", b"{}").unwrap();
    assert_eq!(ask(&cache, "b"), None);
    assert_eq!(ask(&cache, "a"), answer("new", Tier::L2));
    assert_eq!(cache.stats().entries, 1);
}

#[test]
fn an_expired_entry_is_a_miss() {
    let store = Store::new();
    let cache = texts(&store.shm, CacheOptions::default());
    let put = |expires_at| {
        let attributes = Attributes {
            expires_at,
            ..Attributes::default()
        };
        let put = store.writer.put_with(KIND, b"k", b"v", b"{}", attributes);
        put.unwrap();
    };
    put(1);
    assert_eq!(ask(&cache, "k"), None);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
    put(now + 3_600_000_000_000);
    assert_eq!(ask(&cache, "k"), answer("v", Tier::L2));
    assert_eq!(ask(&cache, "k"), answer("v", Tier::L1));
    let soon = now + 300_000_000;
    put(soon);
    ask(&cache, "k");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(ask(&cache, "k"), None, "expired while it was cached");
}

#[test]
fn a_value_from_upstream_yields_as_soon_as_its_key_is_there() {
    let store = Store::new();
    let cache = texts(&store.shm, CacheOptions::default());
    let hour = Duration::from_secs(3600);
    let insert = |text: &str, upstream| {
        cache.insert_upstream(KIND, "k", Arc::new(text.into()), upstream);
    };
    insert("upstream", upstream(&store.shm, hour));
    assert_eq!(ask(&cache, "k"), answer("upstream", Tier::L1));
    store.put("other", "x");
    assert_eq!(ask(&cache, "k"), answer("upstream", Tier::L1));
    store.put("k", "published");
    assert_eq!(ask(&cache, "k"), answer("published", Tier::L2));
    // What was asked for before the key was there does not hide it.
    let before = Upstream {
        seen: Some(0),
        ..upstream(&store.shm, hour)
    };
    insert("late", before);
    assert_eq!(ask(&cache, "k"), answer("published", Tier::L2));
    // Newer than the entry that is there: until there is a newer one.
    let version = cache.get(KIND, "k").unwrap().unwrap().version();
    let newer = Upstream {
        over: version,
        ..before
    };
    insert("newer", newer);
    assert_eq!(ask(&cache, "k"), answer("newer", Tier::L1));
    store.writer.compact().unwrap();
    assert_eq!(ask(&cache, "k"), answer("newer", Tier::L1));
    store.put("k", "newest");
    assert_eq!(ask(&cache, "k"), answer("newest", Tier::L2));
}

/// Whoever removes while a value is put in removes it: there is no moment in which it would come in behind.
#[test]
fn no_value_is_put_in_behind_an_invalidation() {
    type Remove = fn(&Cache<String>);
    let ways: [Remove; 4] = [
        |cache| cache.remove(KIND, "k"),
        |cache| cache.remove_where(|_, _| true),
        |cache| cache.expire_upstream(),
        |cache| cache.clear(),
    ];
    let upstream = Upstream {
        seen: None,
        ttl: Duration::from_secs(3600),
        weight: 1,
        over: 0,
    };
    for remove in ways {
        let cache = Cache::<String>::without_store(CacheOptions::default());
        let noted = AtomicBool::new(false);
        let value = || Arc::new("old".to_owned());
        std::thread::scope(|threads| {
            cache.insert_upstream_if(KIND, "k", value(), upstream, || {
                let still = !noted.load(Ordering::SeqCst);
                threads.spawn(|| {
                    noted.store(true, Ordering::SeqCst);
                    remove(&cache);
                });
                while !noted.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                // Time enough for a removal that does not wait.
                std::thread::sleep(Duration::from_millis(50));
                still
            });
        });
        assert_eq!(ask(&cache, "k"), None);
        let still = || !noted.load(Ordering::SeqCst);
        cache.insert_upstream_if(KIND, "k", value(), upstream, still);
        assert_eq!(ask(&cache, "k"), None);
    }
}

#[test]
fn a_value_from_upstream_times_out_and_needs_no_store() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    let shm = Reader::options().allow_absent(true).open(&path).unwrap();
    let cache = texts(&shm, CacheOptions::default());
    let is_absent = |answer: Result<_, CacheError>| {
        matches!(answer, Err(CacheError::Read(ReadError::NotFound)))
    };
    assert!(is_absent(cache.get(KIND, "k")));
    let ttl = Duration::from_millis(300);
    cache.insert_upstream(KIND, "k", Arc::new("v".into()), upstream(&shm, ttl));
    assert_eq!(ask(&cache, "k"), answer("v", Tier::L1));
    std::thread::sleep(Duration::from_millis(400));
    assert!(is_absent(cache.get(KIND, "k")));
    // A store that appears is looked into.
    let hour = Duration::from_secs(3600);
    cache.insert_upstream(KIND, "k", Arc::new("v".into()), upstream(&shm, hour));
    let writer = writer(&path, Recover::Keep);
    assert_eq!(ask(&cache, "k"), answer("v", Tier::L1));
    writer.put(KIND, b"k", b"published", b"{}").unwrap();
    assert_eq!(ask(&cache, "k"), answer("published", Tier::L2));
}

#[test]
fn what_cannot_be_decoded_is_an_error_each_time_and_nothing_is_kept() {
    let store = Store::new();
    let cache = texts(&store.shm, CacheOptions::default());
    store.writer.put(KIND, b"k", b"\xff", b"{}").unwrap();
    for _ in 0..2 {
        assert!(matches!(cache.get(KIND, "k"), Err(CacheError::Decode(_))));
    }
    store.put("k", "text");
    assert_eq!(ask(&cache, "k"), answer("text", Tier::L2));
}

#[test]
fn bytes_and_entries_are_bounded() {
    let store = Store::new();
    for n in 0..2000 {
        store.put(&format!("{n}"), &"x".repeat(n % 300));
    }
    let bounds = CacheOptions::default().max_bytes(40_000).max_entries(150);
    let cache = texts(&store.shm, bounds);
    for round in 0..3 {
        for n in 0..2000 {
            ask(&cache, &format!("{n}")).unwrap();
            // Some go again, so that places are left over.
            if n % 7 == round {
                cache.remove(KIND, format!("{}", n / 2));
            }
            let stats = cache.stats();
            assert!(stats.bytes <= 40_000 && stats.entries <= 150, "{stats:?}");
        }
    }
    assert!(cache.stats().evictions > 3000);
    // One that is too heavy by itself is answered, and displaces nobody.
    let before = cache.stats().entries;
    store.put("heavy", &"x".repeat(40_000));
    assert_eq!(ask(&cache, "heavy").unwrap().1, Tier::L2);
    assert_eq!(ask(&cache, "heavy").unwrap().1, Tier::L2);
    assert_eq!(cache.stats().entries, before);
    cache.clear();
    assert_eq!((cache.stats().entries, cache.stats().bytes), (0, 0));
}

#[test]
fn a_scan_does_not_drive_out_what_is_in_use() {
    let store = Store::new();
    for n in 0..2000 {
        store.put(&format!("{n}"), "x");
    }
    let cache = texts(&store.shm, CacheOptions::default().max_entries(200));
    let in_use = || (0..100).map(|n| format!("{n}"));
    for _ in 0..3 {
        in_use().for_each(|key| drop(ask(&cache, &key)));
    }
    for n in 100..2000 {
        ask(&cache, &format!("{n}"));
    }
    let hits = in_use().filter(|key| ask(&cache, key).unwrap().1 == Tier::L1);
    assert_eq!(hits.count(), 100);
}

#[test]
fn values_are_removed_by_key_and_by_what_their_keys_have_in_common() {
    let store = Store::new();
    let cache = texts(&store.shm, CacheOptions::default());
    for key in ["a/1", "a/2", "b/1"] {
        store.put(key, "x");
        ask(&cache, key);
    }
    cache.remove_where(|kind, key| kind == KIND && key.starts_with(b"a/"));
    let tiers = ["a/1", "a/2", "b/1"].map(|key| ask(&cache, key).unwrap().1);
    assert_eq!(tiers, [Tier::L2, Tier::L2, Tier::L1]);
}

#[test]
fn threads_that_read_never_go_back_and_never_miss_a_put_that_returned() {
    let store = Store::new();
    let cache = texts(&store.shm, CacheOptions::default().max_entries(8));
    let returned = AtomicU64::new(0);
    store.put("k", "0");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while last < 20_000 {
                    let least = returned.load(Ordering::Acquire).max(last);
                    let found = cache.get(KIND, "k").unwrap().unwrap();
                    last = found.parse::<u64>().unwrap();
                    assert!(last >= least, "{last} after {least}");
                    // Values come and go meanwhile.
                    let _ = ask(&cache, &format!("{}", last % 16));
                }
            });
        }
        for n in 1..=20_000_u64 {
            store.put("k", &n.to_string());
            returned.store(n, Ordering::Release);
            if n % 64 == 0 {
                store.put(&format!("{}", n % 16), "x");
            }
        }
    });
    assert!(store.shm.view().unwrap().generation() > 3, "no switch");
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u16),
    Delete(u8),
    Read(u8),
    Forget(u8),
    Upstream(u8),
    Compact,
    Reopen(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..12_u8, any::<u16>()).prop_map(|(k, v)| Op::Put(k, v)),
        2 => (0..12_u8).prop_map(Op::Delete),
        8 => (0..12_u8).prop_map(Op::Read),
        1 => (0..12_u8).prop_map(Op::Forget),
        1 => (0..12_u8).prop_map(Op::Upstream),
        1 => Just(Op::Compact),
        1 => any::<bool>().prop_map(Op::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A read through the cache answers what a lookup does; and where that finds nothing, at most what
    /// came from upstream.
    #[test]
    fn reads_answer_what_lookups_do(ops in proptest::collection::vec(op(), 1..80), room in 1..16_usize) {
        let Store { folder, writer: mut now, shm } = Store::new();
        let cache = texts(&shm, CacheOptions::default().max_entries(room));
        for op in ops {
            let key = |k: u8| [b'k', k];
            match op {
                Op::Put(k, v) => drop(now.put(KIND, &key(k), v.to_string().as_bytes(), b"{}").unwrap()),
                Op::Delete(k) => drop(now.delete(KIND, &key(k)).unwrap()),
                Op::Forget(k) => cache.remove(KIND, key(k)),
                Op::Upstream(k) => {
                    let hour = Duration::from_secs(3600);
                    cache.insert_upstream(KIND, key(k), Arc::new("up".into()), upstream(&shm, hour));
                    // Asked for while it was there already: it hides nothing.
                    let there = shm.view().unwrap().get(KIND, key(k)).unwrap().is_some();
                    if there {
                        cache.remove(KIND, key(k));
                    }
                }
                Op::Compact => now.compact().unwrap(),
                Op::Reopen(clear) => {
                    now.close();
                    let recover = if clear { Recover::Clear } else { Recover::Keep };
                    now = writer(&folder.path().join("store.bin"), recover);
                }
                Op::Read(k) => {
                    let view = shm.view().unwrap();
                    let entry = view.get(KIND, key(k)).unwrap();
                    let cached = cache.get(KIND, key(k)).unwrap();
                    match (entry, cached) {
                        (Some(entry), Some(cached)) => {
                            prop_assert_eq!(entry.data(), cached.as_bytes());
                            prop_assert_eq!(entry.version(), cached.version());
                        }
                        (None, None) => {}
                        (None, Some(cached)) => prop_assert!(cached.is_upstream()),
                        (Some(_), None) => prop_assert!(false, "not found through the cache"),
                    }
                }
            }
        }
    }
}
