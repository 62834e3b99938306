//! Whose files a reader takes: its own user's, and those of the one that it was told to trust.

use std::io::Write;

use erlmcp_shm_reader::{Options, ReadError, Verdict};
use rustix::io::Errno;

use super::*;

/// Mapped, and by system calls; each with this owner trusted, if any.
fn options(owner: Option<u32>) -> [Options; 2] {
    [false, true].map(|pread| {
        let options = Reader::options().watcher(false).pread(pread);
        match owner {
            Some(uid) => options.trust_owner(uid),
            None => options,
        }
    })
}

fn refusal(path: &Path, owner: Option<u32>) -> Option<ReadError> {
    let [mapped, pread] = options(owner).map(|options| options.open(path).err());
    assert_eq!(mapped, pread);
    mapped
}

/// Says that it has come so far, and waits to be told that the writer has done its part.
fn let_the_writer(line: &str) {
    println!("\n{line}");
    std::io::stdout().flush().unwrap();
    let mut told = String::new();
    std::io::stdin().read_line(&mut told).unwrap();
}

#[test]
fn child_who_trusts() {
    let Some(folder) = child_args() else { return };
    let at = |name: &str| Path::new(&folder).join(name);
    let store = at("store");
    assert_eq!(refusal(&store, None), Some(ReadError::BadOwner));
    assert_eq!(refusal(&store, Some(OTHER)), Some(ReadError::BadOwner));
    assert_eq!(refusal(&store, Some(12345)), Some(ReadError::BadOwner));
    let readers = options(Some(0)).map(|options| options.open(&store).unwrap());
    let all_read = |counter| {
        for reader in &readers {
            assert_eq!(read(reader, 1), Some(counter));
        }
    };
    all_read(1);
    let liveness = readers[0].liveness();
    assert_eq!(
        liveness.lock_held, None,
        "the lock file is the writer's alone"
    );

    // Whose file it is, is asked again at each generation.
    let_the_writer("rollover");
    all_read(2);
    assert_eq!(readers[0].liveness().verdict(), Verdict::Alive);
    let_the_writer("restart");
    all_read(3);

    // Files of one's own are taken whoever else is trusted; a third one's are not.
    for owner in [None, Some(0), Some(OTHER)] {
        assert_eq!(refusal(&at("mine"), owner), None);
    }
    for owner in [None, Some(0)] {
        assert_eq!(refusal(&at("third"), owner), Some(ReadError::BadOwner));
    }
    assert_eq!(refusal(&at("third"), Some(12345)), None);

    // One that cannot be opened either: what is wrong with it comes first, if there is anything.
    assert_eq!(refusal(&at("private"), None), Some(ReadError::BadOwner));
    let refused = ReadError::Io(Errno::ACCESS);
    assert_eq!(refusal(&at("private"), Some(0)), Some(refused));
    assert_eq!(refusal(&at("fifo"), None), Some(ReadError::NotRegular));
    assert_eq!(refusal(&at("socket"), None), Some(ReadError::NotRegular));
    assert_eq!(refusal(&at("open"), Some(0)), Some(ReadError::InsecureMode));

    // For a group: where the folder hands its group on, each generation has it.
    let group = at("group/store");
    let readers = options(Some(0)).map(|options| options.open(&group).unwrap());
    readers.iter().for_each(|r| assert_eq!(read(r, 1), Some(1)));
    let_the_writer("group");
    readers.iter().for_each(|r| assert_eq!(read(r, 1), Some(2)));

    // Somebody else's file at the path: what is open goes on, what is opened is told.
    let_the_writer("replace");
    all_read(3);
    assert_eq!(refusal(&store, Some(0)), Some(ReadError::BadOwner));
    for reader in &readers {
        assert_eq!(
            reader.wait_for_change(reader.changes().unwrap(), Default::default()),
            Ok(None)
        );
    }
    println!("\ntrusted as told");
}

#[test]
fn a_reader_takes_files_of_its_own_and_of_whom_it_trusts() {
    if !root_or_skip("becoming another user") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let put = |writer: &erlmcp_shm_writer::Writer, counter| {
        let data = payload(1, counter, 900);
        writer.put(KIND, &key(1), &data, b"{}").unwrap();
    };
    let shared = |name: &str, mode| small().mode(mode).open(at(name)).unwrap();
    for (name, owner) in [("mine", OTHER), ("third", 12345)] {
        shared(name, 0o644).close();
        chown(at(name), Some(owner), Some(owner)).unwrap();
    }
    shared("private", 0o600).close();
    shared("open", 0o644).close();
    fs::set_permissions(at("open"), Permissions::from_mode(0o662)).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), fifo, 0o600.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    fs::set_permissions(at("socket"), Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(at("group")).unwrap();
    chown(at("group"), None, Some(OTHER)).unwrap();
    fs::set_permissions(at("group"), Permissions::from_mode(0o2750)).unwrap();
    let of_group = shared("group/store", 0o640);
    put(&of_group, 1);

    let writer = shared("store", 0o644);
    put(&writer, 1);
    let mut other = as_another_user(dir.path(), "trust::child_who_trusts", dir.path());
    let mut input = other.stdin.take().unwrap();
    let mut when = |what: &str, done: &mut dyn FnMut()| {
        wait_for(&mut other, what);
        done();
        input.write_all(b"done\n").unwrap();
    };
    when("rollover", &mut || {
        put(&writer, 2);
        writer.compact().unwrap();
        writer.heartbeat().unwrap();
    });
    let mut again = None;
    when("restart", &mut || {
        writer.close();
        let writer = shared("store", 0o644);
        put(&writer, 3);
        again = Some(writer);
    });
    when("group", &mut || {
        of_group.compact().unwrap();
        put(&of_group, 2);
    });
    when("replace", &mut || {
        fs::rename(at("third"), at("store")).unwrap();
    });
    drop(input);
    end(other);
}
