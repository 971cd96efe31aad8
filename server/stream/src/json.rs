//! JSON as Go reads and writes it.
//!
//! Writing escapes `<`, `>`, `&`, U+2028 and U+2029, as Go's encoder does by default. Reading takes `null` for a member
//! that isn't there, and members' names in upper case for those in lower case. Unknown members are refused, or, if the
//! server isn't strict, passed over.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{self, ApiError};

/// Writes `value` in one line.
pub(crate) fn write(value: &impl Serialize) -> Vec<u8> {
    // Writing to memory doesn't fail, and our types have string keys only.
    escaped(serde_json::to_vec(value).unwrap_or_else(|_| b"{}".to_vec()))
}

/// What Go escapes and serde_json doesn't is only ever part of a string.
fn escaped(json: Vec<u8>) -> Vec<u8> {
    let escape = |rest: &[u8]| match rest {
        [b'<', ..] => Some((1, "\\u003c")),
        [b'>', ..] => Some((1, "\\u003e")),
        [b'&', ..] => Some((1, "\\u0026")),
        [0xE2, 0x80, 0xA8, ..] => Some((3, "\\u2028")),
        [0xE2, 0x80, 0xA9, ..] => Some((3, "\\u2029")),
        _ => None,
    };
    if !json.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&' | 0xE2)) {
        return json;
    }
    let mut out = Vec::with_capacity(json.len() + 64);
    let mut rest = json.as_slice();
    while let [byte, after @ ..] = rest {
        rest = match escape(rest) {
            Some((length, text)) => {
                out.extend_from_slice(text.as_bytes());
                rest.get(length..).unwrap_or_default()
            }
            None => {
                out.push(*byte);
                after
            }
        };
    }
    out
}

/// Members in this order. Those that are `null` are left out.
pub(crate) struct Members<'a>(pub(crate) &'a [(&'static str, Value)]);

impl Serialize for Members<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, value)),
        )
    }
}

/// True if `text` begins as an object or array does: where nats-server has an optional request.
pub(crate) fn is_object_or_array(text: &[u8]) -> bool {
    let first = text.iter().find(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r'));
    matches!(first, Some(b'{' | b'['))
}

/// True if nothing is asked: no text, or an object without members.
pub(crate) fn is_empty(text: &[u8]) -> bool {
    text.is_empty()
        || matches!(serde_json::from_slice(text), Ok(Value::Object(members)) if members.is_empty())
}

/// Reads a request. No text at all is all defaults.
pub(crate) fn read<T: DeserializeOwned + Default>(text: &[u8], strict: bool) -> Result<T, ApiError> {
    read_or(text, strict).map_err(|error| error::INVALID_JSON.with(&[&error]))
}

fn read_or<T: DeserializeOwned + Default>(text: &[u8], strict: bool) -> Result<T, String> {
    if text.iter().all(|b| b.is_ascii_whitespace()) {
        return Ok(T::default());
    }
    let mut value: Value = serde_json::from_slice(text)
        .map_err(|error| if error.is_eof() { "unexpected EOF".to_owned() } else { error.to_string() })?;
    if value.is_null() {
        return Ok(T::default());
    }
    if !value.is_object() {
        // Lists would be taken for members in their order.
        return Err("json: cannot unmarshal it into an object".to_owned());
    }
    drop_nulls(&mut value);
    // Names that were written in upper case, by what they are in lower case.
    let mut written: Vec<(String, String)> = Vec::new();
    // A document has only so many unknown members; the bound is for one that is made to be slow.
    for _ in 0..UNKNOWN_MAX {
        let text = match T::deserialize(&value) {
            Ok(read) => return Ok(read),
            Err(error) => error.to_string(),
        };
        let unknown = text.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
        let Some((name, _)) = unknown else { return Err(text) };
        let lower = name.to_lowercase();
        if lower != name {
            lower_member(&mut value, name, &lower);
            written.push((lower, name.to_owned()));
        } else if strict {
            let name = written.iter().find(|(lower, _)| lower == name).map_or(name, |(_, name)| name);
            return Err(format!("json: unknown field {name:?}"));
        } else {
            drop_member(&mut value, name);
        }
    }
    Err("json: too many unknown fields".to_owned())
}

/// Reads what has members that it needs not know, as Go does: a `null` changes nothing.
pub(crate) fn read_loose<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    if !text.windows(4).any(|part| part == b"null") && !text.iter().any(u8::is_ascii_uppercase) {
        return serde_json::from_slice(text);
    }
    let mut value: Value = serde_json::from_slice(text)?;
    drop_nulls(&mut value);
    if let Value::Object(members) = &mut value {
        let upper: Vec<String> =
            members.keys().filter(|name| name.bytes().any(|b| b.is_ascii_uppercase())).cloned().collect();
        upper.iter().for_each(|name| rename(members, name, &name.to_lowercase()));
    }
    T::deserialize(&value)
}

/// As [`read_loose`], for what is large and seldom read. Always by way of a [`Value`], as requests are: a configuration that
/// is read from its text, too, would be 40 kB more of program.
pub(crate) fn read_seldom<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    let mut value: Value = serde_json::from_slice(text)?;
    drop_nulls(&mut value);
    T::deserialize(&value)
}

/// Different unknown members of one request, at most.
const UNKNOWN_MAX: usize = 64;

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn drop_member(value: &mut Value, name: &str) {
    for_each_object(value, &mut |members| {
        members.remove(name);
    });
}

fn lower_member(value: &mut Value, name: &str, lower: &str) {
    for_each_object(value, &mut |members| rename(members, name, lower));
}

/// Gives a member another name, unless there is one of that name.
fn rename(members: &mut Map<String, Value>, name: &str, other: &str) {
    if let Some(member) = members.remove(name) {
        members.entry(other).or_insert(member);
    }
}

/// All objects whose members' names mean something.
fn for_each_object(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            change(members);
            let others = members.iter_mut().filter(|(name, _)| *name != "metadata");
            others.for_each(|(_, member)| for_each_object(member, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| for_each_object(item, change)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        number: u64,
        inner: Option<Box<Sample>>,
    }

    #[test]
    fn strings_are_escaped_as_in_go() {
        let text = write(&"a.> <b> & \u{2028}\"\\\n\u{1}é");
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "\"a.\\u003e \\u003cb\\u003e \\u0026 \\u2028\\\"\\\\\\n\\u0001é\""
        );
    }

    #[test]
    fn unknown_members_are_refused_or_passed_over() {
        let text = br#"{"number":null,"inner":{"number":3,"bogus":1}}"#;
        let error = read::<Sample>(text, true).unwrap_err();
        assert_eq!(error.description, "invalid JSON: json: unknown field \"bogus\"");
        let read: Sample = read(text, false).unwrap();
        assert_eq!(read, Sample { number: 0, inner: Some(Box::new(Sample { number: 3, inner: None })) });
    }

    #[test]
    fn members_may_be_in_upper_case() {
        let text = br#"{"Number":1,"INNER":{"NUMBER":3,"metadata":{}}}"#;
        let error = read::<Sample>(text, true).unwrap_err();
        assert_eq!(error.description, "invalid JSON: json: unknown field \"metadata\"");
        let inner = Some(Box::new(Sample { number: 3, inner: None }));
        assert_eq!(read::<Sample>(text, false).unwrap(), Sample { number: 1, inner });
        let error = read::<Sample>(br#"{"NUMBER":1,"Bogus":1}"#, true).unwrap_err();
        assert_eq!(error.description, "invalid JSON: json: unknown field \"Bogus\"");
        let loose = read_loose::<Loose>(br#"{"Number":5,"text":"A"}"#).unwrap();
        assert_eq!(loose, Loose { number: 5, text: "A".to_owned() });
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Loose {
        number: i64,
        text: String,
    }

    #[test]
    fn null_changes_nothing() {
        let read = read_loose::<Loose>(br#"{"number":null,"text":"a","other":[null]}"#).unwrap();
        assert_eq!(read, Loose { number: 0, text: "a".to_owned() });
        assert!(read_loose::<Loose>(b"null").is_err() && read_loose::<Loose>(b"{").is_err());
    }

    #[test]
    fn nothing_asked() {
        assert_eq!(read::<Sample>(b"", true).unwrap(), Sample::default());
        assert_eq!(read::<Sample>(b"null", true).unwrap(), Sample::default());
        assert!(read::<Sample>(b"{", true).is_err());
        assert!(is_empty(b"") && is_empty(b"{ }") && !is_empty(b"[]") && !is_empty(b"x"));
        assert!(is_object_or_array(b" \n{") && !is_object_or_array(b"1") && !is_object_or_array(b" "));
    }
}
