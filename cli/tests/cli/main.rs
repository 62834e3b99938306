//! The command as its users meet it: a process of its own, on stores that a writer really wrote.

mod bench;
mod client;
mod dump;
mod get;
mod list;
mod open;
mod pipes;
mod publish;
mod publish_watch;
mod stat;
mod store;
mod verify;
mod watch;
