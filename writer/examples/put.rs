//! Writes one entry: `put PATH KIND KEY DATA METADATA`. The Erlang suites read back what it wrote.

use std::os::unix::ffi::OsStrExt;

use erlmcp_shm_writer::{Kind, Writer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [path, kind, key, data, metadata] = args.as_slice() else {
        return Err("usage: put PATH KIND KEY DATA METADATA".into());
    };
    let kind: Kind = kind.to_str().unwrap_or_default().parse()?;
    let writer = Writer::options().size(1 << 20).open(path)?;
    writer.put(kind, key.as_bytes(), data.as_bytes(), metadata.as_bytes())?;
    writer.close();
    Ok(())
}
