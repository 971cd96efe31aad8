//! `midge object`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use async_nats::jetstream::object_store::{
    Config, GetErrorKind, InfoErrorKind, ObjectInfo, ObjectMetadata, ObjectStore,
};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use serde_json::Value;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::api::{Api, Parts, library_failure};
use crate::backup::Part;
use crate::bucket::{self, Kind, storage};
use crate::cli::object::{Add, Delete, Get, Info, List, Object, Put, Remove, Watch};
use crate::cli::{Connection, Output};
use crate::confirm::confirm;
use crate::exit::{Failure, Outcome};
use crate::progress;
use crate::show::{harmless, print_json, print_names, short};
use crate::signals::Signals;
use crate::table::{Column, Sheet, Table};
use crate::units::{age, count, limit, local_and_age, rough, size};

pub(crate) async fn run(command: &Object, connection: &Connection) -> Outcome {
    let mut api = Api::open(connection).await?;
    match command {
        Object::Ls(args) => match &args.bucket {
            Some(bucket) => list_objects(bucket, args, &mut api).await,
            None => list(args, &mut api).await,
        },
        Object::Add(args) => add(args, &mut api).await,
        Object::Put(args) => put(args, &mut api).await,
        Object::Get(args) => get(args, &mut api).await,
        Object::Info(args) => info(args, &mut api).await,
        Object::Del(args) => delete(args, &mut api).await,
        Object::Rm(args) => remove(args, &mut api).await,
        Object::Watch(args) => watch(args, &mut api).await,
    }
}

async fn list(args: &List, api: &mut Api) -> Outcome {
    let buckets = Kind::OBJECT.all(api).await?;
    if args.output.json {
        return buckets.iter().try_for_each(|(_, stream)| print_json(stream));
    }
    if args.names {
        return print_names(buckets.iter().map(|(bucket, _)| bucket.as_str()));
    }
    let mut table = Table::new([
        Column::Text("BUCKET"),
        Column::Text("STORAGE"),
        Column::Number("SIZE"),
        Column::Number("TTL"),
        Column::Number("LAST"),
        Column::Text("DESCRIPTION"),
    ]);
    for (bucket, stream) in &buckets {
        let (config, state) = (&stream["config"], &stream["state"]);
        table.row([
            bucket.clone(),
            config.text("storage").to_owned(),
            size(state.count("bytes")),
            limit(config.number("max_age"), |_| rough(config.nanos("max_age"))),
            state.time("last_ts").map_or("-".to_owned(), |time| format!("{} ago", age(time))),
            config.text("description").to_owned(),
        ]);
    }
    Ok(table.print("No buckets")?)
}

async fn list_objects(bucket: &str, args: &List, api: &mut Api) -> Outcome {
    let store = open(api, bucket).await?;
    let objects = api.client_work(store.list()).await?;
    let mut objects: Vec<ObjectInfo> = api.client_work(objects.try_collect()).await?;
    objects.sort_by(|a, b| a.name.cmp(&b.name));
    if args.output.json {
        return objects.iter().try_for_each(print_json);
    }
    if args.names {
        return print_names(objects.iter().map(|object| object.name.as_str()));
    }
    let mut table = Table::new([
        Column::Text("NAME"),
        Column::Number("SIZE"),
        Column::Number("AGE"),
        Column::Text("DESCRIPTION"),
    ]);
    for object in &objects {
        table.row([
            object.name.clone(),
            size(object.size as u64),
            modified(object).map_or_else(|| "-".to_owned(), age),
            object.description.clone().unwrap_or_default(),
        ]);
    }
    Ok(table.print("No objects")?)
}

async fn add(args: &Add, api: &mut Api) -> Outcome {
    let config = Config {
        bucket: args.bucket.clone(),
        description: args.description.clone(),
        max_age: args.ttl.unwrap_or_default(),
        max_bytes: args.max_bucket_size.unwrap_or(-1),
        storage: storage(args.storage),
        num_replicas: args.replicas,
        compression: args.compress,
        placement: None,
    };
    let jetstream = api.jetstream();
    api.client_work(jetstream.create_object_store(config)).await?;
    Kind::OBJECT.show(&args.bucket, args.output, api).await
}

async fn put(args: &Put, api: &mut Api) -> Outcome {
    let base = args.file.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let Some(name) = args.name.clone().or(base) else {
        return Err(Failure::usage("what is it called? Give --name"));
    };
    let store = open(api, &args.bucket).await?;
    let there = match api.link.watched(store.info(&name)).await? {
        Ok(object) => !object.deleted,
        Err(error) if error.kind() == InfoErrorKind::NotFound => false,
        Err(error) => return Err(library_failure(&error)),
    };
    if there {
        confirm(args.force, &format!("replace {name} in bucket {}", args.bucket))?;
    }
    let chunk_size = args.chunk_size.map(usize::try_from).transpose();
    let chunk_size = chunk_size.ok().filter(|size| *size != Some(0));
    let meta = ObjectMetadata {
        name,
        description: args.description.clone(),
        chunk_size: chunk_size.ok_or_else(|| Failure::usage("--chunk-size: a piece has to have a size"))?,
        ..ObjectMetadata::default()
    };
    let started = Instant::now();
    let stored = match &args.file {
        Some(path) => {
            let unreadable = |error: std::io::Error| {
                Failure::runtime(format_args!("cannot read {}: {error}", path.display()))
            };
            let file = File::open(path).await.map_err(unreadable)?;
            let len = file.metadata().await.map_err(unreadable)?.len();
            let bar = progress::bytes(len, args.no_progress);
            let stored = store_object(api, &store, meta, bar.wrap_async_read(file)).await;
            bar.finish_and_clear();
            stored?
        }
        None => store_object(api, &store, meta, tokio::io::stdin()).await?,
    };
    if args.output.json {
        return print_json(&stored);
    }
    let (bytes, took) = (size(stored.size as u64), short(started.elapsed()));
    Ok(writeln!(
        std::io::stdout().lock(),
        "Stored {} in bucket {}, {bytes}, in {took}",
        stored.name,
        args.bucket
    )?)
}

async fn store_object(
    api: &mut Api,
    store: &ObjectStore,
    meta: ObjectMetadata,
    mut data: impl AsyncRead + Unpin,
) -> Outcome<ObjectInfo> {
    api.client_work(store.put(meta, &mut data)).await
}

async fn get(args: &Get, api: &mut Api) -> Outcome {
    let store = open(api, &args.bucket).await?;
    let to_stdout = args.output.as_deref() == Some(Path::new("-"));
    let path = match (&args.output, Path::new(&args.object).file_name()) {
        (Some(path), _) => path.clone(),
        (None, Some(name)) => PathBuf::from(name),
        (None, None) => return Err(Failure::usage("it has no name that a file can have; give --output")),
    };
    if !to_stdout && path.exists() {
        confirm(args.force, &format!("replace the file {}", path.display()))?;
    }
    let started = Instant::now();
    let object = match api.link.watched(store.get(&args.object)).await? {
        Ok(object) => object,
        Err(error) if error.kind() == GetErrorKind::NotFound => {
            return Err(missing(&args.object, &args.bucket));
        }
        Err(error) => return Err(library_failure(&error)),
    };
    let bar = progress::bytes(object.info().size as u64, args.no_progress);
    let object = bar.wrap_async_read(object);
    if to_stdout {
        copy(api, object, tokio::io::stdout()).await?;
        bar.finish_and_clear();
        return Ok(());
    }
    let unwritable =
        |error: std::io::Error| Failure::runtime(format_args!("cannot write {}: {error}", path.display()));
    let part = Part::new(&path);
    let mut file = File::create(&part.path).await.map_err(unwritable)?;
    let bytes = copy(api, object, &mut file).await?;
    bar.finish_and_clear();
    file.sync_all().await.map_err(unwritable)?;
    std::fs::rename(&part.path, &path).map_err(unwritable)?;
    let (bytes, took, path) = (size(bytes), short(started.elapsed()), path.display());
    Ok(writeln!(std::io::stdout().lock(), "Wrote {} to {path}, {bytes}, in {took}", harmless(&args.object))?)
}

/// Copies an object, whose last read fails if its digest is wrong.
async fn copy(
    api: &mut Api,
    mut object: impl AsyncRead + Unpin,
    mut target: impl AsyncWrite + Unpin,
) -> Outcome<u64> {
    let copied = async {
        let bytes = tokio::io::copy(&mut object, &mut target).await?;
        target.flush().await?;
        Ok(bytes)
    };
    api.link.watched(copied).await?.map_err(|error: std::io::Error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::runtime(format_args!("cannot copy the object: {error}")),
    })
}

async fn info(args: &Info, api: &mut Api) -> Outcome {
    let Some(name) = &args.object else {
        return Kind::OBJECT.show(&args.bucket, args.output, api).await;
    };
    let object = object(api, &args.bucket, name).await?;
    if args.output.json {
        return print_json(&object);
    }
    let mut sheet = Sheet::new(format!("Object {} in bucket {}", object.name, object.bucket));
    sheet.say_if("Description", object.description.clone().unwrap_or_default());
    sheet.say("Size", size(object.size as u64));
    sheet.say("Pieces", count(object.chunks as u64));
    if let Some(time) = modified(&object) {
        sheet.say("Stored", local_and_age(time));
    }
    sheet.say_if("Digest", object.digest.clone().unwrap_or_default());
    if let Some(link) = object.options.as_ref().and_then(|options| options.link.as_ref()) {
        sheet.say("Link to", format!("{} {}", link.bucket, link.name.as_deref().unwrap_or_default()));
    }
    for (key, value) in &object.metadata {
        sheet.say(format!("Metadata {key}"), value);
    }
    Ok(sheet.print()?)
}

async fn delete(args: &Delete, api: &mut Api) -> Outcome {
    object(api, &args.bucket, &args.object).await?;
    let store = open(api, &args.bucket).await?;
    confirm(args.force, &format!("remove {} from bucket {}", args.object, args.bucket))?;
    api.client_work(store.delete(&args.object)).await?;
    let object = harmless(&args.object);
    Ok(writeln!(std::io::stdout().lock(), "Removed {object} from bucket {}", args.bucket)?)
}

async fn remove(args: &Remove, api: &mut Api) -> Outcome {
    let holds = |state: &Value| format!("{} of objects", size(state.count("bytes")));
    Kind::OBJECT.remove(&args.bucket, args.force, holds, api).await
}

async fn watch(args: &Watch, api: &mut Api) -> Outcome {
    let signals = Signals::catch()?;
    let store = open(api, &args.bucket).await?;
    let changes = match args.updates {
        true => api.client_work(store.watch()).await?,
        false => api.client_work(store.watch_with_history()).await?,
    };
    eprintln!("Watching bucket {} (Ctrl-C ends)", args.bucket);
    bucket::watch(changes, args.count, signals, api, |object| change_line(object, args.output)).await
}

/// `valve-1.4.bin  4m ago  put  1.2 MB`
fn change_line(object: &ObjectInfo, output: Output) -> Outcome {
    if output.json {
        return print_json(object);
    }
    let what = if object.deleted { "delete" } else { "put" };
    let age = modified(object).map_or_else(|| "?".to_owned(), age);
    let (name, bytes) = (harmless(&object.name), size(object.size as u64));
    Ok(writeln!(std::io::stdout().lock(), "{name}  {age} ago  {what}  {bytes}")?)
}

async fn open(api: &mut Api, name: &str) -> Outcome<ObjectStore> {
    Kind::OBJECT.find(name, api).await?;
    let jetstream = api.jetstream();
    api.client_work(jetstream.get_object_store(name)).await
}

/// What is known about an object, which has to exist.
async fn object(api: &mut Api, bucket: &str, name: &str) -> Outcome<ObjectInfo> {
    let store = open(api, bucket).await?;
    match api.link.watched(store.info(name)).await? {
        Ok(object) if !object.deleted => Ok(object),
        Ok(_) => Err(missing(name, bucket)),
        Err(error) if error.kind() == InfoErrorKind::NotFound => Err(missing(name, bucket)),
        Err(error) => Err(library_failure(&error)),
    }
}

fn missing(name: &str, bucket: &str) -> Failure {
    Failure::runtime(format_args!("there is no object {name} in bucket {bucket}"))
}

fn modified(object: &ObjectInfo) -> Option<Timestamp> {
    Timestamp::from_nanosecond(object.modified?.unix_timestamp_nanos()).ok()
}
