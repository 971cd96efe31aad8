//! Targets that say that there is nothing in them to run, neither tests nor examples: compiling them to find that out takes
//! seconds. If one gets its first, it must be run: this tells.

use std::path::{Path, PathBuf};

/// All code below a path, file by file.
fn code(path: &Path, found: &mut Vec<(PathBuf, String)>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("a directory") {
            code(&entry.expect("an entry").path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push((path.to_owned(), std::fs::read_to_string(path).expect("it can be read")));
    }
}

/// Whether a doc comment has a block of code that rustdoc would compile.
fn has_examples(code: &str) -> bool {
    let fences = code.lines().filter_map(|line| {
        let line = line.trim_start();
        line.strip_prefix("//!").or(line.strip_prefix("///"))?.trim_start().strip_prefix("```")
    });
    // The first of two begins a block.
    fences.step_by(2).any(|info| info != "text")
}

#[test]
fn what_is_not_run_has_nothing_to_run() {
    let (mut unrun, mut files) = (0, Vec::new());
    let packages = crate::packages();
    for target in packages.iter().flat_map(|package| package["targets"].as_array().expect("targets")) {
        let is_lib = target["kind"][0] == "lib";
        if !is_lib && target["kind"][0] != "bin" {
            continue;
        }
        let root = Path::new(target["src_path"].as_str().expect("a path"));
        files.clear();
        code(if is_lib { root.parent().expect("a directory") } else { root }, &mut files);
        for (key, has) in [
            ("test", &(|code: &str| code.contains("#[test]")) as &dyn Fn(&str) -> bool),
            ("doctest", &|code| is_lib && has_examples(code)),
        ] {
            if target[key] == false {
                let found = files.iter().find(|(_, code)| has(code));
                assert!(
                    found.is_none(),
                    "take `{key} = false` out of Cargo.toml, for {:?}",
                    found.map(|it| &it.0)
                );
                unrun += usize::from(is_lib);
            }
        }
    }
    assert!(unrun > 10, "only {unrun} were looked at");
}
