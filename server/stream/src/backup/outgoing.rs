//! A stream that goes out.

use serde::{Deserialize, Serialize};

use super::{SILENCE, archive, at, s2, tag};
use crate::asker::Asker;
use crate::cx::Cx;
use crate::json;
use crate::log::{Filters, Log};
use crate::seam::{Account, Output, Publish, What};
use crate::stream::StateInfo;
use crate::time::{Instant, Nanos};

/// A request for one.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SnapshotRequest {
    pub(crate) deliver_subject: String,
    pub(crate) no_consumers: bool,
    chunk_size: i64,
    window_size: i64,
    jsck: bool,
}

const CHUNK: i64 = 128 * 1024;
const CHUNK_RANGE: (i64, i64) = (1024, 1024 * 1024);
const WINDOW: i64 = 8 * 1024 * 1024;
const WINDOW_RANGE: (i64, i64) = (1024, 32 * 1024 * 1024);
/// How long nobody needs to listen at first.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// For acks, or for somebody who listens.
    Waits,
    /// It can go on once outputs have been taken.
    More,
    /// It is over; with an error, if there is one.
    Done(Option<&'static str>),
}

/// What whoever listens to events is told first.
#[derive(Serialize)]
struct Created<'a> {
    stream: &'a str,
    state: StateInfo,
    client: &'a Asker,
}

/// And last.
#[derive(Serialize)]
struct Completed<'a> {
    stream: &'a str,
    start: String,
    end: String,
    client: &'a Asker,
}

/// What stands behind the domain.
#[derive(Serialize)]
struct Why<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// One of them.
pub(crate) struct Outgoing {
    pub(crate) account: Account,
    pub(crate) stream: u32,
    pub(crate) silent_at: Instant,
    name: Box<str>,
    deliver: String,
    /// `$JS.SNAPSHOT.ACK.STREAM.ID`.
    acks: String,
    number: u32,
    /// The next message to look at, and the last.
    next: u64,
    last: u64,
    stops_at_damage: bool,
    /// Bytes of a chunk, and how many chunks may be under way.
    chunk: usize,
    window: usize,
    under_way: usize,
    sent: u64,
    frames: s2::Writer,
    packed: Vec<u8>,
    all_read: bool,
    listened: Option<bool>,
    /// From then on it is sent to nobody, if need be.
    patient_until: Instant,
    started: Nanos,
    asker: Asker,
    /// Until events say that it begins, which is after its answer.
    begins: Option<StateInfo>,
}

impl Outgoing {
    /// Begins one, whose consumers are `consumers`, in JSON.
    pub(crate) fn new(
        request: &SnapshotRequest,
        stream: &crate::stream::Stream,
        number: u32,
        state: StateInfo,
        consumers: &[(Box<str>, Vec<u8>)],
        asker: Asker,
        cx: &mut Cx<'_>,
    ) -> Self {
        let clamp =
            |asked: i64, usual, (least, most)| if asked == 0 { usual } else { asked.clamp(least, most) };
        let chunk = clamp(request.chunk_size, CHUNK, CHUNK_RANGE);
        let window = clamp(request.window_size, WINDOW, WINDOW_RANGE).max(chunk);
        let sums = stream.log.state();
        let name = stream.name();
        let mut head = Vec::new();
        archive::begin(&mut head);
        archive::push(b"state.json", cx.now.wall, 0, b"", &json::write(&state), &mut head);
        for (name, text) in consumers {
            archive::push(format!("consumers/{name}").as_bytes(), cx.now.wall, 0, b"", text, &mut head);
        }
        let mut outgoing = Self {
            account: cx.account,
            stream: stream.id,
            silent_at: cx.now.mono + PATIENCE,
            name: name.into(),
            deliver: request.deliver_subject.clone(),
            acks: format!("$JS.SNAPSHOT.ACK.{name}.{}", cx.random.name(22)),
            number,
            next: sums.first_seq,
            last: sums.last_seq,
            stops_at_damage: request.jsck,
            chunk: usize::try_from(chunk).unwrap_or(usize::MAX),
            window: usize::try_from(window / chunk).unwrap_or(1),
            under_way: 0,
            sent: 0,
            frames: s2::Writer::default(),
            packed: Vec::new(),
            all_read: false,
            listened: None,
            patient_until: cx.now.mono + PATIENCE,
            started: cx.now.wall,
            asker,
            begins: Some(state),
        };
        outgoing.frames.write(&head, &mut outgoing.packed);
        cx.subscribe(format!("{}.>", outgoing.acks), tag(What::Snapshot, number));
        // Wildcards don't count: whoever asked has an inbox for answers that matches before they are ready for it.
        cx.watch_group(&outgoing.deliver, "", tag(What::Snapshot, number));
        outgoing
    }

    /// Ends it.
    pub(crate) fn close(&self, why: Option<&str>, cx: &mut Cx<'_>) {
        cx.unsubscribe(format!("{}.>", self.acks), tag(What::Snapshot, self.number));
        cx.unwatch(self.deliver.as_bytes(), tag(What::Snapshot, self.number));
        let subject = format!("$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_COMPLETE.{}", self.name);
        let completed = Completed {
            stream: &self.name,
            start: at(self.started),
            end: at(cx.now.wall),
            client: &self.asker,
        };
        let kind = "io.nats.jetstream.advisory.v1.snapshot_complete";
        cx.event_with(&subject, kind, completed, Why { error: why });
    }

    pub(crate) fn on_ack(&mut self, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.silent_at = now + SILENCE;
    }

    pub(crate) fn on_interest(&mut self, exists: bool) {
        // That there is nobody yet is not that they left.
        if exists || self.listened == Some(true) {
            self.listened = Some(exists);
        }
    }

    /// Nothing was heard for a while.
    pub(crate) fn on_silence(&mut self, now: Instant, cx: &mut Cx<'_>) -> Progress {
        if self.listened.is_none() && now >= self.patient_until {
            // Whoever comes late gets the rest.
            self.listened = Some(true);
            self.silent_at = now + SILENCE;
            return Progress::Waits;
        }
        self.fail("408 No Flow Response", "no flow response", cx)
    }

    /// Says why there is no more: what takes it by a status, who listens to events in words.
    pub(crate) fn fail(&self, status: &'static str, why: &'static str, cx: &mut Cx<'_>) -> Progress {
        cx.status(self.deliver.as_bytes(), status, "");
        Progress::Done(Some(why))
    }

    /// Sends what may be sent.
    pub(crate) fn pump(&mut self, log: &dyn Log, cx: &mut Cx<'_>) -> Progress {
        if let Some(state) = self.begins.take() {
            let created = Created { stream: &self.name, state, client: &self.asker };
            let subject = format!("$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_CREATE.{}", self.name);
            cx.event(&subject, "io.nats.jetstream.advisory.v1.snapshot_create", created);
        }
        match self.listened {
            None => return Progress::Waits,
            Some(false) => return self.fail("408 No Interest", "no interest", cx),
            Some(true) => {}
        }
        loop {
            if self.under_way >= self.window {
                return Progress::Waits;
            }
            if cx.out.is_full() {
                return Progress::More;
            }
            if !self.read(log) {
                return self.fail("500 a message is damaged", "a message is damaged", cx);
            }
            if self.packed.len() < self.chunk {
                break;
            }
            let rest = self.packed.split_off(self.chunk);
            let payload = std::mem::replace(&mut self.packed, rest);
            self.sent += 1;
            self.under_way += 1;
            let reply = format!("{}.{}.{}", self.acks, payload.len(), self.sent);
            cx.out.push(Output::Publish(Publish {
                account: cx.account,
                subject: self.deliver.clone().into(),
                reply: Some(reply.into()),
                payload: payload.into(),
                ..Publish::default()
            }));
            self.silent_at = cx.now.mono + SILENCE;
        }
        if !self.packed.is_empty() {
            cx.publish(self.deliver.as_bytes(), "", std::mem::take(&mut self.packed));
        }
        // So it is in nats-server: what fits into one chunk ends without a status.
        let header = if self.sent > 0 { "NATS/1.0 204\r\n\r\n" } else { "" };
        cx.publish(self.deliver.as_bytes(), header, "");
        Progress::Done(None)
    }

    /// Reads until there is a chunk, or nothing more. False if a message is damaged and that matters.
    fn read(&mut self, log: &dyn Log) -> bool {
        let mut entry = Vec::new();
        while self.packed.len() < self.chunk && !self.all_read {
            entry.clear();
            let next = log.next(self.next, &Filters::all()).filter(|seq| *seq <= self.last);
            let Some(seq) = next else {
                archive::push(b"", 0, 0, b"", b"", &mut entry);
                self.frames.write(&entry, &mut self.packed);
                self.frames.flush(&mut self.packed);
                self.all_read = true;
                continue;
            };
            self.next = seq + 1;
            match log.get(seq) {
                Ok(Some(message)) => {
                    let (header, payload) = (message.header(), message.payload());
                    archive::push(message.subject(), message.time, seq, header, &payload, &mut entry);
                    self.frames.write(&entry, &mut self.packed);
                }
                _ if self.stops_at_damage => return false,
                _ => {}
            }
        }
        true
    }
}
