//! Single values: what TOML has no type for (sizes, durations, URLs), and the bounds of what it has.

use std::path::PathBuf;
use std::time::Duration;
use toml::de::{DeInteger, DeValue};
use url::Url;

/// Why a value is none.
pub(super) struct Wrong {
    pub expected: &'static str,
    pub suggestion: Option<String>,
}

pub(super) fn expected<T>(expected: &'static str) -> Result<T, Wrong> {
    Err(Wrong {
        expected,
        suggestion: None,
    })
}

type Answer<T> = Result<T, Wrong>;

pub(super) fn boolean(value: &DeValue<'_>) -> Answer<bool> {
    let expected = "true or false";
    value.as_bool().ok_or_else(|| Wrong {
        expected,
        suggestion: match value.as_str() {
            Some(word @ ("true" | "false")) => Some(word.to_owned()),
            _ => None,
        },
    })
}

pub(super) fn text(value: &DeValue<'_>) -> Answer<String> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => expected("text in quotes"),
    }
}

pub(super) fn command(value: &DeValue<'_>) -> Answer<String> {
    match value.as_str() {
        Some(text) if !text.is_empty() && !text.contains('\0') => Ok(text.to_owned()),
        _ => expected("the name or the path of a program"),
    }
}

pub(super) fn arguments(value: &DeValue<'_>) -> Answer<Vec<String>> {
    let wrong = "a list of arguments, each in quotes";
    let list = value.as_array().ok_or(());
    let list = list.and_then(|list| {
        let texts = list.iter().map(|item| item.get_ref().as_str().ok_or(()));
        texts.map(|text| text.map(str::to_owned)).collect()
    });
    list.or_else(|()| expected(wrong))
}

pub(super) fn path(value: &DeValue<'_>) -> Answer<PathBuf> {
    match value.as_str() {
        Some(text) if !text.is_empty() && !text.contains('\0') => Ok(text.into()),
        _ => expected("the path of a file"),
    }
}

/// A word of a list; what is like one of them is taken for a slip.
pub(super) fn word(
    value: &DeValue<'_>,
    words: &[&'static str],
    expected: &'static str,
) -> Answer<&'static str> {
    let given = value.as_str().unwrap_or_default();
    let known = words.iter().find(|word| **word == given).copied();
    known.ok_or_else(|| Wrong {
        expected,
        suggestion: closest(given, words.iter().copied()).map(|word| format!("{word:?}")),
    })
}

/// The one of these that is like `given`, if one is.
pub(super) fn closest<'a>(given: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let alike = |word: &&str| strsim::jaro_winkler(&given.to_lowercase(), word);
    among
        .filter(|word| alike(word) >= 0.8)
        .max_by(|a, b| alike(a).total_cmp(&alike(b)))
}

pub(super) fn priority(value: &DeValue<'_>) -> Answer<u8> {
    match integer(value) {
        Some(n @ 0..=10) => Ok(n as u8),
        _ => expected("an integer from 0 to 10"),
    }
}

pub(super) fn threshold(value: &DeValue<'_>) -> Answer<u32> {
    match integer(value).map(u32::try_from) {
        Some(Ok(n @ 1..)) => Ok(n),
        _ => expected("an integer, 1 at least"),
    }
}

pub(super) fn user(value: &DeValue<'_>) -> Answer<u32> {
    match integer(value).map(u32::try_from) {
        Some(Ok(uid)) => Ok(uid),
        _ => expected("the id of a user, an integer"),
    }
}

fn integer(value: &DeValue<'_>) -> Option<u64> {
    let digits = |n: &DeInteger<'_>| u64::from_str_radix(n.as_str(), n.radix()).ok();
    value.as_integer().and_then(digits)
}

/// Bytes: an integer, or one with a unit. A kB is 1024 bytes, as a KiB is.
pub(super) fn size(value: &DeValue<'_>) -> Answer<u64> {
    let with_unit = |text: &str| {
        let (number, unit) = quantity(text)?;
        let shift = match unit.to_ascii_lowercase().as_str() {
            "b" => 0,
            "kb" | "kib" => 10,
            "mb" | "mib" => 20,
            "gb" | "gib" => 30,
            _ => return None,
        };
        number.checked_mul(1 << shift)
    };
    let bytes = integer(value).or_else(|| value.as_str().and_then(with_unit));
    bytes.map_or_else(
        || expected(r#"a size such as "10MB" or "512kB", or a number of bytes"#),
        Ok,
    )
}

/// A length of time: an integer with a unit.
pub(super) fn duration(value: &DeValue<'_>) -> Answer<Duration> {
    let with_unit = |text: &str| {
        let (number, unit) = quantity(text)?;
        let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
        match unit {
            "us" => Some(Duration::from_micros(number)),
            "ms" => Some(Duration::from_millis(number)),
            "s" => seconds(1),
            "m" | "min" => seconds(60),
            "h" => seconds(3600),
            "d" => seconds(86_400),
            _ => None,
        }
    };
    let duration = value.as_str().and_then(with_unit);
    duration.filter(|d| *d <= LONGEST).map_or_else(
        || expected(r#"a duration such as "100ms", "5s" or "10m", a year at most"#),
        Ok,
    )
}

/// Added to the time of now, a longer one might be no time at all.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// A duration in which something can happen.
pub(super) fn positive(value: &DeValue<'_>) -> Answer<Duration> {
    match duration(value)? {
        Duration::ZERO => expected(r#"a duration longer than zero, such as "100ms" or "5s""#),
        duration => Ok(duration),
    }
}

/// Splits `10 MB` into 10 and `MB`.
fn quantity(text: &str) -> Option<(u64, &str)> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let number = text[..unit].parse().ok()?;
    Some((number, text[unit..].trim_start()))
}

pub(super) fn websocket_url(value: &DeValue<'_>) -> Answer<String> {
    let wrong = r#"a URL such as "ws://localhost:8080/mcp/ws", or with wss://"#;
    url(value, ["ws", "wss"], ["http", "https"], wrong)
}

pub(super) fn http_url(value: &DeValue<'_>) -> Answer<String> {
    let wrong = r#"a URL such as "http://localhost:8080/mcp", or with https://"#;
    url(value, ["http", "https"], ["ws", "wss"], wrong)
}

/// A URL with one of these schemes, as it was written; `slips` are written for them now and then.
fn url(
    value: &DeValue<'_>,
    schemes: [&str; 2],
    slips: [&str; 2],
    expected: &'static str,
) -> Answer<String> {
    let given = value.as_str().unwrap_or_default();
    // With these schemes there is no URL without a host.
    let right = |text: &str| Url::parse(text).is_ok_and(|url| schemes.contains(&url.scheme()));
    if right(given) {
        return Ok(given.to_owned());
    }
    let other = (schemes.iter().zip(slips)).find_map(|(scheme, slip)| {
        let rest = given.strip_prefix(slip)?;
        rest.starts_with("://").then(|| format!("{scheme}{rest}"))
    });
    let bare = || {
        let plain = !given.is_empty() && !given.contains("://");
        plain.then(|| format!("{}://{given}", schemes[0]))
    };
    let suggestion = other.or_else(bare).filter(|url| right(url));
    Err(Wrong {
        expected,
        suggestion: suggestion.map(|url| format!("{url:?}")),
    })
}

/// A secret: no message or debugging output shows it.
///
/// ```
/// use erlmcp_shm_client::config::Config;
/// let config = Config::parse(r#"mcp.erlmcp.http = { url = "http://localhost/mcp", token = "s3cret" }"#)?;
/// let token = config.transports[0].token.as_ref().unwrap();
/// assert_eq!(token.expose(), "s3cret");
/// assert_eq!(format!("{token:?}"), "Token(***)");
/// # Ok::<(), erlmcp_shm_client::config::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Token {
    fn from(secret: T) -> Self {
        Self(secret.into())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(***)")
    }
}

/// What may stand in a header's value.
pub(super) fn token(value: &DeValue<'_>) -> Answer<Token> {
    match value.as_str() {
        Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Token(text.to_owned()))
        }
        _ => expected("a token of printable ASCII without spaces, in quotes"),
    }
}
