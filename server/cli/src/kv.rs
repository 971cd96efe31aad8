//! `midge kv`

use std::io::{IsTerminal, Write};

use async_nats::jetstream::kv::{
    Config, CreateErrorKind, Entry, Operation, Store, UpdateErrorKind, Watch as Changes,
};
use async_nats::jetstream::stream::{External, Source};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::{Api, Parts, library_failure};
use crate::bucket::{self, Kind, storage};
use crate::cli::kv::{Add, Create, Delete, Get, History, Kv, List, Purge, Put, Remove, Update, Watch};
use crate::cli::{Connection, Output};
use crate::confirm::confirm;
use crate::draft::stdin;
use crate::exit::{Failure, Outcome};
use crate::show::{print_json, print_names, readable};
use crate::signals::Signals;
use crate::table::{Column, Table};
use crate::units::{age, count, limit, local, rough, size};

pub(crate) async fn run(command: &Kv, connection: &Connection) -> Outcome {
    let mut api = Api::open(connection).await?;
    match command {
        Kv::Ls(args) => match &args.bucket {
            Some(bucket) => list_keys(bucket, args, &mut api).await,
            None => list(args, &mut api).await,
        },
        Kv::Info(args) => Kind::KEY_VALUE.show(&args.bucket, args.output, &mut api).await,
        Kv::Add(args) => add(args, &mut api).await,
        Kv::Get(args) => get(args, &mut api).await,
        Kv::Put(args) => put(args, &mut api).await,
        Kv::Create(args) => create(args, &mut api).await,
        Kv::Update(args) => update(args, &mut api).await,
        Kv::Del(args) => delete(args, &mut api).await,
        Kv::Purge(args) => purge(args, &mut api).await,
        Kv::Watch(args) => watch(args, &mut api).await,
        Kv::History(args) => history(args, &mut api).await,
        Kv::Rm(args) => remove(args, &mut api).await,
    }
}

async fn list(args: &List, api: &mut Api) -> Outcome {
    let buckets = Kind::KEY_VALUE.all(api).await?;
    if args.output.json {
        return buckets.iter().try_for_each(|(_, stream)| print_json(stream));
    }
    if args.names {
        return print_names(buckets.iter().map(|(bucket, _)| bucket.as_str()));
    }
    let mut table = Table::new([
        Column::Text("BUCKET"),
        Column::Text("STORAGE"),
        Column::Number("VALUES"),
        Column::Number("SIZE"),
        Column::Number("HISTORY"),
        Column::Number("TTL"),
        Column::Number("LAST"),
        Column::Text("DESCRIPTION"),
    ]);
    for (bucket, stream) in buckets {
        let (config, state) = (&stream["config"], &stream["state"]);
        table.row([
            bucket,
            config.text("storage").to_owned(),
            count(state.count("messages")),
            size(state.count("bytes")),
            count(config.count("max_msgs_per_subject")),
            limit(config.number("max_age"), |_| rough(config.nanos("max_age"))),
            state.time("last_ts").map_or("-".to_owned(), |time| format!("{} ago", age(time))),
            config.text("description").to_owned(),
        ]);
    }
    Ok(table.print("No buckets")?)
}

async fn list_keys(bucket: &str, args: &List, api: &mut Api) -> Outcome {
    let store = open(api, bucket).await?;
    let keys = api.client_work(store.keys()).await?;
    let mut keys: Vec<String> = api.client_work(keys.try_collect()).await?;
    keys.sort();
    if !args.verbose {
        return match args.output.json {
            true => keys.iter().try_for_each(|key| print_json(&json!({"bucket": bucket, "key": key}))),
            false => print_names(keys.iter().map(String::as_str)),
        };
    }
    let mut table = Table::new([
        Column::Text("KEY"),
        Column::Number("REVISION"),
        Column::Number("AGE"),
        Column::Number("SIZE"),
        Column::Text("VALUE"),
    ]);
    for key in keys {
        let entry = api.client_work(store.entry(key)).await?;
        // It may have been deleted meanwhile.
        let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) else { continue };
        if args.output.json {
            print_json(&Record::new(&entry, args.display_value))?;
            continue;
        }
        let value = if args.display_value { readable(&entry.value) } else { String::new() };
        let (revision, bytes) = (entry.revision.to_string(), size(entry.value.len() as u64));
        table.row([entry.key.clone(), revision, age(created(&entry)), bytes, value]);
    }
    match args.output.json {
        true => Ok(()),
        false => Ok(table.print("No keys")?),
    }
}

async fn add(args: &Add, api: &mut Api) -> Outcome {
    let max_value_size = i32::try_from(args.max_value_size.unwrap_or(-1))
        .map_err(|_| Failure::usage("--max-value-size: a value can't be that large"))?;
    let mirror = args.mirror.as_ref().map(|name| Source {
        name: name.clone(),
        external: args
            .mirror_domain
            .as_ref()
            .map(|domain| External { api_prefix: format!("$JS.{domain}.API"), delivery_prefix: None }),
        ..Source::default()
    });
    let config = Config {
        bucket: args.bucket.clone(),
        description: args.description.clone().unwrap_or_default(),
        history: args.history,
        storage: storage(args.storage),
        max_age: args.ttl.unwrap_or_default(),
        limit_markers: args.marker_ttl,
        max_value_size,
        max_bytes: args.max_bucket_size.unwrap_or(-1),
        num_replicas: args.replicas,
        compression: args.compress,
        mirror,
        ..Config::default()
    };
    let jetstream = api.jetstream();
    api.client_work(jetstream.create_key_value(config)).await?;
    Kind::KEY_VALUE.show(&args.bucket, args.output, api).await
}

async fn get(args: &Get, api: &mut Api) -> Outcome {
    let store = open(api, &args.bucket).await?;
    let key = args.key.as_str();
    let entry = match args.revision {
        Some(revision) => api.client_work(store.entry_for_revision(key, revision)).await?,
        None => api.client_work(store.entry(key)).await?,
    };
    let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) else {
        return Err(Failure::runtime(format_args!(
            "there is no value under {key} in bucket {}",
            args.bucket
        )));
    };
    let mut out = std::io::stdout().lock();
    if args.raw {
        out.write_all(&entry.value)?;
        return Ok(out.flush()?);
    }
    if args.output.json {
        return print_json(&Record::new(&entry, true));
    }
    let (revision, bytes, age) = (entry.revision, size(entry.value.len() as u64), age(created(&entry)));
    writeln!(out, "{} {key}  revision {revision}  {bytes}  {age} ago", args.bucket)?;
    match out.is_terminal() {
        true => writeln!(out, "{}", readable(&entry.value))?,
        false => {
            out.write_all(&entry.value)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Refuses what can't be a key, with the reason.
fn check_key(key: &str) -> Outcome {
    let good = |char: char| char.is_ascii_alphanumeric() || "-/_=.".contains(char);
    let ends = key.starts_with('.') || key.ends_with('.') || key.contains("..");
    match key.is_empty() || ends || !key.chars().all(good) {
        true => Err(Failure::usage(format_args!(
            "{key:?} cannot be a key: keys have letters, digits and - / _ = and single dots between them"
        ))),
        false => Ok(()),
    }
}

async fn put(args: &Put, api: &mut Api) -> Outcome {
    check_key(&args.key)?;
    let store = open(api, &args.bucket).await?;
    let value = value(args.value.as_deref(), api).await?;
    let revision = api.client_work(store.put(args.key.as_str(), value)).await?;
    stored(&args.bucket, &args.key, revision, args.output)
}

async fn create(args: &Create, api: &mut Api) -> Outcome {
    check_key(&args.key)?;
    let store = open(api, &args.bucket).await?;
    let value = value(args.value.as_deref(), api).await?;
    let key = args.key.as_str();
    let created = match args.ttl {
        Some(ttl) => api.link.watched(store.create_with_ttl(key, value, ttl)).await?,
        None => api.link.watched(store.create(key, value)).await?,
    };
    match created {
        Ok(revision) => stored(&args.bucket, key, revision, args.output),
        Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {
            let entry = api.client_work(store.entry(key)).await?;
            let revision = entry.map_or_else(String::new, |entry| format!(", revision {}", entry.revision));
            Err(Failure::runtime(format_args!("{key} has a value already{revision}")))
        }
        Err(error) => Err(library_failure(&error)),
    }
}

async fn update(args: &Update, api: &mut Api) -> Outcome {
    check_key(&args.key)?;
    let store = open(api, &args.bucket).await?;
    let (key, value) = (args.key.as_str(), Bytes::from(args.value.clone()));
    match api.link.watched(store.update(key, value, args.revision)).await? {
        Ok(revision) => stored(&args.bucket, key, revision, args.output),
        Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {
            let entry = api.client_work(store.entry(key)).await?;
            Err(match entry {
                Some(entry) => Failure::runtime(format_args!(
                    "{key} is at revision {}, not {}",
                    entry.revision, args.revision
                )),
                None => Failure::runtime(format_args!("{key} has no value yet")),
            })
        }
        Err(error) => Err(library_failure(&error)),
    }
}

async fn delete(args: &Delete, api: &mut Api) -> Outcome {
    let store = open(api, &args.bucket).await?;
    confirm(args.force, &format!("delete {} in bucket {}", args.key, args.bucket))?;
    api.client_work(store.delete(args.key.as_str())).await?;
    Ok(writeln!(std::io::stdout().lock(), "Deleted {} in bucket {}", args.key, args.bucket)?)
}

async fn purge(args: &Purge, api: &mut Api) -> Outcome {
    let store = open(api, &args.bucket).await?;
    confirm(args.force, &format!("remove all values of {} in bucket {}", args.key, args.bucket))?;
    let key = args.key.as_str();
    match args.ttl {
        Some(ttl) => api.client_work(store.purge_with_ttl(key, ttl)).await?,
        None => api.client_work(store.purge(key)).await?,
    }
    Ok(writeln!(std::io::stdout().lock(), "Removed all values of {key} in bucket {}", args.bucket)?)
}

async fn watch(args: &Watch, api: &mut Api) -> Outcome {
    let signals = Signals::catch()?;
    let store = open(api, &args.bucket).await?;
    let key = args.key.as_str();
    let changes: Changes = match (args.history, args.updates, args.revision) {
        (true, ..) => api.client_work(store.watch_from_revision(key, 1)).await?,
        (_, true, _) => api.client_work(store.watch(key)).await?,
        (_, _, Some(revision)) => api.client_work(store.watch_from_revision(key, revision)).await?,
        _ => api.client_work(store.watch_with_history(key)).await?,
    };
    eprintln!("Watching {key} in bucket {} (Ctrl-C ends)", args.bucket);
    bucket::watch(changes, args.count, signals, api, |entry| change_line(entry, args.output)).await
}

async fn history(args: &History, api: &mut Api) -> Outcome {
    let store = open(api, &args.bucket).await?;
    let entries = api.client_work(store.history(args.key.as_str())).await?;
    let entries: Vec<Entry> = api.client_work(entries.try_collect()).await?;
    if entries.is_empty() {
        return Err(Failure::runtime(format_args!(
            "{} has never had a value in bucket {}",
            args.key, args.bucket
        )));
    }
    if args.output.json {
        return entries.iter().try_for_each(|entry| print_json(&Record::new(entry, true)));
    }
    let mut table = Table::new([
        Column::Number("REVISION"),
        Column::Text("WHEN"),
        Column::Text("WHAT"),
        Column::Number("SIZE"),
        Column::Text("VALUE"),
    ]);
    for entry in &entries {
        table.row([
            entry.revision.to_string(),
            local(created(entry)),
            operation(entry).to_owned(),
            size(entry.value.len() as u64),
            readable(&entry.value),
        ]);
    }
    Ok(table.print("")?)
}

async fn remove(args: &Remove, api: &mut Api) -> Outcome {
    let holds = |state: &Value| match state.count("messages") {
        1 => "1 value".to_owned(),
        values => format!("{} values", count(values)),
    };
    Kind::KEY_VALUE.remove(&args.bucket, args.force, holds, api).await
}

async fn open(api: &mut Api, name: &str) -> Outcome<Store> {
    Kind::KEY_VALUE.find(name, api).await?;
    let jetstream = api.jetstream();
    api.client_work(jetstream.get_key_value(name)).await
}

/// A value from the command line or, if there is none, from stdin.
async fn value(given: Option<&str>, api: &Api) -> Outcome<Bytes> {
    match given {
        Some(value) => Ok(Bytes::from(value.to_owned())),
        None if std::io::stdin().is_terminal() => {
            Err(Failure::usage("there is no value: give one, or send it to stdin"))
        }
        None => stdin(api.link.client.max_payload()).await,
    }
}

fn stored(bucket: &str, key: &str, revision: u64, output: Output) -> Outcome {
    match output.json {
        true => print_json(&json!({"bucket": bucket, "key": key, "revision": revision})),
        false => Ok(writeln!(std::io::stdout().lock(), "{bucket} {key}  revision {revision}")?),
    }
}

/// `[7] attic.heater  4m ago  put  on`
fn change_line(entry: &Entry, output: Output) -> Outcome {
    if output.json {
        return print_json(&Record::new(entry, true));
    }
    let key = crate::show::harmless(&entry.key);
    let value = match entry.operation {
        Operation::Put => format!("  {}", readable(&entry.value)),
        Operation::Delete | Operation::Purge => String::new(),
    };
    let (revision, age, what) = (entry.revision, age(created(entry)), operation(entry));
    Ok(writeln!(std::io::stdout().lock(), "[{revision}] {key}  {age} ago  {what}{value}")?)
}

fn operation(entry: &Entry) -> &'static str {
    match entry.operation {
        Operation::Put => "put",
        Operation::Delete => "delete",
        Operation::Purge => "purge",
    }
}

fn created(entry: &Entry) -> Timestamp {
    // The library's range of times is jiff's; what is out of it is no time.
    Timestamp::from_nanosecond(entry.created.unix_timestamp_nanos()).unwrap_or_default()
}

/// An entry as `--json` prints it.
#[derive(Serialize)]
struct Record<'a> {
    bucket: &'a str,
    key: &'a str,
    revision: u64,
    operation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    /// The value, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    size: usize,
    time: String,
}

impl<'a> Record<'a> {
    fn new(entry: &'a Entry, with_value: bool) -> Record<'a> {
        let with_value = with_value && entry.operation == Operation::Put;
        let text = std::str::from_utf8(&entry.value);
        Record {
            bucket: &entry.bucket,
            key: &entry.key,
            revision: entry.revision,
            operation: operation(entry),
            data: text.ok().filter(|_| with_value),
            data_base64: (text.is_err() && with_value).then(|| BASE64_STANDARD.encode(&entry.value)),
            size: entry.value.len(),
            time: created(entry).to_string(),
        }
    }
}
