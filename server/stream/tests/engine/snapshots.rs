//! Snapshots: a stream leaves one server and comes to another.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{World, header};

/// What a snapshot is made of, and its configuration. `chunk` is how many bytes go at once.
fn snapshot(world: &mut World, stream: &str, chunk: u64) -> (Value, Vec<Vec<u8>>) {
    world.listen("_SNAP", true);
    let ask = json!({ "deliver_subject": "_SNAP", "chunk_size": chunk, "window_size": chunk });
    let told = world.good(&format!("STREAM.SNAPSHOT.{stream}"), &ask.to_string());
    let mut chunks = Vec::new();
    loop {
        let seen: Vec<_> = world.take(|seen| seen.to == "_SNAP");
        assert!(!seen.is_empty(), "it stopped after {} chunks", chunks.len());
        for seen in seen {
            if seen.bytes.is_empty() {
                let status = if chunks.len() > 1 { "NATS/1.0 204\r\n\r\n" } else { "" };
                assert_eq!(seen.header, status);
                world.listen("_SNAP", false);
                return (told["config"].clone(), chunks);
            }
            chunks.push(seen.bytes);
            if !seen.reply.is_empty() {
                // A window of one chunk: the next comes only now.
                assert!(world.stage(&seen.reply, None, "", ""));
                world.run();
            }
        }
    }
}

/// Gives it to another. The answer to the last chunk.
fn restore(world: &mut World, config: &Value, chunks: &[Vec<u8>]) -> Value {
    let name = config["name"].as_str().unwrap();
    let told =
        world.good(&format!("STREAM.RESTORE.{name}"), &json!({ "config": config, "state": {} }).to_string());
    let deliver = told["deliver_subject"].as_str().unwrap().to_owned();
    for chunk in chunks {
        let answer = world.ask_bytes(&deliver, chunk).remove(0).payload;
        if !answer.is_empty() {
            return serde_json::from_str(&answer).unwrap();
        }
    }
    serde_json::from_str(&world.ask_bytes(&deliver, b"").remove(0).payload).unwrap()
}

/// A stream with gaps, a TTL, and a consumer in the middle of its work.
fn filled() -> World {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.*"],"allow_msg_ttl":true,"first_seq":5}"#);
    for at in 0..40 {
        world.ask(&format!("a.{}", at % 3), &format!("{at}").repeat(100));
    }
    world.ask_with("a.ttl", &header("Nats-TTL", "60s"), "soon gone");
    for seq in [5, 9, 10, 44] {
        world.good("STREAM.MSG.DELETE.S", &json!({ "seq": seq }).to_string());
    }
    let consumer =
        r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit","filter_subject":"a.1"}}"#;
    world.good("CONSUMER.CREATE.S.C", consumer);
    let messages = world.fetch("S", "C", 3);
    world.ask(&messages[1].1, "");
    world
}

#[test]
fn a_stream_moves_with_its_consumers() {
    let mut world = filled();
    let (sums, consumer) = (world.sums("S"), world.consumer("S", "C"));
    for chunk in [1024, 1 << 20] {
        let (config, chunks) = snapshot(&mut world, "S", chunk);
        let mut other = World::new();
        let told = restore(&mut other, &config, &chunks);
        assert_eq!(told["type"], "io.nats.jetstream.api.v1.stream_create_response");
        assert_eq!(told["error"], Value::Null);
        // A power cut changes nothing.
        other.power_cut(chunk);
        assert_eq!(other.sums("S"), sums);
        assert_eq!(other.consumer("S", "C"), consumer);
        let info = |world: &mut World| {
            let mut info = world.good("STREAM.INFO.S", r#"{"deleted_details":true}"#)["state"].clone();
            info["consumer_count"].take();
            info
        };
        assert_eq!(info(&mut other), info(&mut world));
        for seq in [6, 45] {
            let get = |world: &mut World| world.good("STREAM.MSG.GET.S", &json!({ "seq": seq }).to_string());
            assert_eq!(get(&mut other), get(&mut world));
        }
        // What was pending goes again, and then what is next.
        other.pass(Duration::from_secs(31));
        let again = other.fetch("S", "C", 2);
        assert!(again.iter().all(|(_, reply)| reply.starts_with("$JS.ACK.S.C.2.")), "{again:?}");
        other.pass(Duration::from_secs(30));
        assert_eq!(other.sums("S").0, sums.0 - 1, "its time is over here, too");
        assert_eq!(other.text("a.new", ""), r#"{"stream":"S","seq":46}"#);
    }
}

#[test]
fn half_a_snapshot_leaves_nothing() {
    let mut world = filled();
    let (config, chunks) = snapshot(&mut world, "S", 1024);
    let mut other = World::new();
    let told = restore(&mut other, &config, &chunks[..chunks.len() - 1]);
    assert_eq!(told["error"]["description"], "restore failed: backup was truncated");
    assert_eq!(other.good("STREAM.NAMES", "")["streams"], Value::Null);
    let mut bad = chunks.clone();
    bad[0][700] ^= 1;
    let told = restore(&mut other, &config, &bad);
    assert_eq!(told["error"]["err_code"], 10062);
    // One that isn't finished when the power goes, and one whose client goes.
    for cut in [true, false] {
        let ask = json!({ "config": config, "state": {} }).to_string();
        let told = other.good("STREAM.RESTORE.S", &ask);
        assert_eq!(other.ask_bytes(told["deliver_subject"].as_str().unwrap(), &chunks[0])[0].payload, "");
        match cut {
            true => other.power_cut(3),
            false => other.pass(Duration::from_secs(6)),
        }
        assert_eq!(other.good("STREAM.NAMES", "")["streams"], Value::Null);
    }
    assert_eq!(restore(&mut other, &config, &chunks)["error"], Value::Null);
    let told = other.api("STREAM.RESTORE.S", &json!({ "config": config }).to_string());
    assert_eq!(told["error"]["err_code"], 10130);
}

#[test]
fn a_snapshot_that_nobody_takes_ends() {
    let mut world = filled();
    world.listen("_SNAP", true);
    world.listen("$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_COMPLETE.S", true);
    let ask = r#"{"deliver_subject":"_SNAP","chunk_size":1024,"window_size":1024}"#;
    world.good("STREAM.SNAPSHOT.S", ask);
    assert_eq!(world.take(|seen| seen.to == "_SNAP").len(), 1, "and no more without an ack");
    world.pass(Duration::from_secs(6));
    let last = world.take(|seen| seen.to == "_SNAP");
    assert_eq!(last[0].header, "NATS/1.0 408 No Flow Response\r\n\r\n");
    let told = world.take(|seen| seen.to == "$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_COMPLETE.S").remove(0);
    let told: Value = serde_json::from_str(&told.payload).unwrap();
    assert_eq!(told["error"], "no flow response");
    world.good("STREAM.SNAPSHOT.S", ask);
    let chunk = world.take(|seen| seen.to == "_SNAP").remove(0);
    world.listen("_SNAP", false);
    assert!(!world.stage(&chunk.reply, None, "", ""), "nothing is left of it");
    assert_eq!(world.api("STREAM.SNAPSHOT.S", r#"{"deliver_subject":"a b"}"#)["error"]["err_code"], 10015);
    assert_eq!(world.api("STREAM.SNAPSHOT.T", ask)["error"]["err_code"], 10059);
}
