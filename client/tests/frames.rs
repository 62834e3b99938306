//! WebSocket frames by the byte: compression that is agreed on or declined (RFC 7692), goodbyes, and connections of
//! which one half is closed.

mod wire;

use std::{io::Read, time::Duration};

use erlmcp_shm_client::transport::{Connected, Http, Sse, Transport, TransportError, WebSocket};
use flate2::read::DeflateDecoder;
use rmcp::ServiceExt;
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage, RequestId};
use rmcp::transport::Transport as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use wire::{net, scripted::read_head, within};

/// A connection whose handshake a real server has done, and whose frames are the test's.
struct Raw {
    connected: Connected,
    peer: Peer,
    /// The handshake as it was asked for and answered.
    asked: String,
    answered: String,
}

async fn raw(compression: bool, declined: bool) -> Raw {
    let server = net::serve().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut websocket = WebSocket::new(format!("ws://{}/ws", listener.local_addr().unwrap()));
    websocket = websocket.token(net::TOKEN);
    websocket.compression = compression;
    let transport = Transport::from(websocket);
    let handshake = async {
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(server).await.unwrap();
        let asked = read_head(&mut peer).await;
        server.write_all(asked.as_bytes()).await.unwrap();
        let mut answered = read_head(&mut server).await;
        if declined {
            let lines = answered.split_inclusive("\r\n");
            let kept = lines.filter(|line| !line.to_ascii_lowercase().contains("extensions"));
            answered = kept.collect();
        }
        peer.write_all(answered.as_bytes()).await.unwrap();
        (
            peer,
            asked.to_ascii_lowercase(),
            answered.to_ascii_lowercase(),
        )
    };
    let (connected, (peer, asked, answered)) =
        within(async { tokio::join!(transport.connect(), handshake) }).await;
    Raw {
        connected: connected.unwrap(),
        peer: Peer(peer),
        asked,
        answered,
    }
}

/// The server's end of the connection.
struct Peer(TcpStream);

impl Peer {
    /// The next frame that is no ping: its first byte, and its payload unmasked.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        within(async {
            loop {
                let [first, second] = self.bytes().await;
                assert_eq!(second & 0x80, 0x80, "a client masks what it sends");
                let length = match second & 0x7f {
                    126 => u64::from(u16::from_be_bytes(self.bytes().await)),
                    127 => u64::from_be_bytes(self.bytes().await),
                    short => u64::from(short),
                };
                let mask: [u8; 4] = self.bytes().await;
                let mut payload = vec![0; length as usize];
                self.0.read_exact(&mut payload).await.unwrap();
                for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
                    *byte ^= mask;
                }
                if first & 0x0f != 9 {
                    return (first, payload);
                }
            }
        })
        .await
    }

    async fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    async fn send(&mut self, first: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        assert!(length < 126);
        let mut frame = vec![first, length];
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }
}

impl Raw {
    /// Has the client send a message, and gives the frame that it makes.
    async fn sent(&mut self, message: &Value) -> (u8, Vec<u8>) {
        let message: ClientJsonRpcMessage = serde_json::from_value(message.clone()).unwrap();
        let sending = self.connected.send(message);
        let (sent, frame) = tokio::join!(sending, self.peer.frame());
        sent.unwrap();
        frame
    }

    async fn end(&self) -> std::sync::Arc<TransportError> {
        within(self.connected.end().wait()).await
    }
}

fn message() -> Value {
    let text = "the same words again and again ".repeat(50);
    let params = json!({"name": "echo", "arguments": {"text": text}});
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
}

fn number(message: Option<rmcp::model::ServerJsonRpcMessage>) -> i64 {
    match message {
        Some(JsonRpcMessage::Response(response)) => match response.id {
            RequestId::Number(n) => n,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// The payload of a message of one frame, as RFC 7692 has it unpacked.
fn inflated(mut payload: Vec<u8>) -> Vec<u8> {
    payload.extend([0x00, 0x00, 0xff, 0xff]);
    let mut text = vec![0; 1 << 16];
    let mut inflate = DeflateDecoder::new(&payload[..]);
    let mut length = 0;
    // There is no last block: it ends where the bytes do.
    while let Ok(n @ 1..) = inflate.read(&mut text[length..]) {
        length += n;
    }
    text.truncate(length);
    text
}

#[tokio::test]
async fn compression_that_is_agreed_on_is_used() {
    let mut raw = raw(true, false).await;
    assert!(
        raw.asked
            .contains("sec-websocket-extensions: permessage-deflate")
    );
    assert!(
        raw.answered
            .contains("sec-websocket-extensions: permessage-deflate")
    );
    let (first, payload) = raw.sent(&message()).await;
    assert_eq!(first, 0xc1, "a whole text with RSV1");
    let text = serde_json::to_vec(&message()).unwrap();
    assert!(payload.len() * 5 < text.len(), "{} bytes", payload.len());
    let said: Value = serde_json::from_slice(&inflated(payload)).unwrap();
    assert_eq!(said, message());
    // A message may be sent as it is all the same.
    raw.peer
        .send(0x81, br#"{"jsonrpc":"2.0","id":7,"result":{}}"#)
        .await;
    assert_eq!(number(within(raw.connected.receive()).await), 7);
}

#[tokio::test]
async fn compression_that_is_declined_is_done_without() {
    let mut raw = raw(true, true).await;
    assert!(
        raw.asked
            .contains("sec-websocket-extensions: permessage-deflate")
    );
    assert!(!raw.answered.contains("extensions"));
    let (first, payload) = raw.sent(&message()).await;
    assert_eq!(first, 0x81, "a whole text and no reserved bit");
    assert_eq!(
        serde_json::from_slice::<Value>(&payload).unwrap(),
        message()
    );
    raw.peer
        .send(0x81, br#"{"jsonrpc":"2.0","id":7,"result":{}}"#)
        .await;
    assert_eq!(number(within(raw.connected.receive()).await), 7);
    // A bit that means nothing was agreed on is none to guess at.
    raw.peer
        .send(0xc1, br#"{"jsonrpc":"2.0","id":8,"result":{}}"#)
        .await;
    let reason = raw.end().await;
    assert!(matches!(*reason, TransportError::WebSocket(_)), "{reason}");
}

#[tokio::test]
async fn compression_that_is_not_wanted_is_not_offered() {
    let mut raw = raw(false, false).await;
    assert!(!raw.asked.contains("extensions") && !raw.answered.contains("extensions"));
    let (first, payload) = raw.sent(&message()).await;
    assert_eq!(first, 0x81);
    assert_eq!(
        serde_json::from_slice::<Value>(&payload).unwrap(),
        message()
    );
}

#[tokio::test]
async fn a_goodbye_is_answered_and_told() {
    let mut raw = raw(true, false).await;
    raw.peer
        .send(0x88, &[&1001_u16.to_be_bytes()[..], b"restarting"].concat())
        .await;
    let (first, payload) = raw.peer.frame().await;
    assert_eq!((first, &payload[..2]), (0x88, &1001_u16.to_be_bytes()[..]));
    let reason = raw.end().await;
    assert!(
        matches!(&*reason, TransportError::PeerClosed(said) if said == "close code 1001 restarting"),
        "{reason}"
    );
    assert!(within(raw.connected.receive()).await.is_none());
}

#[tokio::test]
async fn goodbye_is_said() {
    let Raw {
        mut connected,
        mut peer,
        ..
    } = raw(true, false).await;
    let close = async { connected.close().await.unwrap() };
    let answer = async {
        let (first, payload) = peer.frame().await;
        assert_eq!((first, &payload[..2]), (0x88, &1000_u16.to_be_bytes()[..]));
        peer.send(0x88, &payload).await;
        let mut rest = vec![];
        peer.0.read_to_end(&mut rest).await.unwrap();
        rest
    };
    let ((), rest) = within(async { tokio::join!(close, answer) }).await;
    // Nothing after it, but that the library answers the answer: a close frame of a mask and a code.
    assert!(
        rest.is_empty() || (rest[..2] == [0x88, 0x82] && rest.len() == 8),
        "{rest:?}"
    );
    let reason = within(connected.end().wait()).await;
    assert!(matches!(*reason, TransportError::Closed), "{reason}");
}

#[tokio::test]
async fn a_websocket_of_which_one_half_is_closed_has_ended() {
    let mut raw = raw(true, false).await;
    // The peer would still read.
    raw.peer.0.shutdown().await.unwrap();
    let reason = raw.end().await;
    assert!(matches!(*reason, TransportError::PeerClosed(_)), "{reason}");
    assert!(within(raw.connected.receive()).await.is_none());
}

/// A server that reads on, and says no more than this to anyone.
async fn half_closed(says: &'static str) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            tokio::spawn(async move {
                read_head(&mut peer).await;
                peer.write_all(says.as_bytes()).await.unwrap();
                peer.shutdown().await.unwrap();
                let _ = tokio::io::copy(&mut peer, &mut tokio::io::sink()).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn http_of_which_one_half_is_closed_has_ended() {
    let address = half_closed(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: endpoint\ndata: /message\n\n",
    )
    .await;
    let sse = Transport::from(Sse::new(format!("http://{address}/sse")));
    let connected = within(sse.connect()).await.unwrap();
    let end = connected.end();
    assert!(within(().serve(connected)).await.is_err());
    let reason = within(end.wait()).await;
    assert!(
        matches!(
            *reason,
            TransportError::PeerClosed(_) | TransportError::Http(_)
        ),
        "{reason}"
    );
    let address = half_closed("").await;
    let http = Transport::from(Http::new(format!("http://{address}/mcp")));
    let connected = within(http.connect()).await.unwrap();
    let begun = tokio::time::timeout(Duration::from_secs(8), ().serve(connected)).await;
    let error = begun.expect("silence").unwrap_err();
    assert!(format!("{error:?}").contains("StreamableHttp"), "{error:?}");
}
