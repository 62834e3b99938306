//! `dump` and `load`: what comes back is what was there, and of what is damaged nothing.

use crate::store::{Ran, Store, WriterProcess};
use erlmcp_shm_reader::Reader;
use erlmcp_shm_writer::{Attributes, Kind, Scope, Writer, boottime_now};
use proptest::prelude::*;
use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

fn dump(store: &Store) -> String {
    store.run(["dump"]).text()
}

/// `load` of a file with this text.
fn load(store: &Store, text: &str, args: &[&str]) -> Ran {
    let file = store.beside("x.jsonl");
    fs::write(&file, text).unwrap();
    store.run(
        ["load".as_ref(), file.as_os_str()]
            .into_iter()
            .chain(args.iter().map(|arg| arg.as_ref())),
    )
}

#[track_caller]
fn comes_back(store: &Store) -> String {
    let first = dump(store);
    let other = Store::new();
    load(&other, &first, &[]).fine();
    assert_eq!(dump(&other), first);
    other.run(["verify"]).text();
    first
}

#[test]
fn the_lines() {
    let store = Store::with(&[
        (
            Kind::Resource,
            b"file:///a",
            b"hello\n\"",
            b"{ \"mime_type\":  \"text/plain\" }",
        ),
        (Kind::ToolSchema, b"t\xff", b"\xfe\x00", b""),
    ]);
    let text = comes_back(&store);
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with(r#"{"erlmcp_shm_dump":1,"boot_id":""#),
        "{text}"
    );
    assert_eq!(
        lines[1..],
        [
            r#"{"kind":"resource","key":"file:///a","version":1,"metadata":"{ \"mime_type\":  \"text/plain\" }","data":"hello\n\""}"#,
            r#"{"kind":"tool","key_base64":"dP8=","version":2,"metadata":"","data_base64":"/gA="}"#,
            r#"{"entries":2}"#,
        ]
    );
}

/// Kind, key, data, metadata, how it expires, scope; or, without data, a key to delete.
type Step = (usize, Vec<u8>, Option<Vec<u8>>, Vec<u8>, u8, bool);

fn bytes(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..length),
        // Text, with what JSON has to escape, and what some take for the end of a line.
        prop::collection::vec(
            prop::sample::select("a\"\\\n\r\0\u{7f}é\u{2028}😀{".chars().collect::<Vec<_>>()),
            0..length
        )
        .prop_map(|chars| chars.into_iter().collect::<String>().into_bytes()),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let key = prop_oneof![
        prop::sample::select(vec![b"a".to_vec(), b"b".to_vec()]),
        bytes(40)
    ];
    let key = key.prop_filter("no key is empty", |key| !key.is_empty());
    let data = prop::option::weighted(0.9, bytes(300));
    (0..4_usize, key, data, bytes(60), 0..3_u8, any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_is_there_comes_back(steps in prop::collection::vec(step(), 0..40)) {
        let store = Store::new();
        let writer = store.writer();
        for (kind, key, data, metadata, expires, private) in &steps {
            let kind = Kind::ALL[*kind];
            let Some(data) = data else {
                writer.delete(kind, key).unwrap();
                continue;
            };
            let expires_at = [0, 1, boottime_now() + 3_600_000_000_000][usize::from(*expires)];
            let scope = if *private { Scope::Private } else { Scope::Public };
            writer.put_with(kind, key, data, metadata, Attributes { expires_at, scope }).unwrap();
        }
        writer.close();
        comes_back(&store);
    }
}

/// Times to expire are those of a boot: in another one they are past.
#[test]
fn expiries_of_another_boot() {
    let store = Store::new();
    let writer = store.writer();
    let later = Attributes {
        expires_at: boottime_now() + 3_600_000_000_000,
        ..Attributes::default()
    };
    writer
        .put_with(Kind::Resource, b"k", b"v", b"{}", later)
        .unwrap();
    writer.close();
    let text = dump(&store);
    let expired = |store: &Store| {
        store.run(["get", "resource", "k", "--json"]).code == 0
            && store.run(["list", "--json"]).json()[0]["expired"]
                .as_bool()
                .unwrap()
    };
    assert!(!expired(&store));
    let same = Store::new();
    load(&same, &text, &[]).fine();
    assert!(!expired(&same));
    let (first, rest) = text.split_once('\n').unwrap();
    assert!(first.contains("boot_id"));
    let other = Store::new();
    let first = r#"{"erlmcp_shm_dump":1,"boot_id":"another"}"#;
    load(&other, &format!("{first}\n{rest}"), &[]).fine();
    assert!(expired(&other));
}

#[test]
fn a_store_that_holds_something() {
    let old = |store: &Store| {
        let writer = store.writer();
        for key in ["both", "old", "old"] {
            writer
                .put(Kind::Resource, key.as_bytes(), b"old", b"{}")
                .unwrap();
        }
        writer.close();
    };
    let text = {
        let store = Store::with(&[
            (Kind::Resource, b"both", b"new", b"{}"),
            (Kind::Prompt, b"new", b"new", b"{}"),
        ]);
        dump(&store)
    };
    let contents = |store: &Store| -> Vec<_> {
        let rows = store.run(["list"]).text();
        rows.lines()
            .map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    let store = Store::new();
    old(&store);
    load(&store, &text, &[]).refused(2, "the store holds entries (2): pass --merge");
    assert_eq!(
        contents(&store),
        ["resource 1 3 2 both", "resource 3 3 2 old"]
    );
    assert_eq!(
        load(&store, &text, &["--merge"]).text(),
        "loaded 2, withdrawn 0\n"
    );
    assert_eq!(
        contents(&store),
        [
            "resource 4 3 2 both",
            "resource 3 3 2 old",
            "prompt 5 3 2 new"
        ]
    );
    let store = Store::new();
    old(&store);
    let report = load(&store, &text, &["--replace", "--json"])
        .json()
        .remove(0);
    assert_eq!(
        (&report["loaded"], &report["withdrawn"]),
        (&2.into(), &1.into())
    );
    assert_eq!(
        contents(&store),
        ["resource 4 3 2 both", "prompt 5 3 2 new"]
    );
    let writer = store.writer();
    load(&store, &text, &["--merge"]).refused(2, "another writer");
    writer.close();
}

/// A place in the text, what stands there instead, the line that is named, and words of what is said of it.
type Damage = (&'static str, &'static str, usize, &'static str);

#[test]
fn what_is_damaged_is_named_by_its_line_and_nothing_is_loaded() {
    let store = Store::with(&[
        (Kind::Resource, b"first", b"1", b"{}"),
        (Kind::Resource, b"second", b"\xff", b"{}"),
        (Kind::Capability, b"third", b"{}", b""),
    ]);
    let text = dump(&store);
    let fault = |text: &str, line, words: &str| {
        let fresh = Store::new();
        let ran = load(&fresh, text, &[]);
        assert_eq!((ran.code, ran.stdout.len()), (1, 0), "{ran:?}");
        let said = format!("x.jsonl:{line}: ");
        assert!(
            ran.stderr.contains(&said) && ran.stderr.contains(words),
            "{said}{words} {ran:?}"
        );
        assert!(ran.stderr.contains("faults: 1: mend the lines"), "{ran:?}");
        assert!(ran.stderr.contains("nothing was loaded"), "{ran:?}");
        assert!(!fresh.path().exists());
    };
    let cases: [Damage; 15] = [
        (r#""data":"1"}"#, r#""data":"1""#, 2, "EOF while parsing"),
        (
            r#""data":"1"}"#,
            r#""data":"1"}}"#,
            2,
            "trailing characters",
        ),
        (r#""data":"1""#, r#""dat":"1""#, 2, "unknown field `dat`"),
        (r#","data":"1""#, "", 2, "it has no data"),
        (
            r#""data":"1""#,
            r#""data":"1","data_base64":"MQ==""#,
            2,
            "both data and data_base64",
        ),
        (r#""key":"first","#, "", 2, "it has no key"),
        (r#""first""#, r#""""#, 2, "a key of 0 bytes"),
        (
            r#""resource","key":"first""#,
            r#""file","key":"first""#,
            2,
            "kind: not a kind",
        ),
        ("/w==", "/w=", 3, "data_base64: "),
        (
            r#""second""#,
            r#""first""#,
            3,
            "resource first is on line 2 already",
        ),
        (r#""version":3"#, r#""version":-3"#, 4, "column "),
        (
            r#""version":3"#,
            r#""version":9000000000000000000"#,
            4,
            "a version beyond",
        ),
        (
            r#"{"erlmcp_shm_dump":1,"#,
            r#"{"erlmcp_shm_dump":2,"#,
            1,
            "a dump of form 2",
        ),
        (
            r#"{"entries":3}"#,
            r#"{"entries":4}"#,
            5,
            "4 entries were dumped, and here are 3",
        ),
        (
            "{\"entries\":3}\n",
            "",
            5,
            "the last line of a dump is missing here",
        ),
    ];
    for (place, instead, line, words) in cases {
        assert_eq!(text.matches(place).count(), 1, "{place}");
        fault(&text.replace(place, instead), line, words);
    }
    let fresh = Store::new();
    let many = text.replace("\"key", "\"k");
    let ran = load(&fresh, &many, &[]);
    assert!(ran.stderr.contains("faults: 3: mend the lines"), "{ran:?}");
    fs::write(fresh.beside("x.jsonl"), b"{\"kind\":\"\xff\"}\n").unwrap();
    let file = fresh.beside("x.jsonl");
    let ran = fresh.run(["load".as_ref(), file.as_os_str()]);
    assert!(
        ran.code == 1 && ran.stderr.contains("x.jsonl:1: column 10: "),
        "{ran:?}"
    );
}

/// Wherever a dump is cut off, that is seen; and what is whole of it can be had all the same.
#[test]
fn cut_off_anywhere() {
    let store = Store::with(&[
        (Kind::Resource, b"first", b"1", b"{}"),
        (Kind::Resource, b"second", b"2", b"{}"),
    ]);
    let text = dump(&store);
    let fresh = Store::new();
    // The last byte is a line feed, without which nothing is missing.
    let ends = text.match_indices('\n').map(|(at, _)| at);
    let about = ends
        .flat_map(|end| end - 1..end + 3)
        .filter(|length| *length < text.len() - 1);
    for length in (0..text.len() - 1).step_by(11).chain(about) {
        let ran = load(&fresh, &text[..length], &[]);
        let line = text[..length].lines().count().max(1);
        assert_eq!(ran.code, 1, "{length} {ran:?}");
        let at = |line: usize| ran.stderr.contains(&format!("x.jsonl:{line}: "));
        assert!(at(line) || at(line + 1), "{length} {ran:?}");
        assert!(!fresh.path().exists());
    }
    let cut = &text[..text.rfind("\"second").unwrap()];
    load(&fresh, cut, &["--partial"]).fine();
    assert_eq!(fresh.run(["get", "resource", "first"]).fine(), b"1");
    let by_hand = "{\"kind\":\"tool\",\"key\":\"t\",\"data\":\"{}\"}\n\n";
    load(&fresh, by_hand, &[]).refused_with(1, "the first line of a dump is missing");
    assert_eq!(
        load(&fresh, by_hand, &["--partial", "--replace"]).text(),
        "loaded 1, withdrawn 1\n"
    );
}

#[test]
fn what_has_no_room_is_told_with_how_much_of_it_is_there() {
    let store = Store::new();
    let writer = Writer::options().size(4 << 20).open(store.path()).unwrap();
    for n in 0..20_u8 {
        writer
            .put(Kind::Resource, &[n + 1], &vec![n; 100_000], b"{}")
            .unwrap();
    }
    writer.close();
    let text = dump(&store);
    let small = Store::new();
    let ran = load(&small, &text, &["--size", "1M", "--max-size", "1M"]);
    let loaded = small.run(["list"]).text().lines().count();
    assert!(ran.code == 2 && loaded > 0 && loaded < 20, "{ran:?}");
    let said = format!("{loaded} of 20 entries were loaded, and stay in the store");
    assert!(
        ran.stderr.contains(&said) && ran.stderr.contains("is full"),
        "{ran:?}"
    );
    let fresh = Store::new();
    load(&fresh, &text, &["--size", "1M"]).fine();
    assert_eq!(dump(&fresh), text);
}

/// From another process's store, while it writes: whole lines, each of one moment.
#[test]
fn under_a_writer() {
    let store = Store::new();
    let mut writer = WriterProcess::start(&store.path());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        scope.spawn(move || {
            for n in 0_u64.. {
                let key = format!("key{}", n % 10);
                match n % 7 {
                    0 => writer.delete(&key),
                    _ => writer.put(&key, &n.to_string().repeat(200)),
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for _ in 0..20 {
            let text = dump(&store);
            let fresh = Store::new();
            load(&fresh, &text, &[]).fine();
            let view = Reader::open(fresh.path()).unwrap().view().unwrap();
            for entry in view.try_iter() {
                let entry = entry.unwrap();
                let data = str::from_utf8(entry.data()).unwrap();
                let number = &data[..data.len() / 200];
                assert_eq!(data, number.repeat(200));
                let key = format!("key{}", number.parse::<u64>().unwrap() % 10);
                assert_eq!(entry.key(), key.as_bytes());
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn through_pipes_and_filters() {
    let store = Store::with(&[
        (Kind::Resource, b"a/1", b"1", b"{}"),
        (Kind::Resource, b"b/1", b"1", b"{}"),
        (Kind::ToolSchema, b"a/t", b"{}", b"{}"),
    ]);
    let text = store
        .run(["dump", "--prefix", "a/", "--kind", "resource"])
        .text();
    let fresh = Store::new();
    let mut command = fresh.command(["load", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert_eq!(
        Ran::of(child.wait_with_output().unwrap()).text(),
        "loaded 1, withdrawn 0\n"
    );
    assert_eq!(dump(&fresh), text);
    fresh
        .run(["load", "/no/such/file"])
        .refused(2, "/no/such/file: No such file");
    Store::new()
        .run(["dump"])
        .refused(2, "no store at the path");
}
