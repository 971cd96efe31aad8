//! `midge stream backup` and `restore`: a stream in a directory, as `nats stream backup` lays it out.
//!
//! `stream.tar.s2` is what the server sends, to the byte; midge doesn't look into it. `backup.json` has the
//! configuration and the state that go with it, and is written last: a directory without it holds no backup.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_nats::message::OutboundMessage;
use async_nats::{Message, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::api::{Api, Parts, check_name};
use crate::cli::stream::{Backup, Restore};
use crate::exit::{Failure, Outcome};
use crate::progress;
use crate::show::{print_json, short};
use crate::stream::{configuration, messages, sheet};
use crate::units::size;

pub(crate) async fn backup(args: &Backup, api: &mut Api) -> Outcome {
    api.stream(&args.stream).await?;
    let (data, description) = (args.target.join(DATA), args.target.join(DESCRIPTION));
    if (data.exists() || description.exists()) && !args.force {
        return Err(Failure::usage(format_args!(
            "{} holds a backup already; --force replaces it",
            args.target.display()
        )));
    }
    fs::create_dir_all(&args.target).map_err(|error| unwritable(&args.target, &error))?;

    let started = Instant::now();
    let inbox = api.link.client.new_inbox();
    let mut chunks = api.link.subscribe(&inbox, None).await?;
    let payload_max = i64::try_from(api.link.client.max_payload()).unwrap_or(i64::MAX);
    let request = json!({
        "deliver_subject": inbox,
        "no_consumers": args.no_consumers,
        "jsck": args.check,
        "chunk_size": args.chunk_size.clamp(1, payload_max),
        "window_size": args.window_size,
    });
    let answer = api.ask(&format!("STREAM.SNAPSHOT.{}", args.stream), &request).await?;
    let (config, state) = (&answer["config"], &answer["state"]);
    let bar = progress::bytes(state.count("bytes"), args.no_progress);

    let part = Part::new(&data);
    let mut file = File::create(&part.path).await.map_err(|error| unwritable(&part.path, &error))?;
    let mut received = 0;
    loop {
        let next = timeout(STALLED, api.link.watched(chunks.next())).await;
        let chunk = next.map_err(|_| Failure::unavailable("the server sends no more of the stream"))??;
        let Some(chunk) = chunk else { return Err(Failure::unavailable("the connection was closed")) };
        if let Some(reply) = &chunk.reply {
            // Before it is written: the server gives up after two seconds without.
            let message =
                OutboundMessage { subject: reply.clone(), reply: None, payload: Bytes::new(), headers: None };
            api.link.publish(message).await?;
        }
        if chunk.payload.is_empty() {
            ended(&chunk)?;
            break;
        }
        received += chunk.payload.len() as u64;
        file.write_all(&chunk.payload).await.map_err(|error| unwritable(&part.path, &error))?;
        bar.set_position(received);
    }
    bar.finish_and_clear();
    let written = async {
        file.flush().await?;
        file.sync_all().await
    };
    written.await.map_err(|error| unwritable(&part.path, &error))?;
    drop(file);
    let text = serde_json::to_string_pretty(&json!({"config": config, "state": state}))
        .map_err(|error| Failure::runtime(format_args!("cannot write the configuration: {error}")))?;
    put_in_place(&part.path, &data, &description, &text).map_err(|error| unwritable(&args.target, &error))?;

    let took = started.elapsed();
    if args.output.json {
        return print_json(&json!({
            "stream": args.stream,
            "directory": args.target,
            "messages": state.count("messages"),
            "bytes": state.count("bytes"),
            "backup_bytes": received,
            "seconds": took.as_secs_f64(),
        }));
    }
    let (count, bytes) = (messages(state.count("messages")), size(state.count("bytes")));
    let (target, received, took) = (args.target.display(), size(received), short(took));
    say(format_args!("Backed up {}, {count}, {bytes}, in {took}: {received} in {target}", args.stream))
}

pub(crate) async fn restore(args: &Restore, api: &mut Api) -> Outcome {
    let (data, description) = (args.directory.join(DATA), args.directory.join(DESCRIPTION));
    let mut request = description_of(&description)?;
    if let Some(path) = &args.config {
        let mut config = configuration(path)?;
        if config.text("name") != request["config"].text("name") {
            let name = request["config"].text("name");
            return Err(Failure::usage(format_args!(
                "the backup is of stream {name}, which can't be renamed"
            )));
        }
        request["config"] = config.take();
    }
    if let Some(replicas) = args.replicas {
        request["config"]["num_replicas"] = json!(replicas);
    }
    let name = request["config"].text("name").to_owned();
    check_name("stream", &name)?;
    let unreadable =
        |error: io::Error| Failure::config(format_args!("cannot read {}: {error}", data.display()));
    let mut file = File::open(&data).await.map_err(unreadable)?;
    let len = file.metadata().await.map_err(unreadable)?.len();

    let started = Instant::now();
    let answer = api.ask(&format!("STREAM.RESTORE.{name}"), &request).await?;
    let target = answer.text("deliver_subject").to_owned();
    let bar = progress::bytes(len, args.no_progress);
    let chunk_max = CHUNK_BYTES.min(api.link.client.max_payload());
    loop {
        let mut chunk = Vec::with_capacity(chunk_max);
        (&mut file).take(chunk_max as u64).read_to_end(&mut chunk).await.map_err(unreadable)?;
        if chunk.is_empty() {
            break;
        }
        let sent = chunk.len() as u64;
        api.exchange(&target, None, chunk.into(), STALLED).await?.map_err(Failure::from)?;
        bar.inc(sent);
    }
    bar.finish_and_clear();
    // The server's own work begins now, and nothing tells how far it is.
    let made = api.exchange(&target, None, Bytes::new(), RESTORED).await?.map_err(Failure::from)?;
    if !made["config"].is_object() {
        return Err(Failure::runtime("the server does not say that the stream was restored"));
    }
    if args.output.json {
        return print_json(&made);
    }
    let (there, was) = (made["state"].count("messages"), request["state"].count("messages"));
    if there != was {
        // Limits hold for restored messages, too, and a busy stream grows while it is copied.
        eprintln!("midge: the backup was begun with {}, the stream has {}", messages(was), messages(there));
    }
    say(format_args!("Restored stream {name}, {}, in {}", messages(there), short(started.elapsed())))?;
    Ok(sheet(&made).print()?)
}

/// Says if the last message of a snapshot tells of a failure.
fn ended(last: &Message) -> Outcome {
    match last.status {
        None | Some(StatusCode::OK) => Ok(()),
        Some(status) if status.as_u16() == END_OF_SNAPSHOT => Ok(()),
        Some(status) => {
            let why = last.description.as_deref().unwrap_or_default();
            Err(Failure::runtime(format_args!("the server ends the backup: {} {why}", status.as_u16())))
        }
    }
}

fn description_of(path: &Path) -> Outcome<Value> {
    let wrong = |why: String| Failure::config(format_args!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    match value["config"].is_object() && value["state"].is_object() {
        true => Ok(json!({"config": value["config"], "state": value["state"]})),
        false => Err(wrong("this describes no backup".to_owned())),
    }
}

/// Gives the new files their names so that at no time an old description stands beside new data.
fn put_in_place(part: &Path, data: &Path, description: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(description) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(part, data)?;
    let part = Part::new(description);
    fs::write(&part.path, text)?;
    fs::File::open(&part.path)?.sync_all()?;
    fs::rename(&part.path, description)?;
    // The names are on the disk when the directory is.
    match description.parent() {
        Some(directory) => fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// A file that isn't whole yet, and is removed if it never gets to be.
pub(crate) struct Part {
    pub(crate) path: PathBuf,
}

impl Part {
    pub(crate) fn new(whole: &Path) -> Part {
        let mut name = whole.as_os_str().to_owned();
        name.push(".part");
        Part { path: name.into() }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It has another name by now, unless something went wrong.
        let _ = fs::remove_file(&self.path);
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::runtime(format_args!("cannot write {}: {error}", path.display()))
}

fn say(text: std::fmt::Arguments<'_>) -> Outcome {
    use std::io::Write;
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

const DATA: &str = "stream.tar.s2";
const DESCRIPTION: &str = "backup.json";

/// "No content": the last message of a snapshot that is whole.
const END_OF_SNAPSHOT: u16 = 204;

/// What is sent in one message at a restore; the server takes one after the other.
const CHUNK_BYTES: usize = 128 * 1024;

/// How long the other side may be silent in between. nats-server gives up after 2 to 5 s.
const STALLED: Duration = Duration::from_secs(30);

/// How long a server may take to make a stream of what it was sent.
const RESTORED: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn last(status: Option<u16>) -> Message {
        Message {
            subject: "a".into(),
            reply: None,
            payload: Bytes::new(),
            headers: None,
            status: status.map(|status| StatusCode::from_u16(status).unwrap()),
            description: Some("No Flow Response".into()),
            length: 0,
        }
    }

    #[test]
    fn a_snapshot_ends_well_with_204_or_without_a_status() {
        ended(&last(None)).unwrap();
        ended(&last(Some(204))).unwrap();
        let Err(Failure::Runtime(text)) = ended(&last(Some(408))) else { panic!("408 is no good end") };
        assert_eq!(text, "the server ends the backup: 408 No Flow Response");
    }

    #[test]
    fn an_old_description_never_stands_beside_new_data() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("d"), "old").unwrap();
        fs::write(path("j"), "old").unwrap();
        fs::write(path("d.part"), "new").unwrap();
        put_in_place(&path("d.part"), &path("d"), &path("j"), "{}").unwrap();
        assert_eq!(fs::read_to_string(path("d")).unwrap(), "new");
        assert_eq!(fs::read_to_string(path("j")).unwrap(), "{}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
