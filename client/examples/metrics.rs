//! A client's figures, where Prometheus finds them: reads a resource again and again, with the configuration in the
//! first argument, and answers at the address in the second, such as 127.0.0.1:9187.

use erlmcp_shm_client::{Config, HybridClient};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(config), Some(address), Some(uri)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: metrics CONFIG ADDRESS URI".into());
    };
    let client = HybridClient::from_config(&Config::load(config)?)?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let mut pause = tokio::time::interval(Duration::from_millis(10));
    loop {
        tokio::select! {
            _ = pause.tick() => {
                if let Err(error) = client.read_resource(&uri).await {
                    eprintln!("{error}");
                }
            }
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                // Who connects and says nothing holds up nobody.
                tokio::spawn(answer(stream, client.metrics().prometheus()));
            }
        }
    }
}

/// Whatever is asked for, the figures are the answer.
async fn answer(mut stream: TcpStream, figures: String) -> std::io::Result<()> {
    let (mut asked, mut buffer) = (Vec::new(), [0; 1024]);
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") && asked.len() < 65536 {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => asked.extend_from_slice(&buffer[..n]),
        }
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        figures.len()
    );
    stream.write_all((head + &figures).as_bytes()).await
}
