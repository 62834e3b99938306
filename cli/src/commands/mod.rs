//! The subcommands, one file each.

mod ask;
mod bench;
mod dump;
mod get;
mod list;
mod load;
mod publish;
mod serve;
mod stat;
mod top;
mod verify;
mod watch;

use crate::globals::Globals;
use crate::output::{Answer, Failure};
use clap::Subcommand;

#[derive(Subcommand)]
pub enum Command {
    /// Shows figures of the store, and whether its writer lives
    Stat(stat::Stat),
    /// Lists the entries: kind, version, bytes of data, bytes of metadata, key
    List(list::List),
    /// Writes an entry's data to stdout, byte for byte
    #[command(
        override_usage = "erlmcp-shm get [OPTIONS] <KIND> <KEY|--escaped <KEY>|--key-hex <HEX>> [FILE]"
    )]
    Get(get::Get),
    /// Checks every record and slot against its checksum
    Verify(verify::Verify),
    /// Prints a line for every change, across restarts of the writer
    Watch(watch::Watch),
    /// Measures what lookups in this store cost
    Bench(bench::Bench),
    /// Shows the store live: figures, rates, the writer, and the keys in the order you like
    Top(top::Top),
    /// Serves figures for Prometheus and a page for people, over HTTP
    Serve(serve::Serve),
    /// Publishes a folder's files as resources, without an Erlang node: this command is the writer
    Publish(publish::Publish),
    /// Writes every entry to stdout, a line of JSON each: what `load` takes
    Dump(dump::Dump),
    /// Loads what `dump` wrote into a store, byte for byte
    Load(load::Load),
    /// Reads a resource through the client: from shared memory, or else from the server
    Read(ask::Read),
    /// Lists the tools that the client sees: a line each, name and description
    Tools(ask::Tools),
    /// Calls a tool at the server
    Call(ask::Call),
    /// Lists the prompts that the client sees: a line each, name and description
    Prompts(ask::Prompts),
    /// Tries every tier and transport of a configuration and says in one line each what works
    Doctor(ask::Doctor),
}

impl Command {
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        match self {
            Command::Stat(stat) => stat.run(globals),
            Command::List(list) => list.run(globals),
            Command::Get(get) => get.run(globals),
            Command::Verify(verify) => verify.run(globals),
            Command::Watch(watch) => watch.run(globals),
            Command::Bench(bench) => bench.run(globals),
            Command::Top(top) => top.run(globals),
            Command::Serve(serve) => serve.run(globals),
            Command::Publish(publish) => publish.run(globals),
            Command::Dump(dump) => dump.run(globals),
            Command::Load(load) => load.run(globals),
            Command::Read(read) => read.run(globals),
            Command::Tools(tools) => tools.run(globals),
            Command::Call(call) => call.run(globals),
            Command::Prompts(prompts) => prompts.run(globals),
            Command::Doctor(doctor) => doctor.run(globals),
        }
    }
}
