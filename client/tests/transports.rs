//! Every method over every transport, against a small server of rmcp's.

mod wire;

use erlmcp_shm_client::transport::{Tls, Transport, TransportError, WebSocket};
use rmcp::{
    ServiceExt,
    model::{
        ClientRequest, GetPromptRequestParams, PingRequest, ProtocolVersion,
        ReadResourceRequestParams, ServerResult,
    },
    service::ClientInitializeError,
};
use rustls::CertificateError;
use wire::{
    Client, call, net, networked,
    proxy::Proxy,
    server::{CONTENT, URI},
    start, stdio, within,
};

async fn every_method(name: &str, client: &Client) {
    let tools = client.list_all_tools().await.unwrap();
    assert_eq!(
        tools.iter().map(|tool| &*tool.name).collect::<Vec<_>>(),
        ["echo", "slow", "count", "never", "exit"],
        "{name}"
    );
    let answer = call(client, "echo", "naïve\r\n\u{2028}text").await.unwrap();
    assert_eq!(
        answer.content[0].as_text().unwrap().text,
        "naïve\r\n\u{2028}text",
        "{name}"
    );
    assert_eq!(
        client.list_all_resources().await.unwrap()[0].uri,
        URI,
        "{name}"
    );
    let read = client
        .read_resource(ReadResourceRequestParams::new(URI))
        .await
        .unwrap();
    assert!(
        serde_json::to_string(&read).unwrap().contains(CONTENT),
        "{name}"
    );
    assert!(
        client
            .read_resource(ReadResourceRequestParams::new("file:///none"))
            .await
            .is_err(),
        "{name}"
    );
    assert_eq!(
        client.list_all_prompts().await.unwrap()[0].name,
        "greet",
        "{name}"
    );
    let prompt = client
        .get_prompt(GetPromptRequestParams::new("greet"))
        .await
        .unwrap();
    assert!(
        serde_json::to_string(&prompt)
            .unwrap()
            .contains("Hello from greet"),
        "{name}"
    );
    let large = "x".repeat(1 << 20);
    let answer = call(client, "echo", &large).await.unwrap();
    assert_eq!(answer.content[0].as_text().unwrap().text, large, "{name}");
    let many = (0..50).map(|n| async move {
        let text = n.to_string();
        let answer = call(client, "echo", &text).await.unwrap();
        assert_eq!(answer.content[0].as_text().unwrap().text, text);
    });
    futures_util::future::join_all(many).await;
}

async fn all() -> Vec<Transport> {
    let host = net::serve().await.to_string();
    let mut all = Vec::from(networked(&host, false, &Tls::default()));
    all.push(stdio(&[]).into());
    all
}

#[tokio::test]
async fn every_method_over_every_transport() {
    for transport in all().await {
        let name = transport.name();
        let (client, end) = within(start(&transport)).await;
        let version = client.peer_info().unwrap().protocol_version.clone();
        let expected = if name == "sse" {
            ProtocolVersion::V_2025_11_25
        } else {
            ProtocolVersion::V_2026_07_28
        };
        assert_eq!(version, expected, "{name}");
        within(every_method(name, &client)).await;
        within(client.cancel()).await.unwrap();
        assert!(
            matches!(*within(end.wait()).await, TransportError::Closed),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_older_revision_with_its_ping_over_every_transport() {
    for transport in all().await {
        let name = transport.name();
        let client = within(().serve(transport.connect().await.unwrap()))
            .await
            .unwrap();
        assert_eq!(
            client.peer_info().unwrap().protocol_version,
            ProtocolVersion::V_2025_11_25,
            "{name}"
        );
        let pong = within(client.send_request(ClientRequest::PingRequest(PingRequest::default())))
            .await
            .unwrap();
        assert!(matches!(pong, ServerResult::EmptyResult(_)), "{name}");
        within(every_method(name, &client)).await;
    }
}

#[tokio::test]
async fn tls_with_a_certificate_of_its_own() {
    let proxy = Proxy::tls(net::serve().await).await;
    let host = format!("localhost:{}", proxy.address.port());
    let trusting = Tls::default().with_pem(proxy.pem.as_bytes()).unwrap();
    for transport in networked(&host, true, &trusting) {
        let (client, _) = within(start(&transport)).await;
        within(every_method(transport.name(), &client)).await;
    }
    // A stranger's certificate; and the right one, for another name.
    let by_address = format!("127.0.0.1:{}", proxy.address.port());
    let unknown = |fault: &CertificateError| *fault == CertificateError::UnknownIssuer;
    let misnamed = |fault: &CertificateError| {
        matches!(
            fault,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        )
    };
    for transport in networked(&host, true, &Tls::default()) {
        let fault = refused(&transport).await;
        assert!(unknown(&fault), "{}: {fault:?}", transport.name());
    }
    for transport in networked(&by_address, true, &trusting) {
        let fault = refused(&transport).await;
        assert!(misnamed(&fault), "{}: {fault:?}", transport.name());
    }
}

/// Why a certificate is refused: what an error says that comes of nothing else.
async fn refused(transport: &Transport) -> CertificateError {
    let error = match within(transport.connect()).await {
        Err(error) => error,
        Ok(connected) => match within(().serve(connected)).await.unwrap_err() {
            ClientInitializeError::TransportError { error, .. } => {
                *error.error.downcast::<TransportError>().unwrap()
            }
            other => panic!("{}: {other:?}", transport.name()),
        },
    };
    match error {
        TransportError::Certificate(fault) => fault,
        other => panic!("{}: {other:?}", transport.name()),
    }
}

#[tokio::test]
async fn without_the_token_nobody_gets_in() {
    let host = net::serve().await.to_string();
    for mut transport in networked(&host, false, &Tls::default()) {
        match &mut transport {
            Transport::Http(http) => http.token = None,
            Transport::Sse(sse) => sse.token = Some("wrong".into()),
            Transport::WebSocket(websocket) => websocket.token = None,
            _ => unreachable!("networked"),
        }
        match within(transport.connect()).await {
            Err(TransportError::Status(401)) => {}
            Ok(connected) if transport.name() == "http" => {
                let error = within(().serve(connected)).await.unwrap_err();
                assert!(format!("{error:?}").contains("401"), "{error:?}");
            }
            other => panic!("{}: {:?}", transport.name(), other.err()),
        }
    }
}

/// The bytes on the wire for the same calls, with and without permessage-deflate.
#[tokio::test]
async fn compression_shows_on_the_wire() {
    let server = net::serve().await;
    let text = "the same words again and again ".repeat(2000);
    let mut sent = Vec::new();
    for compression in [false, true] {
        let proxy = Proxy::plain(server).await;
        let mut websocket = WebSocket::new(format!("ws://{}/ws", proxy.address)).token(net::TOKEN);
        websocket.compression = compression;
        let (client, _) = within(start(&websocket.into())).await;
        for _ in 0..10 {
            let answer = within(call(&client, "echo", &text)).await.unwrap();
            assert_eq!(answer.content[0].as_text().unwrap().text, text);
        }
        sent.push(proxy.bytes());
    }
    let payload = 2 * 10 * text.len() as u64;
    println!(
        "payload {payload:>9} B\nplain   {:>9} B\ndeflate {:>9} B",
        sent[0], sent[1]
    );
    assert!(sent[0] > payload && sent[1] < payload / 20, "{sent:?}");
}
