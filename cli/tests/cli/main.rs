//! The command as its users meet it: a process of its own, on stores that a writer really wrote.

mod bench;
mod client;
mod get;
mod list;
mod open;
mod pipes;
#[path = "../../../reader/tests/support/squat.rs"]
mod squat;
mod stat;
mod store;
mod verify;
mod watch;
