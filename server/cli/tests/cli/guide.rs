//! What `docs/streams.md` tells operators to type works as it is written there.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::Server;

/// The fenced blocks that have a tag, with it: ```` ```sh run ````.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut lines = text.lines();
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let code = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        if info.contains(' ') {
            blocks.push((info.to_owned(), code));
        }
    }
    blocks
}

#[test]
fn every_command_of_the_guide_does_what_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/streams.md");
    let blocks = blocks(&fs::read_to_string(path).expect("docs/streams.md"));
    assert_eq!(blocks.iter().filter(|(info, _)| info == "sh run").count(), 15);
    let server = Server::with_streams();
    let directory = tempfile::tempdir().unwrap();
    let midge = Path::new(env!("CARGO_BIN_EXE_midge")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path =
        std::env::join_paths([midge.to_owned()].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut said = String::new();
    for (info, code) in blocks {
        if info == "text says" {
            // A value that is printed to the byte brings no newline.
            assert!(said.trim_end().ends_with(code.trim_end()), "not {code:?} but {said:?}");
            continue;
        }
        let mut shell = Command::new("sh");
        shell.args(["-ec", &code]).current_dir(directory.path());
        shell.env("PATH", &path).env("NATS_URL", server.url()).stdin(std::process::Stdio::null());
        let done = shell.output().expect("a shell");
        said = String::from_utf8(done.stdout).unwrap();
        let complained = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{code}{said}{complained}");
        assert!(!complained.contains("midge: "), "{code}{complained}");
    }
    assert_eq!(fs::read(directory.path().join("copy.bin")).unwrap(), b"the new firmware\n");
}
