//! `midge store` on a store that is well and on one that rotted.

use std::path::Path;
use std::process::{Command, Output};

use midge_store::disk::OsDisk;
use midge_store::{Append, Options, Store};

fn midge(args: &[&str], directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_midge"))
        .arg("store")
        .args(args)
        .arg(directory)
        .output()
        .expect("midge runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_store_is_checked_and_dumped() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path().join("store");
    let options = Options { segment_bytes: 128 << 10, ..Options::default() };
    let (mut store, _) = Store::open(OsDisk::open(&at).expect("a disk"), options).expect("a store");
    let stream = store.create_stream(b"{\"name\":\"S\"}").expect("a stream");
    store.put_state(stream, b"c", b"1").expect("a state");
    for payload in ["first", "second", "the third message"] {
        let message = Append { subject: b"a.b", payload: payload.as_bytes(), ..Append::default() };
        store.append(stream, &message).expect("a message");
    }
    store.commit().expect("a commit");
    let locked = midge(&["check"], &at);
    assert_eq!(
        (locked.status.code(), text(&locked.stdout)),
        (Some(69), String::new()),
        "{}",
        text(&locked.stderr)
    );
    store.close().expect("an end");

    let good = midge(&["check"], &at);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert_eq!(text(&good.stdout), "1 streams, 3 messages as they were written\n");
    let dumped = midge(&["dump"], &at);
    let lines: Vec<serde_json::Value> =
        text(&dumped.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!((&lines[0]["config"], &lines[0]["messages"]), (&"{\"name\":\"S\"}".into(), &3.into()));
    assert_eq!((&lines[4]["seq"], &lines[4]["payload"]), (&3.into(), &"dGhlIHRoaXJkIG1lc3NhZ2U=".into()));

    // One byte of the third message.
    let mut found = false;
    for entry in std::fs::read_dir(&at).expect("a directory") {
        let path = entry.expect("an entry").path();
        let mut bytes = std::fs::read(&path).expect("a file");
        if let Some(at) = bytes.windows(9).position(|window| window == b"the third") {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).expect("a file");
            found = true;
        }
    }
    assert!(found);
    let rotten = midge(&["check"], &at);
    assert_eq!(rotten.status.code(), Some(74), "{}", text(&rotten.stdout));
    assert!(text(&rotten.stdout).contains("stream 1, sequence 3 to 3"), "{}", text(&rotten.stdout));
    assert!(text(&rotten.stdout).contains("1 streams, 2 messages as they were written"));
    assert_eq!(midge(&["dump"], &at).status.code(), Some(74));

    // Repaired: what it would do, then it does it, and what was there is kept.
    let files = |at: &Path| -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(at).expect("a directory").map(|entry| entry.expect("an entry"));
        let files = entries.filter(|entry| entry.path().is_file());
        let read = |path: &Path| std::fs::read(path).expect("a file");
        let mut files: Vec<_> = files
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), read(&entry.path())))
            .collect();
        files.sort();
        files
    };
    let before = files(&at);
    let planned = midge(&["repair", "--dry-run"], &at);
    assert_eq!(planned.status.code(), Some(74), "{}", text(&planned.stderr));
    assert!(text(&planned.stdout).contains("lost: stream 1, sequence 3 to 3\n"), "{}", text(&planned.stdout));
    assert_eq!(files(&at), before);
    let repaired = midge(&["repair"], &at);
    assert_eq!(repaired.status.code(), Some(0), "{}{}", text(&repaired.stdout), text(&repaired.stderr));
    assert!(
        text(&repaired.stdout)
            .ends_with("lost: stream 1, sequence 3 to 3\n2 messages as they were written\n")
    );
    let kept = files(&at.join("aside-1"));
    assert!(kept.len() == 1 && before.contains(&kept[0]), "{:?}", kept.iter().map(|kept| &kept.0));
    let after = midge(&["check"], &at);
    assert_eq!(after.status.code(), Some(0), "{}{}", text(&after.stdout), text(&after.stderr));
    assert_eq!(
        text(&after.stdout),
        "lost: stream 1, sequence 3 to 3\n1 streams, 2 messages as they were written\n"
    );
    let again = midge(&["repair"], &at);
    assert_eq!(text(&again.stdout), "lost: stream 1, sequence 3 to 3\n2 messages as they were written\n");
    assert!(again.status.success() && !at.join("aside-2").exists());
    // And it takes messages.
    let (mut store, _) = Store::open(OsDisk::open(&at).expect("a disk"), options).expect("a store");
    let seq = store.append(stream, &Append::default()).expect("a message");
    assert!(seq == 4 && store.is_damaged(stream, 3));
    store.commit().expect("a commit");
    drop(store);
    assert_eq!(midge(&["repair"], &directory.path().join("none")).status.code(), Some(1));
    assert!(!directory.path().join("none").exists());
}
