//! Redis over a unix socket, started for this run and ended with it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use erlmcp_shm_benches::touch;
use redis::Connection;

use crate::peer::Peer;

/// A server of our own and a connection to it.
pub struct Redis {
    connection: Connection,
    /// Held for its drop.
    _server: Server,
}

impl Redis {
    /// Starts it with the keys and values in it; why not, where it cannot be had.
    pub fn new(folder: &Path, keys: &[Vec<u8>], len: usize) -> Result<Self, String> {
        let socket = folder.join("redis.sock");
        let server = Command::new("redis-server")
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
        // Ended with this one, however it comes to an end.
        let server = Server(server);
        let client = redis::Client::open(format!("unix://{}", socket.display()));
        let client = client.map_err(|error| error.to_string())?;
        let patience = Instant::now() + Duration::from_secs(10);
        let connection = loop {
            match client.get_connection() {
                Ok(connection) => break connection,
                Err(error) if Instant::now() > patience => return Err(error.to_string()),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let mut redis = Self {
            connection,
            _server: server,
        };
        for (i, key) in keys.iter().enumerate() {
            redis.put(key, &vec![i as u8; len]);
        }
        Ok(redis)
    }

    /// One round trip.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        let mut set = redis::cmd("SET");
        set.arg(key).arg(value);
        set.exec(&mut self.connection).expect("it runs");
    }
}

impl Peer for Redis {
    fn name(&self) -> &'static str {
        "Redis, unix socket"
    }

    fn get(&mut self, key: &[u8]) -> usize {
        let mut get = redis::cmd("GET");
        let value: Vec<u8> = get.arg(key).query(&mut self.connection).expect("it runs");
        touch(&value)
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
