//! What is published, and one entry of it.

use erlmcp_shm_reader::{Kind, Reader};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1);
    let shm = Reader::open(path.as_deref().unwrap_or("/dev/shm/erlmcp_export.bin"))?;
    let view = shm.view()?; // the current generation, pinned while `view` lives
    for entry in view.iter() {
        println!("{} {}", entry.kind(), String::from_utf8_lossy(entry.key()));
    }
    match view.get(Kind::ToolSchema, "add")? {
        Some(entry) => println!("{} bytes, not copied", entry.data().len()),
        None => println!("no such tool"),
    }
    Ok(())
}
