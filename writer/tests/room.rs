//! A store that cannot grow: by a limit of the process, of its memory cgroup, or of its rights in the folder. Each is
//! a typed error and no signal; what was published stays readable, deletes go on, and so do puts once there is room.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Child;

use common::{KIND, as_another_user, child, child_args, key, payload, read, root_or_skip};
use erlmcp_shm_reader::Reader;
use erlmcp_shm_writer::{Options, WriteError, Writer};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

fn options() -> Options {
    Writer::options().size(256 << 10).max_size(256 << 20)
}

/// Puts until it is refused, looks at everything, and goes on once there is room.
fn fill(writer: &Writer, path: &Path, expected: Errno, room: impl FnOnce()) {
    let reader = Reader::open(path).unwrap();
    let put = |number| {
        let data = payload(number, 1, 4000);
        writer.put(KIND, &key(number), &data, b"{}")
    };
    let mut stored = 0;
    let refused = loop {
        match put(stored) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, WriteError::Io(expected));
    assert!(stored > 10);
    for number in 0..stored {
        assert_eq!(read(&reader, number), Some(1));
    }
    assert!(writer.delete(KIND, &key(0)).unwrap().is_some());
    room();
    put(stored).unwrap();
    assert_eq!(read(&reader, stored), Some(1));
    assert_eq!(read(&reader, 0), None);
    println!("\nrefused after {stored} puts: {refused}");
}

/// The child's answer, which must have come to its end.
fn answer(mut process: Child) -> Option<String> {
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let lines: Vec<_> = lines.map(Result::unwrap).collect();
    let status = process.wait().unwrap();
    assert!(status.success(), "{status}: {lines:?}");
    let found = lines.into_iter().find(|line| line.starts_with("refused"));
    found.inspect(|line| println!("{line}"))
}

#[test]
fn child_with_a_file_size_limit() {
    let Some(path) = child_args().map(PathBuf::from) else {
        return;
    };
    let writer = options().open(&path).unwrap();
    let limit = |bytes| {
        let limit = Rlimit {
            current: Some(bytes),
            maximum: None,
        };
        setrlimit(Resource::Fsize, limit).unwrap();
    };
    limit(1 << 20);
    fill(&writer, &path, Errno::FBIG, || limit(1 << 30));
}

#[test]
fn a_file_size_limit_met_while_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let process = child("child_with_a_file_size_limit", &path.display().to_string());
    assert!(answer(process).is_some());
}

#[test]
fn child_in_a_folder_it_may_not_write_to() {
    use std::os::unix::fs::PermissionsExt;
    let Some(folder) = child_args().map(PathBuf::from) else {
        return;
    };
    let path = folder.join("store");
    let writer = options().open(&path).unwrap();
    let mode = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&folder, mode).unwrap();
    };
    mode(0o555);
    let created = options().open(folder.join("other")).err();
    assert_eq!(created, Some(WriteError::Io(Errno::ACCESS)));
    fill(&writer, &path, Errno::ACCESS, || mode(0o755));
}

#[test]
fn a_folder_that_may_not_be_written_to() {
    if !root_or_skip("becoming another user") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("theirs");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(65534), Some(65534)).unwrap();
    let test = "child_in_a_folder_it_may_not_write_to";
    assert!(answer(as_another_user(dir.path(), test, &folder)).is_some());
}

/// A memory cgroup of its own, of version 1 or 2.
struct MemoryGroup {
    folder: PathBuf,
    limit: PathBuf,
}

impl MemoryGroup {
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("erlmcp-shm-test-{}", std::process::id());
        let roots = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        let group = roots.into_iter().find_map(|(root, limit)| {
            let folder = Path::new(root).join(&name);
            std::fs::create_dir(&folder).ok()?;
            let limit = folder.join(limit);
            let group = Self { folder, limit };
            std::fs::write(&group.limit, bytes.to_string()).ok()?;
            Some(group)
        });
        if group.is_none() {
            println!("SKIPPED: no memory cgroup can be made here");
        }
        group
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.folder);
    }
}

#[test]
fn child_in_a_memory_cgroup() {
    let Some(args) = child_args() else { return };
    let (path, limit) = args.split_once('\n').unwrap();
    std::io::stdin().read_exact(&mut [0]).unwrap();
    let path = Path::new(path);
    let writer = options().open(path).unwrap();
    fill(&writer, path, Errno::NOMEM, || {
        std::fs::write(limit, (1u64 << 40).to_string()).unwrap();
    });
}

/// Growing past the limit would be the end of the process by the kernel, not an error: so it is asked first.
#[test]
fn a_memory_cgroup_with_a_limit() {
    let Some(disk) = common::Tmpfs::new("512m") else {
        return;
    };
    let Some(group) = MemoryGroup::new(24 << 20) else {
        return;
    };
    let path = disk.path().join("store");
    let args = format!("{}\n{}", path.display(), group.limit.display());
    let mut process = child("child_in_a_memory_cgroup", &args);
    let procs = group.folder.join("cgroup.procs");
    std::fs::write(procs, process.id().to_string()).unwrap();
    process.stdin.as_mut().unwrap().write_all(b"!").unwrap();
    assert!(answer(process).is_some());
}
