//! Each row of docs/SECURITY.md names what shows it, and that exists.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Rust code below a directory.
fn code(directory: &Path, into: &mut String) {
    for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            code(&entry, into);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(entry).expect("a file"));
        }
    }
}

#[test]
fn what_the_table_names_exists() {
    let text = fs::read_to_string(root().join("docs/SECURITY.md")).expect("the table");
    let mut tests = String::new();
    let places = [
        "tests/tests",
        "server/broker/src",
        "server/broker/tests",
        "server/jwt/tests",
        "server/tls/tests",
        "server/websocket/src",
    ];
    for directory in places {
        code(&root().join(directory), &mut tests);
    }
    let mut rows = 0;
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Class")) {
        let (_, shown) = line.trim_end_matches(" |").rsplit_once(" | ").expect("four columns");
        let names: Vec<_> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "nothing shows {line}");
        for name in names {
            let found = match name.ends_with(".nats") {
                true => root().join("tests/scripts").join(name).is_file(),
                false => {
                    let function = name.rsplit("::").next().unwrap_or(name);
                    tests.contains(&format!("fn {function}("))
                }
            };
            assert!(found, "there is no {name}, named in {line}");
        }
        rows += 1;
    }
    assert!(rows > 20, "{rows} rows");
}
