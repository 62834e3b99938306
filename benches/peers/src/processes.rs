//! Many reader processes at once, more than there are cores: all of them together must get as much done.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use erlmcp_shm_benches::{Filled, key, touch};
use erlmcp_shm_layout::Header;
use erlmcp_shm_reader::{Kind, Reader};

use crate::results::{Row, note};

/// How long they all look things up.
const TIME: Duration = Duration::from_secs(1);

/// A reader process: opens the store, says so, waits for a line, and says how many lookups it got done.
pub fn look(path: &Path, count: usize) {
    let reader = Reader::open(path).expect("filled");
    let keys: Vec<_> = (0..count).map(key).collect();
    let mut view = reader.view().expect("current");
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a start");
    let begun = Instant::now();
    let mut done = 0;
    while begun.elapsed() < TIME {
        for _ in 0..1000 {
            done += 1;
            view.refresh(&reader).expect("current");
            let entry = view
                .get(Kind::Resource, &keys[done * 7919 % count])
                .expect("readable");
            std::hint::black_box(touch(entry.expect("present").data()));
        }
    }
    println!("{done}");
}

/// 1 to 64 of them. The ratio is their throughput over that of one.
pub fn run(count: usize, len: usize) {
    let filled = Filled::new(count, len);
    let mut one = None;
    for processes in [1usize, 2, 4, 8, 16, 32, 64] {
        let start = |_| {
            Command::new(std::env::current_exe().expect("this program"))
                .arg("look")
                .arg(&filled.path)
                .arg(count.to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("it can be run again")
        };
        let mut children: Vec<Child> = (0..processes).map(start).collect();
        let mut outputs: Vec<_> = children
            .iter_mut()
            .map(|child| BufReader::new(child.stdout.take().expect("piped")))
            .collect();
        let mut line = String::new();
        for output in &mut outputs {
            output.read_line(&mut line).expect("it opens the store");
        }
        for child in &mut children {
            let input = child.stdin.as_mut().expect("piped");
            writeln!(input, "go").expect("it lives");
        }
        let begun = Instant::now();
        let mut total = 0u64;
        for (child, output) in children.iter_mut().zip(&mut outputs) {
            line.clear();
            output.read_line(&mut line).expect("a figure");
            total += line.trim().parse::<u64>().expect("a number");
            child.wait().expect("it ends");
        }
        let ns = begun.elapsed().as_nanos() as f64 / total as f64;
        note(&Row {
            group: "processes".into(),
            peer: "erlmcp-shm".into(),
            keys: count,
            value: len,
            load: format!("{processes}"),
            ns,
            ratio: *one.get_or_insert(ns) / ns,
            ..Row::default()
        });
    }
}

/// What an entry takes in the file beside its key, its value and its metadata: the fields and the alignment of its record;
/// and its part of the index, which is made for the whole room that a store is opened with.
pub fn memory(count: usize, len: usize) {
    let filled = Filled::new(count, len);
    let payload: usize = filled.keys.iter().map(|key| key.len() + len + 2).sum();
    let file = std::fs::read(&filled.path).expect("it is there");
    let log = Header::decode(&file, file.len() as u64)
        .expect("a store")
        .log_offset() as usize;
    let tail = filled.writer.stats().stats.log_tail as usize;
    for (part, bytes) in [("record", tail - log - payload), ("index", log)] {
        note(&Row {
            group: "memory".into(),
            peer: part.into(),
            keys: count,
            value: len,
            load: "idle".into(),
            bytes: bytes as f64 / count as f64,
            ..Row::default()
        });
    }
}
