//! Which keys a call of a tool makes stale.

use super::value::{Wrong, expected};
use std::collections::BTreeMap;
use toml::de::DeValue;

/// A key, or all that begin with a prefix.
///
/// ```
/// use erlmcp_shm_client::config::Pattern;
/// let logs = Pattern::Prefix("file:///log/".into());
/// assert!(logs.matches("file:///log/today"));
/// assert!(!Pattern::Key("file:///log/".into()).matches("file:///log/today"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This one.
    Key(String),
    /// Those that begin with this; all of them, if it is empty.
    Prefix(String),
}

impl Pattern {
    /// Whether it stands for `key`.
    pub fn matches(&self, key: &str) -> bool {
        match self {
            Pattern::Key(own) => own == key,
            Pattern::Prefix(prefix) => key.starts_with(prefix),
        }
    }
}

/// The table `[cache.invalidate]`: for each tool the keys that a call of it invalidates.
///
/// ```
/// use erlmcp_shm_client::config::Config;
/// let config = Config::parse(r#"
///     [cache.invalidate]
///     write_file = ["file:///index", "file:///data/*"]
///     "*" = ["stats://calls"]
/// "#)?;
/// let stale = |tool, key| config.invalidate.by(tool).any(|pattern| pattern.matches(key));
/// assert!(stale("write_file", "file:///data/1"));
/// assert!(stale("write_file", "stats://calls"));
/// assert!(!stale("read_file", "file:///data/1"));
/// # Ok::<(), erlmcp_shm_client::config::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invalidate(BTreeMap<String, Vec<Pattern>>);

impl Invalidate {
    /// What a call of `tool` invalidates: what stands under its name and what stands under `*`.
    pub fn by(&self, tool: &str) -> impl Iterator<Item = &Pattern> {
        let every = (tool != EVERY).then_some(EVERY);
        let names = [Some(tool), every].into_iter().flatten();
        names.filter_map(|name| self.0.get(name)).flatten()
    }

    /// Adds keys to what a call of `tool` invalidates; `*` stands for every tool.
    pub fn add(&mut self, tool: impl Into<String>, patterns: impl IntoIterator<Item = Pattern>) {
        self.0.entry(tool.into()).or_default().extend(patterns);
    }
}

const EVERY: &str = "*";

const WRONG: &str = r#"keys in quotes, with a "*" at most at the end of each"#;

/// The patterns of one tool: a list, or a single one.
pub(super) fn patterns(value: &DeValue<'_>) -> Result<Vec<Pattern>, Wrong> {
    match value.as_array() {
        Some(list) => list.iter().map(|item| pattern(item.get_ref())).collect(),
        None => pattern(value).map(|one| vec![one]),
    }
}

fn pattern(value: &DeValue<'_>) -> Result<Pattern, Wrong> {
    let text = value.as_str().unwrap_or_default();
    let (start, prefix) = match text.strip_suffix(EVERY) {
        Some(start) => (start, true),
        None => (text, false),
    };
    // In any other place it would be taken for what it is not: a wildcard.
    if text.is_empty() || start.contains(EVERY) {
        return expected(WRONG);
    }
    Ok(match prefix {
        true => Pattern::Prefix(start.to_owned()),
        false => Pattern::Key(start.to_owned()),
    })
}
