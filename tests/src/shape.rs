//! JSON without its values: what members there are, of which types, in which order.

use std::collections::BTreeSet;

use serde_json::Value;

/// Every member with its type, lists as if they had one element.
pub fn members(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(value, "", &mut found);
    found
}

fn collect(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            items.iter().for_each(|item| collect(item, &format!("{at}[]"), found));
            "list"
        }
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| collect(member, &format!("{at}.{name}"), found));
            "object"
        }
    };
    found.insert(format!("{at}: {kind}"));
}

/// The names of all members of indented JSON, each where it comes first.
pub fn order(json: &str) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    let names = json
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\": ").map(|(name, _)| name));
    names.filter(|name| seen.insert(*name)).collect()
}
