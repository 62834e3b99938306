//! Nothing that a file says is passed over: what is wrong is refused, with its place.

use super::*;
use crate::property;
use proptest::prelude::*;

#[track_caller]
fn problems(text: &str) -> Vec<Problem> {
    match Config::parse(text) {
        Err(ConfigError::Refused { problems, .. }) => problems,
        other => panic!("not refused: {other:?}"),
    }
}

/// The messages, a line each.
#[track_caller]
fn refused(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

#[test]
fn no_key_of_the_table_is_passed_over() {
    for key in KEYS {
        // A date is a value of no key.
        let found = problems(&format!("{} = 1979-05-27", key.name));
        assert_eq!(found.len(), 1, "{}", key.name);
        assert!(
            matches!(&found[0].fault, Fault::WrongValue { key: k, .. } if k == key.name),
            "{found:?}"
        );
    }
}

#[test]
fn the_only_transport_must_exist() {
    assert_eq!(
        refused("[mcp]\ntransport = \"http\""),
        "2:13: mcp.transport is \"http\", which needs mcp.erlmcp.http.url too"
    );
    // What is set and wrong is not missing too.
    let found = problems("mcp.transport = \"http\"\nmcp.erlmcp.http.url = 5");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].line, 2);
}

#[test]
fn unknown_names_come_with_the_one_that_was_meant() {
    let suggestion = |text: &str| {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            matches!(found[0].fault, Fault::UnknownKey { .. }),
            "{found:?}"
        );
        found[0].suggestion.clone()
    };
    let meant =
        |text: &str, key: &str| assert_eq!(suggestion(text).as_deref(), Some(key), "{text}");
    meant("[cahce]\nl1.size = 5", "cache");
    meant("[mcp]\ntransprot = 'hybrid'", "mcp.transport");
    meant("[mcp]\nTransport = 'hybrid'", "mcp.transport");
    meant("[cache]\nl1.sise = 5", "cache.l1.size");
    meant(
        "[mcp.erlmcp]\nwebsocket.uri = 'ws://h'",
        "mcp.erlmcp.websocket.url",
    );
    meant(
        "[mcp.erlmcp]\nshared_memory.refresh-interval = '1s'",
        "mcp.erlmcp.shared_memory.refresh_interval",
    );
    // Right, but in another table.
    meant("stale_on_error = true", "cache.stale_on_error");
    meant(
        "[mcp]\nfailure_threshold = 5",
        "mcp.circuit_breaker.failure_threshold",
    );
    // In quotes it is one name, and none of ours.
    meant("[cache]\n\"l1.size\" = 5", "cache.l1.size");
    assert_eq!(suggestion("[cache]\nzebra = 5"), None);
    assert_eq!(
        refused("[cache]\nzebra = 5"),
        "2:1: unknown key cache.zebra: expected l1, l2, partition, stale_on_error, invalidate"
    );
}

#[test]
fn wrong_values_are_named_with_what_they_have_to_be() {
    let lines = |text: &str| refused(text).lines().map(str::to_owned).collect::<Vec<_>>();
    let found = lines(
        r#"[mcp]
transport = "websockets"
request_timeout = "0s"
connect_timeout = 2
[mcp.erlmcp]
websocket.url = "http://localhost:8080/ws"
websocket.compression = "true"
websocket.priority = 11
http.url = "localhost:8080/mcp"
http.token = "two words"
sse.url = ""
stdio.command = ""
stdio.args = "-s erlmcp"
shared_memory.path = ""
[mcp.circuit_breaker]
failure_threshold = 0
[cache]
l1 = true
l2.ttl = "5 sec"
[cache.invalidate]
add = ["a*b"]
"b.c" = []
b.c = []
"#,
    );
    let duration = r#"expected a duration such as "100ms", "5s" or "10m", a year at most"#;
    let ws = r#"expected a URL such as "ws://localhost:8080/mcp/ws", or with wss://"#;
    let http = r#"expected a URL such as "http://localhost:8080/mcp", or with https://"#;
    let keys = r#"expected keys in quotes, with a "*" at most at the end of each"#;
    let expected = [
        r#"2:13: mcp.transport is "websockets": expected "hybrid", "websocket", "http", "sse", "stdio" or "shared_memory": did you mean "websocket"?"#.to_owned(),
        r#"3:19: mcp.request_timeout is "0s": expected a duration longer than zero, such as "100ms" or "5s""#.to_owned(),
        format!("4:19: mcp.connect_timeout is 2: {duration}"),
        format!(r#"6:17: mcp.erlmcp.websocket.url is "http://localhost:8080/ws": {ws}: did you mean "ws://localhost:8080/ws"?"#),
        r#"7:25: mcp.erlmcp.websocket.compression is "true": expected true or false: did you mean true?"#.to_owned(),
        "8:22: mcp.erlmcp.websocket.priority is 11: expected an integer from 0 to 10".to_owned(),
        format!(r#"9:12: mcp.erlmcp.http.url is "localhost:8080/mcp": {http}: did you mean "http://localhost:8080/mcp"?"#),
        "10:14: mcp.erlmcp.http.token is ***: expected a token of printable ASCII without spaces, in quotes".to_owned(),
        format!(r#"11:11: mcp.erlmcp.sse.url is "": {http}"#),
        r#"12:17: mcp.erlmcp.stdio.command is "": expected the name or the path of a program"#.to_owned(),
        r#"13:14: mcp.erlmcp.stdio.args is "-s erlmcp": expected a list of arguments, each in quotes"#.to_owned(),
        r#"14:22: mcp.erlmcp.shared_memory.path is "": expected the path of a file"#.to_owned(),
        "16:21: mcp.circuit_breaker.failure_threshold is 0: expected an integer, 1 at least".to_owned(),
        "18:6: cache.l1 is true: expected a table".to_owned(),
        format!(r#"19:10: cache.l2.ttl is "5 sec": {duration}"#),
        format!(r#"21:7: cache.invalidate.add is ["a*b"]: {keys}"#),
        format!("23:1: cache.invalidate.b is a table: {keys}"),
    ];
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn an_address_is_a_whole_one() {
    for url in [
        "http://",
        "http:///",
        "http://h:99999/",
        "http://[::1",
        "ftp://h/",
        "/mcp",
    ] {
        let found = problems(&format!("mcp.erlmcp.http.url = {url:?}"));
        assert!(matches!(found[0].fault, Fault::WrongValue { .. }), "{url}");
    }
}

#[test]
fn what_is_not_toml_is_refused_with_its_place() {
    let found = problems("[mcp]\ntransport = hybrid\n");
    assert_eq!((found[0].line, found[0].column), (2, 13), "{found:?}");
    assert!(matches!(found[0].fault, Fault::Syntax(_)));
    // Twice is once too often, whichever way it is written.
    let found = problems("[cache]\nl1.size = 1\n[cache.l1]\nsize = 2\n");
    assert!(matches!(found[0].fault, Fault::Syntax(_)), "{found:?}");
}

#[test]
fn columns_count_characters() {
    let found = problems("[cache]\npartition = \"ä\"\nl1 = { ttl = \"1s\", \"ä\" = 1 }\n");
    assert_eq!((found[0].line, found[0].column), (3, 20), "{found:?}");
    let found = problems("cache = { \"ää\" = 1, z = 1 }");
    assert_eq!(found.iter().map(|p| p.column).collect::<Vec<_>>(), [11, 21]);
}

proptest! {
    #![proptest_config(property::config(500, "src/config/tests/refused.regressions"))]

    /// A file with a piece of it replaced by anything is a configuration, or is refused with places that are in it.
    #[test]
    fn no_text_is_too_strange_to_be_refused(
        (from, to) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        strange in prop_oneof![
            ".{0,8}",
            "[\\[\\]{}=.,\"'#\n \\\\ab1-]{0,8}",
            Just("\u{feff}".to_owned()),
            Just("\r\n".to_owned()),
        ],
    ) {
        let mut text = SPECIFIED.to_owned();
        let (from, to) = (from.index(text.len()), to.index(text.len()));
        text.replace_range(from.min(to)..from.max(to).min(from.min(to) + 40), &strange);
        if let Err(ConfigError::Refused { problems, .. }) = Config::parse(&text) {
            prop_assert!(!problems.is_empty());
            let lines: Vec<_> = text.split('\n').collect();
            for problem in problems {
                let line = lines.get(problem.line - 1);
                let length = line.map(|line| line.chars().count());
                prop_assert!(length.is_some_and(|n| problem.column <= n + 1), "{problem:?} in {text:?}");
            }
        }
    }
}
