//! An HTTP server that says what it was told to, byte by byte.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

/// The head of a request or of its answer.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A server written by hand: event streams in the pieces given, one after the other; POSTs answered 202, or
/// with the answer in the body. Sends back the heads of all requests.
pub async fn scripted<P>(
    streams: Vec<Vec<P>>,
    post: &'static str,
) -> (SocketAddr, UnboundedReceiver<String>)
where
    P: AsRef<[u8]> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, requests) = unbounded_channel();
    let streams = Arc::new(Mutex::new(streams.into_iter()));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (heads, streams) = (heads.clone(), streams.clone());
            tokio::spawn(async move {
                let head = read_head(&mut stream).await.to_ascii_lowercase();
                let _ = heads.send(head.clone());
                if head.starts_with("post") {
                    let length = head
                        .split("content-length: ")
                        .nth(1)
                        .unwrap()
                        .split("\r\n")
                        .next()
                        .unwrap();
                    stream
                        .read_exact(&mut vec![0; length.parse().unwrap()])
                        .await
                        .unwrap();
                    stream.write_all(post.as_bytes()).await.unwrap();
                    return;
                }
                let Some(pieces) = streams.lock().unwrap().next() else {
                    return;
                };
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n";
                stream.write_all(head.as_bytes()).await.unwrap();
                for piece in pieces {
                    if piece.as_ref() == b"wait" {
                        std::future::pending::<()>().await;
                    }
                    stream.write_all(piece.as_ref()).await.unwrap();
                    stream.flush().await.unwrap();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
    });
    (address, requests)
}

pub const ACCEPTED: &str =
    "HTTP/1.1 202 Accepted\r\nContent-Length: 8\r\nConnection: close\r\n\r\nAccepted";
pub const INITIALIZED: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2024-11-05","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}"#;
