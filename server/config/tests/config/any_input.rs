//! No input makes the readers panic, run away or eat the memory.

use midge_config::{MemoryFiles, World, load_text, parse_args};
use proptest::prelude::*;

/// Bits that configurations are made of.
const BITS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "\n",
    "\r\n",
    " ",
    "\t",
    ",",
    ";",
    "=",
    ":",
    "#",
    "//",
    "/",
    "'",
    "\"",
    "\\",
    "\\x41",
    "$A",
    "$",
    "$2a$x",
    "include",
    "x.conf",
    "1",
    "-1",
    "4k",
    "1.5",
    "1.2.3",
    "2016-05-04T18:53:41Z",
    "true",
    "\u{a0}",
    "\u{e9}",
    "\0",
    "a",
    "*",
    ">",
    ".",
    "\"2s\"",
    "5s",
    "port",
    "host",
    "listen",
    "accounts",
    "users",
    "user",
    "password",
    "permissions",
    "publish",
    "allow",
    "mappings",
    "weight",
    "dest",
    "tls",
    "jetstream",
    "leafnodes",
    "remotes",
    "authorization",
    "token",
    "max_payload",
    "ping_interval",
    "server_tags",
    "websocket",
    "imports",
    "stream",
];

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read(&bytes);
    }

    #[test]
    fn any_sequence_of_bits(bits in proptest::collection::vec(proptest::sample::select(BITS), 0..120), space in any::<bool>()) {
        read(bits.join(if space { " " } else { "" }).as_bytes());
    }

    #[test]
    fn any_value_for_any_key(key in 0usize..10_000, value in proptest::sample::select(VALUES)) {
        let mut keys = Vec::new();
        paths(midge_config::keys::ROOT, &mut Vec::new(), &mut keys);
        let path = &keys[key % keys.len()];
        let (open, close): (String, String) = (path.join(" { "), " }".repeat(path.len() - 1));
        read(format!("{open}: {value}{close}").as_bytes());
        let (open, close) = (path.join(": [{ "), " }]".repeat(path.len() - 1));
        read(format!("{open}: {value}{close}").as_bytes());
    }

    #[test]
    fn any_arguments(args in proptest::collection::vec("-{0,2}[a-zA-Z_=0-9-]{0,6}", 0..6)) {
        let _ = parse_args(args);
    }
}

const VALUES: &[&str] = &[
    "1",
    "-1",
    "0",
    "9223372036854775807",
    "-9223372036854775808",
    "1.5",
    "true",
    "false",
    "x",
    "''",
    "'2s'",
    "'-2s'",
    "'1G'",
    "'50%'",
    "enabled",
    "always",
    "[]",
    "[x]",
    "[1]",
    "[[x]]",
    "[{}]",
    "{}",
    "{a: b}",
    "{a: {}}",
    "'a:1'",
    "'a:-1'",
    "2016-05-04T18:53:41Z",
    "'a b'",
    "'a.>'",
    "'\u{e9}'",
    "9999999999999999999.5",
];

/// The paths of all keys.
fn paths(
    keys: &'static [midge_config::keys::Key],
    path: &mut Vec<&'static str>,
    all: &mut Vec<Vec<&'static str>>,
) {
    for key in keys {
        path.push(key.name());
        all.push(path.clone());
        paths(key.kind.keys(), path, all);
        path.pop();
    }
}

fn read(text: &[u8]) {
    let mut files = MemoryFiles::new();
    files.insert("x.conf".into(), text.to_vec());
    let environment = |name: &str| (name == "A").then(|| String::from_utf8_lossy(text).into_owned());
    match load_text("x.conf", text, World { files: &files, environment: &environment }) {
        Ok((_, report)) => assert!(report.errors.is_empty()),
        Err(report) => assert!(!report.errors.is_empty()),
    }
}
