//! Redis over a unix socket, started for this run and ended with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use erlmcp_shm_benches::touch;
use redis::Connection;

use crate::peer::Peer;

/// A server of our own, ended when dropped.
pub struct Server {
    process: Child,
    /// Where it listens.
    pub socket: PathBuf,
}

impl Server {
    /// Starts it; why not, where it cannot be had.
    pub fn start(folder: &Path) -> Result<Self, String> {
        let socket = folder.join("redis.sock");
        let process = Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--save",
                "",
                "--appendonly",
                "no",
                "--unixsocket",
            ])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("redis-server: {error}"))?;
        Ok(Self { process, socket })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A connection to it.
pub struct Redis(Connection);

impl Redis {
    /// As soon as it listens.
    pub fn connect(socket: &Path) -> Result<Self, String> {
        let client = redis::Client::open(format!("unix://{}", socket.display()));
        let client = client.map_err(|error| error.to_string())?;
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            match client.get_connection() {
                Ok(connection) => return Ok(Self(connection)),
                Err(error) if Instant::now() > patience => return Err(error.to_string()),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// One round trip.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        let mut set = redis::cmd("SET");
        set.arg(key).arg(value);
        set.exec(&mut self.0).expect("it runs");
    }
}

impl Peer for Redis {
    fn name(&self) -> &'static str {
        "Redis, unix socket"
    }

    fn get(&mut self, key: &[u8]) -> usize {
        let mut get = redis::cmd("GET");
        let value: Vec<u8> = get.arg(key).query(&mut self.0).expect("it runs");
        touch(&value)
    }
}
