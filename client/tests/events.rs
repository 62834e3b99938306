//! Event streams as WHATWG has them, byte by byte through a socket.

mod wire;

use erlmcp_shm_client::transport::{Sse, Transport, TransportError};
use rmcp::model::{JsonRpcMessage, RequestId};
use rmcp::transport::Transport as _;
use wire::{
    scripted::{ACCEPTED, scripted},
    within,
};

const ENDPOINT: &str = "event: endpoint\ndata: /message\n\n";

/// A message by its number: `#1` stands for it in a stream.
fn message(n: i64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{n},"result":{{"_meta":{{"n":{n}}}}}}}"#)
}

/// The bytes of a stream, `#1` to `#9` put in.
fn stream(text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    let mut rest = text.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        match rest.peek() {
            Some(digit @ b'1'..=b'9') if byte == b'#' => {
                bytes.extend(message(i64::from(digit - b'0')).bytes());
                rest.next();
            }
            _ => bytes.push(byte),
        }
    }
    bytes
}

/// The numbers of the messages that a transport receives from a stream.
async fn received(bytes: Vec<u8>, piece: usize) -> Vec<i64> {
    let pieces: Vec<Vec<u8>> = bytes.chunks(piece).map(<[u8]>::to_vec).collect();
    let (address, _requests) = scripted(vec![pieces], ACCEPTED).await;
    let transport = Transport::from(Sse::new(format!("http://{address}/sse")));
    let mut connected = within(transport.connect()).await.unwrap();
    let mut numbers = vec![];
    while let Some(message) = within(connected.receive()).await {
        match message {
            JsonRpcMessage::Response(response) => match response.id {
                RequestId::Number(n) => numbers.push(n),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    numbers
}

#[tokio::test]
async fn streams_are_read_by_the_rules() {
    let cases: [(&str, &[u8], &[i64]); 18] = [
        ("three line ends", b"data: #1\n\ndata: #2\r\n\r\ndata: #3\r\r", &[1, 2, 3]),
        ("line ends mixed", b"data: #1\r\n\ndata: #2\r\r\ndata: #3\n\r\n", &[1, 2, 3]),
        ("comments", b":\n: keep-alive\n:data: #9\ndata: #1\n:\n\n", &[1]),
        ("a comment that is no UTF-8", b": \xff\xfe\ndata: #1\n\n", &[1]),
        ("unknown fields", b"foo: bar\ndata: #1\nDATA: #9\n data: #9\n\n", &[1]),
        ("lines without a colon", b"foo\ndata: #1\nbar\n\n", &[1]),
        ("data without a colon", b"data\n\ndata: #1\ndata\n\n", &[1]),
        ("no space, one space, two", b"data:#1\n\ndata: #2\n\ndata:  #3\n\n", &[1, 2, 3]),
        ("colons in the value", b"data:#1\nid:a:b\nfoo:::\n\n", &[1]),
        ("an empty type is none", b"event\ndata: #1\n\nevent:\ndata: #2\n\n", &[1, 2]),
        ("another type, for one event", b"event: other\ndata: #9\n\ndata: #1\n\n", &[1]),
        ("the last type counts", b"event: other\nevent: message\ndata: #1\n\n", &[1]),
        ("no event without data", b"event: endpoint\n\nevent: endpoint\nid\n\ndata: #1\n\n", &[1]),
        ("retry that is no number", b"retry: soon\nretry: +1\nretry:\ndata: #1\n\n", &[1]),
        ("one byte order mark, at the start", b"\n\xef\xbb\xbfdata: #9\n\ndata: #1\n\n", &[1]),
        ("text that is no UTF-8", b"data: #1\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"_meta\":{\"x\":\"\xff\xc3\"}}}\n\ndata: #3\n\n", &[1, 2, 3]),
        ("an unfinished event", b"data: #1\n\ndata: #9\n", &[1]),
        ("an unfinished line", b"data: #1\n\ndata: #9", &[1]),
    ];
    let checks = cases.map(|(what, text, expected)| async move {
        let mut bytes = b"\xef\xbb\xbf".to_vec();
        bytes.extend(ENDPOINT.bytes());
        bytes.extend(stream(text));
        for piece in [bytes.len(), 29] {
            assert_eq!(received(bytes.clone(), piece).await, expected, "{what}");
        }
    });
    futures_util::future::join_all(checks).await;
}

#[tokio::test]
async fn data_of_several_lines_is_one_message() {
    let text = message(1).replace(',', ",\r\ndata: ");
    let bytes = format!("{ENDPOINT}data: {text}\r\n\r\n").into_bytes();
    assert_eq!(received(bytes, 7).await, [1]);
}

/// With which `Last-Event-ID` a stream is gone on with after these bytes, if it is.
async fn resumed_with(text: &str) -> Option<String> {
    let first = format!("{ENDPOINT}{text}");
    let second = String::from("retry: 1\n\n");
    let (address, mut requests) =
        scripted(vec![vec![first], vec![second, "wait".into()]], ACCEPTED).await;
    let transport = Transport::from(Sse::new(format!("http://{address}/sse")));
    let connected = within(transport.connect()).await.unwrap();
    let end = connected.end();
    assert!(!requests.recv().await.unwrap().contains("last-event-id"));
    tokio::select! {
        reason = end.wait() => {
            assert!(matches!(*reason, TransportError::PeerClosed(_)), "{reason}");
            None
        }
        head = within(requests.recv()) => {
            let head = head.unwrap();
            let id = head.split("last-event-id: ").nth(1).unwrap_or_else(|| panic!("{head}"));
            Some(id.split("\r\n").next().unwrap().to_owned())
        }
    }
}

#[tokio::test]
async fn a_stream_is_resumed_after_the_last_id_that_holds() {
    let cases = [
        ("", None),
        ("id: 7\n\n", Some("7")),
        ("id: 7\ndata: x\n\n", Some("7")),
        ("id: 7\nid: 8\ndata: x\n\n", Some("8")),
        // The id of an event that is not complete is not one.
        ("id: 7\n\nid: 8\n", Some("7")),
        ("id: 7\n\nid: 8\0\n\n", Some("7")),
        ("id: 7\n\nid: gr\u{fc}n 8\n\n", Some("gr\u{fc}n 8")),
        // An empty one takes the one before back.
        ("id: 7\n\nid\n\n", None),
        ("id: 7\n\nid:\ndata: x\n\n", None),
    ];
    for (text, id) in cases {
        let text = format!("retry: 1\n\n{text}");
        assert_eq!(resumed_with(&text).await.as_deref(), id, "{text:?}");
    }
}

#[tokio::test]
async fn an_event_beyond_the_limit_ends_the_transport() {
    let long = format!("data: {}\n\n", "x".repeat(5000));
    let (address, _requests) =
        scripted(vec![vec![ENDPOINT.into(), long, "wait".into()]], ACCEPTED).await;
    let mut sse = Sse::new(format!("http://{address}/sse"));
    sse.max_message_bytes = 4096;
    let connected = within(Transport::from(sse).connect()).await.unwrap();
    let reason = within(connected.end().wait()).await;
    assert!(
        matches!(*reason, TransportError::TooLarge { limit: 4096 }),
        "{reason}"
    );
}
