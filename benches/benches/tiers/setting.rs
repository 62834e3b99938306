//! What all parts share: the store and the server with the same resources in both, and how figures are told.

use crate::server::Server;
use erlmcp_shm_benches::{Filled, key, touch};
use erlmcp_shm_client::{HybridClient, Options, Revision};
use hdrhistogram::Histogram;
use rmcp::model::{ReadResourceResult, ResourceContents};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of a resource.
pub const LEN: usize = 1 << 10;

/// Resources `0..published` in a store with a heart that beats, and all of them at a server.
pub struct Setting {
    pub store: Arc<Filled>,
    pub server: Server,
    pub uris: Vec<String>,
    stop: Arc<AtomicBool>,
    heart: Option<JoinHandle<()>>,
}

/// The text of resource `i`, in its edition `n`.
pub fn text(i: usize, n: usize) -> String {
    let line = format!("resource {i:08}, edition {n:08}; ");
    line.repeat(LEN.div_ceil(line.len()))[..LEN].to_owned()
}

/// Which edition a text is.
pub fn edition(text: &str) -> usize {
    text[27..35].parse().expect("one of ours")
}

pub fn uri(i: usize) -> String {
    String::from_utf8(key(i)).expect("ASCII")
}

impl Setting {
    pub fn new(count: usize, published: usize) -> Self {
        let store = Arc::new(Filled::with(published, LEN, |i| text(i, 0).into_bytes()));
        let uris: Vec<String> = (0..count).map(uri).collect();
        let resources: HashMap<_, _> = uris
            .iter()
            .cloned()
            .zip((0..).map(|i| text(i, 0)))
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let (beating, stopped) = (Arc::clone(&store), Arc::clone(&stop));
        let heart = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                beating.writer.heartbeat().expect("the store is well");
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self {
            store,
            server: Server::start(resources),
            uris,
            stop,
            heart: Some(heart),
        }
    }

    /// A client of all three tiers; within a runtime.
    pub fn client(&self, options: Options) -> HybridClient {
        let route = self.server.route(Revision::Stateless);
        HybridClient::new(Some(self.store.reader.clone()), vec![route], options)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(heart) = self.heart.take() {
            heart.join().expect("the store was well");
        }
    }
}

/// Room for every resource of 10,000, decoded.
pub fn roomy() -> Options {
    Options {
        l1_bytes: 32 << 20,
        ..Options::default()
    }
}

pub fn contents(result: &ReadResourceResult) -> &str {
    match result.contents.first() {
        Some(ResourceContents::TextResourceContents { text, .. }) => text,
        other => panic!("a text, and not {other:?}"),
    }
}

/// Touches an answer at both ends.
#[inline]
pub fn touched(result: &ReadResourceResult) -> usize {
    touch(contents(result).as_bytes())
}

pub fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

/// Of up to ten seconds, in ns.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("sound bounds")
}

/// The middle one.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// ns in a unit that suits them.
pub fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e4 => format!("{ns:.0} ns"),
        ns if ns < 1e7 => format!("{:.1} us", ns / 1e3),
        ns => format!("{:.1} ms", ns / 1e6),
    }
}

/// A table in Markdown: its heading, with columns separated by `|`, and its rows.
pub fn table(heading: &str, rows: &[Vec<String>]) {
    let heading: Vec<String> = heading.split('|').map(|cell| cell.trim().into()).collect();
    let width = |n: usize| {
        let all = rows.iter().chain([&heading]);
        all.map(|row| row[n].chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |row: &[String]| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(n, (cell, &width))| match n {
            0 => format!(" {cell:<width$} |"),
            _ => format!(" {cell:>width$} |"),
        });
        println!("|{}", cells.collect::<String>());
    };
    line(&heading);
    let rule = widths.iter().enumerate().map(|(n, width)| match n {
        0 => format!("{}|", "-".repeat(width + 2)),
        _ => format!("{}:|", "-".repeat(width + 1)),
    });
    println!("|{}", rule.collect::<String>());
    rows.iter().for_each(|row| line(row));
    println!();
}
