//! The same configuration files for us and for a real nats-server: who accepts them, and with which digest?
//!
//! Runs when `MIDGE_REFERENCE` names a nats-server binary. `MIDGE_REFERENCE_CORPUS` may name a directory whose
//! `.conf` files are compared too.

use std::path::{Path, PathBuf};
use std::process::Command;

use midge_config::{OsFiles, World, load_file};

/// What we expect of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// Both accept, with the same digest, or both refuse.
    Same,
    /// We refuse, with this in the message, what nats-server's `-t` accepts.
    Stricter(&'static str),
    /// We accept what nats-server refuses.
    Kinder,
}

use Expect::*;

const CORPUS: &[(Expect, &str)] = &[(Same, "port: 4222")];

#[test]
fn accepts_and_digests_as_the_reference_does() {
    let Some(reference) = std::env::var_os("MIDGE_REFERENCE").map(PathBuf::from) else {
        eprintln!("SKIPPED: MIDGE_REFERENCE names no nats-server binary");
        return;
    };
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reference");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("included.conf"), "max_payload: 2kb\nSHARED: 7\n").unwrap();
    let mut wrong = Vec::new();
    for (i, (expect, text)) in CORPUS.iter().enumerate() {
        let file = directory.join(format!("{i}.conf"));
        std::fs::write(&file, text).unwrap();
        wrong.extend(compare(&reference, &file, *expect).err());
    }
    if let Some(corpus) = std::env::var_os("MIDGE_REFERENCE_CORPUS").map(PathBuf::from) {
        let mut files: Vec<_> =
            std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "conf")) {
            wrong.extend(compare(&reference, file, Same).err());
        }
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}

fn compare(reference: &Path, file: &Path, expect: Expect) -> Result<(), String> {
    let output = Command::new(reference).arg("-t").arg("-c").arg(file).output().expect("the reference runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let theirs = said
        .split_once("(sha256:")
        .map(|(_, tail)| format!("sha256:{}", tail.trim_end().trim_end_matches(')')));
    let environment = |name: &str| std::env::var(name).ok();
    let loaded = load_file(file, World { files: &OsFiles, environment: &environment });
    // With `-t`, nats-server fails on warnings too.
    let ours = match &loaded {
        Ok((options, report)) if report.warnings.is_empty() => options.config_digest.clone(),
        _ => None,
    };
    let findings = match &loaded {
        Ok((_, report)) | Err(report) => report.to_string(),
    };
    let fine = match expect {
        Same => ours == theirs,
        Stricter(why) => ours.is_none() && theirs.is_some() && findings.contains(why),
        Kinder => ours.is_some() && theirs.is_none(),
    };
    if fine {
        return Ok(());
    }
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let text: String = text.chars().take(if text.len() < 400 { 400 } else { 0 }).collect();
    Err(format!(
        "{}: expected {expect:?}\n{text}\n  we: {ours:?}\n{findings}  they: {}",
        file.display(),
        said.trim_end()
    ))
}
