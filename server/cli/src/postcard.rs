//! Payloads in postcard's format, which says of a value nothing but its bytes: what they mean comes from who asks.
//!
//! ```text
//!   shape   = fields | type
//!   fields  = name ":" type { "," name ":" type }
//!   type    = ( "bool" | "u8".."u64" | "i8".."i64" | "f32" | "f64" | "char" | "str" | "bytes"
//!             | "{" [ fields ] "}"            a struct
//!             | "(" [ type { "," type } ] ")" a tuple
//!             | "[" type "]"                  any number of them
//!             | "<" variant { "|" variant } ">" ) [ "?" ]    one of several; "?": maybe there
//!   variant = name [ type ]
//! ```
//!
//! Source: postcard's wire format, version 1.

use std::fmt::Write as _;
use std::str::FromStr;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Number, Value as Plain};

use crate::show::harmless;

/// What a payload is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape(Type);

#[derive(Clone, Debug, PartialEq)]
enum Type {
    Bool,
    /// Of so many bits.
    Unsigned(u32),
    Signed(u32),
    Float(u32),
    Char,
    Text,
    Bytes,
    Struct(Vec<(String, Type)>),
    Tuple(Vec<Type>),
    Many(Box<Type>),
    Maybe(Box<Type>),
    OneOf(Vec<(String, Option<Type>)>),
}

/// What a payload says; fields stay in their order.
#[derive(Debug, PartialEq)]
pub(crate) enum Value {
    Plain(Plain),
    Fields(Vec<(String, Value)>),
    List(Vec<Value>),
}

impl<T: Into<Plain>> From<T> for Value {
    fn from(plain: T) -> Value {
        Value::Plain(plain.into())
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Plain(value) => value.serialize(serializer),
            Value::List(values) => values.serialize(serializer),
            Value::Fields(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

/// How deep types may stand in each other.
const DEPTH_MAX: usize = 32;

impl Shape {
    /// Reads a payload, all of it.
    pub(crate) fn read(&self, payload: &[u8]) -> Result<Value, String> {
        let mut rest = payload;
        let value = read(&self.0, &mut rest)?;
        if rest.is_empty() { Ok(value) } else { Err(format!("{} bytes more than that", rest.len())) }
    }
}

/// A value on one line: `number: 4, celsius: 21.5`.
pub(crate) fn line(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Fields(fields) => write_fields(&mut text, fields),
        value => write_value(&mut text, value),
    }
    text
}

fn write_fields(text: &mut String, fields: &[(String, Value)]) {
    for (n, (name, value)) in fields.iter().enumerate() {
        let _ = write!(text, "{}{name}: ", if n == 0 { "" } else { ", " });
        write_value(text, value);
    }
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Fields(fields) => {
            text.push('{');
            write_fields(text, fields);
            text.push('}');
        }
        Value::List(values) => {
            text.push('[');
            for (n, value) in values.iter().enumerate() {
                text.push_str(if n == 0 { "" } else { ", " });
                write_value(text, value);
            }
            text.push(']');
        }
        Value::Plain(Plain::String(inner)) => text.push_str(&harmless(&format!("{inner:?}"))),
        Value::Plain(value) => {
            let _ = write!(text, "{value}");
        }
    }
}

fn read(kind: &Type, rest: &mut &[u8]) -> Result<Value, String> {
    Ok(match kind {
        Type::Bool => match byte(rest)? {
            0 => false.into(),
            1 => true.into(),
            other => return Err(format!("{other} is neither true nor false")),
        },
        Type::Unsigned(8) => byte(rest)?.into(),
        Type::Signed(8) => (byte(rest)? as i8).into(),
        Type::Unsigned(bits) => varint(rest, *bits)?.into(),
        Type::Signed(bits) => {
            // Zigzag: 0, -1, 1, -2, …
            let raw = varint(rest, *bits)?;
            ((raw >> 1) as i64 ^ -((raw & 1) as i64)).into()
        }
        Type::Float(32) => float(f32::from_le_bytes(array(rest)?).into(), true),
        Type::Float(_) => float(f64::from_le_bytes(array(rest)?), false),
        Type::Char => {
            let text = text(rest)?;
            let mut chars = text.chars();
            match (chars.next(), chars.next()) {
                (Some(_), None) => text.into(),
                _ => return Err(format!("{text:?} is not one character")),
            }
        }
        Type::Text => text(rest)?.into(),
        Type::Bytes => Value::List(bytes(rest)?.iter().map(|byte| (*byte).into()).collect()),
        Type::Struct(fields) => {
            let mut values = Vec::new();
            for (name, kind) in fields {
                values.push((name.clone(), read(kind, rest).map_err(|error| format!("{name}: {error}"))?));
            }
            Value::Fields(values)
        }
        Type::Tuple(kinds) => {
            Value::List(kinds.iter().map(|kind| read(kind, rest)).collect::<Result<_, _>>()?)
        }
        Type::Many(kind) => {
            let count = varint(rest, 64)?;
            if count > rest.len() as u64 {
                return Err(format!("{count} elements in {} bytes", rest.len()));
            }
            Value::List((0..count).map(|_| read(kind, rest)).collect::<Result<_, _>>()?)
        }
        Type::Maybe(kind) => match byte(rest)? {
            0 => Plain::Null.into(),
            1 => read(kind, rest)?,
            other => return Err(format!("{other} says neither that it is there nor that it isn't")),
        },
        Type::OneOf(variants) => {
            let index = varint(rest, 32)?;
            let variant = usize::try_from(index).ok().and_then(|index| variants.get(index));
            match variant {
                Some((name, None)) => name.as_str().into(),
                Some((name, Some(kind))) => {
                    let value = read(kind, rest).map_err(|error| format!("{name}: {error}"))?;
                    Value::Fields(vec![(name.clone(), value)])
                }
                None => return Err(format!("there is no variant {index}")),
            }
        }
    })
}

/// JSON has no other numbers than finite ones. Of 32 bits, the shortest that means the same.
fn float(value: f64, is_short: bool) -> Value {
    let short = is_short.then(|| format!("{}", value as f32)).and_then(|text| text.parse().ok());
    match Number::from_f64(short.unwrap_or(value)) {
        Some(number) => Value::Plain(Plain::Number(number)),
        None => format!("{value}").into(),
    }
}

fn byte(rest: &mut &[u8]) -> Result<u8, String> {
    let (first, tail) = rest.split_first().ok_or("it ends too early")?;
    *rest = tail;
    Ok(*first)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (first, tail) = rest.split_first_chunk().ok_or("it ends too early")?;
    *rest = tail;
    Ok(*first)
}

fn bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let len = usize::try_from(varint(rest, 64)?).unwrap_or(usize::MAX);
    let (first, tail) = rest.split_at_checked(len).ok_or("it ends too early")?;
    *rest = tail;
    Ok(first)
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, String> {
    std::str::from_utf8(bytes(rest)?).map_err(|_| "a text that isn't UTF-8".to_owned())
}

/// Seven bits a byte, the lowest first.
fn varint(rest: &mut &[u8], bits: u32) -> Result<u64, String> {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let next = byte(rest)?;
        let low = u64::from(next & 0x7F);
        if shift >= bits || low.checked_shl(shift).is_none_or(|part| part >> shift != low) {
            return Err(format!("a number of more than {bits} bits"));
        }
        value |= low << shift;
        if next & 0x80 == 0 {
            return if bits < 64 && value >> bits != 0 {
                Err(format!("a number of more than {bits} bits"))
            } else {
                Ok(value)
            };
        }
        shift += 7;
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Shape, String> {
        let mut parser = Parser { rest: text.trim(), depth: 0 };
        let is_field = parser.rest.split_once(':').is_some_and(|(name, _)| is_name(name.trim()));
        let kind = if is_field { Type::Struct(parser.fields()?) } else { parser.kind()? };
        if parser.rest.is_empty() { Ok(Shape(kind)) } else { Err(format!("what is `{}`?", parser.rest)) }
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    /// Takes these words, if they are next.
    fn takes(&mut self, words: &str) -> bool {
        match self.rest.strip_prefix(words) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn wants(&mut self, words: &str) -> Result<(), String> {
        if self.takes(words) { Ok(()) } else { Err(format!("`{words}` is missing before `{}`", self.rest)) }
    }

    fn name(&mut self) -> Result<&'a str, String> {
        let end = self.rest.find(|char: char| !is_in_name(char)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() {
            return Err(format!("a name is missing before `{rest}`"));
        }
        self.rest = rest.trim_start();
        Ok(name)
    }

    fn fields(&mut self) -> Result<Vec<(String, Type)>, String> {
        let mut fields = Vec::new();
        loop {
            let name = self.name()?;
            self.wants(":")?;
            fields.push((name.to_owned(), self.kind()?));
            if !self.takes(",") || self.rest.is_empty() || self.rest.starts_with('}') {
                return Ok(fields);
            }
        }
    }

    fn kind(&mut self) -> Result<Type, String> {
        if self.depth == DEPTH_MAX {
            return Err(format!("types stand in each other more than {DEPTH_MAX} deep"));
        }
        self.depth += 1;
        let mut kind = self.plain()?;
        self.depth -= 1;
        while self.takes("?") {
            kind = Type::Maybe(Box::new(kind));
        }
        Ok(kind)
    }

    fn plain(&mut self) -> Result<Type, String> {
        if self.takes("{") {
            let fields = if self.rest.starts_with('}') { Vec::new() } else { self.fields()? };
            self.wants("}")?;
            return Ok(Type::Struct(fields));
        }
        if self.takes("(") {
            let mut kinds = Vec::new();
            while !self.takes(")") {
                kinds.push(self.kind()?);
                if !self.takes(",") {
                    self.wants(")")?;
                    break;
                }
            }
            return Ok(Type::Tuple(kinds));
        }
        if self.takes("[") {
            let kind = self.kind()?;
            self.wants("]")?;
            return Ok(Type::Many(Box::new(kind)));
        }
        if self.takes("<") {
            let mut variants = Vec::new();
            loop {
                let name = self.name()?.to_owned();
                let is_bare = self.rest.starts_with(['|', '>']);
                variants.push((name, if is_bare { None } else { Some(self.kind()?) }));
                if !self.takes("|") {
                    self.wants(">")?;
                    return Ok(Type::OneOf(variants));
                }
            }
        }
        Ok(match self.name()? {
            "bool" => Type::Bool,
            "u8" => Type::Unsigned(8),
            "u16" => Type::Unsigned(16),
            "u32" => Type::Unsigned(32),
            "u64" => Type::Unsigned(64),
            "i8" => Type::Signed(8),
            "i16" => Type::Signed(16),
            "i32" => Type::Signed(32),
            "i64" => Type::Signed(64),
            "f32" => Type::Float(32),
            "f64" => Type::Float(64),
            "char" => Type::Char,
            "str" => Type::Text,
            "bytes" => Type::Bytes,
            other => return Err(format!("there is no type `{other}`")),
        })
    }
}

fn is_in_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_in_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(shape: &str, payload: &[u8]) -> Result<String, String> {
        shape.parse::<Shape>()?.read(payload).map(|value| line(&value))
    }

    #[test]
    fn values_are_read_as_what_they_are() {
        // What postcard writes for these; see protocol/src and its documentation of the format.
        for (shape, payload, text) in [
            (
                "number: u32, celsius_x100: i16, heater: bool",
                &[4, 0xb3, 0x21, 1][..],
                "number: 4, celsius_x100: -2138, heater: true",
            ),
            (
                "a: u64, b: i64",
                &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1],
                "a: 18446744073709551615, b: -1",
            ),
            ("u8", &[200], "200"),
            ("i8", &[200], "-56"),
            ("t: f32", &[0, 0, 0xac, 0x41], "t: 21.5"),
            ("t: f32", &[0xcd, 0xcc, 0xcc, 0x3d], "t: 0.1"),
            ("f64", &[0, 0, 0, 0, 0, 0, 0xf8, 0x7f], "\"NaN\""),
            ("name: str, last: u8?", &[2, b'o', b'k', 1, 7], "name: \"ok\", last: 7"),
            ("name: str, last: u8?", &[2, 27, b'k', 0], "name: \"\\u{1b}k\", last: null"),
            ("[(u8, char)]", &[2, 1, 1, b'a', 2, 2, 0xc3, 0xa9], "[[1, \"a\"], [2, \"é\"]]"),
            ("<Interval { ms: u32 } | Heater { on: bool } | Off>", &[0, 0xf4, 3], "Interval: {ms: 500}"),
            ("<Interval { ms: u32 } | Heater { on: bool } | Off>", &[2], "\"Off\""),
            ("at: { x: i32, y: i32, }, raw: bytes", &[1, 2, 2, 0, 255], "at: {x: -1, y: 1}, raw: [0, 255]"),
        ] {
            assert_eq!(shown(shape, payload), Ok(text.to_owned()), "{shape}");
        }
    }

    #[test]
    fn what_is_no_such_value_is_said_to_be_none() {
        for (shape, payload) in [
            ("bool", &[2][..]),
            ("u16", &[0x80, 0x80, 4]),
            ("u32", &[255, 255, 255, 255, 31]),
            ("u64", &[255, 255, 255, 255, 255, 255, 255, 255, 255, 2]),
            ("u64", &[128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1]),
            ("u8", &[1, 2]),
            ("u8", &[]),
            ("f32", &[0, 0, 0]),
            ("str", &[1, 255]),
            ("str", &[3, b'a']),
            ("char", &[2, b'a', b'b']),
            ("[{}]", &[255, 255, 255, 255, 15]),
            ("u8?", &[2, 0]),
            ("<a|b>", &[2]),
        ] {
            assert!(shown(shape, payload).is_err(), "{shape}");
        }
    }

    #[test]
    fn a_shape_that_is_none_is_refused() {
        for shape in [
            "",
            "u9",
            "a: ",
            "a: u8 b",
            ": u8",
            "(u8",
            "[u8",
            "<>",
            "<a",
            "a: u8,, b: u8",
            "{a}",
            &"[".repeat(100),
        ] {
            assert!(shape.parse::<Shape>().is_err(), "{shape}");
        }
    }
}
