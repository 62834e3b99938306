//! What a lookup, and a hit in the cache, may cost: no allocation (counted), no system call (the kernel kills the process at
//! the first one), and huge pages where the writer made them.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use erlmcp_shm_reader::{Kind, Reader};
use erlmcp_shm_writer::Writer;
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised to us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as promised to us.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const KEYS: u32 = 1000;
const LOOKUPS: u32 = 1_000_000;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("lookups") => lookups(Path::new(&args[2])),
        Some("--list") => println!("no_allocations_no_system_calls: test\nhuge_pages: test"),
        _ => {
            no_allocations_no_system_calls();
            huge_pages();
        }
    }
}

fn keys() -> Vec<String> {
    (0..KEYS).map(|n| format!("file:///{n}")).collect()
}

fn no_allocations_no_system_calls() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    let mut image = support::Image::new(4 << 20, 4096);
    for key in keys() {
        image.put(Kind::Resource, key.as_bytes(), &[7; 1024], b"{}");
    }
    image.save(&path);
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.arg("lookups").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "0 allocations\n", "ended by {}", output.status);
    println!("{LOOKUPS} lookups: 0 allocations, 0 system calls");
    println!("test no_allocations_no_system_calls ... ok");
}

/// In a process of its own: looks up in a mode in which every system call but `read`, `write` and
/// `exit` is death, and says how often it allocated.
fn lookups(path: &Path) {
    let shm = Reader::options().watcher(false).open(path).unwrap();
    let keys = keys();
    let mut held = shm.view().unwrap();
    #[cfg(feature = "l1")]
    let cache = {
        use erlmcp_shm_reader::l1::{Cache, CacheOptions};
        // In this mode a look at the clock is death too, though it is no system call.
        let options = CacheOptions::default().sample_every(0);
        let cache = Cache::new(&shm, options, |entry| Ok(entry.data().len()));
        for key in &keys {
            assert_eq!(*cache.get(Kind::Resource, key).unwrap().unwrap(), 1024);
        }
        cache
    };
    let mut look = |n: u32| {
        let key = &keys[(n % KEYS) as usize];
        let view = shm.view().unwrap();
        held.refresh(&shm).unwrap();
        for view in [&view, &held] {
            let entry = view.get(Kind::Resource, key).unwrap().unwrap();
            assert!(entry.data()[500] == 7 && entry.metadata() == b"{}");
            assert!(view.get(Kind::Prompt, key).unwrap().is_none());
        }
        #[cfg(feature = "l1")]
        assert_eq!(*cache.get(Kind::Resource, key).unwrap().unwrap(), 1024);
    };
    look(0);
    #[cfg(target_os = "linux")]
    // SAFETY: takes away what the process may do, and nothing else.
    unsafe {
        use nix::libc::{PR_SET_SECCOMP, SECCOMP_MODE_STRICT, prctl};
        assert_eq!(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), 0);
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..LOOKUPS).for_each(look);
    let message = match ALLOCATIONS.load(Ordering::Relaxed) - before {
        0 => "0 allocations\n",
        _ => "some allocations\n",
    };
    #[cfg(target_os = "linux")]
    // SAFETY: the message outlives the call; the other call does not return.
    unsafe {
        nix::libc::write(1, message.as_ptr().cast(), message.len());
        nix::libc::syscall(nix::libc::SYS_exit, 0);
    }
    print!("{message}");
}

fn huge_pages() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    let writer = Writer::options().size(32 << 20).open(&path).unwrap();
    for key in keys() {
        let data = [7; 8192];
        writer
            .put(Kind::Resource, key.as_bytes(), &data, b"{}")
            .unwrap();
    }
    // The writer makes them when it has nothing else to do.
    let start = Instant::now();
    while writer.stats().huge_bytes == 0 {
        if start.elapsed() > Duration::from_secs(3) {
            println!("SKIPPED huge_pages: the writer gets none here");
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let shm = Reader::options().prefault(true).open(&path).unwrap();
    let huge = shm.stats().unwrap().huge_page_bytes.unwrap();
    assert!(huge > 0, "the reader's mapping does not use them");
    println!("test huge_pages ... ok ({} MiB of the mapping)", huge >> 20);
}
