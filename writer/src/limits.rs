//! The memory cgroup's limit: allocating past it on a tmpfs is an OOM kill, not an error.

use std::fs::File;
use std::path::Path;

use rustix::io::Errno;

/// `statfs` type of tmpfs, from the kernel's `magic.h`.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// ENOMEM if `size` more bytes of a file on a tmpfs would exceed what the memory cgroup has left.
pub fn check_memory(file: &File, size: u64) -> Result<(), Errno> {
    if rustix::fs::fstatfs(file)?.f_type as i64 != TMPFS_MAGIC {
        return Ok(());
    }
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    match room(&groups, Path::new("/sys/fs/cgroup")) {
        Some(room) if size > room => Err(Errno::NOMEM),
        _ => Ok(()),
    }
}

/// Bytes that the tightest memory cgroup above this process has left, by what `/proc/self/cgroup`
/// says; `None` where nothing limits it.
fn room(groups: &str, root: &Path) -> Option<u64> {
    groups
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, group) = (parts.next()?, parts.next()?.trim_start_matches('/'));
            if controllers.is_empty() {
                let names = ["memory.max", "memory.current"];
                Some(tightest(root, group, names))
            } else if controllers.split(',').any(|c| c == "memory") {
                let names = ["memory.limit_in_bytes", "memory.usage_in_bytes"];
                Some(tightest(&root.join("memory"), group, names))
            } else {
                None
            }
        })
        .flatten()
        .min()
}

/// The least room of a group and its ancestors. In a container the group's own folder may not be
/// visible; then the mount's root is the container's group.
fn tightest(root: &Path, group: &str, names: [&str; 2]) -> Option<u64> {
    let mut least = None;
    let mut folder = root.join(group);
    while folder.starts_with(root) {
        if let Some(room) = group_room(&folder, names) {
            least = Some(least.unwrap_or(u64::MAX).min(room));
        }
        if !folder.pop() {
            break;
        }
    }
    least
}

fn group_room(folder: &Path, [limit, usage]: [&str; 2]) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let limit = number(limit)?; // "max" is no number, and no limit
    let used = number(usage)?;
    // Page cache can be dropped to make room; shared memory counts among the anonymous pages here.
    let stat = read("memory.stat").unwrap_or_default();
    let reclaimable: u64 = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| matches!(*name, "inactive_file" | "active_file"))
        .filter_map(|(_, n)| n.trim().parse::<u64>().ok())
        .sum();
    Some(limit.saturating_sub(used.saturating_sub(reclaimable)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(root: &Path, name: &str, limit: &str, used: &str, stat: &str) {
        let folder = root.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("memory.max"), limit).unwrap();
        std::fs::write(folder.join("memory.current"), used).unwrap();
        std::fs::write(folder.join("memory.stat"), stat).unwrap();
    }

    #[test]
    fn the_tightest_ancestor_counts_and_page_cache_does_not() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "a/b", "max\n", "10\n", "");
        group(
            root.path(),
            "a",
            "1000\n",
            "900\n",
            "inactive_file 300\nanon 7\n",
        );
        assert_eq!(room("0::/a/b\n", root.path()), Some(400));
        group(root.path(), "a/b", "500\n", "400\n", "");
        assert_eq!(room("0::/a/b\n", root.path()), Some(100));
        assert_eq!(room("0::/elsewhere\n", root.path()), None);
        assert_eq!(room("", root.path()), None);
    }

    #[test]
    fn version_one_has_its_own_names() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("memory/x");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("memory.limit_in_bytes"), "64").unwrap();
        std::fs::write(folder.join("memory.usage_in_bytes"), "100").unwrap();
        assert_eq!(room("4:cpu,memory:/x\n3:cpuset:/\n", root.path()), Some(0));
    }
}
