//! The three tiers of the client, beside what they stand on and what they compete with:
//! `cargo bench -p erlmcp-shm-benches --bench tiers [-- hits | mix | calls | rmcp]` prints the tables of one part,
//! or of all.

mod calls;
mod hits;
mod mix;
mod rival;
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
            calls::run();
            rival::run();
        }
        ["hits"] => hits::run(),
        ["mix"] => mix::run(),
        ["calls"] => calls::run(),
        ["rmcp"] => rival::run(),
        // One of the processes whose memory is looked at.
        ["process", way, address, path] => rival::process(way, address, path),
        _ => {
            eprintln!("usage: tiers [hits | mix | calls | rmcp]");
            std::process::exit(2);
        }
    }
}
