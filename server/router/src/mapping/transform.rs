//! The tokens of one subject from those of another.

use std::io::Write;

use midge_protocol::subject::{self, REST, SEPARATOR, STAR};

use super::MappingError;

/// How the tokens of a destination come from those of a subject that matches the source.
#[derive(Clone, Debug)]
pub struct Transform {
    pub(super) parts: Box<[Part]>,
    /// The number of source tokens in front of `>`, if it is there: the rest of the subject is appended.
    rest_from: Option<usize>,
}

/// What makes one token of the destination, or several. A `token` counts the subject's tokens from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Literal(Box<[u8]>),
    Token(usize),
    Partition { buckets: u32, of: Key },
    Cut { how: Cut, token: usize, size: i32 },
    Split { token: usize, delimiter: Box<str> },
    Random { bound: u32 },
}

/// What a partition is the hash of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// With a literal source, nothing: there is only one subject.
    Nothing,
    Subject,
    Tokens(Box<[usize]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    SplitFromLeft,
    SplitFromRight,
    SliceFromLeft,
    SliceFromRight,
    Left,
    Right,
}

impl Transform {
    /// Reads a destination, whose tokens may be functions of those of `source`.
    pub fn new(source: &str, destination: &str) -> Result<Self, MappingError> {
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

    /// Appends what becomes of `subject`, which must match the source. `random` gives a number below its argument. The
    /// new subject may be invalid.
    pub fn apply(&self, subject: &[u8], random: &mut impl FnMut(u32) -> u32, out: &mut Vec<u8>) {
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
pub(super) fn literal_len(source: &str) -> Option<usize> {
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

/// The form of a destination, before its functions are read.
pub(super) fn check_tokens(destination: &str) -> Result<(), MappingError> {
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
