//! `midge stream`

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::api::{Api, MESSAGE_NOT_FOUND, NOT_DELETED, Parts, Refusal, check_name};
use crate::backup;
use crate::cli::Connection;
use crate::cli::Storage;
use crate::cli::stream::{
    Add, Compression, Discard, Edit, Find, Gaps, Get, Info, List, PersistMode, Purge, Remove, RemoveMessage,
    Report, Retention, Seal, Settings, Stream, Subjects, Syncing,
};
use crate::confirm::confirm;
use crate::exit::{Failure, Outcome};
use crate::origin::stored;
use crate::show::{Show, print_json, print_names};
use crate::table::{Column, Sheet, Table};
use crate::units::{age, count, exact, limit, local_and_age, nanos, size};

pub(crate) async fn run(command: &Stream, connection: &Connection) -> Outcome {
    let mut api = Api::open(connection).await?;
    match command {
        Stream::Ls(args) => list(args, &mut api).await,
        Stream::Report(args) => report(args, &mut api).await,
        Stream::Find(args) => find(args, &mut api).await,
        Stream::Info(args) => info(args, &mut api).await,
        Stream::Subjects(args) => subjects(args, &mut api).await,
        Stream::Gaps(args) => gaps(args, &mut api).await,
        Stream::Seal(args) => seal(args, &mut api).await,
        Stream::Add(args) => add(args, &mut api).await,
        Stream::Edit(args) => edit(args, &mut api).await,
        Stream::Rm(args) => remove(args, &mut api).await,
        Stream::Purge(args) => purge(args, &mut api).await,
        Stream::Get(args) => get(args, &mut api).await,
        Stream::Rmm(args) => remove_message(args, &mut api).await,
        Stream::Backup(args) => backup::backup(args, &mut api).await,
        Stream::Restore(args) => backup::restore(args, &mut api).await,
    }
}

async fn list(args: &List, api: &mut Api) -> Outcome {
    let filter = args.subject.as_ref().map_or(json!({}), |subject| json!({"subject": subject}));
    let mut streams = api.pages("STREAM.LIST", "streams", filter).await?;
    streams.sort_by(|a, b| a["config"].text("name").cmp(b["config"].text("name")));
    let all = streams.len();
    streams.retain(|stream| args.all || !is_bucket(stream["config"].text("name")));
    let hidden = all - streams.len();
    if args.output.json {
        return streams.iter().try_for_each(print_json);
    }
    if args.names {
        return print_names(streams.iter().map(|stream| stream["config"].text("name")));
    }
    print_streams(&streams)?;
    if hidden > 0 {
        eprintln!("{hidden} of buckets aren't shown (--all shows them)");
    }
    Ok(())
}

/// One line for each.
fn print_streams(streams: &[Value]) -> Outcome {
    let mut table = Table::new([
        Column::Text("NAME"),
        Column::Text("STORAGE"),
        Column::Number("MESSAGES"),
        Column::Number("SIZE"),
        Column::Number("CONSUMERS"),
        Column::Number("LAST"),
        Column::Text("SUBJECTS"),
    ]);
    for stream in streams {
        let (config, state) = (&stream["config"], &stream["state"]);
        table.row([
            config.text("name").to_owned(),
            config.text("storage").to_owned(),
            count(state.count("messages")),
            size(state.count("bytes")),
            count(state.count("consumer_count")),
            state.time("last_ts").map_or("-".to_owned(), |time| format!("{} ago", age(time))),
            origins(config),
        ]);
    }
    Ok(table.print("No streams")?)
}

async fn report(args: &Report, api: &mut Api) -> Outcome {
    let mut streams = api.pages("STREAM.LIST", "streams", json!({})).await?;
    streams.retain(|stream| !args.no_buckets || !is_bucket(stream["config"].text("name")));
    streams.sort_by(|a, b| {
        let bytes = |stream: &Value| stream["state"].count("bytes");
        bytes(b).cmp(&bytes(a)).then_with(|| a["config"].text("name").cmp(b["config"].text("name")))
    });
    if args.output.json {
        return streams.iter().try_for_each(print_json);
    }
    let mut table = Table::new([
        Column::Text("NAME"),
        Column::Text("STORAGE"),
        Column::Number("MESSAGES"),
        Column::Number("SIZE"),
        Column::Number("SUBJECTS"),
        Column::Number("CONSUMERS"),
        Column::Number("DELETED"),
        Column::Number("LOST"),
        Column::Number("LAG"),
    ]);
    for stream in &streams {
        let (config, state) = (&stream["config"], &stream["state"]);
        let origins = stream["sources"].as_array().into_iter().flatten().chain(stream.get("mirror"));
        let lags: Vec<u64> = origins.map(|origin| origin.count("lag")).collect();
        table.row([
            config.text("name").to_owned(),
            config.text("storage").to_owned(),
            count(state.count("messages")),
            size(state.count("bytes")),
            count(state.count("num_subjects")),
            count(state.count("consumer_count")),
            count(state.count("num_deleted")),
            count(state["lost"]["msgs"].as_array().map_or(0, |lost| lost.len() as u64)),
            if lags.is_empty() { "-".to_owned() } else { count(lags.iter().sum()) },
        ]);
    }
    Ok(table.print("No streams")?)
}

async fn find(args: &Find, api: &mut Api) -> Outcome {
    let filter = args.subject.as_ref().map_or(json!({}), |subject| json!({"subject": subject}));
    let holds = api.pages("STREAM.LIST", "streams", filter).await?;
    // Those that don't hold the subject are wanted only if the search is turned round.
    let mut streams = match args.invert && args.subject.is_some() {
        true => api.pages("STREAM.LIST", "streams", json!({})).await?,
        false => holds.clone(),
    };
    let holds: Vec<&str> = holds.iter().map(|stream| stream["config"].text("name")).collect();
    let now = jiff::Timestamp::now();
    let older = |time: Option<jiff::Timestamp>, than: std::time::Duration| {
        time.is_none_or(|time| now.duration_since(time).unsigned_abs() >= than && time <= now)
    };
    streams.retain(|stream| {
        let (config, state) = (&stream["config"], &stream["state"]);
        let so = holds.contains(&config.text("name"))
            && (!args.empty || state.count("messages") == 0)
            && args.idle.is_none_or(|idle| older(state.time("last_ts"), idle))
            && args.created.is_none_or(|ago| older(stream.time("created"), ago))
            && args.consumers.is_none_or(|most| state.count("consumer_count") <= most)
            && (!args.mirrored || config.get("mirror").is_some())
            && (!args.sourced || config.get("sources").is_some());
        so != args.invert
    });
    streams.sort_by(|a, b| a["config"].text("name").cmp(b["config"].text("name")));
    match args.output.json {
        true => streams.iter().try_for_each(print_json),
        false => print_streams(&streams),
    }
}

async fn subjects(args: &Subjects, api: &mut Api) -> Outcome {
    api.stream(&args.stream).await?;
    let mut all: Vec<(String, u64)> = Vec::new();
    loop {
        let ask = json!({"subjects_filter": args.filter, "offset": all.len()});
        let info = api.ask(&format!("STREAM.INFO.{}", args.stream), &ask).await?;
        let page = info["state"]["subjects"].as_object();
        let page: Vec<_> = page
            .into_iter()
            .flatten()
            .map(|(name, count)| (name.clone(), count.as_u64().unwrap_or(0)))
            .collect();
        let last = page.is_empty();
        all.extend(page);
        if last || all.len() as u64 >= info.count("total") {
            break;
        }
    }
    all.sort();
    if args.output.json {
        return all
            .iter()
            .try_for_each(|(subject, count)| print_json(&json!({"subject": subject, "messages": count})));
    }
    if args.names {
        return print_names(all.iter().map(|(subject, _)| subject.as_str()));
    }
    let mut table = Table::new([Column::Text("SUBJECT"), Column::Number("MESSAGES")]);
    for (subject, messages) in all {
        table.row([subject, count(messages)]);
    }
    Ok(table.print(&format!("No subjects in {}", args.stream))?)
}

async fn gaps(args: &Gaps, api: &mut Api) -> Outcome {
    api.stream(&args.stream).await?;
    let info = api.ask(&format!("STREAM.INFO.{}", args.stream), &json!({"deleted_details": true})).await?;
    // One that never had a message is said to lack number 0.
    let deleted = info["state"]["deleted"].as_array().into_iter().flatten().filter_map(Value::as_u64);
    let gaps = ranges(deleted.filter(|seq| *seq > 0));
    if args.output.json {
        return gaps.iter().try_for_each(|(first, last)| print_json(&json!({"first": first, "last": last})));
    }
    let mut table = Table::new([Column::Number("FIRST"), Column::Number("LAST"), Column::Number("MISSING")]);
    for (first, last) in gaps {
        table.row([first.to_string(), last.to_string(), count(last - first + 1)]);
    }
    Ok(table.print(&format!("No gaps in {}", args.stream))?)
}

/// Numbers that follow each other, as the first and the last of them.
fn ranges(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

async fn seal(args: &Seal, api: &mut Api) -> Outcome {
    let info = api.stream(&args.stream).await?;
    let held = held(&info);
    let mut config = info["config"].clone();
    config["sealed"] = json!(true);
    confirm(args.force, &format!("seal stream {} with {held}, for good", args.stream))?;
    let answer = api.ask(&format!("STREAM.UPDATE.{}", args.stream), &config).await?;
    match args.output.json {
        true => print_json(&answer),
        false => Ok(writeln!(std::io::stdout().lock(), "Sealed stream {} with {held}", args.stream)?),
    }
}

async fn info(args: &Info, api: &mut Api) -> Outcome {
    let info = api.stream(&args.stream).await?;
    match args.output.json {
        true => print_json(&info),
        false => Ok(sheet(&info).print()?),
    }
}

async fn add(args: &Add, api: &mut Api) -> Outcome {
    check_name("stream", &args.stream)?;
    let mut config = match &args.config {
        Some(path) => configuration(path)?,
        None => json!({ "allow_direct": args.settings.mirror.is_none() }),
    };
    config["name"] = json!(args.stream);
    args.settings.apply(&mut config)?;
    let made = api.ask(&format!("STREAM.CREATE.{}", args.stream), &config).await?;
    match args.output.json {
        true => print_json(&made),
        false => Ok(sheet(&made).print()?),
    }
}

async fn edit(args: &Edit, api: &mut Api) -> Outcome {
    let before = api.stream(&args.stream).await?["config"].take();
    let mut after = match &args.config {
        Some(path) => configuration(path)?,
        None => before.clone(),
    };
    after["name"] = json!(args.stream);
    args.settings.apply(&mut after)?;
    let changes = changes(&before, &after);
    if changes.is_empty() {
        return Err(Failure::usage("nothing would change"));
    }
    if args.dry_run || !args.force.force {
        for change in &changes {
            eprintln!("{change}");
        }
    }
    if args.dry_run {
        return Ok(());
    }
    confirm(args.force, &format!("change stream {}", args.stream))?;
    let made = api.ask(&format!("STREAM.UPDATE.{}", args.stream), &after).await?;
    match args.output.json {
        true => print_json(&made),
        false => Ok(sheet(&made).print()?),
    }
}

async fn remove(args: &Remove, api: &mut Api) -> Outcome {
    let info = api.stream(&args.stream).await?;
    let held = held(&info);
    confirm(args.force, &format!("remove stream {} with {held}", args.stream))?;
    let answer = api.ask(&format!("STREAM.DELETE.{}", args.stream), &Value::Null).await?;
    match args.output.json {
        true => print_json(&answer),
        false => Ok(writeln!(std::io::stdout().lock(), "Removed stream {} with {held}", args.stream)?),
    }
}

async fn purge(args: &Purge, api: &mut Api) -> Outcome {
    let info = api.stream(&args.stream).await?;
    let mut request = json!({});
    let mut what = match &args.subject {
        Some(subject) => {
            request["filter"] = json!(subject);
            format!("remove messages of {subject} from stream {}", args.stream)
        }
        None => format!("remove messages from stream {}, which holds {}", args.stream, held(&info)),
    };
    if let Some(seq) = args.seq {
        request["seq"] = json!(seq);
        what += &format!(", those before {seq}");
    }
    if let Some(keep) = args.keep {
        request["keep"] = json!(keep);
        what += &format!(", all but {keep}");
    }
    confirm(args.force, &what)?;
    let answer = api.ask(&format!("STREAM.PURGE.{}", args.stream), &request).await?;
    match args.output.json {
        true => print_json(&answer),
        false => Ok(writeln!(
            std::io::stdout().lock(),
            "Removed {} from stream {}",
            messages(answer.count("purged")),
            args.stream
        )?),
    }
}

async fn get(args: &Get, api: &mut Api) -> Outcome {
    check_name("stream", &args.stream)?;
    let request = match (&args.last_for, args.seq) {
        (Some(subject), _) => json!({"last_by_subj": subject}),
        (None, seq) => json!({"seq": seq}),
    };
    let answer = api.try_ask(&format!("STREAM.MSG.GET.{}", args.stream), &request).await?;
    let answer = match answer {
        Err(Refusal { err_code: MESSAGE_NOT_FOUND, .. }) => {
            return Err(Failure::runtime(format_args!("there is no such message in stream {}", args.stream)));
        }
        answer => answer?,
    };
    let (message, origin) = stored(&args.stream, &answer["message"])?;
    let mut show = Show::new(args.display);
    show.stored(&message, &origin)?;
    Ok(show.flush()?)
}

async fn remove_message(args: &RemoveMessage, api: &mut Api) -> Outcome {
    check_name("stream", &args.stream)?;
    confirm(args.force, &format!("remove message {} from stream {}", args.seq, args.stream))?;
    let tail = format!("STREAM.MSG.DELETE.{}", args.stream);
    let answer = match api.try_ask(&tail, &json!({"seq": args.seq})).await? {
        Err(refusal) if NOT_DELETED.contains(&refusal.err_code) => {
            let (seq, stream) = (args.seq, &args.stream);
            return Err(Failure::runtime(format_args!("there is no message {seq} in stream {stream}")));
        }
        answer => answer?,
    };
    match args.output.json {
        true => print_json(&answer),
        false => Ok(writeln!(
            std::io::stdout().lock(),
            "Removed message {} from stream {}",
            args.seq,
            args.stream
        )?),
    }
}

impl Settings {
    /// Puts what was given into a configuration, and leaves the rest of it.
    fn apply(&self, config: &mut Value) -> Outcome {
        let Value::Object(config) = config else {
            return Err(Failure::config("a stream's configuration is a JSON object"));
        };
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                config.insert(name.to_owned(), value);
            }
        };
        let duration = |given: Option<std::time::Duration>| given.map(|given| json!(nanos(given)));
        set("subjects", Some(json!(self.subjects)).filter(|_| !self.subjects.is_empty()));
        set("description", self.description.as_ref().map(|text| json!(text)));
        set("storage", self.storage.map(|storage| json!(storage.name())));
        set("compression", self.compression.map(|compression| json!(compression.name())));
        set("retention", self.retention.map(|retention| json!(retention.name())));
        set("discard", self.discard.map(|discard| json!(discard.name())));
        set("discard_new_per_subject", self.discard_per_subject.map(Value::from));
        set("first_seq", self.first_sequence.map(Value::from));
        set("max_age", duration(self.max_age));
        set("max_bytes", self.max_bytes.map(Value::from));
        set("max_msgs", self.max_msgs.map(Value::from));
        set("max_msgs_per_subject", self.max_msgs_per_subject.map(Value::from));
        set("max_msg_size", self.max_msg_size.map(Value::from));
        set("max_consumers", self.max_consumers.map(Value::from));
        set("duplicate_window", duration(self.dupe_window));
        set("num_replicas", self.replicas.map(Value::from));
        set("no_ack", self.ack.map(|ack| json!(!ack)).or(self.no_ack.then_some(json!(true))));
        let direct = self.allow_direct.or(self.no_allow_direct.then_some(false));
        set("allow_direct", direct.map(Value::from));
        set("mirror_direct", self.allow_mirror_direct.map(Value::from));
        set("allow_msg_ttl", self.allow_msg_ttl.map(Value::from));
        set("subject_delete_marker_ttl", duration(self.subject_del_markers_ttl));
        set("allow_rollup_hdrs", self.allow_rollup.map(Value::from));
        set("allow_msg_schedules", self.allow_schedules.map(Value::from));
        set("allow_atomic", self.allow_batch.map(Value::from));
        set("allow_batched", self.allow_fast.map(Value::from));
        set("allow_msg_counter", self.allow_counter.map(Value::from));
        set("deny_delete", self.deny_delete.map(Value::from));
        set("deny_purge", self.deny_purge.map(Value::from));
        set("persist_mode", self.persist_mode.map(|mode| json!(mode.name())));
        set("mirror", self.mirror.as_ref().map(|name| json!({"name": name})));
        let sources = self.source.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        set("sources", Some(json!(sources)).filter(|_| !sources.is_empty()));
        if let (Some(from), Some(to)) = (&self.transform_source, &self.transform_destination) {
            set("subject_transform", Some(json!({"src": from, "dest": to})));
        }
        if let (Some(from), Some(to)) = (&self.republish_source, &self.republish_destination) {
            let headers_only = self.republish_headers;
            set("republish", Some(json!({"src": from, "dest": to, "headers_only": headers_only})));
        }
        for (unset, name) in [
            (self.no_mirror, "mirror"),
            (self.no_transform, "subject_transform"),
            (self.no_republish, "republish"),
        ] {
            if unset {
                config.remove(name);
            }
        }
        let limits = [
            ("inactive_threshold", duration(self.limit_consumer_inactive)),
            ("max_ack_pending", self.limit_consumer_max_pending.map(Value::from)),
        ];
        for (name, value) in limits {
            if let Some(value) = value {
                object(config, "consumer_limits").insert(name.to_owned(), value);
            }
        }
        let ours =
            [("midge.dlq", self.dlq.clone()), ("midge.sync", self.sync.map(|sync| sync.name().to_owned()))];
        let ours = ours.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        for (key, value) in self.metadata.iter().cloned().chain(ours) {
            let metadata = object(config, "metadata");
            match value.is_empty() {
                true => drop(metadata.remove(&key)),
                false => drop(metadata.insert(key, json!(value))),
            }
        }
        Ok(())
    }
}

impl Storage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Storage::File => "file",
            Storage::Memory => "memory",
        }
    }
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::S2 => "s2",
        }
    }
}

impl Retention {
    fn name(self) -> &'static str {
        match self {
            Retention::Limits => "limits",
            Retention::Interest => "interest",
            Retention::Work => "workqueue",
        }
    }
}

impl Discard {
    fn name(self) -> &'static str {
        match self {
            Discard::Old => "old",
            Discard::New => "new",
        }
    }
}

impl PersistMode {
    fn name(self) -> &'static str {
        match self {
            PersistMode::Default => "default",
            PersistMode::Async => "async",
        }
    }
}

impl Syncing {
    fn name(self) -> &'static str {
        match self {
            Syncing::Always => "always",
            Syncing::Interval => "interval",
            Syncing::Os => "os",
        }
    }
}

/// Reads a configuration from a file: one as it is, or inside what `info --json` or a backup says.
pub(crate) fn configuration(path: &Path) -> Outcome<Value> {
    let wrong = |why: String| Failure::config(format_args!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let mut value: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if !value.is_object() {
        return Err(wrong("a configuration is a JSON object".to_owned()));
    }
    match value["config"].is_object() {
        true => Ok(value["config"].take()),
        false => Ok(value),
    }
}

/// The object in a field, which is made if it isn't there.
fn object<'a>(config: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let field = config.entry(name).or_insert_with(|| json!({}));
    if !field.is_object() {
        *field = json!({});
    }
    field.as_object_mut().expect("it was made an object above")
}

/// What would change, a line each: `max_age: 7d -> 30d`.
pub(crate) fn changes(before: &Value, after: &Value) -> Vec<String> {
    let empty = Map::new();
    let (before, after) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let shown = |config: &Map<String, Value>, name: &str| {
        let text = config.get(name).map_or_else(String::new, |value| property(name, value));
        if text.is_empty() { "nothing".to_owned() } else { text }
    };
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    changed
        .map(|name| format!("{name}: {} -> {}", shown(before, name), shown(after, name)))
        .filter(|line| line.split_once(": ").is_some_and(|(_, change)| change != "nothing -> nothing"))
        .collect()
}

/// The stream as people read about it.
pub(crate) fn sheet(info: &Value) -> Sheet {
    let (config, state) = (&info["config"], &info["state"]);
    let mut sheet = Sheet::new(format!("Stream {}", config.text("name")));
    sheet.section("Configuration");
    if let Some(time) = info.time("created") {
        sheet.say("Made", local_and_age(time));
    }
    for (name, label) in PROPERTIES {
        sheet.say_if(label, property(name, &config[name]));
    }
    for (name, value) in config.as_object().into_iter().flatten() {
        let known = PROPERTIES.iter().any(|(known, _)| known == name) || UNSAID.contains(&name.as_str());
        if !known {
            sheet.say_if(name, property(name, value));
        }
    }
    metadata(&mut sheet, config);
    sheet.section("State");
    sheet.say("Messages", count(state.count("messages")));
    sheet.say("Size", size(state.count("bytes")));
    for (label, seq, time) in [("First", "first_seq", "first_ts"), ("Last", "last_seq", "last_ts")] {
        let when = state.time(time).map_or_else(String::new, |time| format!(", {}", local_and_age(time)));
        sheet.say(label, format!("{}{when}", state.count(seq)));
    }
    sheet.say("Subjects", count(state.count("num_subjects")));
    if state.count("num_deleted") > 0 {
        sheet.say("Deleted", count(state.count("num_deleted")));
    }
    sheet.say("Consumers", count(state.count("consumer_count")));
    let upstream = info.get("mirror").into_iter().chain(info.list("sources"));
    for source in upstream.filter(|source| source.is_object()) {
        let lag = messages(source.count("lag"));
        let heard = match source.number("active") {
            0.. => format!("heard {} ago", crate::units::rough(source.nanos("active"))),
            _ => "never heard".to_owned(),
        };
        sheet.say(format!("From {}", source.text("name")), format!("{lag} behind, {heard}"));
    }
    sheet
}

/// What people have noted. What servers note for themselves is in the JSON.
pub(crate) fn metadata(sheet: &mut Sheet, config: &Value) {
    let noted = config["metadata"].as_object().into_iter().flatten();
    for (key, value) in noted.filter(|(key, _)| !key.starts_with("_nats.")) {
        sheet.say(format!("Metadata {key}"), value.as_str().unwrap_or_default());
    }
}

/// One property for people, or nothing if it says nothing.
fn property(name: &str, value: &Value) -> String {
    match (name, value) {
        (_, Value::Null | Value::Bool(false)) => String::new(),
        (_, Value::Bool(true)) => "yes".to_owned(),
        ("max_bytes" | "max_msg_size", value) => limit(value.as_i64().unwrap_or(-1), size),
        ("max_msgs" | "max_msgs_per_subject" | "max_consumers", value) => {
            limit(value.as_i64().unwrap_or(-1), count)
        }
        ("max_age", Value::Number(number)) => limit(number.as_i64().unwrap_or(-1), duration_text),
        ("duplicate_window" | "subject_delete_marker_ttl" | "inactive_threshold", Value::Number(number)) => {
            number.as_u64().filter(|nanos| *nanos > 0).map_or_else(String::new, duration_text)
        }
        (_, Value::Number(number)) if number.as_u64() == Some(0) => String::new(),
        ("mirror", source) => source.text("name").to_owned(),
        (_, Value::Array(items)) => {
            let texts =
                items.iter().map(|item| item.as_str().unwrap_or_else(|| item.text("name")).to_owned());
            texts.collect::<Vec<_>>().join(", ")
        }
        (_, value) if value.get("src").is_some() => {
            let only = if value.flag("headers_only") { ", headers alone" } else { "" };
            format!("{} to {}{only}", value.text("src"), value.text("dest"))
        }
        (_, Value::Object(fields)) => {
            let parts = fields.iter().map(|(name, value)| (name, property(name, value)));
            let parts = parts.filter(|(_, text)| !text.is_empty());
            parts.map(|(name, text)| format!("{name} {text}")).collect::<Vec<_>>().join(", ")
        }
        (_, Value::String(text)) => text.clone(),
        (_, Value::Number(number)) => number.to_string(),
    }
}

fn duration_text(nanos: u64) -> String {
    exact(std::time::Duration::from_nanos(nanos))
}

/// Where its messages come from.
fn origins(config: &Value) -> String {
    let mut origins: Vec<String> = config.texts("subjects").into_iter().map(str::to_owned).collect();
    if config["mirror"].is_object() {
        origins.push(format!("mirror of {}", config["mirror"].text("name")));
    }
    origins.extend(config.list("sources").iter().map(|source| format!("from {}", source.text("name"))));
    origins.join(", ")
}

/// `1,204 messages (1.18 MiB)`
fn held(info: &Value) -> String {
    let state = &info["state"];
    format!("{} ({})", messages(state.count("messages")), size(state.count("bytes")))
}

/// `1 message`, `1,204 messages`
pub(crate) fn messages(number: u64) -> String {
    match number {
        1 => "1 message".to_owned(),
        number => format!("{} messages", count(number)),
    }
}

/// Streams that the KV store, the object store and MQTT make for themselves.
fn is_bucket(name: &str) -> bool {
    ["KV_", "OBJ_", "$MQTT_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Properties in the order in which they are told, and what people call them.
const PROPERTIES: [(&str, &str); 32] = [
    ("description", "Description"),
    ("subjects", "Subjects"),
    ("mirror", "Mirror of"),
    ("sources", "Sources"),
    ("subject_transform", "Transforms"),
    ("republish", "Republishes"),
    ("storage", "Storage"),
    ("compression", "Compression"),
    ("num_replicas", "Replicas"),
    ("retention", "Retention"),
    ("discard", "Discards"),
    ("discard_new_per_subject", "Discards per subject"),
    ("max_msgs", "Messages at most"),
    ("max_msgs_per_subject", "Messages per subject"),
    ("max_bytes", "Size at most"),
    ("max_age", "Age at most"),
    ("max_msg_size", "Message size at most"),
    ("max_consumers", "Consumers at most"),
    ("consumer_limits", "Consumer limits"),
    ("duplicate_window", "Duplicate window"),
    ("no_ack", "No acknowledgements"),
    ("allow_direct", "Direct reads"),
    ("mirror_direct", "Direct reads for origin"),
    ("allow_rollup_hdrs", "Rollups"),
    ("allow_msg_ttl", "Message TTLs"),
    ("subject_delete_marker_ttl", "Delete markers live"),
    ("allow_msg_schedules", "Schedules"),
    ("allow_atomic", "Atomic batches"),
    ("allow_batched", "Fast batches"),
    ("allow_msg_counter", "Counter"),
    ("deny_delete", "Delete denied"),
    ("deny_purge", "Purge denied"),
];

/// Told elsewhere on the sheet.
const UNSAID: [&str; 2] = ["name", "metadata"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_as_people_write_them() {
        let before = json!({"max_age": 604_800_000_000_000_u64, "max_bytes": -1, "metadata": {"a": "1"}});
        let after =
            json!({"max_age": 0, "max_bytes": 2_147_483_648_u64, "metadata": {"a": "1"}, "no_ack": false});
        assert_eq!(
            changes(&before, &after),
            ["max_age: 7d -> unlimited", "max_bytes: unlimited -> 2.00 GiB"]
        );
        assert!(changes(&before, &before.clone()).is_empty());
    }

    #[test]
    fn numbers_that_follow_each_other_are_one_range() {
        assert_eq!(ranges([]), []);
        assert_eq!(ranges([3, 4, 5, 9, u64::MAX]), [(3, 5), (9, 9), (u64::MAX, u64::MAX)]);
    }

    #[test]
    fn properties_that_say_nothing_are_left_out() {
        for (name, value) in [
            ("deny_purge", json!(false)),
            ("first_seq", json!(0)),
            ("mirror", json!(null)),
            ("sources", json!([])),
        ] {
            assert_eq!(property(name, &value), "", "{name}");
        }
        assert_eq!(property("republish", &json!({"src": "a.>", "dest": "b.>"})), "a.> to b.>");
        assert_eq!(property("sources", &json!([{"name": "A"}, {"name": "B"}])), "A, B");
    }
}
