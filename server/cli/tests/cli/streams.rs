//! The commands for streams as processes against a server that has some.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Server, TempFile};

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(json).collect()
}

/// The cells of a table's first row that begins so, the rows being split at their gaps.
fn row(table: &str, name: &str) -> Vec<String> {
    let row = table.lines().find(|line| line.split("  ").next() == Some(name));
    let row = row.unwrap_or_else(|| panic!("no row {name}:\n{table}"));
    row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
}

/// Publishes `count` messages, and returns when the stream has them.
fn fill(server: &Server, subject: &str, count: usize) {
    let text: String = (1..=count).map(|number| format!("line {number}\n")).collect();
    server.midge(&["pub", subject, "--lines", "-q"]).run_with(text.as_bytes()).ok();
}

#[test]
fn a_stream_is_made_listed_shown_and_removed() {
    let server = Server::with_streams();
    assert_eq!(server.midge(&["stream", "ls"]).run().ok(), "No streams\n");
    let add = ["stream", "add", "A", "--subjects", "a.>,b", "--max-age", "7d", "--max-bytes", "10MB"];
    let shown = server.midge(&add).run().ok();
    assert!(shown.starts_with("Stream A\n\nConfiguration\n"), "{shown}");
    let squeezed = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in ["Subjects a.>, b", "Age at most 7d", "Size at most 10.00 MiB"] {
        assert!(squeezed.contains(line), "{line}:\n{shown}");
    }
    server.midge(&add).run().ok();
    let other = server.midge(&["stream", "add", "A", "--subjects", "c"]).run().failed(1);
    assert!(other.contains("(10058)"), "{other}");
    fill(&server, "a.x", 3);
    let table = server.midge(&["stream", "ls"]).run().ok();
    assert!(table.starts_with("NAME  STORAGE  MESSAGES"), "{table}");
    let cells = row(&table, "A");
    assert_eq!((cells[1].as_str(), cells[2].as_str(), cells[6].as_str()), ("file", "3", "a.>, b"), "{table}");
    assert_eq!(server.midge(&["stream", "ls", "-n", "--subject", "zzz"]).run().ok(), "");
    let info = json(&server.midge(&["stream", "info", "A", "--json"]).run().ok());
    assert_eq!(info["config"]["max_age"], 7 * 86_400_000_000_000_i64);
    assert_eq!(lines(&server.midge(&["stream", "ls", "--json"]).run().ok()).len(), 1);
    assert_eq!(
        server.midge(&["stream", "rm", "A", "--force"]).run().ok().split(" (").next(),
        Some("Removed stream A with 3 messages")
    );
    assert_eq!(server.midge(&["stream", "info", "A"]).run().failed(1), "midge: there is no stream A\n");
}

/// A setting that `midge` has no flag for must not be lost with one that it has.
#[test]
fn an_edit_changes_what_it_names_and_nothing_else() {
    let server = Server::with_streams();
    let config = r#"{"subjects": ["a"], "max_msgs": 5, "metadata": {"owner": "me"},
        "consumer_limits": {"max_ack_pending": 7}}"#;
    let file = TempFile::new("stream.json", config);
    server.midge(&["stream", "add", "A", "--config", file.path()]).run().ok();
    let before = json(&server.midge(&["stream", "info", "A", "--json"]).run().ok())["config"].take();
    let edit = ["stream", "edit", "A", "--max-msgs", "9", "--metadata", "site=attic", "--dlq", "DEAD"];
    let dry = server.midge(&[&edit[..], &["--dry-run"]].concat()).run();
    assert!(dry.stderr.starts_with("max_msgs: 5 -> 9\nmetadata: "), "{dry:?}");
    dry.ok();
    let edited = server.midge(&[&edit[..], &["--force", "--json"]].concat()).run().ok();
    let mut expected = before;
    expected["max_msgs"] = 9.into();
    expected["metadata"]["site"] = "attic".into();
    expected["metadata"]["midge.dlq"] = "DEAD".into();
    assert_eq!(json(&edited)["config"], expected);
    let said = server.midge(&["stream", "edit", "A", "--max-msgs", "9", "-f"]).run().failed(2);
    assert_eq!(said, "midge: nothing would change\n");
    let said = server.midge(&["stream", "edit", "A", "--storage", "memory", "-f"]).run().failed(1);
    assert!(said.starts_with("midge: the server says: "), "{said}");
}

#[test]
fn what_cannot_be_undone_is_asked_about() {
    let server = Server::with_streams();
    server.midge(&["stream", "add", "A", "--subjects", "a"]).run().ok();
    fill(&server, "a", 2);
    for command in [
        &["stream", "rm", "A"][..],
        &["stream", "purge", "A"],
        &["stream", "rmm", "A", "1"],
        &["stream", "edit", "A", "--max-msgs", "1"],
    ] {
        let said = server.midge(command).run().failed(2);
        assert!(said.ends_with(": say --force, there is no terminal to ask on\n"), "{command:?}: {said}");
    }
    let no = server.midge(&["stream", "purge", "A"]).run_on_terminal("n\n");
    assert!(no.stderr.contains("Really remove messages from stream A"), "{no:?}");
    assert!(no.failed(1).contains("nothing was changed"));
    let info = json(&server.midge(&["stream", "info", "A", "--json"]).run().ok());
    assert_eq!(info["state"]["messages"], 2);
    let yes = server.midge(&["stream", "purge", "A", "--keep", "1"]).run_on_terminal("y\n").ok();
    assert_eq!(yes, "Removed 1 message from stream A\n");
}

#[test]
fn single_messages_are_shown_and_removed() {
    let server = Server::with_streams();
    server.midge(&["stream", "add", "A", "--subjects", "a.*"]).run().ok();
    server.midge(&["pub", "a.x", "21.5", "-H", "Unit: C", "-q"]).run().ok();
    server.midge(&["pub", "a.y", "-q"]).run_with(b"\xff\0").ok();
    let shown = server.midge(&["stream", "get", "A", "1"]).run().ok();
    assert!(shown.starts_with("[#1] a.x  4 B  ") && shown.ends_with(" ago\nUnit: C\n\n21.5\n\n"), "{shown}");
    let last = json(&server.midge(&["stream", "get", "A", "-S", "a.y", "--json"]).run().ok());
    assert_eq!((last["seq"].as_u64(), last["data_base64"].as_str()), (Some(2), Some("/wA=")));
    server.midge(&["stream", "rmm", "A", "1", "-f"]).run().ok();
    let gone = server.midge(&["stream", "get", "A", "1"]).run().failed(1);
    assert_eq!(gone, "midge: there is no such message in stream A\n");
    server.midge(&["stream", "get", "A"]).run().failed(2);
    server.midge(&["stream", "get", "a.b", "1"]).run().failed(2);
}

#[test]
fn a_consumer_gives_its_messages_and_knows_which_were_handled() {
    let server = Server::with_streams();
    server.midge(&["stream", "add", "A", "--subjects", "a"]).run().ok();
    fill(&server, "a", 4);
    let shown = server.midge(&["consumer", "add", "A", "w", "--wait", "1m", "--max-deliver", "3"]).run().ok();
    assert!(
        shown.contains("Deliveries at most      3\n")
            && shown.contains("To come                 4 messages\n"),
        "{shown}"
    );
    let next = |args: &[&str]| server.midge(&[&["consumer", "next", "A", "w"], args].concat()).run();
    let first = next(&["--count", "2"]).ok();
    assert!(first.contains("delivery 1  3 to come\nline 1\n") && first.contains("line 2\n"), "{first}");
    assert_eq!(next(&["--nak", "--raw"]).ok(), "line 3\n");
    let again = json(&next(&["--json"]).ok());
    assert_eq!((again["seq"].as_u64(), again["delivered"].as_u64()), (Some(3), Some(2)));
    assert_eq!(next(&["--term", "--raw"]).ok(), "line 4\n");
    let info = json(&server.midge(&["consumer", "info", "A", "w", "--json"]).run().ok());
    assert_eq!((info["num_pending"].as_u64(), info["num_ack_pending"].as_u64()), (Some(0), Some(0)));
    let late = next(&["--wait", "50ms"]).failed(69);
    assert_eq!(late, "midge: 0 of 1 messages came in time\n");
    assert_eq!(row(&server.midge(&["consumer", "ls", "A"]).run().ok(), "w")[1..4], ["pull", "explicit", "0"]);
    server.midge(&["consumer", "rm", "A", "w", "-f"]).run().ok();
    assert_eq!(next(&[]).failed(1), "midge: stream A has no consumer w\n");
    assert_eq!(server.midge(&["consumer", "ls", "A"]).run().ok(), "No consumers on A\n");
}

#[test]
fn a_paused_consumer_gives_nothing() {
    let server = Server::with_streams();
    server.midge(&["stream", "add", "A", "--subjects", "a"]).run().ok();
    fill(&server, "a", 1);
    server.midge(&["consumer", "add", "A", "w"]).run().ok();
    let paused = server.midge(&["consumer", "pause", "A", "w", "1h"]).run().ok();
    assert!(paused.starts_with("Paused consumer w until "), "{paused}");
    server.midge(&["consumer", "next", "A", "w", "--wait", "50ms"]).run().failed(69);
    assert_eq!(server.midge(&["consumer", "resume", "A", "w"]).run().ok(), "Resumed consumer w\n");
    assert_eq!(server.midge(&["consumer", "resume", "A", "w"]).run().ok(), "Consumer w was not paused\n");
    assert_eq!(server.midge(&["consumer", "next", "A", "w", "--raw"]).run().ok(), "line 1\n");
}

#[test]
fn a_push_consumer_is_no_source_for_next() {
    let server = Server::with_streams();
    server.midge(&["stream", "add", "A", "--subjects", "a"]).run().ok();
    server.midge(&["consumer", "add", "A", "p", "--target", "out", "--filter", "a"]).run().ok();
    let said = server.midge(&["consumer", "next", "A", "p"]).run().failed(2);
    assert_eq!(said, "midge: p is a push consumer: it sends to out (see `midge sub`)\n");
}

/// Two operators change the same setting.
#[test]
fn keys_are_created_and_updated_only_as_they_were_seen() {
    let server = Server::with_streams();
    let kv = |args: &[&str]| server.midge(&[&["kv"], args].concat());
    kv(&["add", "b", "--history", "5"]).run().ok();
    assert_eq!(kv(&["create", "b", "k.x", "1"]).run().ok(), "b k.x  revision 1\n");
    assert_eq!(
        kv(&["create", "b", "k.x", "2"]).run().failed(1),
        "midge: k.x has a value already, revision 1\n"
    );
    assert_eq!(json(&kv(&["update", "b", "k.x", "2", "1", "--json"]).run().ok())["revision"], 2);
    assert_eq!(kv(&["update", "b", "k.x", "3", "1"]).run().failed(1), "midge: k.x is at revision 2, not 1\n");
    kv(&["put", "b", "bin"]).run_with(b"\xff\n").ok();
    assert_eq!(kv(&["get", "b", "k.x", "--raw"]).run().ok(), "2");
    assert_eq!(kv(&["get", "b", "k.x", "--revision", "1", "--raw"]).run().ok(), "1");
    assert_eq!(json(&kv(&["get", "b", "bin", "--json"]).run().ok())["data_base64"], "/wo=");
    assert_eq!(kv(&["ls", "b"]).run().ok(), "bin\nk.x\n");
    assert_eq!(row(&kv(&["ls", "b", "-v", "--display-value"]).run().ok(), "k.x")[4..], ["2"]);
    kv(&["del", "b", "k.x"]).run().failed(2);
    kv(&["del", "b", "k.x", "-f"]).run().ok();
    assert_eq!(kv(&["get", "b", "k.x"]).run().failed(1), "midge: there is no value under k.x in bucket b\n");
    let history = lines(&kv(&["history", "b", "k.x", "--json"]).run().ok());
    let operations: Vec<_> = history.iter().map(|entry| entry["operation"].as_str().unwrap()).collect();
    assert_eq!(operations, ["put", "put", "delete"]);
    assert_eq!(kv(&["create", "b", "k.x", "again"]).run().ok(), "b k.x  revision 5\n");
    kv(&["purge", "b", "k.x", "-f"]).run().ok();
    assert_eq!(lines(&kv(&["history", "b", "k.x", "--json"]).run().ok()).len(), 1);
    assert_eq!(row(&kv(&["ls"]).run().ok(), "b")[1], "file");
    assert!(server.midge(&["stream", "ls"]).run().stderr.starts_with("1 of buckets aren't shown"));
    kv(&["rm", "b", "-f"]).run().ok();
    assert_eq!(kv(&["get", "b", "k.x"]).run().failed(1), "midge: there is no bucket b\n");
}

#[test]
fn watched_keys_are_told_as_they_change() {
    let server = Server::with_streams();
    let kv = |args: &[&str]| server.midge(&[&["kv"], args].concat());
    kv(&["add", "b"]).run().ok();
    kv(&["put", "b", "a.x", "1"]).run().ok();
    let all = kv(&["watch", "b", "--json"]).start_listening();
    assert_eq!(json(&all.stdout.next())["data"], "1");
    let later = kv(&["watch", "b", "a.*", "--updates", "--count", "2"]).start_listening();
    kv(&["put", "b", "c", "other"]).run().ok();
    kv(&["put", "b", "a.x", "2"]).run().ok();
    kv(&["del", "b", "a.x", "-f"]).run().ok();
    let told = later.end().ok();
    let mut told = told.lines();
    assert!(told.next().is_some_and(|line| line.starts_with("[3] a.x  ") && line.ends_with("put  2")));
    assert!(told.next().is_some_and(|line| line.starts_with("[4] a.x  ") && line.ends_with("delete")));
    let keys: Vec<_> = (0..3).map(|_| json(&all.stdout.next())["key"].take()).collect();
    assert_eq!(keys, ["c", "a.x", "a.x"]);
    all.signal("TERM");
    all.end().ok();
}

#[test]
fn an_object_comes_back_as_it_was() {
    let server = Server::with_streams();
    let object = |args: &[&str]| server.midge(&[&["object"], args].concat());
    let content: String = (0..60_000).map(|number| format!("{number:07}")).collect();
    let file = TempFile::new("valve.bin", &content);
    let here = file.root();
    object(&["add", "fw"]).run().ok();
    object(&["put", "fw", file.path(), "--description", "stable"]).run().ok();
    let info = json(&object(&["info", "fw", "valve.bin", "--json"]).run().ok());
    assert_eq!((info["size"].as_u64(), info["description"].as_str()), (Some(420_000), Some("stable")));
    let wrote = object(&["get", "fw", "valve.bin", "-O", "copy.bin"]).within(here).run().ok();
    assert!(wrote.starts_with("Wrote valve.bin to copy.bin, "), "{wrote}");
    assert!(fs::read_to_string(here.join("copy.bin")).unwrap() == content);
    object(&["get", "fw", "valve.bin"]).within(here).run().failed(2);
    object(&["get", "fw", "valve.bin", "-f"]).within(here).run().ok();
    assert!(object(&["get", "fw", "valve.bin", "-O", "-"]).run().ok() == content);
    // A name that leads elsewhere is a file's name here.
    object(&["put", "fw", "--name", "../../up"]).run_with(b"x").ok();
    object(&["get", "fw", "../../up"]).within(here).run().ok();
    assert_eq!(fs::read(here.join("up")).unwrap(), b"x");
    object(&["put", "fw", file.path()]).run().failed(2);
    assert_eq!(object(&["ls", "fw", "-n"]).run().ok(), "../../up\nvalve.bin\n");
    let watched = object(&["watch", "fw", "--updates", "--count", "1", "--json"]).start_listening();
    object(&["del", "fw", "valve.bin", "-f"]).run().ok();
    assert_eq!(json(&watched.end().ok())["deleted"], true);
    let gone = object(&["get", "fw", "valve.bin"]).within(here).run().failed(2);
    assert!(gone.contains("would replace the file"), "{gone}");
    let gone = object(&["get", "fw", "valve.bin", "-O", "-"]).run().failed(1);
    assert_eq!(gone, "midge: there is no object valve.bin in bucket fw\n");
    object(&["rm", "fw", "-f"]).run().ok();
    assert_eq!(object(&["ls"]).run().ok(), "No buckets\n");
}

/// Publishes a dead letter as midged copies it.
fn bury(server: &Server, consumer: &str, seq: u32, reason: &str) {
    let headers = [
        "Unit: C".to_owned(),
        "Nats-Msg-Id: own".to_owned() + &seq.to_string(),
        "Midge-Death-Stream: JOBS".to_owned(),
        format!("Midge-Death-Consumer: {consumer}"),
        format!("Midge-Death-Seq: {seq}"),
        format!("Midge-Death-Subject: jobs.{seq}"),
        format!("Midge-Death-Reason: {reason}"),
        "Midge-Death-Count: 5".to_owned(),
        format!("Midge-Death-Time: 2026-11-27T10:00:0{seq}Z"),
    ];
    let body = format!("job {seq}");
    let mut args = vec!["pub", "DEAD", &body, "-q"];
    args.extend(headers.iter().flat_map(|header| ["-H", header]));
    server.midge(&args).run().ok();
}

#[test]
fn dead_letters_are_counted_shown_and_replayed() {
    let server = Server::with_streams();
    server.midge(&["stream", "add", "JOBS", "--subjects", "jobs.>", "--dlq", "DEAD"]).run().ok();
    let none = server.midge(&["dlq", "ls"]).run();
    assert_eq!(
        none.stderr,
        "midge: dead letters of JOBS go to DEAD, which does not exist: `midge stream add DEAD` makes it\n"
    );
    assert_eq!(none.ok(), "No dead letters\n");
    server.midge(&["stream", "add", "DEAD"]).run().ok();
    for (consumer, seq, reason) in
        [("w", 1, "max_deliver"), ("w", 2, "max_deliver"), ("v", 3, "terminated: bad")]
    {
        bury(&server, consumer, seq, reason);
    }
    server.midge(&["pub", "DEAD", "alien", "-q"]).run().ok();
    let counted = server.midge(&["dlq", "ls", "JOBS", "--json"]).run();
    assert_eq!(counted.stderr, "midge: DEAD also holds 1 message that never died\n");
    let counted = lines(&counted.ok());
    let counts: Vec<_> =
        counted.iter().map(|group| (group["consumer"].as_str(), group["messages"].as_u64())).collect();
    assert_eq!(counts, [(Some("v"), Some(1)), (Some("w"), Some(2))]);
    assert_eq!(counted[1]["newest"], "2026-11-27T10:00:02Z");
    assert_eq!(row(&server.midge(&["dlq", "ls"]).run().ok(), "DEAD")[1..4], ["JOBS", "v", "1"]);

    let shown = server.midge(&["dlq", "show", "JOBS", "--reason", "terminated", "--raw"]).run().ok();
    assert_eq!(shown, "job 3\n");
    server.midge(&["dlq", "show", "JOBS", "--consumer", "nobody"]).run().failed(1);
    let dry = server.midge(&["dlq", "replay", "JOBS", "--consumer", "w", "--dry-run"]).run().ok();
    assert_eq!(dry, "[#1] jobs.1  5 B\n[#2] jobs.2  5 B\n");
    let replayed = json(
        &server.midge(&["dlq", "replay", "JOBS", "--consumer", "w", "--rate", "1000", "--json"]).run().ok(),
    );
    assert_eq!(
        (replayed["replayed"].as_u64(), replayed["duplicates"].as_u64()),
        (Some(2), Some(0)),
        "{replayed}"
    );
    let job = json(&server.midge(&["stream", "get", "JOBS", "-S", "jobs.1", "--json"]).run().ok());
    assert_eq!((job["seq"].as_u64(), job["data"].as_str()), (Some(1), Some("job 1")));
    assert_eq!(
        job["headers"],
        serde_json::json!({"Unit": ["C"], "Nats-Msg-Id": ["midge-dlq:JOBS:w:1:2026-11-27T10:00:01Z"]})
    );
    let left = server.midge(&["dlq", "show", "DEAD", "--raw"]).run().ok();
    assert_eq!(left, "job 3\n");
}

/// Whoever replays must not lose what nobody takes.
#[test]
fn a_dead_letter_stays_until_a_stream_has_its_message() {
    let server = Server::with_streams();
    server.midge(&["stream", "add", "DEAD"]).run().ok();
    bury(&server, "w", 1, "max_deliver");
    let said = server.midge(&["dlq", "replay", "DEAD"]).run().failed(69);
    assert_eq!(
        said,
        "midge: stopped at dead letter 1 after 0 messages\nmidge: nobody answers on jobs.1 (no responders)\n"
    );
    assert_eq!(server.midge(&["dlq", "show", "DEAD", "--raw"]).run().ok(), "job 1\n");
    let repeat = |duplicates: u64| {
        let replayed = json(&server.midge(&["dlq", "replay", "DEAD", "--json"]).run().ok());
        assert_eq!(
            (replayed["replayed"].as_u64(), replayed["duplicates"].as_u64()),
            (Some(1), Some(duplicates))
        );
    };
    server.midge(&["stream", "add", "JOBS", "--subjects", "jobs.>"]).run().ok();
    repeat(0);
    // As it would lie there still, had the replay been interrupted. Its own id is known to DEAD, so DEAD is new.
    server.midge(&["stream", "rm", "DEAD", "-f"]).run().ok();
    server.midge(&["stream", "add", "DEAD"]).run().ok();
    bury(&server, "w", 1, "max_deliver");
    repeat(1);
    let info = json(&server.midge(&["stream", "info", "JOBS", "--json"]).run().ok());
    assert_eq!(info["state"]["messages"], 1);
}

#[test]
fn a_backup_brings_back_the_stream_and_its_consumers() {
    let server = Server::with_streams();
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("backup");
    let target = target.to_str().unwrap();
    assert_eq!(
        server.midge(&["stream", "backup", "A", target]).run().failed(1),
        "midge: there is no stream A\n"
    );
    assert!(!Path::new(target).exists());
    server.midge(&["stream", "add", "A", "--subjects", "a"]).run().ok();
    fill(&server, "a", 5_000);
    server.midge(&["consumer", "add", "A", "w"]).run().ok();
    server.midge(&["consumer", "next", "A", "w", "--count", "3", "--raw"]).run().ok();
    let backup = ["stream", "backup", "A", target, "--chunk-size", "1KB", "--window-size", "4KB"];
    let said = server.midge(&backup).run().ok();
    assert!(said.starts_with("Backed up A, 5,000 messages, "), "{said}");
    let mut names: Vec<_> = fs::read_dir(target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["backup.json", "stream.tar.s2"]);
    let description = json(&fs::read_to_string(Path::new(target).join("backup.json")).unwrap());
    assert_eq!(
        (description["config"]["name"].as_str(), description["state"]["messages"].as_u64()),
        (Some("A"), Some(5_000))
    );
    assert!(server.midge(&backup).run().failed(2).contains("holds a backup already"));
    server.midge(&[&backup[..], &["--force"]].concat()).run().ok();
    assert!(server.midge(&["stream", "restore", target]).run().failed(1).contains("(10130)"));

    let other = Server::with_streams();
    let said = other.midge(&["stream", "restore", target]).run().ok();
    assert!(said.starts_with("Restored stream A, 5,000 messages, in "), "{said}");
    assert_eq!(other.midge(&["stream", "get", "A", "4321", "--raw"]).run().ok(), "line 4321\n");
    assert_eq!(other.midge(&["consumer", "next", "A", "w", "--raw"]).run().ok(), "line 4\n");

    let torn = fs::read(Path::new(target).join("stream.tar.s2")).unwrap();
    fs::write(Path::new(target).join("stream.tar.s2"), &torn[..torn.len() / 2]).unwrap();
    other.midge(&["stream", "rm", "A", "-f"]).run().ok();
    let said = other.midge(&["stream", "restore", target]).run().failed(1);
    assert!(said.starts_with("midge: the server says: restore failed: "), "{said}");
    fs::remove_file(Path::new(target).join("backup.json")).unwrap();
    assert!(other.midge(&["stream", "restore", target]).run().failed(78).contains("backup.json"));
}

/// All that a stream has: what it is, and each message with its number, time and headers. Adds a consumer that reads it.
fn contents(server: &Server, stream: &str) -> (Value, Vec<Value>) {
    let info = json(&server.midge(&["stream", "info", stream, "--json"]).run().ok());
    let (mut config, mut state) = (info["config"].clone(), info["state"].clone());
    // Which server it is, and who reads.
    config.as_object_mut().unwrap().remove("metadata");
    state.as_object_mut().unwrap().remove("consumer_count");
    server.midge(&["consumer", "add", stream, "reader", "--ephemeral", "--ack", "none"]).run().ok();
    let count = state["messages"].to_string();
    let read = server.midge(&["consumer", "next", stream, "reader", "--count", &count, "--json"]).run().ok();
    server.midge(&["consumer", "rm", stream, "reader", "--force"]).run().ok();
    let mut read = lines(&read);
    for message in &mut read {
        // When it came here.
        message.as_object_mut().unwrap().remove("received");
    }
    (serde_json::json!({ "config": config, "state": state }), read)
}

/// An operator who moves a plant's data from nats-server to midge, and may go back, must not lose anything of it.
#[test]
fn streams_move_from_nats_server_to_midge_and_back() {
    let Some(theirs) = Server::reference_with_streams() else { return };
    // Some blocks on nats-server, whose size follows from that of the stream.
    let config = TempFile::new(
        "moves.json",
        r#"{"subjects": ["a.>"], "max_bytes": 400000, "compression": "s2", "allow_msg_ttl": true, "first_seq": 10,
            "max_msgs_per_subject": 1000, "metadata": {"owner": "plant"}, "allow_direct": true}"#,
    );
    theirs.midge(&["stream", "add", "A", "--config", config.path()]).run().ok();
    let line: String = (0..900).map(|at| char::from(b'a' + (at * at % 23) as u8)).collect();
    let text: String = (1..=200).map(|number| format!("{number} {line}\n")).collect();
    theirs.midge(&["pub", "a.x", "--lines", "-q"]).run_with(text.as_bytes()).ok();
    theirs.midge(&["pub", "a.y", "with a header", "-H", "Kind:odd", "-H", "Nats-TTL:1h", "-q"]).run().ok();
    theirs.midge(&["pub", "a.z", "", "-H", "Nats-Msg-Id:1", "-q"]).run().ok();
    for seq in ["10", "57", "58", "150"] {
        theirs.midge(&["stream", "rmm", "A", seq, "--force"]).run().ok();
    }
    theirs.midge(&["consumer", "add", "A", "w", "--max-deliver", "9", "--filter", "a.x,a.y"]).run().ok();
    theirs.midge(&["consumer", "next", "A", "w", "--count", "3", "--raw"]).run().ok();
    theirs.midge(&["consumer", "next", "A", "w", "--no-ack", "--raw"]).run().ok();
    theirs.midge(&["kv", "add", "SETTINGS", "--history", "3"]).run().ok();
    for value in ["1", "2"] {
        theirs.midge(&["kv", "put", "SETTINGS", "attic.min", value]).run().ok();
    }
    theirs.midge(&["kv", "del", "SETTINGS", "attic.min", "--force"]).run().ok();
    theirs.midge(&["kv", "put", "SETTINGS", "attic.max", "3"]).run().ok();
    theirs.midge(&["object", "add", "FILES"]).run().ok();
    let file = TempFile::new("firmware.bin", &text);
    theirs.midge(&["object", "put", "FILES", file.path(), "--name", "firmware"]).run().ok();

    let (ours, again) = (Server::with_streams(), Server::reference_with_streams().unwrap());
    let directory = tempfile::tempdir().unwrap();
    for stream in ["A", "KV_SETTINGS", "OBJ_FILES"] {
        let was = contents(&theirs, stream);
        assert!(!was.1.is_empty(), "{stream} is empty");
        for (from, to) in [(&theirs, &ours), (&ours, &again)] {
            let target = directory.path().join(format!("{stream}-{}", to.port));
            let target = target.to_str().unwrap();
            from.midge(&["stream", "backup", stream, target]).run().ok();
            to.midge(&["stream", "restore", target]).run().ok();
            let is = contents(to, stream);
            assert_eq!(is.0, was.0, "{stream}");
            assert_eq!(is.1, was.1, "{stream}");
        }
    }
    for server in [&ours, &again] {
        let info = json(&server.midge(&["stream", "info", "A", "--json"]).run().ok());
        assert_eq!(info["config"]["metadata"]["owner"], "plant");
        let worker = json(&server.midge(&["consumer", "info", "A", "w", "--json"]).run().ok());
        assert_eq!(worker["config"]["filter_subjects"], serde_json::json!(["a.x", "a.y"]));
        let (delivered, floor) = (&worker["delivered"], &worker["ack_floor"]);
        assert_eq!(
            (&delivered["stream_seq"], &delivered["consumer_seq"]),
            (&14.into(), &4.into()),
            "{worker}"
        );
        assert_eq!((&floor["stream_seq"], &floor["consumer_seq"]), (&13.into(), &3.into()), "{worker}");
        assert_eq!(worker["num_ack_pending"], 1, "{worker}");
        let told = server.midge(&["kv", "get", "SETTINGS", "attic.max", "--raw"]).run().ok();
        assert_eq!(told.trim_end(), "3");
        server.midge(&["kv", "get", "SETTINGS", "attic.min", "--raw"]).run().failed(1);
        let target = directory.path().join(format!("firmware-{}", server.port));
        server
            .midge(&["object", "get", "FILES", "firmware", "--output", target.to_str().unwrap()])
            .run()
            .ok();
        assert_eq!(fs::read_to_string(target).unwrap(), text);
    }
}

#[test]
fn streams_are_compared_searched_and_looked_into() {
    let server = Server::with_streams();
    server.midge(&["stream", "add", "A", "--subjects", "a.>"]).run().ok();
    server.midge(&["stream", "add", "B", "--subjects", "b.>"]).run().ok();
    server.midge(&["stream", "add", "C", "--mirror", "A"]).run().ok();
    fill(&server, "a.x", 5);
    fill(&server, "a.y", 2);
    for seq in ["2", "3", "5"] {
        server.midge(&["stream", "rmm", "A", seq, "--force"]).run().ok();
    }
    let report = server.midge(&["stream", "report"]).run().ok();
    let cells = row(&report, "A");
    assert_eq!(
        (&*cells[2], &*cells[4], &*cells[6], &*cells[7], &*cells[8]),
        ("4", "2", "3", "0", "-"),
        "{report}"
    );
    assert_eq!(row(&report, "C")[8], "0", "{report}");
    assert_eq!(lines(&server.midge(&["stream", "report", "--json"]).run().ok()).len(), 3);

    let found = |flags: &[&str]| {
        let found = server.midge(&[&["stream", "find", "--json"][..], flags].concat()).run().ok();
        let names: Vec<_> =
            lines(&found).iter().map(|it| it["config"]["name"].as_str().unwrap().to_owned()).collect();
        names.concat()
    };
    assert_eq!(found(&["--empty"]), "B");
    assert_eq!(found(&["--mirrored"]), "C");
    assert_eq!(found(&["--mirrored", "--invert"]), "AB");
    assert_eq!(found(&["--subject", "a.x"]), "A");
    assert_eq!(found(&["--subject", "a.x", "--invert"]), "BC");
    // One list is enough, unless what doesn't hold the subject is looked for.
    let asked =
        || json(&server.midge(&["account", "info", "--json"]).run().ok())["api"]["total"].as_u64().unwrap();
    for (flags, requests) in
        [(&["--empty"][..], 1), (&["--subject", "a.x"], 1), (&["--subject", "a.x", "--invert"], 2)]
    {
        let before = asked();
        found(flags);
        assert_eq!(asked() - before - 1, requests, "{flags:?}");
    }
    assert_eq!(found(&["--idle", "1h", "--consumers", "0"]), "B");
    assert_eq!(found(&["--created", "1h"]), "");
    assert_eq!(server.midge(&["stream", "find", "--sourced"]).run().ok(), "No streams\n");

    let subjects = server.midge(&["stream", "subjects", "A"]).run().ok();
    assert_eq!((row(&subjects, "a.x")[1].as_str(), row(&subjects, "a.y")[1].as_str()), ("2", "2"));
    assert_eq!(server.midge(&["stream", "subjects", "A", "*.y", "--names"]).run().ok(), "a.y\n");
    let gaps = lines(&server.midge(&["stream", "gaps", "A", "--json"]).run().ok());
    assert_eq!(gaps, [json(r#"{"first":2,"last":3}"#), json(r#"{"first":5,"last":5}"#)]);
    assert_eq!(server.midge(&["stream", "gaps", "B"]).run().ok(), "No gaps in B\n");

    let seal = ["stream", "seal", "A"];
    server.midge(&seal).run().failed(2);
    let said = server.midge(&[&seal[..], &["--force"]].concat()).run().ok();
    assert!(said.starts_with("Sealed stream A with 4 messages"), "{said}");
    assert!(server.midge(&["stream", "rmm", "A", "1", "--force"]).run().failed(1).contains("sealed"));
}

#[test]
fn a_consumer_is_changed_in_what_is_named_and_let_go_of() {
    let server = Server::with_streams();
    server.midge(&["stream", "add", "A", "--subjects", "a.>"]).run().ok();
    let config = r#"{"name": "w", "durable_name": "w", "ack_policy": "explicit", "filter_subject": "a.x",
        "priority_policy": "pinned_client", "priority_groups": ["g"], "metadata": {"owner": "me"}}"#;
    let file = TempFile::new("consumer.json", config);
    server.midge(&["consumer", "add", "A", "--config", file.path()]).run().ok();
    let edit =
        ["consumer", "edit", "A", "w", "--filter", "a.y,a.z", "--max-deliver", "5", "--metadata", "at=attic"];
    let dry = server.midge(&[&edit[..], &["--dry-run"]].concat()).run();
    assert!(dry.stderr.contains("max_deliver: "), "{dry:?}");
    dry.ok();
    let edited = json(&server.midge(&[&edit[..], &["--force", "--json"]].concat()).run().ok());
    let config = &edited["config"];
    assert_eq!(
        (&config["filter_subjects"], &config["filter_subject"]),
        (&json(r#"["a.y","a.z"]"#), &Value::Null)
    );
    assert_eq!((&config["max_deliver"], &config["priority_policy"]), (&5.into(), &"pinned_client".into()));
    assert_eq!((&config["metadata"]["owner"], &config["metadata"]["at"]), (&"me".into(), &"attic".into()));
    let said = server.midge(&[&edit[..], &["--force"]].concat()).run().failed(2);
    assert_eq!(said, "midge: nothing would change\n");
    assert!(server.midge(&["consumer", "report", "A"]).run().ok().contains("a.y, a.z"));
    let unpin = ["consumer", "unpin", "A", "w", "g", "--force"];
    assert_eq!(server.midge(&unpin).run().ok(), "Unpinned group g of consumer w\n");
    let other = ["consumer", "unpin", "A", "w", "h", "--force"];
    assert!(server.midge(&other).run().failed(1).contains("(10160)"));
}

#[test]
fn an_account_tells_what_it_stores() {
    let server = Server::with_streams();
    server.midge(&["stream", "add", "A", "--storage", "memory", "--subjects", "a"]).run().ok();
    let shown = server.midge(&["account", "info"]).run().ok();
    assert!(shown.contains("  Streams    1 of unlimited\n"), "{shown}");
    assert_eq!(json(&server.midge(&["account", "info", "--json"]).run().ok())["streams"], 1);
}

#[test]
fn a_server_without_streams_says_so() {
    let Some(server) = Server::reference_with_config("max_payload: 1MB") else { return };
    for command in
        [&["stream", "ls"][..], &["kv", "ls"], &["object", "ls", "b"], &["dlq", "ls"], &["account", "info"]]
    {
        let said = server.midge(command).run().failed(69);
        assert!(
            said.starts_with("midge: streams are not served by nats://127.0.0.1:"),
            "{command:?}: {said}"
        );
    }
}
