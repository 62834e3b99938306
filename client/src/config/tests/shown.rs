//! The file in `config/` shows every key as the table has it.

use super::*;

/// The file that shows every key.
fn shown() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/config.toml");
    std::fs::read_to_string(path).unwrap()
}

/// Its lines, with what is switched off by a `#` switched on.
fn switched_on() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    shown().lines().map(on).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shown_file_works_and_shows_the_defaults() {
    let mut config = Config::load("../config/config.toml").unwrap();
    let kinds: Vec<_> = config
        .transports
        .iter()
        .map(|t| t.endpoint.kind())
        .collect();
    assert_eq!(kinds, [TransportKind::WebSocket, TransportKind::Stdio]);
    config.transports.clear();
    assert_eq!(config, Config::default());
    let on = Config::parse(&switched_on()).unwrap();
    assert_eq!(on.transports.len(), 4);
    assert!(on.transports.iter().all(|t| t.token.is_some()));
    assert_eq!(on.invalidate.by("write_file").count(), 3);
}

#[test]
fn the_shown_file_has_every_key_below_its_meaning() {
    let (mut table, mut comment, mut seen) = (String::new(), String::new(), vec![]);
    for line in switched_on().lines() {
        if let Some(more) = line.strip_prefix("# ") {
            comment = format!("{comment} {more}").trim_start().to_owned();
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            table = name.to_owned();
        } else if let Some((name, value)) = line.split_once(" = ") {
            // Names below cache.invalidate are the user's own; the first has the meaning of all.
            let full = match table.as_str() {
                "cache.invalidate" if seen.last() == Some(&"cache.invalidate") => continue,
                "cache.invalidate" => table.clone(),
                table => format!("{table}.{name}"),
            };
            let key = KEYS.iter().find(|key| key.name == full);
            let key = key.unwrap_or_else(|| panic!("{full} is no key"));
            assert_eq!(comment, key.meaning, "{full}");
            let address = ["", "[]", "{}"].contains(&key.default);
            assert!(address || value == key.default, "{full} = {value}");
            seen.push(key.name);
        }
        comment.clear();
    }
    assert_eq!(seen, KEYS.iter().map(|key| key.name).collect::<Vec<_>>());
}

/// Every key as docs/configuration.md has it: what the code says of a value that is none, and what its table says.
#[test]
fn the_reference_has_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let reference = std::fs::read_to_string(path).unwrap();
    let (_, table) = reference.split_once("<!-- client -->\n").unwrap();
    let shown: Vec<_> = table
        .lines()
        .take_while(|l| !l.is_empty())
        .skip(2)
        .collect();
    let row = |key: &Key| {
        let default = match key.default {
            "" => "none".to_owned(),
            default => format!("`{default}`"),
        };
        let (name, meaning) = (key.name, key.meaning);
        format!("| `{name}` | {} | {default} | {meaning} |", wanted(name))
    };
    let expected: Vec<_> = KEYS.iter().map(row).collect();
    assert_eq!(shown, expected, "\n{}\n", expected.join("\n"));
}

/// What has to be the value of a key: the answer to one that is no key's.
fn wanted(key: &'static str) -> &'static str {
    let Err(ConfigError::Refused { problems, .. }) = Config::parse(&format!("{key} = 2026-01-01"))
    else {
        panic!("a date is no {key}");
    };
    match problems[0].fault {
        Fault::WrongValue { expected, .. } => expected,
        ref other => panic!("{other:?}"),
    }
}
