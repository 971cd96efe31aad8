//! The first reading of a tree: is every key known, does every value look as it should, and is it served?

use std::fmt;

use midge_protocol::subject::Filter;

use crate::keys::{Key, Kind, Stance};
use crate::report::Report;
use crate::text;
use crate::value::{Data, Map, Position, Value};

/// A key that was set and that midge does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    /// The key with the blocks around it, as in `authorization.auth_callout`.
    pub key: String,
    /// Where it was set; none for a flag of the command line.
    pub at: Option<Position>,
    /// True if the daemon should rather not run than run without it.
    pub refused: bool,
}

impl fmt::Display for Unserved {
    /// For a log line: where it was set, and what comes of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        let outcome = match self.refused {
            true => ", and running without it would not be safe",
            false => " yet; it has no effect",
        };
        write!(f, "{:?} is not served by this version of midge{outcome}", self.key)
    }
}

/// Checks the whole tree and returns the keys that midge does not serve, in the order of the text.
pub(crate) fn check(keys: &'static [Key], map: &Map, report: &mut Report) -> Vec<Unserved> {
    let mut check = Check { report, path: Vec::new(), served: true, unserved: Vec::new() };
    check.block(keys, map);
    check.unserved
}

/// The key of a block that has this name.
pub(crate) fn find(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.names.split(' ').any(|alias| alias.eq_ignore_ascii_case(name)))
}

struct Check<'r> {
    report: &'r mut Report,
    path: Vec<&'static str>,
    /// False inside a block that is not served: it was reported as a whole.
    served: bool,
    unserved: Vec<Unserved>,
}

impl Check<'_> {
    fn block(&mut self, keys: &'static [Key], map: &Map) {
        for (name, entry) in map.iter() {
            let Some(key) = find(keys, name) else {
                if !entry.used {
                    self.report.error(&entry.value.at, format!("unknown field {name:?}"));
                }
                continue;
            };
            self.path.push(key.name());
            let outer = self.served;
            if outer && key.stance != Stance::Served && !asks_for_nothing(&entry.value) {
                let refused = key.stance == Stance::Refused;
                self.unserved.push(Unserved {
                    key: self.path.join("."),
                    at: Some(entry.value.at.clone()),
                    refused,
                });
                self.served = false;
            }
            self.value(name, key.kind, &entry.value);
            self.served = outer;
            self.path.pop();
        }
    }

    fn value(&mut self, name: &str, kind: Kind, value: &Value) {
        match (kind, &value.data) {
            (Kind::Any, _) => {}
            (Kind::Bool, Data::Bool(_)) => {}
            (Kind::Int(low, high), Data::Int(int)) => {
                if !(low..=high).contains(int) {
                    self.wrong(
                        value,
                        format!("field {name:?} takes an integer from {low} to {high}, got {int}"),
                    );
                }
            }
            (Kind::Text | Kind::Texts, Data::Text(_)) => {}
            (Kind::Duration, Data::Int(int)) => {
                let text = format!("invalid use of field {name:?}: {name} should be converted to a duration");
                self.report.warn(&value.at, text);
                if *int < 0 {
                    self.wrong(value, format!("field {name:?} takes no negative duration"));
                }
            }
            (Kind::Duration, Data::Text(text)) => self.parsed(name, value, text::duration(text)),
            (Kind::Span, Data::Text(text)) => self.parsed(name, value, text::nanos(text)),
            (Kind::Wait, Data::Text(text)) => self.parsed(name, value, text::duration(text)),
            (Kind::Name, Data::Text(text)) => {
                if text.contains(' ') {
                    self.wrong(value, format!("field {name:?} takes a name without spaces"));
                }
            }
            (Kind::SyncInterval, Data::Text(text)) if text.eq_ignore_ascii_case("always") => {}
            (Kind::SyncInterval, _) => self.value(name, Kind::Duration, value),
            (Kind::Seconds(warn), Data::Int(_) | Data::Float(_) | Data::Text(_)) => {
                match seconds(&value.data) {
                    Ok(seconds) if warn && seconds > 60.0 => {
                        let text = format!(
                            "invalid use of field {name:?}: a timeout of {seconds} seconds is long; an unquoted 1m means a million, write \"1m\" for a minute"
                        );
                        self.report.warn(&value.at, text);
                    }
                    Ok(_) => {}
                    Err(text) => self.wrong(value, format!("field {name:?}: {text}")),
                }
            }
            (Kind::Size, Data::Int(_)) => {}
            (Kind::Size, Data::Text(text)) => self.parsed(name, value, text::size(text)),
            (Kind::Listen, Data::Int(_)) => self.value(name, Kind::Int(-1, u16::MAX.into()), value),
            (Kind::Listen, Data::Text(text)) => self.parsed(name, value, text::host_port(text)),
            (Kind::Texts | Kind::List, Data::List(list)) => self.each(name, Kind::Text, list),
            (Kind::Spans, Data::List(list)) => self.each(name, Kind::Span, list),
            (Kind::TextMap, Data::Map(map)) => {
                map.iter().for_each(|(k, v)| self.value(k, Kind::Text, &v.value))
            }
            (Kind::BoolMap, Data::Map(map)) => {
                map.iter().for_each(|(k, v)| self.value(k, Kind::Bool, &v.value))
            }
            (Kind::Word(words), Data::Text(text)) => {
                if !words.iter().any(|word| word.eq_ignore_ascii_case(text)) {
                    self.wrong(value, format!("field {name:?} is one of {words:?}, got {text:?}"));
                }
            }
            (Kind::Nkey(letter), Data::Text(text)) => {
                if !text::is_public_nkey(text, letter) {
                    let what = match letter {
                        'A' => "account",
                        'O' => "operator",
                        'U' => "user",
                        'X' => "curve",
                        _ => "server",
                    };
                    self.wrong(value, format!("field {name:?}: not a valid public {what} nkey: {text:?}"));
                }
            }
            (Kind::Percent(word), Data::Text(text))
                if !word.is_empty() && text.trim().eq_ignore_ascii_case(word) => {}
            (Kind::Percent(_), data @ (Data::Int(_) | Data::Text(_))) => {
                if percent(data).is_none_or(|percent| percent == 0) {
                    self.wrong(value, format!("field {name:?} takes a percentage from 1 to 100"));
                }
            }
            (Kind::Switch(_), Data::Text(text)) => {
                if switch(text).is_none() {
                    self.wrong(
                        value,
                        format!("field {name:?} takes \"enabled\" or \"disabled\", got {text:?}"),
                    );
                }
            }
            (Kind::BoolOr(_) | Kind::Switch(_) | Kind::WordOr(_) | Kind::HandshakeFirst, Data::Bool(_)) => {}
            (Kind::TextOr(_) | Kind::WordOr(_), Data::Text(_)) => {}
            (
                Kind::Block(keys)
                | Kind::BlockOrBlocks(keys)
                | Kind::TextOr(keys)
                | Kind::WordOr(keys)
                | Kind::BoolOr(keys)
                | Kind::Switch(keys)
                | Kind::Permission(keys, _),
                Data::Map(map),
            ) => self.block(keys, map),
            (Kind::Blocks(keys) | Kind::BlockOrBlocks(keys), Data::List(list)) => {
                self.each(name, Kind::Block(keys), list)
            }
            (Kind::Named(keys), Data::Map(map)) => {
                for (name, entry) in map.iter().filter(|(_, entry)| !entry.used) {
                    self.value(name, Kind::Block(keys), &entry.value);
                }
            }
            (Kind::Named(_), Data::List(list)) => self.each(name, Kind::Text, list),
            (Kind::Permission(_, queue) | Kind::Subjects(queue), Data::Text(text)) => {
                self.subject(value, text, queue)
            }
            (Kind::Permission(_, queue) | Kind::Subjects(queue), Data::List(list)) => {
                for value in list {
                    match &value.data {
                        Data::Text(text) => self.subject(value, text, queue),
                        other => self.wrong(
                            value,
                            format!("a subject in a permission is a string, got {}", other.kind()),
                        ),
                    }
                }
            }
            (Kind::Mappings(keys), Data::Map(map)) => {
                for (_, entry) in map.iter() {
                    match &entry.value.data {
                        Data::Text(_) => {}
                        Data::List(list) => self.each("destination", Kind::Block(keys), list),
                        _ => self.value("destination", Kind::Block(keys), &entry.value),
                    }
                }
            }
            (Kind::HandshakeFirst, Data::Text(text)) => {
                if !matches!(
                    text.to_ascii_lowercase().as_str(),
                    "true" | "on" | "false" | "off" | "auto" | "auto_fallback"
                ) {
                    self.parsed(name, value, text::duration(text));
                }
            }
            (kind, data) => {
                self.wrong(value, format!("field {name:?} takes {}, got {}", wanted(kind), data.kind()))
            }
        }
    }

    fn each(&mut self, name: &str, kind: Kind, list: &[Value]) {
        list.iter().for_each(|value| self.value(name, kind, value));
    }

    fn parsed<T>(&mut self, name: &str, value: &Value, result: Result<T, String>) {
        if let Err(text) = result {
            self.wrong(value, format!("field {name:?}: {text}"));
        }
    }

    fn subject(&mut self, value: &Value, text: &str, queue: bool) {
        let valid = |text: &str| Filter::new(text.as_bytes()).is_ok();
        let with_queue = || {
            let words: Vec<_> = text.split_whitespace().collect();
            matches!(words.as_slice(), [subject, name] if valid(subject) && valid(name))
        };
        if !(valid(text) || queue && with_queue()) {
            self.wrong(value, format!("subject {text:?} is not a valid subject"));
        }
    }

    fn wrong(&mut self, value: &Value, text: String) {
        self.report.error(&value.at, text);
    }
}

/// A value that switches its key off.
fn asks_for_nothing(value: &Value) -> bool {
    match &value.data {
        Data::Bool(on) => !on,
        Data::Text(text) => switch(text) == Some(false),
        Data::List(list) => list.is_empty(),
        Data::Map(map) => map.iter().any(|(name, entry)| {
            matches!(name.to_ascii_lowercase().as_str(), "enabled" | "enable")
                && entry.value.data == Data::Bool(false)
        }),
        _ => false,
    }
}

/// `enabled` and `disabled`, as the `jetstream` keys take them.
pub(crate) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "enabled" | "enable" => Some(true),
        "disabled" | "disable" => Some(false),
        _ => None,
    }
}

/// Seconds, from a number or a duration; never negative.
pub(crate) fn seconds(data: &Data) -> Result<f64, String> {
    let seconds = match data {
        Data::Int(int) => *int as f64,
        Data::Float(float) => *float,
        Data::Text(text) => text::nanos(text)? as f64 / 1e9,
        other => return Err(format!("takes seconds or a duration, got {}", other.kind())),
    };
    // Past this, `Duration` could not hold it.
    if (0.0..1e18).contains(&seconds) { Ok(seconds) } else { Err("the timeout is out of range".to_owned()) }
}

/// A percentage from 0 to 100.
pub(crate) fn percent(data: &Data) -> Option<u8> {
    let percent = match data {
        Data::Int(int) => u8::try_from(*int).ok()?,
        Data::Text(text) => text.strip_suffix('%').unwrap_or(text).parse().ok()?,
        _ => return None,
    };
    (percent <= 100).then_some(percent)
}

fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "a boolean",
        Kind::Int(..) => "an integer",
        Kind::Text | Kind::Name | Kind::Word(_) => "a string",
        Kind::Duration | Kind::Span | Kind::Wait | Kind::SyncInterval => "a duration such as \"2s\"",
        Kind::Seconds(_) => "seconds or a duration such as \"2s\"",
        Kind::Size => "a size",
        Kind::Listen => "a port or \"host:port\"",
        Kind::Texts => "a string or a list of strings",
        Kind::List => "a list of strings",
        Kind::Spans => "a list of durations",
        Kind::Nkey(_) => "a public nkey",
        Kind::Percent(_) => "a percentage",
        Kind::Blocks(_) => "a list of maps",
        Kind::BlockOrBlocks(_) => "a map or a list of maps",
        Kind::TextOr(_) => "a string or a map",
        Kind::WordOr(_) => "a string, a boolean or a map",
        Kind::BoolOr(_) => "a boolean or a map",
        Kind::Switch(_) => "a boolean, \"enabled\", \"disabled\" or a map",
        Kind::Named(_) => "a map or a list of names",
        Kind::Permission(..) => "subjects, or a map with \"allow\" and \"deny\"",
        Kind::Subjects(_) => "a subject or a list of subjects",
        Kind::HandshakeFirst => "a boolean, \"auto\" or a duration",
        Kind::TextMap | Kind::BoolMap | Kind::Block(_) | Kind::Mappings(_) | Kind::Any => "a map",
    }
}
