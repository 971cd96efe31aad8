//! What async-nats sees of streams, consumers and stores.

use std::io::Cursor;

use async_nats::jetstream::consumer::{
    AckPolicy, Consumer, DeliverPolicy, pull, push, push::OrderedConfig as OrderedPush,
};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, AckKind, Message, kv, object_store, stream};
use tokio::io::AsyncReadExt as _;

use super::*;

pub(crate) async fn play(daemon: &mut Daemon, seen: &mut Vec<Value>) -> Result<(), Failure> {
    let mut saw = |step: &str, what: Value| seen.push(json!({ "step": step, "saw": what }));
    let (events, mut happened) = mpsc::channel(64);
    let nc = ConnectOptions::new()
        .reconnect_delay_callback(|_| Duration::from_millis(50))
        .event_callback(move |event| {
            let _ = events.try_send(event);
            async {}
        })
        .connect(format!("nats://{}", daemon.address()))
        .await?;
    let js = jetstream::new(nc.clone());

    // Streams.
    let config = stream::Config {
        name: "PLANT".into(),
        subjects: vec!["plant.>".into()],
        max_messages_per_subject: 500,
        allow_direct: true,
        ..Default::default()
    };
    let mut plant = js.create_stream(config).await?;
    let info = plant.cached_info();
    saw(
        "stream",
        json!([info.config.retention, info.config.storage, info.config.subjects, info.state.messages]),
    );
    let short = stream::Config {
        name: "SHORT".into(),
        subjects: vec!["short".into()],
        max_age: Duration::from_millis(10),
        ..Default::default()
    };
    saw("too short", failure(js.create_stream(short).await));
    let other =
        stream::Config { name: "OTHER".into(), subjects: vec!["plant.attic".into()], ..Default::default() };
    saw("overlap", failure(js.create_stream(other).await));
    saw("names", js.stream_names().next().await.ok_or("no stream")??.into());
    saw("no such stream", failure(js.get_stream("NONE").await));

    // Publishing.
    let mut acks = Vec::new();
    for n in 0..6 {
        acks.push(js.publish(format!("plant.{}", n % 3), n.to_string().into()).await?.await?);
    }
    let acks: Vec<_> = acks.iter().map(|ack| json!([ack.stream, ack.sequence, ack.duplicate])).collect();
    saw("acknowledged", acks.into());
    let mut twice = Vec::new();
    for _ in 0..2 {
        let once = PublishMessage::build().payload("once".into()).message_id("1");
        let ack = js.send_publish("plant.once", once).await?.await?;
        twice.push(json!([ack.sequence, ack.duplicate]));
    }
    saw("once", twice.into());
    let late = PublishMessage::build().payload("late".into()).expected_last_sequence(1);
    saw("not expected", failure(js.send_publish("plant.0", late).await?.await));
    saw("no stream", failure(js.publish("nowhere", "?".into()).await?.await));

    // Single messages.
    let message = plant.get_raw_message(2).await?;
    saw("get", json!([message.subject, text(&message.payload), message.sequence]));
    let message = plant.direct_get_last_for_subject("plant.1").await?;
    saw("last of a subject", json!([message.subject, text(&message.payload), message.sequence]));
    saw("no message", failure(plant.get_raw_message(99).await));
    plant.delete_message(7).await?;
    saw("deleted", failure(plant.direct_get(7).await));

    // A consumer that is pulled from.
    let config = pull::Config { durable_name: Some("pull".into()), ..Default::default() };
    let mut puller = plant.create_consumer(config).await?;
    let first = pulled(&puller, 4).await?;
    saw("pull", first.iter().map(facts).collect::<Result<Vec<_>, _>>()?.into());
    for message in &first[..3] {
        message.double_ack().await?;
    }
    first[3].ack_with(AckKind::Nak(None)).await?;
    let mut again = Vec::new();
    for _ in 0..3 {
        let message = pulled(&puller, 1).await?.remove(0);
        again.push(json!([text(&message.payload), message.info()?.delivered]));
        message.double_ack().await?;
    }
    again.sort_by_key(Value::to_string);
    saw("pull again", again.into());
    let info = puller.info().await?;
    let numbers = [info.num_pending, info.num_ack_pending as u64];
    saw("pulled", json!([numbers, info.ack_floor.stream_sequence, info.delivered.consumer_sequence]));
    let nothing = puller.fetch().max_messages(1).messages().await?.next().await;
    saw("nothing to pull", nothing.is_none().into());

    // Consumers that push.
    let config = push::Config {
        durable_name: Some("push".into()),
        deliver_subject: "pushed".into(),
        filter_subject: "plant.1".into(),
        ..Default::default()
    };
    let pusher = plant.create_consumer(config).await?;
    let pushed = take_messages(&mut pusher.messages().await?, 2).await?;
    saw("push", pushed.iter().map(facts).collect::<Result<Vec<_>, _>>()?.into());
    for message in &pushed {
        message.double_ack().await?;
    }
    let config = push::Config {
        deliver_subject: "last".into(),
        deliver_policy: DeliverPolicy::LastPerSubject,
        ack_policy: AckPolicy::None,
        filter_subject: "plant.*".into(),
        ..Default::default()
    };
    let last = take_messages(&mut plant.create_consumer(config).await?.messages().await?, 3).await?;
    saw("last per subject", last.iter().map(facts).collect::<Result<Vec<_>, _>>()?.into());
    let mut members = Vec::new();
    for _ in 0..2 {
        members.push(nc.queue_subscribe("work", "workers".into()).await?);
    }
    round_trip(&nc).await?;
    let config = push::Config {
        durable_name: Some("workers".into()),
        deliver_subject: "work".into(),
        deliver_group: Some("workers".into()),
        filter_subject: "plant.2".into(),
        ..Default::default()
    };
    plant.create_consumer(config).await?;
    let mut work = futures_util::stream::select_all(members);
    let mut shared = Vec::new();
    for _ in 0..2 {
        let message = timeout(PATIENCE, work.next()).await?.ok_or("no more work")?;
        shared.push(json!([message.subject, text(&message.payload)]));
    }
    shared.sort_by_key(Value::to_string);
    saw("queue", shared.into());

    // In order, without acknowledgements.
    for n in 0..200 {
        js.publish("plant.many", n.to_string().into()).await?.await?;
    }
    let config = pull::OrderedConfig { filter_subject: "plant.many".into(), ..Default::default() };
    let ordered = plant.create_consumer(config).await?;
    saw("ordered", in_order(&take_messages(&mut ordered.messages().await?, 200).await?).into());
    let config = OrderedPush {
        filter_subject: "plant.many".into(),
        deliver_subject: nc.new_inbox(),
        ..Default::default()
    };
    let ordered = plant.create_consumer(config).await?;
    saw("ordered push", in_order(&take_messages(&mut ordered.messages().await?, 200).await?).into());

    // The power fails.
    while happened.try_recv().is_ok() {}
    daemon.restart()?;
    event(&mut happened, |it| matches!(it, Event::Connected)).await?;
    let state = plant.get_info().await?.state;
    // Where it is isn't asked: acknowledgements that nobody confirmed may be forgotten, and on nats-server are.
    saw("restart", json!([state.messages, state.last_sequence, puller.info().await?.name]));
    let message = plant.get_raw_message(state.last_sequence).await?;
    saw("still there", json!([message.subject, text(&message.payload)]));

    // Key-value.
    let config = kv::Config { bucket: "conf".into(), history: 3, ..Default::default() };
    let conf = js.create_key_value(config).await?;
    let puts = [
        conf.put("attic.limit", "21".into()).await?,
        conf.put("attic.limit", "22".into()).await?,
        conf.create("cellar", "8".into()).await?,
    ];
    saw("put", json!(puts));
    let entry = conf.entry("attic.limit").await?.ok_or("no entry")?;
    saw("entry", json!([entry.key, text(&entry.value), entry.revision]));
    let updated = conf.update("attic.limit", "23".into(), 2).await?;
    saw("update", json!([updated, failure(conf.update("attic.limit", "24".into(), 2).await)]));
    saw("create again", failure(conf.create("cellar", "9".into()).await));
    let mut watch = conf.watch_with_history("attic.*").await?;
    let mut watched = Vec::new();
    for n in 0..2 {
        if n == 1 {
            conf.put("attic.limit", "24".into()).await?;
        }
        let entry = timeout(PATIENCE, watch.next()).await?.ok_or("no more entries")??;
        watched.push(json!([text(&entry.value), entry.revision]));
    }
    saw("watch", watched.into());
    let keys = async || -> Result<Vec<String>, Failure> {
        let mut keys = Vec::new();
        let mut all = conf.keys().await?;
        while let Some(key) = all.next().await {
            keys.push(key?);
        }
        keys.sort();
        Ok(keys)
    };
    saw("keys", json!(keys().await?));
    let mut history = Vec::new();
    let mut entries = conf.history("attic.limit").await?;
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        history.push(json!([text(&entry.value), entry.revision]));
    }
    saw("history", history.into());
    conf.delete("cellar").await?;
    saw("deleted key", json!([conf.get("cellar").await?.is_none(), keys().await?]));
    let status = conf.status().await?;
    saw("bucket", json!([status.bucket(), status.values(), status.history()]));

    // Objects.
    let config = object_store::Config { bucket: "files".into(), ..Default::default() };
    let files = js.create_object_store(config).await?;
    let image: Vec<u8> = (0..300_000_u64).map(|n| (n * n % 251) as u8).collect();
    let object = files.put("image", &mut Cursor::new(&image)).await?;
    saw("object", json!([object.name, object.size, object.chunks, object.digest]));
    let mut got = Vec::new();
    files.get("image").await?.read_to_end(&mut got).await?;
    saw("object again", json!([got.len(), got == image]));
    let listed = files.list().await?.next().await.ok_or("no object")??;
    saw("objects", listed.name.into());
    files.delete("image").await?;
    saw("no object", failure(files.get("image").await));

    // What goes.
    let purged = plant.purge().filter("plant.many").await?;
    saw("purge", json!([purged.purged, plant.info().await?.state.messages]));
    let deleted = plant.delete_consumer("pull").await?.success;
    saw("delete", json!([deleted, js.delete_stream("PLANT").await?.success]));
    saw("gone", failure(js.get_stream("PLANT").await));
    saw("account", js.query_account().await?.streams.into());
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn failure<T>(result: Result<T, impl std::fmt::Display>) -> Value {
    result.map_or_else(|error| error.to_string(), |_| "none".into()).into()
}

/// A message of a consumer: where it is in the stream, and what the consumer says of it.
fn facts(message: &Message) -> Result<Value, Failure> {
    let info = message.info()?;
    let place = json!([info.stream_sequence, info.consumer_sequence, info.delivered, info.pending]);
    Ok(json!([message.subject, text(&message.payload), place]))
}

fn in_order(messages: &[Message]) -> bool {
    messages.iter().enumerate().all(|(n, message)| text(&message.payload) == n.to_string())
}

async fn pulled(consumer: &Consumer<pull::Config>, count: usize) -> Result<Vec<Message>, Failure> {
    take_messages(&mut consumer.batch().max_messages(count).expires(PATIENCE).messages().await?, count).await
}

async fn take_messages<E: Into<Failure>>(
    messages: &mut (impl futures_util::Stream<Item = Result<Message, E>> + Unpin),
    count: usize,
) -> Result<Vec<Message>, Failure> {
    let mut taken = Vec::new();
    for _ in 0..count {
        let message = timeout(PATIENCE, messages.next()).await?.ok_or("no more messages")?;
        taken.push(message.map_err(Into::into)?);
    }
    Ok(taken)
}
