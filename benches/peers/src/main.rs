//! Side by side with what else one might use, in one run: `peers reads | writes | rollover | report`. The results are
//! lines of JSON in target/bench, of which `report` makes the tables of the README and the plots in docs.

mod blackboard;
mod lmdb;
mod load;
mod mmap_sync;
mod peer;
mod reads;
mod report;
mod results;
mod server;
mod writes;

use std::path::Path;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["reads"] => {
            results::forget();
            reads::timer();
            reads::run(10_000, 1 << 10, 25, true);
            reads::run(100, 1 << 10, 25, false);
            reads::run(200_000, 1 << 10, 25, false);
            load::run(10_000, 1 << 10, 50);
            load::threads(10_000, 1 << 10, 15);
        }
        ["writes"] => {
            writes::run(15);
            writes::pages();
        }
        ["rollover"] => writes::rollovers(),
        ["report"] => report::run().expect("what was measured can be shown"),
        ["feed", path, count, len, rate] => {
            let number = |text: &str| text.parse().expect("a number");
            let rate = rate.parse().expect("a number");
            load::feed(Path::new(path), number(count), number(len), rate);
        }
        _ => {
            eprintln!("usage: peers reads | writes | rollover | report");
            std::process::exit(2);
        }
    }
}
