//! The digest by which an operator sees whether two servers run the same configuration.

use sha2::{Digest, Sha256};

use crate::value::{Data, Map};

/// `sha256:` and the hash of the tree written as JSON: keys sorted, variables and includes resolved, comments gone.
///
/// The value equals nats-server's for the same files (`conf/parse.go`: Go's `encoding/json` with HTML escapes and
/// a line feed at the end), as printed by its `-t` and shown as `config_digest` in its `/varz`.
pub fn config_digest(map: &Map) -> String {
    let hash = Sha256::digest(to_json(map) + "\n");
    hash.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// A tree as JSON in one line, keys sorted.
pub fn to_json(map: &Map) -> String {
    let mut json = String::new();
    write_map(&mut json, map);
    json
}

fn write(json: &mut String, data: &Data) {
    match data {
        Data::Bool(value) => json.push_str(if *value { "true" } else { "false" }),
        Data::Int(value) => json.push_str(&value.to_string()),
        Data::Float(value) => json.push_str(&float(*value)),
        Data::Text(text) | Data::Time(text) => write_text(json, text),
        Data::List(list) => {
            json.push('[');
            for (i, value) in list.iter().enumerate() {
                if i > 0 {
                    json.push(',');
                }
                write(json, &value.data);
            }
            json.push(']');
        }
        Data::Map(map) => write_map(json, map),
    }
}

fn write_map(json: &mut String, map: &Map) {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    json.push('{');
    for (i, (key, entry)) in entries.into_iter().enumerate() {
        if i > 0 {
            json.push(',');
        }
        write_text(json, key);
        json.push(':');
        write(json, &entry.value.data);
    }
    json.push('}');
}

fn write_text(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                json.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

/// Go's shortest form: an exponent only below 1e-6 and from 1e21 on, with its sign.
fn float(value: f64) -> String {
    if value != 0.0 && !(1e-6..1e21).contains(&value.abs()) {
        let text = format!("{value:e}");
        return if text.contains("e-") { text } else { text.replace('e', "e+") };
    }
    value.to_string()
}
