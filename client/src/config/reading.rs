//! A file on its way to a `Config`: takes values by name, falls back on their defaults, and gathers what is wrong.

use super::error::{ConfigError, Fault, Problem};
use super::keys::{KEYS, Key};
use super::value::{Wrong, closest, expected};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(super) struct Reading<'a> {
    text: &'a str,
    root: DeTable<'a>,
    /// With their places, in bytes.
    problems: Vec<(usize, Problem)>,
}

/// Where something stands, in bytes, and what.
type Place = (usize, String);

impl<'a> Reading<'a> {
    /// Parses and looks at every name; with a syntax error the rest could only be guessed, so that ends it.
    pub fn new(text: &'a str) -> Result<Self, ConfigError> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut reading = Self {
            text,
            root: DeTable::new(),
            problems: vec![],
        };
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            reading.refuse(at, Fault::Syntax(error.message().to_owned()), None);
        }
        if reading.problems.is_empty() {
            let root = root.into_inner();
            reading.check_names(&root, "");
            reading.root = root;
            Ok(reading)
        } else {
            Err(reading.refused())
        }
    }

    /// The value of a key, or else its default.
    pub fn take<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> T {
        self.optional(name, &read).unwrap_or_else(|| {
            let default = DeValue::parse(key(name).default).expect("a default is TOML");
            let Ok(value) = read(default.get_ref()) else {
                panic!("the default of {name} is none of its values")
            };
            value
        })
    }

    /// The value of a key, if it is set and is one.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Option<T> {
        // One that the table lacks would have been refused as unknown: it is never read in vain.
        key(name);
        let value = find(&self.root, name)?;
        let (place, answer) = (self.place(value), read(value.get_ref()));
        self.checked(name, place, answer)
    }

    /// A table whose names are the user's own.
    pub fn each<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Vec<(String, T)> {
        let Some(value) = find(&self.root, name) else {
            return vec![];
        };
        let Some(table) = value.get_ref().as_table() else {
            let place = self.place(value);
            self.checked::<T>(name, place, expected("a table"));
            return vec![];
        };
        let answers: Vec<_> = (table.iter())
            .map(|(own, value)| {
                let answer = read(value.get_ref());
                (own.get_ref().to_string(), self.place(value), answer)
            })
            .collect();
        let checked = answers.into_iter().filter_map(|(own, place, answer)| {
            let value = self.checked(&format!("{name}.{}", quoted(&own)), place, answer)?;
            Some((own, value))
        });
        checked.collect()
    }

    pub fn is_set(&self, name: &'static str) -> bool {
        find(&self.root, name).is_some()
    }

    /// Refuses what `name` is set to, because `needed` is not set.
    pub fn needs(&mut self, name: &'static str, needed: &'static str) {
        let (at, found) = find(&self.root, name).map_or_else(Place::default, |v| self.place(v));
        let fault = Fault::Needs {
            key: name,
            found,
            needed,
        };
        self.refuse(at, fault, None);
    }

    pub fn finish(self) -> Result<(), ConfigError> {
        match self.problems.is_empty() {
            true => Ok(()),
            false => Err(self.refused()),
        }
    }

    fn checked<T>(&mut self, key: &str, place: Place, answer: Result<T, Wrong>) -> Option<T> {
        let wrong = match answer {
            Ok(value) => return Some(value),
            Err(wrong) => wrong,
        };
        let (at, found) = place;
        let fault = Fault::WrongValue {
            key: key.to_owned(),
            // A secret does not get into a message by being a wrong one.
            found: match key.ends_with(".token") {
                true => "***".to_owned(),
                false => found,
            },
            expected: wrong.expected,
        };
        self.refuse(at, fault, wrong.suggestion);
        None
    }

    fn check_names(&mut self, table: &DeTable<'_>, parent: &str) {
        for (name, value) in table {
            let (at, name) = (name.span().start, name.get_ref());
            let full = match parent {
                "" => quoted(name),
                parent => format!("{parent}.{}", quoted(name)),
            };
            if KEYS.iter().any(|key| key.name == full) {
                continue;
            }
            if !children(&full).is_empty() {
                match value.get_ref().as_table() {
                    Some(table) => self.check_names(table, &full),
                    None => {
                        let place = self.place(value);
                        self.checked::<()>(&full, place, expected("a table"));
                    }
                }
                continue;
            }
            let suggestion = suggestion(parent, name);
            let known = children(parent);
            self.refuse(at, Fault::UnknownKey { key: full, known }, suggestion);
        }
    }

    fn refuse(&mut self, at: usize, fault: Fault, suggestion: Option<String>) {
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let problem = Problem {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            fault,
            suggestion,
        };
        self.problems.push((at, problem));
    }

    fn refused(mut self) -> ConfigError {
        self.problems.sort_by_key(|(at, _)| *at);
        ConfigError::Refused {
            path: None,
            problems: self.problems.into_iter().map(|(_, p)| p).collect(),
        }
    }

    /// Where a value stands and what, at most a line of it.
    fn place(&self, value: &Spanned<DeValue<'_>>) -> Place {
        let span = value.span();
        if value.get_ref().is_table() {
            return (span.start, "a table".to_owned());
        }
        let text = &self.text[span.clone()];
        let line = text.lines().next().unwrap_or_default();
        let short: String = line.chars().take(60).collect();
        let found = match short.len() == text.len() {
            true => short,
            false => short + "...",
        };
        (span.start, found)
    }
}

fn key(name: &str) -> &'static Key {
    let found = KEYS.iter().find(|key| key.name == name);
    found.unwrap_or_else(|| panic!("{name} is not in the table of keys"))
}

fn find<'t, 'a>(root: &'t DeTable<'a>, name: &str) -> Option<&'t Spanned<DeValue<'a>>> {
    let (parents, last) = name.rsplit_once('.')?;
    let mut table = root;
    for parent in parents.split('.') {
        table = table.get(parent)?.get_ref().as_table()?;
    }
    table.get(last)
}

/// The names directly below a table, each once.
fn children(parent: &str) -> Vec<&'static str> {
    let below = |key: &Key| -> Option<&'static str> {
        let rest = match parent {
            "" => key.name,
            _ => key.name.strip_prefix(parent)?.strip_prefix('.')?,
        };
        rest.split('.').next()
    };
    let mut names: Vec<_> = KEYS.iter().filter_map(below).collect();
    names.dedup();
    names
}

/// What was meant by a name that is not known in its table: one like it there, or the same elsewhere.
fn suggestion(parent: &str, name: &str) -> Option<String> {
    let join = |name: &str| match parent {
        "" => name.to_owned(),
        _ => format!("{parent}.{name}"),
    };
    // Quotes around a name with dots, where the dots were meant to divide it.
    let unquoted = join(name);
    if KEYS.iter().any(|key| key.name == unquoted) {
        return Some(unquoted);
    }
    let siblings = children(parent);
    if let Some(sibling) = closest(name, siblings.into_iter()) {
        return Some(join(sibling));
    }
    KEYS.iter().find_map(|key| {
        let start = key.name.strip_suffix(name)?;
        start.ends_with('.').then(|| key.name.to_owned())
    })
}

/// A name as it has to be written in a path: one with a dot in it is another than the path of its parts.
fn quoted(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !name.is_empty() && name.chars().all(bare) {
        true => name.to_owned(),
        false => format!("{name:?}"),
    }
}
