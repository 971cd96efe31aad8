//! The second reading of a tree: typed access to the keys of a block, by their usual names.
//!
//! A value of the wrong shape reads as absent: [`crate::check`] has complained about it already.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::check::{find, seconds};
use crate::keys::Key;
use crate::options::Secret;
use crate::text;
use crate::value::{Data, Entry, Map, Position, Value};

pub(crate) struct Block<'a> {
    keys: &'static [Key],
    /// The known keys by their usual names, in the order of the text.
    values: Vec<(&'static str, &'a Value)>,
    at: Option<&'a Position>,
}

impl<'a> Block<'a> {
    pub(crate) fn new(keys: &'static [Key], map: &'a Map, at: Option<&'a Position>) -> Self {
        let known = |(name, entry): (&str, &'a Entry)| Some((find(keys, name)?.name(), &entry.value));
        Self { keys, values: map.iter().filter_map(known).collect(), at }
    }

    /// Where the block was written; none for the file itself.
    pub(crate) fn at(&self) -> Option<&'a Position> {
        self.at
    }

    /// The value of a key. Of several aliases the last one wins.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        debug_assert!(
            self.keys.iter().any(|key| key.name() == name),
            "{name} is no usual name of this block"
        );
        self.values.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name)?.data {
            Data::Bool(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        match self.get(name)?.data {
            Data::Int(value) => Some(value),
            _ => None,
        }
    }

    /// An integer that fits `T`; zero reads as absent, as in nats-server, where it stands for the default.
    pub(crate) fn nonzero<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        self.int(name).filter(|value| *value != 0).and_then(|value| T::try_from(value).ok())
    }

    /// A ceiling: zero and less mean that there is none. The outer option says whether the key is there.
    pub(crate) fn ceiling(&self, name: &str) -> Option<Option<u32>> {
        self.int(name).map(|value| (value > 0).then(|| u32::try_from(value).unwrap_or(u32::MAX)))
    }

    /// A port: none for 0, which stands for the default, and 0 for -1, which stands for any free one.
    pub(crate) fn port(&self, name: &str) -> Option<u16> {
        self.int(name).and_then(port)
    }

    /// The host and port of a `listen`-like key.
    pub(crate) fn listen(&self, name: &str) -> Option<(String, Option<u16>)> {
        match &self.get(name)?.data {
            Data::Int(number) => Some((String::new(), port(*number))),
            Data::Text(text) => text::host_port(text).ok().map(|(host, number)| (host, port(number))),
            _ => None,
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match &self.get(name)?.data {
            Data::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// A string that says something.
    pub(crate) fn word(&self, name: &str) -> Option<String> {
        self.text(name).filter(|text| !text.is_empty())
    }

    pub(crate) fn secret(&self, name: &str) -> Option<Secret> {
        self.word(name).map(Secret::from)
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.word(name).map(PathBuf::from)
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        self.get(name).map(texts).unwrap_or_default()
    }

    pub(crate) fn text_map(&self, name: &str) -> BTreeMap<String, String> {
        let Some(Value { data: Data::Map(map), .. }) = self.get(name) else { return BTreeMap::new() };
        let text = |data: &Data| if let Data::Text(text) = data { Some(text.clone()) } else { None };
        let mut texts = BTreeMap::new();
        texts.extend(map.iter().filter_map(|(key, entry)| Some((key.to_owned(), text(&entry.value.data)?))));
        texts
    }

    /// A duration; a bare integer is seconds.
    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        match &self.get(name)?.data {
            Data::Text(text) => text::duration(text).ok(),
            Data::Int(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
            _ => None,
        }
    }

    /// A duration where zero stands for the default.
    pub(crate) fn nonzero_duration(&self, name: &str) -> Option<Duration> {
        self.duration(name).filter(|duration| !duration.is_zero())
    }

    /// A timeout in seconds or as a duration, where zero stands for the default.
    pub(crate) fn seconds(&self, name: &str) -> Option<Duration> {
        let seconds = seconds(&self.get(name)?.data).ok()?;
        Some(Duration::from_secs_f64(seconds)).filter(|duration| !duration.is_zero())
    }

    pub(crate) fn size(&self, name: &str) -> Option<i64> {
        match &self.get(name)?.data {
            Data::Int(value) => Some(*value),
            Data::Text(text) => text::size(text).ok(),
            _ => None,
        }
    }

    pub(crate) fn block(&self, name: &str) -> Option<Block<'a>> {
        let value = self.get(name)?;
        block_of(self.inner(name), value)
    }

    pub(crate) fn blocks(&self, name: &str) -> Vec<Block<'a>> {
        match self.get(name) {
            Some(Value { data: Data::List(list), .. }) => {
                list.iter().filter_map(|value| block_of(self.inner(name), value)).collect()
            }
            Some(value) => block_of(self.inner(name), value).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// The keys inside the blocks that a key holds.
    pub(crate) fn inner(&self, name: &str) -> &'static [Key] {
        find(self.keys, name).map(|key| key.kind.keys()).unwrap_or_default()
    }
}

pub(crate) fn block_of<'a>(keys: &'static [Key], value: &'a Value) -> Option<Block<'a>> {
    match &value.data {
        Data::Map(map) => Some(Block::new(keys, map, Some(&value.at))),
        _ => None,
    }
}

/// The strings of a string or a list.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    let text = |data: &Data| if let Data::Text(text) = data { Some(text.clone()) } else { None };
    match &value.data {
        Data::List(list) => list.iter().filter_map(|value| text(&value.data)).collect(),
        data => text(data).into_iter().collect(),
    }
}

fn port(number: i64) -> Option<u16> {
    match number {
        -1 => Some(0),
        0 => None,
        number => u16::try_from(number).ok(),
    }
}
