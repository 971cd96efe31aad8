//! The tree that a configuration text becomes: values that remember where they were written.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A place in a configuration file. Lines and columns count from 1; columns count bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file's path as it was opened, or the name given for a text from elsewhere.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1. Of a value behind a key, it is the key's place.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Where a setting was written. Any two are equal: to move a line changes no setting.
#[derive(Clone, Debug)]
pub struct Written(pub Position);

impl PartialEq for Written {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Written {}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The key's place for a map entry, the value's own place in a list.
    pub at: Position,
    /// What was written.
    pub data: Data,
}

/// The shapes a value can have.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// `true`/`yes`/`on`, `false`/`no`/`off`, in any case.
    Bool(bool),
    /// An integer, its suffix already applied: `1k` is 1000, `1kb` is 1024.
    Int(i64),
    /// A decimal fraction.
    Float(f64),
    /// A string, quoted or bare.
    Text(String),
    /// A date and time in the one form of the language, `2006-01-02T15:04:05Z`. Only the key `clock.trust` takes one.
    Time(String),
    /// `[ … ]`.
    List(Vec<Value>),
    /// `{ … }`.
    Map(Map),
}

impl Data {
    /// The shape's name with its article, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Text(_) => "a string",
            Self::Time(_) => "a date",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl Value {
    /// How much memory the value stands for, roughly, in bytes, and how deep it nests (a scalar is 1).
    pub(crate) fn measure(&self) -> (usize, usize) {
        const NODE: usize = size_of::<Value>();
        let children = |values: &mut dyn Iterator<Item = (usize, &Value)>| {
            values.fold((NODE, 1), |(bytes, depth), (key, value)| {
                let (more, below) = value.measure();
                (bytes + key + more, depth.max(below + 1))
            })
        };
        match &self.data {
            Data::Text(text) | Data::Time(text) => (NODE + text.len(), 1),
            Data::List(list) => children(&mut list.iter().map(|value| (0, value))),
            Data::Map(map) => children(&mut map.iter().map(|(key, entry)| (key.len(), &entry.value))),
            _ => (NODE, 1),
        }
    }
}

/// A map in the order of the text. A key that is set again keeps its place and takes the new value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: Vec<(String, Entry)>,
    index: HashMap<String, usize>,
}

/// What a map holds for a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The value.
    pub value: Value,
    /// True once a `$variable` took this entry: then it is no unknown key.
    pub used: bool,
}

impl Map {
    /// The entry of `key`, matched exactly.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.index.get(key).and_then(|at| self.entries.get(*at)).map(|(_, entry)| entry)
    }

    /// Sets `key`.
    pub fn insert(&mut self, key: String, entry: Entry) {
        match self.index.get(&key).and_then(|at| self.entries.get_mut(*at)) {
            Some((_, old)) => *old = entry,
            None => {
                self.index.insert(key.clone(), self.entries.len());
                self.entries.push((key, entry));
            }
        }
    }

    /// Keys and entries in the order of the text.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), entry))
    }

    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes the value behind `key` for a variable and marks the entry as used.
    pub(crate) fn lend(&mut self, key: &str) -> Option<&Value> {
        let (_, entry) = self.entries.get_mut(*self.index.get(key)?)?;
        entry.used = true;
        Some(&entry.value)
    }
}

impl IntoIterator for Map {
    type Item = (String, Entry);
    type IntoIter = std::vec::IntoIter<(String, Entry)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}
