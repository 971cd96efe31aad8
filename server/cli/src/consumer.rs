//! `midge consumer`

use std::io::Write;
use std::time::Duration;

use async_nats::message::OutboundMessage;
use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::api::{Api, CONSUMER_NOT_FOUND, Parts, Refusal, check_name};
use crate::cli::Connection;
use crate::cli::consumer::{
    Ack, Add, Consumer, Deliver, Edit, Info, List, Next, Pause, Remove, Replay, Resume, Settings, Unpin,
};
use crate::confirm::confirm;
use crate::exit::{Failure, Outcome};
use crate::origin::Origin;
use crate::show::{Show, print_json, print_names};
use crate::signals::Signals;
use crate::stream::{changes, configuration, messages, metadata};
use crate::table::{Column, Sheet, Table};
use crate::units::{age, count, exact, local_and_age, nanos};

pub(crate) async fn run(command: &Consumer, connection: &Connection) -> Outcome {
    let mut api = Api::open(connection).await?;
    match command {
        Consumer::Ls(args) => list(args, &mut api).await,
        Consumer::Info(args) => info(args, &mut api).await,
        Consumer::Add(args) => add(args, &mut api).await,
        Consumer::Edit(args) => edit(args, &mut api).await,
        Consumer::Rm(args) => remove(args, &mut api).await,
        Consumer::Next(args) => next(args, &mut api).await,
        Consumer::Pause(args) => pause(args, &mut api).await,
        Consumer::Resume(args) => resume(args, &mut api).await,
        Consumer::Unpin(args) => unpin(args, &mut api).await,
    }
}

async fn list(args: &List, api: &mut Api) -> Outcome {
    api.stream(&args.stream).await?;
    let mut consumers = api.pages(&format!("CONSUMER.LIST.{}", args.stream), "consumers", json!({})).await?;
    consumers.sort_by(|a, b| a.text("name").cmp(b.text("name")));
    if args.output.json {
        return consumers.iter().try_for_each(print_json);
    }
    if args.names {
        return print_names(consumers.iter().map(|consumer| consumer.text("name")));
    }
    let mut table = Table::new([
        Column::Text("NAME"),
        Column::Text("KIND"),
        Column::Text("ACK"),
        Column::Number("TO COME"),
        Column::Number("UNACKED"),
        Column::Number("REDELIVERED"),
        Column::Number("LAST"),
        Column::Text("FILTER"),
    ]);
    for consumer in &consumers {
        let config = &consumer["config"];
        let paused = if consumer.flag("paused") { ", paused" } else { "" };
        table.row([
            consumer.text("name").to_owned(),
            format!("{}{paused}", kind(config)),
            config.text("ack_policy").to_owned(),
            count(consumer.count("num_pending")),
            count(consumer.count("num_ack_pending")),
            count(consumer.count("num_redelivered")),
            consumer["delivered"]
                .time("last_active")
                .map_or("-".to_owned(), |time| format!("{} ago", age(time))),
            filters(config),
        ]);
    }
    Ok(table.print(&format!("No consumers on {}", args.stream))?)
}

async fn info(args: &Info, api: &mut Api) -> Outcome {
    let info = consumer(api, &args.stream, &args.consumer).await?;
    match args.output.json {
        true => print_json(&info),
        false => Ok(sheet(&info).print()?),
    }
}

async fn add(args: &Add, api: &mut Api) -> Outcome {
    check_name("stream", &args.stream)?;
    let mut config = match &args.config {
        Some(path) => configuration(path)?,
        None => json!({}),
    };
    args.apply(&mut config)?;
    let named = config.get("name").or(config.get("durable_name")).and_then(Value::as_str).map(str::to_owned);
    let tail = match &named {
        Some(name) => {
            check_name("consumer", name)?;
            format!("CONSUMER.CREATE.{}.{name}", args.stream)
        }
        None => format!("CONSUMER.CREATE.{}", args.stream),
    };
    let request = json!({"stream_name": args.stream, "config": config, "action": "create"});
    let made = api.ask(&tail, &request).await?;
    match args.output.json {
        true => print_json(&made),
        false => Ok(sheet(&made).print()?),
    }
}

async fn edit(args: &Edit, api: &mut Api) -> Outcome {
    let before = consumer(api, &args.stream, &args.consumer).await?["config"].take();
    let mut after = match &args.config {
        Some(path) => configuration(path)?,
        None => before.clone(),
    };
    after["name"] = json!(args.consumer);
    args.apply(&mut after)?;
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
    confirm(args.force, &format!("change consumer {} of stream {}", args.consumer, args.stream))?;
    let tail = format!("CONSUMER.CREATE.{}.{}", args.stream, args.consumer);
    let request = json!({"stream_name": args.stream, "config": after, "action": "update"});
    let made = api.ask(&tail, &request).await?;
    match args.output.json {
        true => print_json(&made),
        false => Ok(sheet(&made).print()?),
    }
}

async fn unpin(args: &Unpin, api: &mut Api) -> Outcome {
    consumer(api, &args.stream, &args.consumer).await?;
    confirm(args.force, &format!("unpin group {} of consumer {}", args.group, args.consumer))?;
    let tail = format!("CONSUMER.UNPIN.{}.{}", args.stream, args.consumer);
    let answer = api.ask(&tail, &json!({"group": args.group})).await?;
    match args.output.json {
        true => print_json(&answer),
        false => Ok(writeln!(
            std::io::stdout().lock(),
            "Unpinned group {} of consumer {}",
            args.group,
            args.consumer
        )?),
    }
}

async fn remove(args: &Remove, api: &mut Api) -> Outcome {
    consumer(api, &args.stream, &args.consumer).await?;
    confirm(args.force, &format!("remove consumer {} of stream {}", args.consumer, args.stream))?;
    let answer = api.ask(&format!("CONSUMER.DELETE.{}.{}", args.stream, args.consumer), &Value::Null).await?;
    match args.output.json {
        true => print_json(&answer),
        false => Ok(writeln!(
            std::io::stdout().lock(),
            "Removed consumer {} of stream {}",
            args.consumer,
            args.stream
        )?),
    }
}

async fn next(args: &Next, api: &mut Api) -> Outcome {
    let info = consumer(api, &args.stream, &args.consumer).await?;
    if !info["config"].text("deliver_subject").is_empty() {
        return Err(Failure::usage(format_args!(
            "{} is a push consumer: it sends to {} (see `midge sub`)",
            args.consumer,
            info["config"].text("deliver_subject")
        )));
    }
    let acked = info["config"].text("ack_policy") != "none" && !args.no_ack;
    let answer: &[u8] = match (args.nak, args.term) {
        (true, _) => b"-NAK",
        (_, true) => b"+TERM",
        _ => b"+ACK",
    };
    let mut signals = Signals::catch()?;
    let mut pull = Pull::open(api, &args.stream, &args.consumer).await?;
    let mut show = Show::new(args.display);
    for seen in 0..args.count.get() {
        let wait = args.wait.unwrap_or(api.link.timeout);
        let message = tokio::select! {
            biased;
            () = signals.wanted() => return Ok(()),
            message = pull.next(api, wait) => message?,
        };
        let Some((message, reply, origin)) = message else {
            return Err(Failure::unavailable(format_args!("{seen} of {} messages came in time", args.count)));
        };
        show.stored(&message, &origin)?;
        show.flush()?;
        if acked {
            // With a reply to it, an acknowledgement is known to be kept.
            let limit = api.link.timeout;
            api.link.request(&reply, None, Bytes::copy_from_slice(answer), limit).await?;
        }
    }
    Ok(())
}

async fn pause(args: &Pause, api: &mut Api) -> Outcome {
    consumer(api, &args.stream, &args.consumer).await?;
    let request = json!({"pause_until": args.until.to_string()});
    let answer = api.ask(&format!("CONSUMER.PAUSE.{}.{}", args.stream, args.consumer), &request).await?;
    if args.output.json {
        return print_json(&answer);
    }
    match answer.flag("paused") {
        true => Ok(writeln!(
            std::io::stdout().lock(),
            "Paused consumer {} until {}",
            args.consumer,
            crate::units::local(args.until)
        )?),
        false => Err(Failure::usage(format_args!("{} is over already", crate::units::local(args.until)))),
    }
}

async fn resume(args: &Resume, api: &mut Api) -> Outcome {
    let paused = consumer(api, &args.stream, &args.consumer).await?.flag("paused");
    let answer = api.ask(&format!("CONSUMER.PAUSE.{}.{}", args.stream, args.consumer), &json!({})).await?;
    if args.output.json {
        return print_json(&answer);
    }
    let mut out = std::io::stdout().lock();
    match paused {
        true => Ok(writeln!(out, "Resumed consumer {}", args.consumer)?),
        false => Ok(writeln!(out, "Consumer {} was not paused", args.consumer)?),
    }
}

/// What the server knows about a consumer, which has to exist.
async fn consumer(api: &mut Api, stream: &str, name: &str) -> Outcome<Value> {
    check_name("consumer", name)?;
    api.stream(stream).await?;
    match api.try_ask(&format!("CONSUMER.INFO.{stream}.{name}"), &Value::Null).await? {
        Err(Refusal { err_code: CONSUMER_NOT_FOUND, .. }) => {
            Err(Failure::runtime(format_args!("stream {stream} has no consumer {name}")))
        }
        answer => answer.map_err(Failure::from),
    }
}

/// Messages of a pull consumer, one at a time so that none is taken that isn't shown.
struct Pull {
    inbox: String,
    subject: String,
    answers: Subscriber,
}

impl Pull {
    async fn open(api: &Api, stream: &str, consumer: &str) -> Outcome<Pull> {
        let inbox = api.link.client.new_inbox();
        let answers = api.link.subscribe(&inbox, None).await?;
        Ok(Pull { inbox, subject: api.subject(&format!("CONSUMER.MSG.NEXT.{stream}.{consumer}")), answers })
    }

    /// The next message, where to acknowledge it, and where it is from; `None` if none came in time.
    async fn next(&mut self, api: &mut Api, wait: Duration) -> Outcome<Option<(Message, String, Origin)>> {
        let request = json!({"batch": 1, "expires": nanos(wait).max(EXPIRES_MIN_NS)});
        api.link
            .publish(OutboundMessage {
                subject: self.subject.as_str().into(),
                reply: Some(self.inbox.as_str().into()),
                payload: request.to_string().into(),
                headers: None,
            })
            .await?;
        // The server ends the wait. Should it be gone, so do we.
        let limit = wait + api.link.timeout;
        loop {
            let Ok(answer) = timeout(limit, api.link.watched(self.answers.next())).await else {
                return Ok(None);
            };
            let Some(message) = answer? else {
                return Err(Failure::unavailable("the connection was closed"));
            };
            if let Some(status) = message.status {
                match status {
                    StatusCode::IDLE_HEARTBEAT => continue,
                    StatusCode::NOT_FOUND | StatusCode::TIMEOUT => return Ok(None),
                    StatusCode::NO_RESPONDERS => return Err(Failure::unavailable("the consumer is gone")),
                    status => {
                        let why = message.description.as_deref().unwrap_or_default();
                        return Err(Failure::runtime(format_args!(
                            "the server says: {} {why}",
                            status.as_u16()
                        )));
                    }
                }
            }
            let reply = message.reply.as_deref().unwrap_or_default().to_owned();
            let Some(origin) = Origin::of_reply(&reply) else {
                return Err(Failure::runtime("a message came that is from no consumer"));
            };
            return Ok(Some((message, reply, origin)));
        }
    }
}

impl Add {
    /// Puts what was given into a configuration, and leaves the rest of it.
    fn apply(&self, config: &mut Value) -> Outcome {
        let config = members(config)?;
        let fresh = config.is_empty();
        self.settings.apply(config);
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                config.insert(name.to_owned(), value);
            }
        };
        if let Some(name) = &self.consumer {
            set("name", Some(json!(name)));
            set("durable_name", Some(json!(name)).filter(|_| !self.ephemeral));
        }
        set("deliver_group", self.deliver_group.as_ref().map(|group| json!(group)));
        set("idle_heartbeat", self.heartbeat.map(|every| json!(nanos(every))));
        set("flow_control", self.flow_control.then_some(json!(true)));
        set("rate_limit_bps", self.bps.map(Value::from));
        let ack = self.ack.or(fresh.then_some(match self.settings.target {
            Some(_) => Ack::None,
            None => Ack::Explicit,
        }));
        set("ack_policy", ack.map(|ack| json!(ack.name())));
        let deliver = self.deliver.clone().or(fresh.then_some(Deliver::All));
        if let Some(deliver) = deliver {
            let (policy, field) = match deliver {
                Deliver::All => ("all", None),
                Deliver::New => ("new", None),
                Deliver::Last => ("last", None),
                Deliver::LastPerSubject => ("last_per_subject", None),
                Deliver::Sequence(seq) => ("by_start_sequence", Some(("opt_start_seq", json!(seq)))),
                Deliver::Ago(ago) => {
                    let time = Timestamp::now().checked_sub(ago);
                    let time = time.map_err(|_| Failure::usage("--deliver: that is too long ago"))?;
                    ("by_start_time", Some(("opt_start_time", json!(time.to_string()))))
                }
            };
            set("deliver_policy", Some(json!(policy)));
            if let Some((name, value)) = field {
                set(name, Some(value));
            }
        }
        let replay = self.replay.or(fresh.then_some(Replay::Instant));
        set("replay_policy", replay.map(|replay| json!(replay.name())));
        set("max_waiting", self.max_waiting.map(Value::from));
        set("mem_storage", self.memory.then_some(json!(true)));
        set("num_replicas", self.replicas.map(Value::from));
        set("pause_until", self.pause.map(|time| json!(time.to_string())));
        Ok(())
    }
}

impl Edit {
    /// Puts what was given into a configuration, and leaves the rest of it.
    fn apply(&self, config: &mut Value) -> Outcome {
        let config = members(config)?;
        if self.no_backoff {
            config.remove("backoff");
        }
        if self.no_filter {
            config.remove("filter_subject");
            config.remove("filter_subjects");
        }
        self.settings.apply(config);
        Ok(())
    }
}

impl Settings {
    /// Puts what was given into a configuration, and leaves the rest of it.
    fn apply(&self, config: &mut Map<String, Value>) {
        let duration = |given: Option<Duration>| given.map(|given| json!(nanos(given)));
        let backoff: Vec<u64> = self.backoff.iter().copied().map(nanos).collect();
        for (name, value) in [
            ("description", self.description.as_ref().map(|text| json!(text))),
            ("deliver_subject", self.target.as_ref().map(|subject| json!(subject))),
            ("ack_wait", duration(self.wait)),
            ("backoff", Some(json!(backoff)).filter(|_| !backoff.is_empty())),
            ("max_deliver", self.max_deliver.map(Value::from)),
            ("max_ack_pending", self.max_pending.map(Value::from)),
            ("max_batch", self.max_pull_batch.map(Value::from)),
            ("max_expires", duration(self.max_pull_expire)),
            ("max_bytes", self.max_pull_bytes.map(Value::from)),
            ("headers_only", self.headers_only.map(Value::from)),
            ("inactive_threshold", duration(self.inactive_threshold)),
            ("sample_freq", self.sample.map(|percent| json!(percent.to_string()))),
        ] {
            if let Some(value) = value {
                config.insert(name.to_owned(), value);
            }
        }
        let (name, other, filter) = match &self.filter[..] {
            [subject] => ("filter_subject", "filter_subjects", json!(subject)),
            subjects => ("filter_subjects", "filter_subject", json!(subjects)),
        };
        if !self.filter.is_empty() {
            config.remove(other);
            config.insert(name.to_owned(), filter);
        }
        for (key, value) in self.metadata.iter().cloned() {
            let metadata = config.entry("metadata").or_insert_with(|| json!({}));
            let Some(metadata) = metadata.as_object_mut() else { continue };
            match value.is_empty() {
                true => drop(metadata.remove(&key)),
                false => drop(metadata.insert(key, json!(value))),
            }
        }
    }
}

fn members(config: &mut Value) -> Outcome<&mut Map<String, Value>> {
    config.as_object_mut().ok_or_else(|| Failure::config("a consumer's configuration is a JSON object"))
}

impl Ack {
    fn name(self) -> &'static str {
        match self {
            Ack::None => "none",
            Ack::All => "all",
            Ack::Explicit => "explicit",
        }
    }
}

impl Replay {
    fn name(self) -> &'static str {
        match self {
            Replay::Instant => "instant",
            Replay::Original => "original",
        }
    }
}

/// The consumer as people read about it.
fn sheet(info: &Value) -> Sheet {
    let config = &info["config"];
    let mut sheet =
        Sheet::new(format!("Consumer {} of stream {}", info.text("name"), info.text("stream_name")));
    sheet.section("Configuration");
    if let Some(time) = info.time("created") {
        sheet.say("Made", local_and_age(time));
    }
    sheet.say_if("Description", config.text("description"));
    sheet.say(
        "Kind",
        if config.text("durable_name").is_empty() {
            format!("{}, ephemeral", kind(config))
        } else {
            kind(config).to_owned()
        },
    );
    sheet.say_if("Sends to", config.text("deliver_subject"));
    sheet.say_if("Queue group", config.text("deliver_group"));
    sheet.say_if("Filter", filters(config));
    let start = match config.text("deliver_policy") {
        "by_start_sequence" => format!("message {}", config.count("opt_start_seq")),
        "by_start_time" => config.time("opt_start_time").map_or_else(String::new, local_and_age),
        policy => policy.replace('_', " "),
    };
    sheet.say("Begins with", start);
    sheet.say("Acknowledged", config.text("ack_policy"));
    for (label, name) in [
        ("Acknowledged within", "ack_wait"),
        ("Heartbeat", "idle_heartbeat"),
        ("Removed when idle for", "inactive_threshold"),
        ("Requests wait at most", "max_expires"),
    ] {
        if config.count(name) > 0 {
            sheet.say(label, exact(config.nanos(name)));
        }
    }
    let backoff = config.list("backoff").iter().filter_map(Value::as_u64);
    let backoff: Vec<String> = backoff.map(|nanos| exact(Duration::from_nanos(nanos))).collect();
    sheet.say_if("Backoff", backoff.join(", "));
    sheet.say("Replay", config.text("replay_policy"));
    let deliveries = config.number("max_deliver");
    sheet.say("Deliveries at most", crate::units::limit(deliveries, count));
    for (label, name) in [
        ("Unacknowledged at most", "max_ack_pending"),
        ("Requests at most", "max_waiting"),
        ("Batch at most", "max_batch"),
        ("Bytes at most", "max_bytes"),
        ("Bits per second", "rate_limit_bps"),
        ("Replicas", "num_replicas"),
    ] {
        if config.number(name) > 0 {
            sheet.say(label, count(config.count(name)));
        }
    }
    for (label, name) in [
        ("Headers alone", "headers_only"),
        ("Flow control", "flow_control"),
        ("State in memory", "mem_storage"),
    ] {
        if config.flag(name) {
            sheet.say(label, "yes");
        }
    }
    sheet.say_if("Priority groups", config.texts("priority_groups").join(", "));
    sheet.say_if("Priority policy", config.text("priority_policy").trim_start_matches("none"));
    metadata(&mut sheet, config);
    sheet.section("State");
    for (label, name) in [("Delivered", "delivered"), ("Acknowledged up to", "ack_floor")] {
        let at = &info[name];
        let when = at.time("last_active").map_or_else(String::new, |time| format!(", {} ago", age(time)));
        let (seq, own) = (at.count("stream_seq"), at.count("consumer_seq"));
        sheet.say(
            label,
            match seq {
                0 => "nothing yet".to_owned(),
                seq => format!("message {}, as number {}{when}", count(seq), count(own)),
            },
        );
    }
    sheet.say("To come", messages(info.count("num_pending")));
    sheet.say("Unacknowledged", messages(info.count("num_ack_pending")));
    sheet.say("Redelivered", messages(info.count("num_redelivered")));
    match config.text("deliver_subject") {
        "" => sheet.say("Waiting requests", count(info.count("num_waiting"))),
        _ => sheet.say("Somebody listens", if info.flag("push_bound") { "yes" } else { "no" }),
    }
    if info.flag("paused") {
        sheet.say("Paused for another", crate::units::rough(info.nanos("pause_remaining")));
    }
    sheet
}

fn kind(config: &Value) -> &'static str {
    match config.text("deliver_subject") {
        "" => "pull",
        _ => "push",
    }
}

fn filters(config: &Value) -> String {
    match config.text("filter_subject") {
        "" => config.texts("filter_subjects").join(", "),
        subject => subject.to_owned(),
    }
}

/// The shortest wait that a server takes for one, in nanoseconds.
const EXPIRES_MIN_NS: u64 = 1_000_000;
