//! `publish`: a folder in the store, byte for byte, and nothing from outside of it.

use crate::store::{Ran, Store};
use erlmcp_shm_reader::Reader;
use erlmcp_shm_writer::{Attributes, Kind, Scope};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A store, and a folder to publish into it.
pub struct Folder {
    pub store: Store,
}

impl Folder {
    pub fn new() -> Self {
        let store = Store::new();
        fs::create_dir(store.beside("dir")).unwrap();
        Self { store }
    }

    pub fn dir(&self) -> PathBuf {
        self.store.beside("dir")
    }

    /// Writes a file, and the folders above it.
    pub fn file(&self, path: impl AsRef<Path>, data: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, data).unwrap();
        path
    }

    pub fn publish(&self, args: &[&str]) -> Ran {
        let mut command = self.store.command(["publish"]);
        command.arg(self.dir()).args(["--prefix", "x:"]).args(args);
        Ran::new(command)
    }

    /// Every key in the store, and its data.
    pub fn published(&self) -> BTreeMap<String, Vec<u8>> {
        let view = Reader::open(self.store.path()).unwrap().view().unwrap();
        let entries = view.try_iter().map(Result::unwrap);
        let entry = |entry: erlmcp_shm_reader::Entry<'_>| {
            let key = String::from_utf8(entry.key().to_vec()).unwrap();
            (key, entry.data().to_vec())
        };
        entries.map(entry).collect()
    }

    fn metadata(&self, key: &str) -> String {
        let view = Reader::open(self.store.path()).unwrap().view().unwrap();
        let entry = view.get(Kind::Resource, key).unwrap().unwrap();
        assert_eq!(entry.kind(), Kind::Resource);
        String::from_utf8(entry.metadata().to_vec()).unwrap()
    }
}

pub fn counts(round: &Value) -> [u64; 5] {
    ["published", "unchanged", "withdrawn", "skipped", "failed"].map(|name| {
        round[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {round}"))
    })
}

#[test]
fn every_file_under_a_uri_of_its_own() {
    let folder = Folder::new();
    let every_byte: Vec<u8> = (0..=255).collect();
    let names: [(&[u8], &str); 7] = [
        (b"plain.txt", "x:plain.txt"),
        (b"a/b/c.json", "x:a/b/c.json"),
        (b"with space#?.md", "x:with%20space%23%3F.md"),
        (b"100%25.txt", "x:100%2525.txt"),
        ("naïve".as_bytes(), "x:na%C3%AFve"),
        (b"not \xff utf8", "x:not%20%FF%20utf8"),
        (b"new\nline", "x:new%0Aline"),
    ];
    for (name, _) in names {
        folder.file(OsStr::from_bytes(name), [name, &every_byte].concat());
    }
    folder.file("empty", "");
    folder.file(".hidden", "secret");
    folder.file(".git/config", "x");
    let ran = folder.publish(&["--json"]);
    assert_eq!(counts(&ran.json()[0]), [8, 0, 0, 0, 0]);
    let published = folder.published();
    for (name, uri) in names {
        assert_eq!(published[uri], [name, &every_byte].concat(), "{uri}");
    }
    assert_eq!((published.len(), &published["x:empty"]), (8, &vec![]));
    assert_eq!(
        folder.metadata("x:a/b/c.json"),
        r#"{"name":"c.json","mime_type":"application/json"}"#
    );
    assert_eq!(folder.metadata("x:empty"), r#"{"name":"empty"}"#);
    let text = folder.publish(&["--hidden"]).text();
    assert!(
        text.starts_with(
            "published 2 (7 bytes), unchanged 8, withdrawn 0, skipped 0, failed 0, in "
        ),
        "{text}"
    );
}

#[test]
fn the_prefix_is_the_folder_unless_another_is_asked_for() {
    let folder = Folder::new();
    folder.file("a b", "1");
    let mut command = folder.store.command(["publish"]);
    command.arg(folder.dir());
    Ran::new(command).fine();
    let dir = folder.dir().canonicalize().unwrap();
    let keys: Vec<_> = folder.published().into_keys().collect();
    assert_eq!(keys, [format!("file://{}/a%20b", dir.display())]);
}

/// The same bytes, but not for everybody or not for ever: that is not how a file is published.
#[test]
fn what_is_private_or_expires_is_published_anew() {
    let folder = Folder::new();
    folder.file("private", "1");
    folder.file("expired", "1");
    let writer = folder.store.writer();
    let private = Attributes {
        scope: Scope::Private,
        ..Attributes::default()
    };
    let expired = Attributes {
        expires_at: 1,
        ..Attributes::default()
    };
    for (name, attributes) in [("private", private), ("expired", expired)] {
        let (key, metadata) = (format!("x:{name}"), format!("{{\"name\":\"{name}\"}}"));
        let (key, metadata) = (key.as_bytes(), metadata.as_bytes());
        let put = writer.put_with(Kind::Resource, key, b"1", metadata, attributes);
        put.unwrap();
    }
    writer.close();
    let ran = folder.publish(&["--json"]);
    assert_eq!(counts(&ran.json()[0]), [2, 0, 0, 0, 0]);
    let ran = folder.publish(&["--json"]);
    assert_eq!(counts(&ran.json()[0]), [0, 2, 0, 0, 0]);
}

#[test]
fn what_is_published_already_makes_no_new_version() {
    let folder = Folder::new();
    folder.file("same", "1");
    let changed = folder.file("changed", "1");
    folder.publish(&[]).fine();
    fs::write(changed, "2").unwrap();
    let ran = folder.publish(&["--json"]);
    assert_eq!(counts(&ran.json()[0]), [1, 1, 0, 0, 0]);
    let view = Reader::open(folder.store.path()).unwrap().view().unwrap();
    let version = |key| view.get(Kind::Resource, key).unwrap().unwrap().version();
    assert!(version("x:same") <= 2);
    assert_eq!(version("x:changed"), 3);
}

#[test]
fn links_lead_to_files_within_the_folder_only() {
    let folder = Folder::new();
    folder.file("..data/file", "within");
    folder.file("sub/file", "below");
    let secret = folder.store.beside("secret");
    fs::write(&secret, "outside").unwrap();
    let link = |to: &Path, name: &str| symlink(to, folder.dir().join(name)).unwrap();
    link(Path::new("..data/file"), "file");
    link(Path::new("../sub/../sub/file"), "sub/deeper");
    link(Path::new("../secret"), "out");
    link(&secret, "absolute");
    link(Path::new("sub"), "folder");
    link(Path::new("nowhere"), "dangling");
    link(Path::new("loop"), "loop");
    link(Path::new("/dev/zero"), "device");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.dir().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    link(Path::new("fifo"), "to-fifo");
    let ran = folder.publish(&["--json"]);
    assert_eq!((ran.code, ran.stderr.lines().count()), (0, 8), "{ran:?}");
    for (name, why) in [
        ("out", "a link that leads out of the folder"),
        ("absolute", "a link that leads out of the folder"),
        ("device", "a link that leads out of the folder"),
        ("folder", "a link to a folder"),
        ("dangling", "a link to nothing"),
        ("loop", "a link that cannot be followed"),
        ("fifo", "neither a file nor a folder"),
        ("to-fifo", "a link to what is no file"),
    ] {
        let line = format!("erlmcp-shm: {name}: {why}, not published\n");
        assert!(ran.stderr.contains(&line), "{line} {}", ran.stderr);
    }
    assert_eq!(
        counts(&crate::store::json_lines(&ran.stdout)[0]),
        [3, 0, 0, 8, 0]
    );
    let published = folder.published();
    let expected = [
        ("x:file", "within"),
        ("x:sub/deeper", "below"),
        ("x:sub/file", "below"),
    ];
    assert!(
        published
            .iter()
            .map(|(k, v)| (k.as_str(), str::from_utf8(v).unwrap()))
            .eq(expected),
        "{published:?}"
    );
}

#[test]
fn what_is_gone_is_withdrawn_when_that_is_asked_for() {
    let folder = Folder::new();
    let writer = folder.store.writer();
    for (kind, key) in [
        (Kind::Resource, "x:gone"),
        (Kind::Resource, "y:foreign"),
        (Kind::ToolSchema, "x:tool"),
    ] {
        writer.put(kind, key.as_bytes(), b"{}", b"{}").unwrap();
    }
    writer.close();
    folder.file("a", "1");
    let removed = folder.file("b", "1");
    folder.publish(&[]).fine();
    fs::remove_file(removed).unwrap();
    let ran = folder.publish(&["--json"]);
    assert_eq!(counts(&ran.json()[0]), [0, 1, 0, 0, 0]);
    let ran = folder.publish(&["--json", "--delete"]);
    assert_eq!(counts(&ran.json()[0]), [0, 1, 2, 0, 0]);
    let keys: Vec<_> = folder.published().into_keys().collect();
    assert_eq!(keys, ["x:a", "x:tool", "y:foreign"]);
}

#[test]
fn what_cannot_be_published_keeps_nothing_else_back() {
    let folder = Folder::new();
    folder.file("before", "1");
    folder.file("large", vec![b'x'; 600_000]);
    folder.file("zz", "1");
    let small = ["--json", "--size", "1M", "--max-size", "1M"];
    let ran = folder.publish(&small);
    assert_eq!(ran.code, 1);
    assert_eq!(
        counts(&crate::store::json_lines(&ran.stdout)[0]),
        [2, 0, 0, 0, 1]
    );
    assert!(
        ran.stderr
            .contains("large: too large: 600000 bytes, at most 524288"),
        "{}",
        ran.stderr
    );

    // More than fits is told of each file that has no room; and the room asked for by default is enough.
    for n in 0..20 {
        folder.file(format!("many/{n}"), vec![n; 100_000]);
    }
    let ran = folder.publish(&small);
    let [published, unchanged, _, _, failed] = counts(&crate::store::json_lines(&ran.stdout)[0]);
    assert_eq!(
        (ran.code, unchanged, published + failed),
        (1, 2, 21),
        "{ran:?}"
    );
    assert!(published > 0 && failed > 10, "{ran:?}");
    assert!(
        ran.stderr.contains("the store is full at its max_size"),
        "{}",
        ran.stderr
    );
    let ran = folder.publish(&["--json", "--size", "1M"]);
    assert_eq!(
        counts(&ran.json()[0]),
        [21 - published, 2 + published, 0, 0, 0]
    );
}

#[test]
fn a_file_that_may_not_be_read() {
    let folder = Folder::new();
    let closed = folder.file("closed", "1");
    folder.file("open", "1");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&closed).is_ok() {
        println!("SKIPPED: root may read everything");
        return;
    }
    let ran = folder.publish(&["--json"]);
    assert_eq!((ran.code, folder.published().len()), (1, 1));
    assert!(
        ran.stderr.contains("closed: Permission denied"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_file_that_is_written_to_all_the_while() {
    let folder = Folder::new();
    // Reading it takes several ticks of the clock that stamps files.
    let growing = folder.file("growing", vec![b'x'; 64 << 20]);
    folder.file("quiet", "1");
    let mut growing = OpenOptions::new().append(true).open(growing).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                growing.write_all(b"y").unwrap();
            }
        });
        let ran = folder.publish(&["--json"]);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(
            ran.stderr.contains("growing: written to all the while"),
            "{}",
            ran.stderr
        );
        assert_eq!(
            folder.published().into_keys().collect::<Vec<_>>(),
            ["x:quiet"]
        );
    });
}

#[test]
fn one_writer_at_a_time() {
    let folder = Folder::new();
    folder.file("a", "1");
    let writer = folder.store.writer();
    folder
        .publish(&[])
        .refused(2, "another writer has this store open");
    writer.close();
    folder.publish(&[]).fine();
}

#[test]
fn a_store_within_the_folder_is_not_published_into_itself() {
    let folder = Folder::new();
    folder.file("a", "1");
    let mut command = crate::store::command(&folder.dir().join("own.bin"), ["publish"]);
    command.arg(folder.dir()).args(["--json", "--prefix", "x:"]);
    let ran = Ran::new(command);
    assert_eq!(counts(&ran.json()[0]), [1, 0, 0, 0, 0]);
}

#[test]
fn what_is_no_folder() {
    let folder = Folder::new();
    let file = folder.file("file", "1");
    let publish = |dir: &Path| folder.store.run(["publish".as_ref(), dir.as_os_str()]);
    publish(&file).refused(2, "Not a directory");
    publish(&folder.dir().join("nothing")).refused(2, "No such file");
    assert!(!folder.store.path().exists());
    let wrong = [["--size", "1"], ["--mode", "666"], ["--max-size", "1M"]];
    for args in wrong {
        folder.publish(&args).refused(2, "bad value of the option");
    }
}

#[test]
fn the_files_mode_and_state() {
    let folder = Folder::new();
    folder.file("a", "1");
    folder.publish(&["--mode", "644", "--size", "2M"]).fine();
    let metadata = fs::metadata(folder.store.path()).unwrap();
    assert_eq!(
        (metadata.permissions().mode() & 0o777, metadata.len()),
        (0o644, 2 << 20)
    );
    let stat = folder.store.run(["stat", "--json"]).json().remove(0);
    assert_eq!(
        (&stat["state"], &stat["writer"]),
        (&json!("closed"), &json!("closed"))
    );
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = Folder::new();
    folder.file("a", "1");
    let path = folder.store.beside("no folder").join("x.bin");
    let path = path.to_str().unwrap();
    let ran = folder.publish(&["--path", path]);
    ran.refused(2, "there is no folder ");
}

#[test]
fn a_full_file_system_is_named_with_its_room() {
    // Mounted in a name space of its own, which is gone with the shell.
    let script =
        "mount -t tmpfs -o size=1m none \"$2\" && exec \"$1\" publish \"$3\" --path \"$2/x.bin\"";
    let folder = Folder::new();
    folder.file("a", "1");
    let there = folder.store.beside("full");
    std::fs::create_dir(&there).unwrap();
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]);
    command.arg(env!("CARGO_BIN_EXE_erlmcp-shm"));
    command.args([there, folder.dir()]);
    let ran = Ran::new(command);
    if !ran.stderr.starts_with("erlmcp-shm: ") {
        println!("SKIPPED: no tmpfs of one's own here: {}", ran.stderr);
        return;
    }
    assert!(ran.stderr.contains("(1.0 MiB free of 1.0 MiB)"), "{ran:?}");
    ran.refused(2, "pass a smaller --size, or another --path");
}
