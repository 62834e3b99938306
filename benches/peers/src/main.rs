//! Side by side with what else one might use, in one run: `peers reads | more | writes | rollover | report`. The results are
//! lines of JSON in target/bench, of which `report` makes the tables of the README and the plots in docs.

mod blackboard;
mod feeder;
mod lmdb;
mod load;
mod mmap_sync;
mod order;
mod peer;
mod processes;
mod reads;
mod report;
mod results;
mod server;
mod writes;

use std::path::Path;

use order::Order;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["reads"] => {
            results::forget();
            reads::timer();
            reads::run(10_000, 1 << 10, Order::Uniform, 25, true);
            reads::run(100, 1 << 10, Order::Uniform, 25, false);
            reads::run(200_000, 1 << 10, Order::Uniform, 25, false);
            load::run(10_000, 1 << 10, 15);
            load::threads(10_000, 1 << 10, 9);
            for len in [64, 1 << 10, 16 << 10] {
                processes::memory(10_000, len);
            }
        }
        // What `reads` leaves out.
        ["more"] => {
            processes::run(10_000, 1 << 10);
            for count in [1_000, 100_000, 1_000_000] {
                processes::memory(count, 1 << 10);
            }
            for order in [Order::Uniform, Order::Zipf] {
                for len in [64, 1 << 10, 16 << 10] {
                    for count in [100, 10_000, 200_000] {
                        let there = (count, len, order) == (10_000, 1 << 10, Order::Uniform);
                        if !there && (count <= 10_000 || len < 16 << 10) {
                            reads::run(count, len, order, 11, true);
                        }
                    }
                }
            }
            for count in [1_000, 1_000_000] {
                reads::run(count, 1 << 10, Order::Uniform, 11, false);
            }
        }
        ["writes"] => {
            writes::run(15);
            writes::pages();
        }
        ["rollover"] => writes::rollovers(),
        ["report"] => report::run().expect("what was measured can be shown"),
        ["feed", peer, place, count, len] => {
            let number = |text: &str| text.parse().expect("a number");
            feeder::feed(peer, Path::new(place), number(count), number(len));
        }
        ["look", path, count] => {
            processes::look(Path::new(path), count.parse().expect("a number"));
        }
        _ => {
            eprintln!("usage: peers reads | more | writes | rollover | report");
            std::process::exit(2);
        }
    }
}
