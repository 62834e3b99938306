//! The three tiers of the client, beside what they stand on and what they compete with:
//! `cargo bench -p erlmcp-shm-benches --bench tiers [-- hits | mix | server | rmcp]` prints the tables of one part,
//! or of all.

mod hits;
mod mix;
mod server;
mod setting;

fn main() {
    // cargo bench adds an option of its own.
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args
        .iter()
        .map(String::as_str)
        .filter(|arg| *arg != "--bench")
        .collect();
    match args.as_slice() {
        [] => {
            hits::run();
            mix::run();
        }
        ["hits"] => hits::run(),
        ["mix"] => mix::run(),
        _ => {
            eprintln!("usage: tiers [hits | mix | server | rmcp]");
            std::process::exit(2);
        }
    }
}
