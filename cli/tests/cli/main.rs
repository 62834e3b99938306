//! The command as its users meet it: a process of its own, on stores that a writer really wrote.

mod bench;
mod client;
mod dump;
mod get;
mod list;
mod open;
mod pipes;
mod progress;
#[path = "../support/pty.rs"]
mod pty;
mod publish;
mod publish_watch;
mod serve;
#[path = "../../../reader/tests/support/squat.rs"]
mod squat;
mod stat;
mod store;
mod top;
mod verify;
mod watch;
