//! What a file says is what the client gets.

use super::*;

mod refused;
mod shown;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// As the specification has it, all in one.
const SPECIFIED: &str = r#"
[mcp]
transport = "hybrid"

[mcp.erlmcp]
# Primary
websocket.url = "ws://localhost:8080/mcp/ws"
websocket.compression = true

# Fallback
stdio.command = "erl"
stdio.args = ["-s", "erlmcp_app", "-config", "config/claude_flow.config"]

shared_memory.enabled = true
shared_memory.path = "/dev/shm/erlmcp_export.bin"
shared_memory.refresh_interval = "100ms"

[cache]
l1.enabled = true
l1.size = "10MB"
l1.ttl = "1s"
l2.enabled = true
l2.ttl = "10s"
"#;

#[test]
fn the_specified_file_says_what_is_the_default_and_names_two_transports() {
    let mut config = Config::parse(SPECIFIED).unwrap();
    let websocket = TransportConfig::new(Endpoint::WebSocket {
        url: "ws://localhost:8080/mcp/ws".into(),
        compression: true,
    });
    let args = ["-s", "erlmcp_app", "-config", "config/claude_flow.config"];
    let stdio = TransportConfig::new(Endpoint::Stdio {
        command: "erl".into(),
        args: args.map(str::to_owned).into(),
    });
    assert_eq!(config.transports, [websocket, stdio]);
    config.transports.clear();
    assert_eq!(config, Config::default());
}

#[test]
fn an_empty_file_has_every_default() {
    let config = Config::parse("").unwrap();
    let expected = Config {
        mode: Mode::Hybrid,
        transports: vec![],
        request_timeout: ms(5_000),
        call_timeout: ms(60_000),
        connect_timeout: ms(2_000),
        health_check_interval: ms(30_000),
        circuit_breaker: BreakerOptions {
            enabled: true,
            failure_threshold: 5,
            success_threshold: 2,
            timeout: ms(30_000),
        },
        l1: Some(L1Config {
            size: 10 << 20,
            ttl: ms(1_000),
        }),
        l2: Some(L2Config {
            path: "/dev/shm/erlmcp_export.bin".into(),
            refresh_interval: ms(100),
            trust_owner: None,
            ttl: ms(10_000),
        }),
        partition: String::new(),
        stale_on_error: false,
        invalidate: Invalidate::default(),
    };
    assert_eq!(config, expected);
    assert_eq!(config.circuit_breaker, BreakerOptions::default());
}

#[test]
fn every_key_can_be_set() {
    let config = Config::parse(
        r#"
        [mcp]
        transport = "hybrid"
        request_timeout = "2m"
        connect_timeout = "500us"
        health_check_interval = "1h"
        [mcp.erlmcp]
        websocket = { url = "wss://example.com/ws", compression = false, priority = 1, token = "w" }
        http = { url = "https://example.com/mcp", priority = 2, token = "h" }
        sse = { url = "http://example.com/sse", priority = 3, token = "s" }
        stdio = { command = "server", args = ["-x", ""], priority = 0, token = "c" }
        shared_memory = { enabled = true, path = "store", refresh_interval = "1ms", trust_owner = 0 }
        [mcp.circuit_breaker]
        enabled = false
        failure_threshold = 1
        success_threshold = 0x10
        timeout = "0s"
        [cache]
        l1 = { enabled = true, size = 1_000, ttl = "2d" }
        l2 = { enabled = true, ttl = "0ms" }
        partition = "tenant"
        stale_on_error = true
        [cache.invalidate]
        add = "a*"
        "*" = ["*"]
        "#,
    )
    .unwrap();
    let transports: Vec<_> = config.transports.iter().collect();
    let tokens: Vec<_> = (transports
        .iter()
        .map(|t| t.token.as_ref().unwrap().expose()))
    .collect();
    assert_eq!(tokens, ["s", "h", "w", "c"]); // by priority
    let stdio = Endpoint::Stdio {
        command: "server".into(),
        args: vec!["-x".into(), String::new()],
    };
    assert_eq!(transports[3].endpoint, stdio);
    let websocket = Endpoint::WebSocket {
        url: "wss://example.com/ws".into(),
        compression: false,
    };
    assert_eq!(transports[2].endpoint, websocket);
    assert_eq!(config.request_timeout, ms(120_000));
    assert_eq!(config.call_timeout, ms(120_000)); // never less than any request gets
    assert_eq!(config.connect_timeout, Duration::from_micros(500));
    assert_eq!(config.health_check_interval, ms(3_600_000));
    let breaker = BreakerOptions {
        enabled: false,
        failure_threshold: 1,
        success_threshold: 16,
        timeout: ms(0),
    };
    assert_eq!(config.circuit_breaker, breaker);
    let l1 = L1Config {
        size: 1_000,
        ttl: ms(2 * 86_400_000),
    };
    assert_eq!(config.l1, Some(l1));
    let l2 = L2Config {
        path: "store".into(),
        refresh_interval: ms(1),
        trust_owner: Some(0),
        ttl: ms(0),
    };
    assert_eq!(config.l2, Some(l2));
    assert_eq!(config.partition, "tenant");
    assert!(config.stale_on_error);
    let patterns: Vec<_> = config.invalidate.by("add").collect();
    let expected = ["a", ""].map(|prefix| Pattern::Prefix(prefix.into()));
    assert_eq!(patterns, expected.iter().collect::<Vec<_>>());
}

#[test]
fn a_switched_off_tier_is_not_there() {
    let off = |key: &str| Config::parse(&format!("{key} = false")).unwrap();
    assert_eq!(off("cache.l1.enabled").l1, None);
    assert_eq!(off("cache.l2.enabled").l2, None);
    assert_eq!(off("mcp.erlmcp.shared_memory.enabled").l2, None);
}

#[test]
fn a_mode_leaves_the_transports_it_names() {
    let kinds = |mode: &str| -> Vec<TransportKind> {
        let text = format!(
            "mcp.transport = {mode:?}\n{}",
            r#"[mcp.erlmcp]
            stdio.command = "s"
            sse.url = "http://h/"
            http.url = "http://h/"
            websocket.url = "ws://h/""#
        );
        let config = Config::parse(&text).unwrap();
        config
            .transports
            .iter()
            .map(|t| t.endpoint.kind())
            .collect()
    };
    assert_eq!(kinds("hybrid"), TransportKind::ALL);
    for kind in TransportKind::ALL {
        assert_eq!(kinds(kind.name()), [kind]);
    }
    assert_eq!(kinds("shared_memory"), []);
}

#[test]
fn equal_priorities_keep_the_order_of_kinds() {
    let text = r#"[mcp.erlmcp]
        stdio = { command = "s", priority = 5 }
        http = { url = "http://h/", priority = 5 }"#;
    let config = Config::parse(text).unwrap();
    let kinds: Vec<_> = config
        .transports
        .iter()
        .map(|t| t.endpoint.kind())
        .collect();
    assert_eq!(kinds, [TransportKind::Http, TransportKind::Stdio]);
}

#[test]
fn sizes_and_durations() {
    let size =
        |text: &str| Config::parse(&format!("cache.l1.size = {text}")).map(|c| c.l1.unwrap().size);
    let good = [
        ("0", 0),
        ("1", 1),
        ("10_485_760", 10 << 20),
        (r#""0B""#, 0),
        (r#""7 B""#, 7),
        (r#""512kB""#, 512 << 10),
        (r#""512KiB""#, 512 << 10),
        (r#""10MB""#, 10 << 20),
        (r#""10 mb""#, 10 << 20),
        (r#""2GB""#, 2 << 30),
    ];
    for (text, bytes) in good {
        assert_eq!(size(text).unwrap(), bytes, "{text}");
    }
    // The last would be 2^64 bytes.
    for text in [
        "-1",
        "1.5",
        r#""""#,
        r#""MB""#,
        r#""10""#,
        r#""1.5MB""#,
        r#""-1MB""#,
        r#""17179869184GB""#,
    ] {
        assert!(size(text).is_err(), "{text}");
    }
    let ttl =
        |text: &str| Config::parse(&format!("cache.l1.ttl = {text:?}")).map(|c| c.l1.unwrap().ttl);
    let good = [
        ("0s", ms(0)),
        ("250us", Duration::from_micros(250)),
        ("100ms", ms(100)),
        ("1 s", ms(1_000)),
        ("10m", ms(600_000)),
        ("10min", ms(600_000)),
        ("366d", ms(366 * 86_400_000)),
    ];
    for (text, duration) in good {
        assert_eq!(ttl(text).unwrap(), duration, "{text}");
    }
    for text in [
        "",
        "5",
        "s",
        "1.5s",
        "-1s",
        "1m30s",
        "367d",
        "99999999999999999999s",
        "9999999999999999h",
    ] {
        assert!(ttl(text).is_err(), "{text}");
    }
}

#[test]
fn a_file_is_read_or_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let error = Config::load(&path).unwrap_err();
    assert!(matches!(&error, ConfigError::Unreadable { path: p, .. } if *p == path));
    std::fs::write(&path, b"cache.partition = \"\xff\"").unwrap();
    assert!(matches!(
        Config::load(&path),
        Err(ConfigError::Unreadable { .. })
    ));
    std::fs::write(&path, "cache.zebra = 1").unwrap();
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{}:1:7: unknown key", path.display())),
        "{error}"
    );
    std::fs::write(&path, "cache.partition = \"ours\"").unwrap();
    assert_eq!(Config::load(&path).unwrap().partition, "ours");
}

#[test]
fn a_transport_made_by_hand_has_the_usual_priority() {
    let text = r#"[mcp.erlmcp]
        websocket = { url = "ws://h/" }
        http = { url = "http://h/" }
        sse = { url = "http://h/" }
        stdio = { command = "s" }"#;
    let priorities = [10, 8, 7, 6];
    for (read, priority) in Config::parse(text)
        .unwrap()
        .transports
        .iter()
        .zip(priorities)
    {
        assert_eq!(*read, TransportConfig::new(read.endpoint.clone()));
        assert_eq!(read.priority, priority);
    }
}
