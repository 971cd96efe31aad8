//! Subject mappings: a message that arrives on one subject goes on under another.
//!
//! Source of the rules: reference 3.2; nats-server's `subject_transform.go` and `selectMappedSubject`, and the values
//! in the tests, which nats-server 2.15.1 gave.

use core::fmt;
use std::io::Write;

use midge_protocol::subject::{self, Filter, REST, SEPARATOR, STAR};

/// Where some of the messages of a [`Mapping`] go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// A subject whose tokens may be transform functions, as `$1` or `{{partition(8,1)}}`.
    pub subject: String,
    /// Share of the messages in percent.
    pub weight: u8,
    /// Counts only in the cluster of this name. midge is never part of one: such a destination is checked, then
    /// left out.
    pub cluster: Option<String>,
}

/// What became of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The mapping does not cover the subject.
    Unchanged,
    /// The message goes to another subject (or was chosen to stay on its own).
    Mapped,
    /// The message is lost, as the weights ask for.
    Dropped,
}

/// One source and its weighted destinations.
#[derive(Clone, Debug)]
pub struct Mapping {
    source: String,
    /// Bytes of the source in front of its first wildcard; `None` if it has none.
    literal_len: Option<usize>,
    /// By rising weight.
    choices: Box<[Choice]>,
}

#[derive(Clone, Debug)]
struct Choice {
    /// A throw of 0 to 99 below this, and not below an earlier one, is for this transform.
    below: u8,
    transform: Transform,
}

impl Mapping {
    /// Checks a mapping.
    ///
    /// Weights below 100 in sum leave the rest of the messages on their subject; but if the source is itself one
    /// of the destinations, the rest is lost, which is a way to simulate loss.
    pub fn new(source: &str, destinations: &[Destination]) -> Result<Self, MappingError> {
        Filter::new(source.as_bytes()).map_err(|_| MappingError::InvalidSubject)?;
        let mut choices = Vec::new();
        for (i, destination) in destinations.iter().enumerate() {
            let earlier = &destinations[..i];
            if earlier.iter().any(|other| other.subject == destination.subject) {
                return Err(MappingError::Duplicate(destination.subject.clone()));
            }
            if destination.weight > 100 {
                return Err(MappingError::Weight);
            }
            if total_weight(&destinations[..=i], destination.cluster.as_deref()) > 100 {
                return Err(MappingError::TotalWeight);
            }
            check_tokens(&destination.subject)?;
            let transform = Transform::new(source, &destination.subject)?;
            if destination.cluster.is_none() {
                choices.push((destination.weight, transform));
            }
        }
        let total: u8 = choices.iter().map(|(weight, _)| weight).sum();
        if total != 100 && destinations.iter().all(|destination| destination.subject != source) {
            choices.push((100 - total, Transform::new(source, &own_destination(source))?));
        }
        choices.sort_by_key(|(weight, _)| *weight);
        let mut below = 0;
        let choices = choices.into_iter().map(|(weight, transform)| {
            below += weight;
            Choice { below, transform }
        });
        Ok(Self { source: source.to_owned(), literal_len: literal_len(source), choices: choices.collect() })
    }

    /// What the mapping covers, as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// True if the mapping is for messages on `subject`. Of several mappings the first that covers it decides.
    pub fn covers(&self, subject: &[u8]) -> bool {
        let source = self.source.as_bytes();
        let Some(literal_len) = self.literal_len else { return source == subject };
        if subject.get(..literal_len) != source.get(..literal_len) {
            return false;
        }
        let Ok(source) = Filter::new(source) else { return false };
        if subject::is_literal(subject) {
            source.matches(subject)
        } else {
            Filter::new(subject).is_ok_and(|subject| subject.is_subset_of(source))
        }
    }

    /// Writes to `out`, in place of what it held, the subject that a message on `subject` goes to. `random` gives a
    /// number below its argument. The new subject may be invalid (`split` of `--a` makes an empty token): it then
    /// reaches nobody.
    pub fn apply(&self, subject: &[u8], random: &mut impl FnMut(u32) -> u32, out: &mut Vec<u8>) -> Outcome {
        if !self.covers(subject) {
            return Outcome::Unchanged;
        }
        out.clear();
        let choice = match &*self.choices {
            [choice] if choice.below == 100 => Some(choice),
            choices => {
                let throw = random(100);
                choices.iter().find(|choice| throw < u32::from(choice.below))
            }
        };
        let Some(choice) = choice else { return Outcome::Dropped };
        choice.transform.apply(subject, random, out);
        Outcome::Mapped
    }
}

/// How the tokens of a destination come from those of a subject that matches the source.
#[derive(Clone, Debug)]
struct Transform {
    parts: Box<[Part]>,
    /// The number of source tokens in front of `>`, if it is there: the rest of the subject is appended.
    rest_from: Option<usize>,
}

/// What makes one token of the destination, or several. A `token` counts the subject's tokens from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<[u8]>),
    Token(usize),
    Partition { buckets: u32, of: Key },
    Cut { how: Cut, token: usize, size: i32 },
    Split { token: usize, delimiter: Box<str> },
    Random { bound: u32 },
}

/// What a partition is the hash of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    /// With a literal source, nothing: there is only one subject.
    Nothing,
    Subject,
    Tokens(Box<[usize]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    SplitFromLeft,
    SplitFromRight,
    SliceFromLeft,
    SliceFromRight,
    Left,
    Right,
}

impl Transform {
    fn new(source: &str, destination: &str) -> Result<Self, MappingError> {
        let valid = |text: &str| {
            text.split('.').rev().enumerate().all(|(i, t)| !t.is_empty() && (i == 0 || t != ">"))
        };
        let (source_rest, rest) = (ends_in_rest(source), ends_in_rest(destination));
        let has_star = destination.as_bytes().split(|b| *b == SEPARATOR).any(|token| token == STAR);
        if !valid(source) || !valid(destination) || has_star || source_rest != rest {
            return Err(MappingError::InvalidSubject);
        }
        let source = Source::new(source);
        let tokens = destination.split('.').filter(|token| token.as_bytes() != REST);
        let parts = tokens.map(|token| source.part(token)).collect::<Result<_, _>>()?;
        Ok(Self { parts, rest_from: rest.then(|| source.tokens - 1) })
    }

    fn apply(&self, subject: &[u8], random: &mut impl FnMut(u32) -> u32, out: &mut Vec<u8>) {
        for (i, part) in self.parts.iter().enumerate() {
            if i > 0 {
                out.push(SEPARATOR);
            }
            part.apply(subject, random, out);
        }
        let rest = self.rest_from.into_iter().flat_map(|from| subject::tokens(subject).skip(from));
        for (i, token) in rest.enumerate() {
            if i > 0 || !self.parts.is_empty() {
                out.push(SEPARATOR);
            }
            out.extend_from_slice(token);
        }
    }
}

impl Part {
    fn apply(&self, subject: &[u8], random: &mut impl FnMut(u32) -> u32, out: &mut Vec<u8>) {
        match self {
            Self::Literal(text) => out.extend_from_slice(text),
            Self::Token(token) => out.extend_from_slice(token_at(subject, *token)),
            Self::Partition { buckets, of } => {
                let hash = match of {
                    Key::Nothing => fnv1a([]),
                    Key::Subject => fnv1a([subject]),
                    Key::Tokens(tokens) => fnv1a(tokens.iter().map(|token| token_at(subject, *token))),
                };
                push_number(out, hash.checked_rem(*buckets).unwrap_or(0));
            }
            Self::Cut { how, token, size } => {
                let token = token_at(subject, *token);
                match usize::try_from(*size) {
                    Ok(size) if size > 0 && size < token.len() => how.apply(token, size, out),
                    _ => out.extend_from_slice(token),
                }
            }
            Self::Split { token, delimiter } => split(token_at(subject, *token), delimiter.as_bytes(), out),
            Self::Random { bound } => push_number(out, if *bound == 0 { 0 } else { random(*bound) }),
        }
    }
}

impl Cut {
    /// `size` is above 0 and below the length of `token`.
    fn apply(self, token: &[u8], size: usize, out: &mut Vec<u8>) {
        let (at, width) = match self {
            Self::Left => return out.extend_from_slice(&token[..size]),
            Self::Right => return out.extend_from_slice(&token[token.len() - size..]),
            Self::SplitFromLeft => (size, token.len()),
            Self::SplitFromRight => (token.len() - size, token.len()),
            Self::SliceFromLeft => (size, size),
            Self::SliceFromRight => (token.len() % size, size),
        };
        let (head, tail) = token.split_at(at);
        out.extend_from_slice(head);
        for (i, slice) in tail.chunks(width).enumerate() {
            if i > 0 || !head.is_empty() {
                out.push(SEPARATOR);
            }
            out.extend_from_slice(slice);
        }
    }
}

/// What a destination's functions need to know of the source.
struct Source {
    /// The place of each `*` among the tokens.
    stars: Vec<usize>,
    tokens: usize,
    literal: bool,
}

impl Source {
    fn new(source: &str) -> Self {
        let stars = source.split('.').enumerate().filter(|(_, token)| token.as_bytes() == STAR);
        Self {
            stars: stars.map(|(i, _)| i).collect(),
            tokens: source.split('.').count(),
            literal: literal_len(source).is_none(),
        }
    }

    /// Reads one token of a destination.
    fn part(&self, token: &str) -> Result<Part, MappingError> {
        let part = self.read(token)?;
        let needs_wildcard = matches!(part, Part::Token(_) | Part::Cut { .. } | Part::Split { .. });
        if self.literal && needs_wildcard {
            return Err(MappingError::IndexOutOfRange(token.to_owned()));
        }
        Ok(part)
    }

    fn read(&self, token: &str) -> Result<Part, MappingError> {
        if let Some(index) = token.strip_prefix('$').and_then(|index| index.parse().ok()) {
            return Ok(Part::Token(self.index(index, token)?));
        }
        if !is_function(token) {
            return Ok(Part::Literal(token.as_bytes().into()));
        }
        let (function, args) =
            Function::find(token).ok_or_else(|| MappingError::UnknownFunction(token.to_owned()))?;
        let number = |arg: &str| {
            arg.trim_matches(' ').parse::<i64>().map_err(|_| MappingError::InvalidArg(token.to_owned()))
        };
        // Negative counts wrap as they do in nats-server.
        let count = |arg: &str| match number(arg)? {
            count if count > i64::from(i32::MAX) => Err(MappingError::InvalidArg(token.to_owned())),
            count => Ok(count as i32),
        };
        Ok(match (function, &*args) {
            (Function::Wildcard, [""]) => return Err(MappingError::NotEnoughArgs(token.to_owned())),
            (Function::Wildcard, [index]) => Part::Token(self.index(number(index)?, token)?),
            (Function::Partition, [buckets, of @ ..]) => {
                let buckets = count(buckets)? as u32;
                let of = of.iter().map(|index| number(index)).collect::<Result<Vec<_>, _>>()?;
                Part::Partition { buckets, of: self.key(&of, token)? }
            }
            (Function::Random, [bound]) => Part::Random { bound: count(bound)?.unsigned_abs() },
            (Function::Random, _) => return Err(MappingError::NotEnoughArgs(token.to_owned())),
            (Function::Split, [index, delimiter]) => {
                let index = number(index)?;
                if delimiter.contains(' ') {
                    return Err(MappingError::InvalidArg(token.to_owned()));
                }
                Part::Split { token: self.index(index, token)?, delimiter: (*delimiter).into() }
            }
            (Function::Cut(how), [index, size]) => {
                let index = number(index)?;
                let size =
                    i32::try_from(number(size)?).map_err(|_| MappingError::InvalidArg(token.to_owned()))?;
                Part::Cut { how, token: self.index(index, token)?, size }
            }
            (Function::Split | Function::Cut(_), [] | [_]) => {
                return Err(MappingError::NotEnoughArgs(token.to_owned()));
            }
            _ => return Err(MappingError::TooManyArgs(token.to_owned())),
        })
    }

    /// The token that a wildcard's number stands for. Below 1, nats-server takes the first token of the subject.
    fn index(&self, wildcard: i64, token: &str) -> Result<usize, MappingError> {
        let Ok(wildcard @ 1..) = usize::try_from(wildcard) else { return Ok(0) };
        match self.stars.get(wildcard - 1) {
            Some(place) => Ok(*place),
            None if self.literal => Ok(0),
            None => Err(MappingError::IndexOutOfRange(format!("{token}: [{wildcard}]"))),
        }
    }

    fn key(&self, wildcards: &[i64], token: &str) -> Result<Key, MappingError> {
        Ok(match wildcards {
            _ if self.literal => Key::Nothing,
            [] => Key::Subject,
            _ => Key::Tokens(wildcards.iter().map(|n| self.index(*n, token)).collect::<Result<_, _>>()?),
        })
    }
}

/// The functions that a destination's token can be.
#[derive(Clone, Copy)]
enum Function {
    Wildcard,
    Partition,
    Split,
    Cut(Cut),
    Random,
}

impl Function {
    /// The function that `token` calls, and its arguments.
    fn find(token: &str) -> Option<(Self, Vec<&str>)> {
        FUNCTIONS.iter().find_map(|(words, function)| Some((*function, arguments(token, words)?)))
    }
}

/// The words of each name; each may start with a capital letter.
const FUNCTIONS: &[(&[&str], Function)] = &[
    (&["wildcard"], Function::Wildcard),
    (&["partition"], Function::Partition),
    (&["split", "from", "left"], Function::Cut(Cut::SplitFromLeft)),
    (&["split", "from", "right"], Function::Cut(Cut::SplitFromRight)),
    (&["slice", "from", "left"], Function::Cut(Cut::SliceFromLeft)),
    (&["slice", "from", "right"], Function::Cut(Cut::SliceFromRight)),
    (&["right"], Function::Cut(Cut::Right)),
    (&["left"], Function::Cut(Cut::Left)),
    (&["split"], Function::Split),
    (&["random"], Function::Random),
];

/// The arguments of a call `{{ name ( a, b ) }}` anywhere in `token`. The last bracket that fits closes it.
fn arguments<'t>(token: &'t str, name: &[&str]) -> Option<Vec<&'t str>> {
    let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c');
    let call = |(at, _)| {
        let rest: &str = token[at..].strip_prefix("{{")?.trim_start_matches(space);
        let rest = name.iter().try_fold(rest, |rest, word| {
            let (head, tail) = rest.split_at_checked(word.len())?;
            let same_tail = head.get(1..) == word.get(1..);
            (head.get(..1)?.eq_ignore_ascii_case(word.get(..1)?) && same_tail).then_some(tail)
        })?;
        let rest = rest.trim_start_matches(space).strip_prefix('(')?;
        let mut ends = rest.rmatch_indices(')').map(|(end, _)| rest.split_at(end));
        let (args, _) = ends.find(|(_, end)| end[1..].trim_start_matches(space).starts_with("}}"))?;
        let trim = |(i, arg): (usize, &'t str)| if i == 0 { arg } else { arg.trim_start_matches(space) };
        Some(args.split(',').enumerate().map(trim).collect())
    };
    token.char_indices().find_map(call)
}

/// Joins what is between the delimiters by separators, with nats-server's rule for what is empty. An empty delimiter
/// parts the characters.
fn split(token: &[u8], delimiter: &[u8], out: &mut Vec<u8>) {
    let mut pieces = Pieces { rest: Some(token), delimiter }.enumerate().peekable();
    while let Some((i, piece)) = pieces.next() {
        out.extend_from_slice(piece);
        if pieces.peek().is_some_and(|(_, next)| !next.is_empty()) && !(i == 0 && piece.is_empty()) {
            out.push(SEPARATOR);
        }
    }
}

/// The parts of `rest` between delimiters.
struct Pieces<'a> {
    rest: Option<&'a [u8]>,
    delimiter: &'a [u8],
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let end = if self.delimiter.is_empty() {
            Some(first_char_len(rest)).filter(|len| *len < rest.len())
        } else {
            rest.windows(self.delimiter.len()).position(|window| window == self.delimiter)
        };
        self.rest = end.map(|end| &rest[end + self.delimiter.len()..]);
        Some(&rest[..end.unwrap_or(rest.len())])
    }
}

/// Bytes of the first UTF-8 character, or 1 if there is no valid one.
fn first_char_len(text: &[u8]) -> usize {
    let valid = text.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    valid.chars().next().map_or(1, char::len_utf8)
}

/// A token that must be a call of a function: the rest is text.
fn is_function(token: &str) -> bool {
    token.len() > 4 && token.starts_with("{{") && token.ends_with("}}")
}

/// Where the first wildcard token of `source` starts.
fn literal_len(source: &str) -> Option<usize> {
    let mut start = 0;
    for token in subject::tokens(source.as_bytes()) {
        if token == STAR || token == REST {
            return Some(start);
        }
        start += token.len() + 1;
    }
    None
}

fn ends_in_rest(subject: &str) -> bool {
    subject::tokens(subject.as_bytes()).last() == Some(REST)
}

/// The destination that leaves a message where it is: `a.*` is `a.$1`.
fn own_destination(source: &str) -> String {
    let mut stars = 0;
    let tokens = source.split('.').map(|token| {
        if token.as_bytes() != STAR {
            return token.to_owned();
        }
        stars += 1;
        format!("${stars}")
    });
    tokens.collect::<Vec<_>>().join(".")
}

fn total_weight(destinations: &[Destination], cluster: Option<&str>) -> u32 {
    let same = destinations.iter().filter(|destination| destination.cluster.as_deref() == cluster);
    same.map(|destination| u32::from(destination.weight)).sum()
}

/// The form of a destination, before its functions are read.
fn check_tokens(destination: &str) -> Result<(), MappingError> {
    let mut rest = false;
    for token in destination.split('.') {
        if token.is_empty() || rest {
            return Err(MappingError::InvalidTransform(token.to_owned()));
        }
        if is_function(token) {
            Function::find(token).ok_or_else(|| MappingError::UnknownFunction(token.to_owned()))?;
        } else if token.contains(['\t', '\n', '\x0c', '\r', ' ']) {
            return Err(MappingError::InvalidTransform(String::new()));
        }
        rest = token.as_bytes() == REST;
    }
    Ok(())
}

fn token_at(subject: &[u8], index: usize) -> &[u8] {
    subject::tokens(subject).nth(index).unwrap_or_default()
}

/// FNV-1a, 32 bits, of the parts one after the other.
fn fnv1a<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let bytes = parts.into_iter().flatten();
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn push_number(out: &mut Vec<u8>, number: u32) {
    write!(out, "{number}").expect("writing to a vector does not fail");
}

/// Why a mapping is refused. Displays as nats-server's error, without the place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingError {
    /// Source or destination is not a subject, or one of them alone ends in `>`.
    InvalidSubject,
    /// This destination is listed twice.
    Duplicate(String),
    /// A weight above 100.
    Weight,
    /// Weights above 100 in sum, within the server's own or one cluster's destinations.
    TotalWeight,
    /// An empty token, one behind `>`, or white space. With the token, as in all that follow; it may be empty.
    InvalidTransform(String),
    /// A call of something that does not exist.
    UnknownFunction(String),
    /// The source has fewer wildcards.
    IndexOutOfRange(String),
    /// An argument is missing.
    NotEnoughArgs(String),
    /// An argument is no number, or too large a one, or a delimiter with a space.
    InvalidArg(String),
    /// An argument more than the function takes.
    TooManyArgs(String),
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (why, token) = match self {
            Self::InvalidSubject => return f.write_str("invalid subject"),
            Self::Duplicate(subject) => return write!(f, "duplicate entry for {subject:?}"),
            Self::Weight => return f.write_str("individual weights need to be <= 100"),
            Self::TotalWeight => return f.write_str("total weight needs to be <= 100"),
            Self::InvalidTransform(token) => ("invalid transform", token),
            Self::UnknownFunction(token) => ("unknown function", token),
            Self::IndexOutOfRange(token) => ("wildcard index out of range", token),
            Self::NotEnoughArgs(token) => ("not enough arguments passed to the function", token),
            Self::InvalidArg(token) => ("function argument is invalid or in the wrong format", token),
            Self::TooManyArgs(token) => ("too many arguments passed to the function", token),
        };
        write!(f, "invalid mapping destination: {why}")?;
        if token.is_empty() { Ok(()) } else { write!(f, " in {token}") }
    }
}

impl core::error::Error for MappingError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(subject: &str, weight: u8) -> Destination {
        Destination { subject: subject.into(), weight, cluster: None }
    }

    fn single(source: &str, subject: &str) -> Result<Mapping, MappingError> {
        Mapping::new(source, &[destination(subject, 100)])
    }

    /// The subject that `subject` becomes; as it is if the mapping does not cover it.
    fn map(mapping: &Mapping, subject: &str, throw: u32) -> Option<String> {
        let mut out = b"what was here before".to_vec();
        match mapping.apply(subject.as_bytes(), &mut |bound| throw % bound, &mut out) {
            Outcome::Unchanged => Some(subject.to_owned()),
            Outcome::Mapped => Some(String::from_utf8(out).unwrap()),
            Outcome::Dropped => None,
        }
    }

    /// Source, destination, and subjects with what they become.
    type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

    /// What nats-server 2.15.1 makes of these.
    #[test]
    fn transforms() {
        #[rustfmt::skip]
        let cases: &[Case] = &[
            ("l1.*.*", "x.$2.$1", &[("l1.a.b", "x.b.a"), ("l1.*.b", "x.b.*"), ("l1.a.>", "l1.a.>"), ("l1.>.a", "l1.>.a")]),
            ("l2.*.*", "x.{{wildcard(2)}}.{{ Wildcard ( 1 ) }}", &[("l2.a.b", "x.b.a")]),
            ("p1.*.*", "x.{{partition(10)}}", &[("p1.a.b", "x.7"), ("p1.c.d", "x.1"), ("p1.foo.bar", "x.9")]),
            ("p2.*.*", "x.{{partition(10,1)}}", &[("p2.a.b", "x.0"), ("p2.c.d", "x.8"), ("p2.foo.bar", "x.3")]),
            ("p3.*.*", "x.{{Partition(1000, 2, 1)}}.$1", &[("p3.a.b", "x.708.a"), ("p3.c.d", "x.64.c"), ("p3.foo.bar", "x.762.foo")]),
            ("p4.*", "x.{{partition(0)}}", &[("p4.a", "x.0")]),
            ("p5.*", "x.{{partition(-1)}}", &[("p5.a", "x.2893277363"), ("p5.b", "x.2910054982")]),
            ("p6.*", "x.{{partition(2147483647,1)}}", &[("p6.a", "x.1678518573"), ("p6.b", "x.1728851430")]),
            ("p7.*.>", "x.{{partition(7)}}.>", &[("p7.a.b", "x.3.b"), ("p7.a.b.c", "x.6.b.c")]),
            ("lp.a", "x.{{partition(10)}}", &[("lp.a", "x.1")]),
            ("sl.*", "x.{{splitfromleft(1,3)}}", &[("sl.12345", "x.123.45"), ("sl.123", "x.123"), ("sl.12", "x.12"), ("sl.1234", "x.123.4")]),
            ("sr.*", "x.{{SplitFromRight(1,3)}}", &[("sr.12345", "x.12.345"), ("sr.123", "x.123"), ("sr.12", "x.12"), ("sr.1234", "x.1.234")]),
            ("sz.*", "x.{{splitfromleft(1,0)}}.{{splitfromright(1,-1)}}", &[("sz.12345", "x.12345.12345")]),
            ("cl.*", "x.{{SliceFromLeft(1,3)}}", &[("cl.1234567890", "x.123.456.789.0"), ("cl.123", "x.123"), ("cl.1234", "x.123.4"), ("cl.123456", "x.123.456"), ("cl.12", "x.12")]),
            ("cr.*", "x.{{sliceFromright(1,3)}}", &[("cr.1234567890", "x.1.234.567.890"), ("cr.123", "x.123"), ("cr.1234", "x.1.234"), ("cr.123456", "x.123.456"), ("cr.12", "x.12")]),
            ("le.*", "x.{{left(1,3)}}", &[("le.12345", "x.123"), ("le.123", "x.123"), ("le.12", "x.12"), ("le.1234", "x.123")]),
            ("ri.*", "x.{{Right(1,3)}}", &[("ri.12345", "x.345"), ("ri.123", "x.123"), ("ri.12", "x.12"), ("ri.1234", "x.234")]),
            ("sp.*", "x.{{split(1,-)}}", &[("sp.a-b-c", "x.a.b.c"), ("sp.-a--b-", "x.a.b"), ("sp.abc", "x.abc"), ("sp.a-", "x.a")]),
            ("sq.*", "x.{{Split(1,--)}}", &[("sq.a--b-c", "x.a.b-c"), ("sq.a---b", "x.a.-b")]),
            ("se.*", "x.{{split(1,)}}", &[("se.abc", "x.a.b.c"), ("se.é-z", "x.é.-.z")]),
            ("f1.>", "x.>", &[("f1.a", "x.a"), ("f1.a.b.c", "x.a.b.c"), ("f1.a.>", "x.a.>"), ("f1.*", "x.*")]),
            ("f2.*.>", "x.{{wildcard(1)}}.y.>", &[("f2.a.b", "x.a.y.b"), ("f2.a.b.c.d", "x.a.y.b.c.d")]),
            ("f3.*.>", "x.y.>", &[("f3.a.b", "x.y.b"), ("f3.a.b.c.d", "x.y.b.c.d")]),
            ("f4.>", ">", &[("f4.a.b", "a.b")]),
            ("z.*", "x.$0.{{wildcard(0)}}.{{left(0,1)}}.{{wildcard(-1)}}", &[("z.a", "x.z.z.z.z")]),
            ("m.*", "x.pre{{wildcard(1)}}.{{wildcard(1)}}post.{{q{{wildcard(1)}}.$x.{{}}", &[("m.a", "x.pre{{wildcard(1)}}.{{wildcard(1)}}post.a.$x.{{}}")]),
            ("lit", "x.lit", &[("lit", "x.lit"), ("lit.a", "lit.a")]),
            ("r1.*", "x.{{random(1)}}", &[("r1.a", "x.0")]),
            ("r2.*", "x.{{random(0)}}", &[("r2.a", "x.0")]),
            ("e.*", "x", &[("e.a", "x"), ("e", "e")]),
        ];
        for (source, subject, pairs) in cases {
            let mapping = single(source, subject).unwrap();
            for (from, to) in *pairs {
                assert_eq!(map(&mapping, from, 0).unwrap(), *to, "{source} to {subject}: {from}");
                assert_eq!(mapping.covers(from.as_bytes()), from != to);
            }
        }
        let random = single("r.*", "x.{{random(10)}}.{{random(-4)}}").unwrap();
        assert_eq!(map(&random, "r.a", 27).unwrap(), "x.7.3");
    }

    /// Texts of nats-server 2.15.1, as its `-t` prints them behind the place in the file.
    #[test]
    fn errors() {
        const RANGE: &str = "wildcard index out of range in";
        const FEW: &str = "not enough arguments passed to the function in";
        const MANY: &str = "too many arguments passed to the function in";
        const FORM: &str = "function argument is invalid or in the wrong format in";
        const UNKNOWN: &str = "unknown function in";
        for (source, subject, why, token) in [
            ("a.*", "b.{{foo(1)}}", UNKNOWN, "{{foo(1)}}"),
            ("a.*", "b.{{x}}", UNKNOWN, "{{x}}"),
            ("a.*", "b.{{SPLIT(1,-)}}", UNKNOWN, "{{SPLIT(1,-)}}"),
            ("a.*", "b.{{wildcard(2)}}", RANGE, "{{wildcard(2)}}: [2]"),
            ("a.*", "b.{{wildcard()}}", FEW, "{{wildcard()}}"),
            ("a.*", "b.{{wildcard(1,2)}}", MANY, "{{wildcard(1,2)}}"),
            ("a.*", "b.{{wildcard(x)}}", FORM, "{{wildcard(x)}}"),
            ("a.*", "b.$2", RANGE, "$2: [2]"),
            ("a.>", "b.$1.>", RANGE, "$1: [1]"),
            ("a", "b.{{wildcard(1)}}", RANGE, "{{wildcard(1)}}"),
            ("a", "b.$1", RANGE, "$1"),
            ("a", "b.{{split(1,-)}}", RANGE, "{{split(1,-)}}"),
            ("a.*", "b.{{partition()}}", FORM, "{{partition()}}"),
            ("a.*", "b.{{partition(x)}}", FORM, "{{partition(x)}}"),
            ("a.*", "b.{{partition(3,x)}}", FORM, "{{partition(3,x)}}"),
            ("a.*", "b.{{partition(3,2)}}", RANGE, "{{partition(3,2)}}: [2]"),
            ("a.*", "b.{{partition(2147483648)}}", FORM, "{{partition(2147483648)}}"),
            ("a.*", "b.{{random()}}", FORM, "{{random()}}"),
            ("a.*", "b.{{random(1,2)}}", FEW, "{{random(1,2)}}"),
            ("a.*", "b.{{random(2147483648)}}", FORM, "{{random(2147483648)}}"),
            ("a.*", "b.{{split(1)}}", FEW, "{{split(1)}}"),
            ("a.*", "b.{{split(1,-,x)}}", MANY, "{{split(1,-,x)}}"),
            ("a.*", "b.{{split(x,-)}}", FORM, "{{split(x,-)}}"),
            ("a.*", "b.{{split(1,- )}}", FORM, "{{split(1,- )}}"),
            ("a.*", "b.{{splitfromleft(1)}}", FEW, "{{splitfromleft(1)}}"),
            ("a.*", "b.{{splitfromleft(1,2,3)}}", MANY, "{{splitfromleft(1,2,3)}}"),
            ("a.*", "b.{{splitfromleft(1,x)}}", FORM, "{{splitfromleft(1,x)}}"),
            ("a.*", "b.{{splitFromLeft(x,1)}}", FORM, "{{splitFromLeft(x,1)}}"),
            ("a.*", "b.{{SplitFromLeft(2,1)}}", RANGE, "{{SplitFromLeft(2,1)}}: [2]"),
            ("a.*", "b.{{slicefromleft(1,3000000000)}}", FORM, "{{slicefromleft(1,3000000000)}}"),
            ("a.*", "b..c", "invalid transform", ""),
            ("a.*", ".b", "invalid transform", ""),
            ("a.*", "b.>.c", "invalid transform in", "c"),
            ("a.*", "b c.$1", "invalid transform", ""),
        ] {
            let error = single(source, subject).expect_err(subject).to_string();
            let space = if token.is_empty() { "" } else { " " };
            assert_eq!(error, format!("invalid mapping destination: {why}{space}{token}"), "{subject}");
        }
        for (source, subject) in
            [("a.*", "b.*"), ("a.*", "b.>"), ("a.>", "b"), ("a..b", "b"), ("a b", "b"), ("", "b")]
        {
            assert_eq!(single(source, subject).expect_err(subject).to_string(), "invalid subject");
        }
        for (source, subject) in [
            ("a.*", "$1"),
            ("a", "b.{{partition(3,1)}}"),
            ("a", "b.{{random(3)}}"),
            ("a.*", "b.{{ splitfromright ( 1 , 2 ) }}"),
            ("a.*", "b.{{split(1, -)}}"),
        ] {
            assert!(single(source, subject).is_ok(), "{subject}");
        }
    }

    /// Where throws of 0 to 99 lead, as shares: 4,000 messages through nats-server 2.15.1 gave these within 2 %.
    #[test]
    fn weights() {
        let (a, b, c) = (Some("a"), Some("b"), Some("c"));
        for (destinations, shares) in [
            (vec![destination("b", 30), destination("c", 10)], vec![(c, 10), (b, 30), (a, 60)]),
            (vec![destination("a", 30), destination("c", 10)], vec![(c, 10), (a, 30), (None, 60)]),
            (vec![destination("a", 50)], vec![(a, 50), (None, 50)]),
            (vec![destination("b", 0)], vec![(a, 100)]),
            (vec![], vec![(a, 100)]),
            (vec![destination("a", 0), destination("c", 100)], vec![(c, 100)]),
            (vec![Destination { cluster: Some("x".into()), ..destination("b", 40) }], vec![(a, 100)]),
        ] {
            let mapping = Mapping::new("a", &destinations).unwrap();
            let throws = shares.into_iter().flat_map(|(to, share)| std::iter::repeat_n(to, share));
            for (throw, to) in (0..100).zip(throws) {
                assert_eq!(map(&mapping, "a", throw).as_deref(), to, "{destinations:?} {throw}");
            }
        }
        for (source, subject, rest) in
            [("a.*", "b.$1", Some("a.z")), ("a.>", "a.>", None), ("a.*", "a.$1", Some("a.z"))]
        {
            let mapping = Mapping::new(source, &[destination(subject, 25)]).unwrap();
            assert_eq!(map(&mapping, "a.z", 24).unwrap(), subject.replace("$1", "z").replace('>', "z"));
            assert_eq!(map(&mapping, "a.z", 99).as_deref(), rest, "{source}");
        }
    }

    #[test]
    fn weights_that_are_refused() {
        let cluster = |name: &str, to: Destination| Destination { cluster: Some(name.to_owned()), ..to };
        for (source, destinations, error) in [
            ("a", vec![destination("b", 60), destination("c", 50)], "total weight needs to be <= 100"),
            ("a", vec![destination("b", 101)], "individual weights need to be <= 100"),
            ("a", vec![destination("b", 60), destination("b", 10)], "duplicate entry for \"b\""),
            (
                "a",
                vec![cluster("x", destination("b", 60)), cluster("x", destination("c", 50))],
                "total weight needs to be <= 100",
            ),
            (
                "a",
                vec![cluster("x", destination("b", 60)), cluster("y", destination("b", 50))],
                "duplicate entry for \"b\"",
            ),
            (
                "a.$3.*",
                vec![destination("b", 60)],
                "invalid mapping destination: wildcard index out of range in $3: [3]",
            ),
            (
                "a.$3",
                vec![destination("b", 60)],
                "invalid mapping destination: wildcard index out of range in $3",
            ),
        ] {
            assert_eq!(Mapping::new(source, &destinations).expect_err(source).to_string(), error);
        }
        let both = [cluster("x", destination("b", 60)), cluster("y", destination("c", 50))];
        assert!(Mapping::new("a", &both).is_ok());
    }
}
