//! `midge dlq`: messages that could not be handled.
//!
//! midged copies such a message to the stream that its own stream names in the metadata `midge.dlq`, with its body, its
//! headers, and headers that tell of its death (`Midge-Death-…`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use async_nats::{HeaderMap, Message};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Duration, MissedTickBehavior, interval};

use crate::api::{Api, MESSAGE_NOT_FOUND, Parts, Refusal, STREAM_NOT_FOUND};
use crate::cli::Connection;
use crate::cli::dlq::{Dlq, List, Replay, Show, Which};
use crate::exit::{Failure, Outcome};
use crate::origin::{Origin, stored};
use crate::progress;
use crate::show::{self, harmless, print_json};
use crate::signals::Signals;
use crate::stream::messages;
use crate::table::{Column, Table};
use crate::units::{age, count};

pub(crate) async fn run(command: &Dlq, connection: &Connection) -> Outcome {
    let mut api = Api::open(connection).await?;
    match command {
        Dlq::Ls(args) => list(args, &mut api).await,
        Dlq::Show(args) => show(args, &mut api).await,
        Dlq::Replay(args) => replay(args, &mut api).await,
    }
}

async fn list(args: &List, api: &mut Api) -> Outcome {
    let (graves, from) = match &args.stream {
        Some(name) => {
            let (grave, from) = grave_of(api, name).await?;
            (BTreeSet::from([grave]), from)
        }
        None => (graves(api).await?, None),
    };
    let mut groups: BTreeMap<[String; 4], Group> = BTreeMap::new();
    for grave in &graves {
        let mut letters = Letters::open(api, grave).await?;
        while let Some(letter) = letters.next(api).await? {
            if from.as_ref().is_some_and(|from| *from != letter.stream) {
                continue;
            }
            let cause =
                [grave.clone(), letter.stream.clone(), letter.consumer.clone(), letter.reason.clone()];
            groups.entry(cause).or_default().add(letter.time);
        }
        if letters.others > 0 {
            eprintln!("midge: {grave} also holds {} that never died", messages(letters.others));
        }
    }
    if args.output.json {
        return groups.iter().try_for_each(|([grave, stream, consumer, reason], group)| {
            print_json(&json!({
                "dlq": grave,
                "stream": stream,
                "consumer": consumer,
                "reason": reason,
                "messages": group.count,
                "oldest": group.oldest.to_string(),
                "newest": group.newest.to_string(),
            }))
        });
    }
    let mut table = Table::new([
        Column::Text("IN"),
        Column::Text("STREAM"),
        Column::Text("CONSUMER"),
        Column::Number("MESSAGES"),
        Column::Number("OLDEST"),
        Column::Number("NEWEST"),
        Column::Text("REASON"),
    ]);
    for ([grave, stream, consumer, reason], group) in groups {
        table.row([
            grave,
            stream,
            consumer,
            count(group.count),
            format!("{} ago", age(group.oldest)),
            format!("{} ago", age(group.newest)),
            reason,
        ]);
    }
    Ok(table.print("No dead letters")?)
}

async fn show(args: &Show, api: &mut Api) -> Outcome {
    let (grave, from) = grave_of(api, &args.stream).await?;
    let mut letters = Letters::open(api, &grave).await?;
    let mut out = show::Show::new(args.display);
    let mut seen = 0;
    while !args.which.enough(seen) {
        let Some(letter) = letters.next(api).await? else { break };
        if args.which.means(&letter, from.as_deref()) {
            seen += 1;
            out.stored(&letter.message, &letter.origin)?;
        }
    }
    out.flush()?;
    match seen {
        0 => Err(Failure::runtime(format_args!("no such dead letters in {grave}"))),
        _ => Ok(()),
    }
}

async fn replay(args: &Replay, api: &mut Api) -> Outcome {
    let (grave, from) = grave_of(api, &args.stream).await?;
    let info = api.stream(&grave).await?;
    if info["config"].flag("deny_delete") {
        return Err(Failure::runtime(format_args!(
            "{grave} denies deletes: what is replayed could not be removed from it"
        )));
    }
    let mut signals = Signals::catch()?;
    let mut pace = args.rate.map(|rate| {
        let mut pace = interval(Duration::from_secs(1) / rate.get());
        // After a pause there is no burst.
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pace
    });
    let bar = progress::items(info["state"].count("messages"), args.no_progress || args.dry_run);
    let mut letters = Letters::open(api, &grave).await?;
    let mut tally = Tally::default();
    while !args.which.enough(tally.replayed) {
        let Some(letter) = letters.next(api).await? else { break };
        bar.inc(1);
        if !args.which.means(&letter, from.as_deref()) {
            continue;
        }
        if args.dry_run {
            tally.replayed += 1;
            let (subject, size) = (harmless(&letter.subject), letter.message.payload.len());
            writeln!(std::io::stdout().lock(), "[#{}] {subject}  {size} B", letter.origin.seq)?;
            continue;
        }
        if let Some(pace) = &mut pace {
            tokio::select! {
                biased;
                () = signals.wanted() => break,
                _ = pace.tick() => {}
            }
        }
        let sent = tokio::select! {
            biased;
            () = signals.wanted() => break,
            sent = raise(api, &letter, &grave) => sent,
        };
        match sent {
            Ok(duplicate) => tally.add(duplicate),
            Err(failure) => {
                bar.finish_and_clear();
                eprintln!(
                    "midge: stopped at dead letter {} after {}",
                    letter.origin.seq,
                    messages(tally.replayed)
                );
                return Err(failure);
            }
        }
    }
    bar.finish_and_clear();
    match (args.dry_run, args.output.json) {
        (true, _) => eprintln!("{} would be replayed", messages(tally.replayed)),
        (false, true) => print_json(&json!({"replayed": tally.replayed, "duplicates": tally.duplicates}))?,
        (false, false) => {
            let known = match tally.duplicates {
                0 => String::new(),
                number => format!(", {} of them known already", count(number)),
            };
            writeln!(std::io::stdout().lock(), "Replayed {}{known}", messages(tally.replayed))?;
        }
    }
    Ok(())
}

/// Publishes a dead letter, and removes it once it is known to be stored. Says if it was stored before.
///
/// When it is interrupted in between, the same message has the same `Nats-Msg-Id` the next time.
async fn raise(api: &mut Api, letter: &Letter, grave: &str) -> Outcome<bool> {
    let ack = api.publish(&letter.subject, letter.headers(), letter.message.payload.clone()).await?;
    if ack.count("seq") == 0 {
        return Err(Failure::runtime(format_args!("{} is of no stream: nobody stored it", letter.subject)));
    }
    let request = json!({"seq": letter.origin.seq, "no_erase": true});
    match api.try_ask(&format!("STREAM.MSG.DELETE.{grave}"), &request).await? {
        Err(refusal) if refusal.err_code != MESSAGE_NOT_FOUND && refusal.err_code != SEQUENCE_NOT_FOUND => {
            Err(Failure::from(refusal))
        }
        // Somebody else may have been faster.
        _ => Ok(ack.flag("duplicate")),
    }
}

/// The stream of dead letters that is meant: it is named, or a stream that has one. In that case the dead letters that
/// are meant are that stream's.
async fn grave_of(api: &mut Api, name: &str) -> Outcome<(String, Option<String>)> {
    let info = api.stream(name).await?;
    match info["config"]["metadata"].text(METADATA) {
        "" => Ok((name.to_owned(), None)),
        grave => {
            if let Err(Refusal { err_code: STREAM_NOT_FOUND, .. }) =
                api.try_ask(&format!("STREAM.INFO.{grave}"), &Value::Null).await?
            {
                return Err(Failure::runtime(format_args!(
                    "dead letters of {name} go to {grave}, which does not exist: `midge stream add {grave}` makes it"
                )));
            }
            Ok((grave.to_owned(), Some(name.to_owned())))
        }
    }
}

/// All streams of dead letters that there are. One that is named and isn't there is told of.
async fn graves(api: &mut Api) -> Outcome<BTreeSet<String>> {
    let streams = api.pages("STREAM.LIST", "streams", json!({})).await?;
    let there: BTreeSet<&str> = streams.iter().map(|stream| stream["config"].text("name")).collect();
    let mut graves = BTreeSet::new();
    for stream in &streams {
        let grave = stream["config"]["metadata"].text(METADATA);
        if there.contains(grave) {
            graves.insert(grave.to_owned());
        } else if !grave.is_empty() {
            let name = stream["config"].text("name");
            eprintln!(
                "midge: dead letters of {name} go to {grave}, which does not exist: `midge stream add {grave}` makes it"
            );
        }
    }
    Ok(graves)
}

/// A message that could not be handled.
struct Letter {
    /// As it lies among dead letters.
    message: Message,
    origin: Origin,
    stream: String,
    consumer: String,
    seq: u64,
    subject: String,
    reason: String,
    time: Timestamp,
}

impl Letter {
    /// `None` if the message's headers don't tell of its death.
    fn of(message: Message, origin: Origin) -> Option<Letter> {
        let headers = message.headers.as_ref()?;
        let told = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        Some(Letter {
            stream: told("Midge-Death-Stream")?,
            consumer: told("Midge-Death-Consumer")?,
            seq: told("Midge-Death-Seq")?.parse().ok()?,
            subject: told("Midge-Death-Subject")?,
            reason: told("Midge-Death-Reason")?,
            time: told("Midge-Death-Time").and_then(|time| time.parse().ok()).unwrap_or(origin.time),
            message,
            origin,
        })
    }

    /// Its own headers, without those that told a server what to do with it when it was new, such as to replace what
    /// is newer by now.
    fn headers(&self) -> HeaderMap {
        let mut kept = HeaderMap::new();
        for (name, values) in self.message.headers.iter().flat_map(HeaderMap::iter) {
            let lower = name.to_string().to_ascii_lowercase();
            if DROPPED.iter().any(|dropped| lower.starts_with(dropped)) {
                continue;
            }
            for value in values {
                kept.append(name.clone(), value.clone());
            }
        }
        let Letter { stream, consumer, seq, time, .. } = self;
        kept.insert("Nats-Msg-Id", format!("midge-dlq:{stream}:{consumer}:{seq}:{time}"));
        kept
    }
}

impl Which {
    fn means(&self, letter: &Letter, from: Option<&str>) -> bool {
        let from = self.from.as_deref().or(from);
        from.is_none_or(|from| from == letter.stream)
            && self.consumer.as_ref().is_none_or(|consumer| *consumer == letter.consumer)
            && self.reason.as_ref().is_none_or(|reason| letter.reason.starts_with(reason.as_str()))
            && (self.seq.is_empty() || self.seq.contains(&letter.origin.seq))
    }

    fn enough(&self, seen: u64) -> bool {
        self.count.is_some_and(|count| seen >= count.get())
    }
}

/// Reads a stream of dead letters from its start to where its end was when that was begun.
///
/// One message after the other: it works on a stream of any retention, and leaves no consumer behind.
struct Letters {
    grave: String,
    next_seq: u64,
    last_seq: u64,
    /// Messages that are no dead letters.
    others: u64,
}

impl Letters {
    async fn open(api: &mut Api, grave: &str) -> Outcome<Letters> {
        let info = api.stream(grave).await?;
        let state = &info["state"];
        let (next_seq, last_seq) = (state.count("first_seq"), state.count("last_seq"));
        Ok(Letters { grave: grave.to_owned(), next_seq, last_seq, others: 0 })
    }

    async fn next(&mut self, api: &mut Api) -> Outcome<Option<Letter>> {
        while self.next_seq <= self.last_seq {
            let request = json!({"seq": self.next_seq, "next_by_subj": ">"});
            let answer = match api.try_ask(&format!("STREAM.MSG.GET.{}", self.grave), &request).await? {
                Err(Refusal { err_code: MESSAGE_NOT_FOUND, .. }) => return Ok(None),
                answer => answer?,
            };
            let (message, origin) = stored(&self.grave, &answer["message"])?;
            self.next_seq = origin.seq.max(self.next_seq).saturating_add(1);
            match Letter::of(message, origin) {
                Some(letter) => return Ok(Some(letter)),
                None => self.others += 1,
            }
        }
        Ok(None)
    }
}

/// Dead letters of one cause.
struct Group {
    count: u64,
    oldest: Timestamp,
    newest: Timestamp,
}

impl Default for Group {
    fn default() -> Group {
        Group { count: 0, oldest: Timestamp::MAX, newest: Timestamp::MIN }
    }
}

impl Group {
    fn add(&mut self, time: Timestamp) {
        self.count += 1;
        self.oldest = self.oldest.min(time);
        self.newest = self.newest.max(time);
    }
}

/// What was replayed.
#[derive(Default)]
struct Tally {
    replayed: u64,
    duplicates: u64,
}

impl Tally {
    fn add(&mut self, duplicate: bool) {
        self.replayed += 1;
        self.duplicates += u64::from(duplicate);
    }
}

/// Where a stream says which stream gets its dead letters.
const METADATA: &str = "midge.dlq";

/// What headers start with that aren't published again, in lower case.
const DROPPED: [&str; 6] =
    ["midge-death-", "nats-msg-id", "nats-expected-", "nats-rollup", "nats-batch-", "nats-schedule"];

/// nats-server's JSSequenceNotFoundErrF.
const SEQUENCE_NOT_FOUND: u64 = 10043;

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(headers: &[(&str, &str)]) -> Option<Letter> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, *value);
        }
        let message = Message {
            subject: "dead".into(),
            reply: None,
            payload: "x".into(),
            headers: Some(map),
            status: None,
            description: None,
            length: 1,
        };
        let origin = Origin { stream: "DEAD".into(), seq: 9, time: Timestamp::UNIX_EPOCH, delivery: None };
        Letter::of(message, origin)
    }

    const DEATH: [(&str, &str); 7] = [
        ("Midge-Death-Stream", "JOBS"),
        ("Midge-Death-Consumer", "worker"),
        ("Midge-Death-Seq", "17"),
        ("Midge-Death-Subject", "jobs.a"),
        ("Midge-Death-Reason", "max_deliver"),
        ("Midge-Death-Count", "5"),
        ("Midge-Death-Time", "2026-11-27T10:00:00Z"),
    ];

    #[test]
    fn a_dead_letter_goes_out_with_its_own_headers_and_the_id_of_its_death() {
        let own = [
            ("Unit", "C"),
            ("Unit", "K"),
            ("Nats-Msg-Id", "old"),
            ("Nats-Expected-Last-Sequence", "3"),
            ("nats-rollup", "all"),
            ("Nats-TTL", "1h"),
        ];
        let headers = letter(&[&DEATH[..], &own].concat()).unwrap().headers();
        let mut names: Vec<String> = headers.iter().map(|(name, _)| name.to_string()).collect();
        names.sort();
        assert_eq!(names, ["Nats-Msg-Id", "Nats-TTL", "Unit"]);
        assert_eq!(headers.get_all("Unit").count(), 2);
        assert_eq!(
            headers.get("Nats-Msg-Id").unwrap().as_str(),
            "midge-dlq:JOBS:worker:17:2026-11-27T10:00:00Z"
        );
    }

    #[test]
    fn what_never_died_is_no_dead_letter() {
        assert!(letter(&[]).is_none());
        for missing in &DEATH[..5] {
            let headers: Vec<_> = DEATH.iter().copied().filter(|header| header != missing).collect();
            assert!(letter(&headers).is_none(), "{missing:?}");
        }
    }

    #[test]
    fn dead_letters_are_chosen_by_what_they_died_of() {
        let which = |consumer: Option<&str>, reason: Option<&str>, seq: &[u64]| Which {
            consumer: consumer.map(str::to_owned),
            from: None,
            reason: reason.map(str::to_owned),
            seq: seq.to_vec(),
            count: None,
        };
        let letter = letter(&DEATH).unwrap();
        assert!(which(None, None, &[]).means(&letter, Some("JOBS")));
        assert!(!which(None, None, &[]).means(&letter, Some("OTHER")));
        assert!(which(Some("worker"), Some("max"), &[9]).means(&letter, None));
        assert!(!which(Some("worker"), Some("max"), &[17]).means(&letter, None));
        assert!(!which(Some("other"), None, &[]).means(&letter, None));
    }
}
