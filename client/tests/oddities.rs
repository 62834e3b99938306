//! Peers that die, hesitate, or split what belongs together.

mod wire;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use erlmcp_shm_client::transport::{Http, Sse, Tls, Transport, TransportError, WebSocket};
use futures_util::StreamExt;
use rmcp::{
    ClientHandler, RoleClient, ServiceExt,
    model::{
        CallToolRequest, CallToolRequestParams, ClientConfig, ClientRequest, JsonObject,
        ProgressNotificationParam, ProtocolVersion,
    },
    service::{NotificationContext, PeerRequestOptions, ServiceError},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use wire::{
    call, net, networked,
    proxy::Proxy,
    scripted::{ACCEPTED, INITIALIZED, read_head, scripted},
    server::COUNT,
    start, stdio, within,
};

/// A peer that dies takes nobody's answer with it: every pending call ends in an error.
#[tokio::test]
async fn a_dead_peer_ends_every_pending_request() {
    let server = net::serve().await;
    for which in 0..3 {
        let proxy = Proxy::plain(server).await;
        let host = format!("localhost:{}", proxy.address.port());
        let transport = networked(&host, false, &Tls::default())[which].clone();
        let (client, end) = within(start(&transport)).await;
        let calls = futures_util::future::join_all((0..10).map(|_| call(&client, "never", "")));
        let cut = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            proxy.cut();
        };
        let (results, ()) = within(async { tokio::join!(calls, cut) }).await;
        for result in results {
            assert!(result.is_err(), "{}: {result:?}", transport.name());
        }
        if transport.name() != "http" {
            assert!(
                !matches!(*within(end.wait()).await, TransportError::Closed),
                "{}",
                transport.name()
            );
        }
        assert!(
            within(call(&client, "echo", "")).await.is_err(),
            "{}",
            transport.name()
        );
    }
}

/// Notes how far the server says that it is.
#[derive(Clone, Default)]
struct Progress(Arc<Mutex<Vec<f64>>>);

impl ClientHandler for Progress {
    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.0.lock().unwrap().push(params.progress);
    }

    fn get_info(&self) -> ClientConfig {
        ClientConfig::default().with_protocol_version(ProtocolVersion::V_2025_11_25)
    }
}

/// On 2025-11-25 an answer's stream has ids: rmcp goes on with it after the last one that it saw, so that a
/// connection that breaks again and again loses nothing, and has nothing done twice.
#[tokio::test]
async fn streamable_http_goes_on_with_a_broken_stream() {
    let proxy = Proxy::plain(net::serve().await).await;
    let host = format!("localhost:{}", proxy.address.port());
    let [http, ..] = networked(&host, false, &Tls::default());
    let progress = Progress::default();
    let client = progress.clone().serve(http.connect().await.unwrap());
    let client = within(client).await.unwrap();
    let version = client.peer_info().unwrap().protocol_version.clone();
    assert_eq!(version, ProtocolVersion::V_2025_11_25);
    let steps = || progress.0.lock().unwrap().len();
    let resets = async {
        for before in [5, 15, 25] {
            while steps() < before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            proxy.reset();
        }
    };
    let params = CallToolRequestParams::new("count");
    let params = params.with_arguments(JsonObject::from_iter([("text".into(), "done".into())]));
    let (answer, ()) = within(async { tokio::join!(client.call_tool(params), resets) }).await;
    let answer = answer.unwrap();
    assert_eq!(answer.content[0].as_text().unwrap().text, "done");
    let counted: Vec<f64> = (1..=COUNT).map(f64::from).collect();
    // rmcp's server begins with the very event that it is told was the last: that one comes again, and no other.
    let mut steps = progress.0.lock().unwrap().clone();
    let all = steps.len();
    steps.dedup();
    assert_eq!(steps, counted);
    let sent = proxy.sent().concat();
    let resumed: Vec<&str> = sent
        .split("\r\n")
        .filter(|line| line.to_ascii_lowercase().starts_with("last-event-id: "))
        .collect();
    assert!(resumed.len() >= 3, "{resumed:?}");
    let ids: HashSet<&str> = resumed.iter().copied().collect();
    assert!(ids.len() >= 3, "each goes on where it was: {resumed:?}");
    assert!(all - steps.len() <= resumed.len(), "{all} steps");
    assert_eq!(sent.matches("\"tools/call\"").count(), 1, "{sent}");
}

/// The answer to a request that was given up comes all the same, and disturbs nobody.
#[tokio::test]
async fn late_answers_are_dropped() {
    let host = net::serve().await.to_string();
    let mut all = Vec::from(networked(&host, false, &Tls::default()));
    all.push(stdio(&[]).into());
    for transport in all {
        let (client, _) = within(start(&transport)).await;
        let slow = ClientRequest::CallToolRequest(CallToolRequest::new(
            CallToolRequestParams::new("slow"),
        ));
        let mut options = PeerRequestOptions::default();
        options.timeout = Some(Duration::from_millis(20));
        let given_up = client
            .send_cancellable_request(slow, options)
            .await
            .unwrap();
        let result = within(given_up.await_response()).await;
        assert!(
            matches!(result, Err(ServiceError::Timeout { .. })),
            "{}: {result:?}",
            transport.name()
        );
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let answer = within(call(&client, "echo", "now")).await.unwrap();
            assert_eq!(
                answer.content[0].as_text().unwrap().text,
                "now",
                "{}",
                transport.name()
            );
        }
    }
}

#[tokio::test]
async fn a_websocket_message_beyond_the_limit_ends_the_transport() {
    let mut websocket = WebSocket::new(format!("ws://{}/ws", net::serve().await)).token(net::TOKEN);
    websocket.max_message_bytes = 4096;
    let (client, end) = within(start(&websocket.into())).await;
    let result = within(call(&client, "echo", &"x".repeat(5000))).await;
    assert!(
        matches!(result, Err(ServiceError::TransportClosed)),
        "{result:?}"
    );
    assert!(matches!(
        *within(end.wait()).await,
        TransportError::TooLarge { limit: 4096 }
    ));
}

/// A server that takes the TCP connection and then says nothing.
#[tokio::test]
async fn a_peer_that_never_speaks_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = silent.local_addr().unwrap();
    let mut websocket = WebSocket::new(format!("ws://{host}/ws"));
    let mut sse = Sse::new(format!("http://{host}/sse"));
    websocket.connect_timeout = Duration::from_millis(100);
    sse.connect_timeout = Duration::from_millis(100);
    for transport in [Transport::from(websocket), sse.into()] {
        let error = within(transport.connect()).await.err().unwrap();
        assert!(
            matches!(error, TransportError::ConnectTimeout(_)),
            "{}: {error}",
            transport.name()
        );
    }
}

/// A WebSocket whose peer has vanished behind a connection that looks alive.
#[tokio::test]
async fn a_websocket_without_pongs_is_given_up() {
    let server = net::serve().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    // Passes the handshake on and then swallows everything.
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(server).await.unwrap();
        let request = read_head(&mut client).await;
        server.write_all(request.as_bytes()).await.unwrap();
        let response = read_head(&mut server).await;
        client.write_all(response.as_bytes()).await.unwrap();
        let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
    });
    let mut websocket = WebSocket::new(format!("ws://{host}/ws")).token(net::TOKEN);
    websocket.ping_interval = Duration::from_millis(50);
    let connected = within(Transport::from(websocket).connect()).await.unwrap();
    assert!(matches!(
        *within(connected.end().wait()).await,
        TransportError::Silent(_)
    ));
}

#[tokio::test]
async fn an_event_may_come_in_any_pieces() {
    let (first, second) = INITIALIZED.split_at(40);
    // CRLF, a comment, an id, and one message as two lines of data, cut where it hurts.
    let comma = second.find(',').unwrap() + 1;
    let event: Vec<&'static str> = vec![
        ": hello\r",
        "\n\r\n",
        "event: endp",
        "oint\r\ndata: /mes",
        "sage\r\n\r",
        "\n",
        ": keep-alive\n\n",
        "id: 1\r\nda",
        "ta: ",
        first,
        &second[..comma],
        "\r\ndata: ",
        &second[comma..],
        "\r",
        "\n",
        "\r\n",
        "wait",
    ];
    let (address, mut requests) = scripted(vec![event], ACCEPTED).await;
    let transport = Transport::from(Sse::new(format!("http://{address}/sse")).token("t"));
    let client = within(().serve(transport.connect().await.unwrap()))
        .await
        .unwrap();
    assert_eq!(
        client.peer_info().unwrap().protocol_version.as_str(),
        "2024-11-05"
    );
    assert!(requests.recv().await.unwrap().starts_with("get /sse"));
    let post = requests.recv().await.unwrap();
    assert!(
        post.starts_with("post /message") && post.contains("authorization: bearer t"),
        "{post}"
    );
}

#[tokio::test]
async fn a_post_may_be_answered_in_its_body() {
    let body: &'static str = Box::leak(
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{INITIALIZED}",
            INITIALIZED.len()
        )
        .into_boxed_str(),
    );
    let (address, _requests) = scripted(
        vec![vec!["event: endpoint\ndata: /message\n\n", "wait"]],
        body,
    )
    .await;
    let transport = Transport::from(Sse::new(format!("http://{address}/sse")));
    assert!(
        within(().serve(transport.connect().await.unwrap()))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_broken_event_stream_goes_on_after_its_last_event() {
    let first = vec![
        "event: endpoint\ndata: /message\n\n",
        "id: 41\nretry: 1\ndata: not a message\n\n",
    ];
    let event: &'static str =
        Box::leak(format!("id: 42\ndata: {INITIALIZED}\n\n").into_boxed_str());
    let (address, mut requests) = scripted(vec![first, vec![event, "wait"]], ACCEPTED).await;
    let transport = Transport::from(Sse::new(format!("http://{address}/sse")));
    let client = within(().serve(transport.connect().await.unwrap())).await;
    assert!(client.is_ok());
    let mut resumed = false;
    while let Ok(head) = requests.try_recv() {
        resumed |= head.starts_with("get") && head.contains("last-event-id: 41");
    }
    assert!(resumed);
}

#[tokio::test]
async fn a_stream_that_cannot_go_on_ends_the_transport() {
    let endpoint = "event: endpoint\ndata: /message\n\n";
    // Without ids; with another session afterwards.
    let cases = [
        vec![vec![endpoint]],
        vec![
            vec![endpoint, "id: 1\nretry: 1\ndata:\n\n"],
            vec!["event: endpoint\ndata: /other\n\n", "wait"],
        ],
    ];
    for streams in cases {
        let (address, _requests) = scripted(streams, ACCEPTED).await;
        let connected =
            within(Transport::from(Sse::new(format!("http://{address}/sse"))).connect())
                .await
                .unwrap();
        let end = connected.end();
        assert!(within(().serve(connected)).await.is_err());
        assert!(matches!(*end.wait().await, TransportError::PeerClosed(_)));
    }
}

#[tokio::test]
async fn the_token_goes_to_no_other_origin() {
    let (address, _requests) = scripted(
        vec![vec![
            "event: endpoint\ndata: http://127.0.0.1:9/message\n\n",
            "wait",
        ]],
        ACCEPTED,
    )
    .await;
    let error = within(Transport::from(Sse::new(format!("http://{address}/sse"))).connect())
        .await
        .err()
        .unwrap();
    assert!(matches!(error, TransportError::BadEndpoint(_)), "{error}");
}

#[tokio::test]
async fn addresses_of_another_kind_are_refused() {
    let transports: [Transport; 3] = [
        Http::new("ws://localhost/mcp").into(),
        Sse::new("ftp://localhost/sse").into(),
        WebSocket::new("http://localhost/ws").into(),
    ];
    let refused = futures_util::stream::iter(transports)
        .filter(|transport| {
            let transport = transport.clone();
            async move {
                matches!(
                    transport.connect().await,
                    Err(TransportError::BadUrl { .. })
                )
            }
        })
        .count()
        .await;
    assert_eq!(refused, 3);
}
