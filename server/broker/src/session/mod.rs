//! A client's side of the conversation: reads its bytes, decides what it may do, answers.
//!
//! ```text
//!              INFO staged by Broker::attach
//!                          │
//!                    ┌─────▼─────┐   CONNECT refused, anything but CONNECT, silence
//!    credentials ──> │  Waiting  │ ───────────────────────────────┐
//!      needed        └─────┬─────┘                                │
//!                  CONNECT │ ▲ hash, signature: the driver finds   │
//!                          ▼ │ out while nothing is read          │
//!    no credentials  ┌───────────┐   a rule broken, -ERR  ┌───────▼───┐
//!      needed ─────> │   Ready   │ ─────────────────────> │   Over    │
//!                    └───────────┘                        └───────────┘
//! ```
//!
//! A session holds no input: what it has not used, the driver gives again with more behind it.

mod handshake;
mod ready;

use midge_protocol::emit::{self, Sink};
use midge_protocol::limits::Limits;
use midge_protocol::op::ClientOp;
use midge_protocol::parse::{Step, client_op};
use midge_protocol::time::Instant;

use crate::auth::{Credentials, Question};
use crate::broker::{Broker, MEMORY_BUDGET, Now};
use crate::closed::CloseReason;
use crate::conn::{Conn, ConnId, Port, at};
use crate::notice::Level;
use crate::publish::{Cost, traced};

/// A client's session.
#[derive(Debug)]
pub struct Session {
    id: ConnId,
    phase: Phase,
    /// Answer each operation with +OK.
    verbose: bool,
    /// Check publish subjects.
    pedantic: bool,
    /// A CONNECT that waits for an answer.
    waiting: Option<Box<handshake::Waiting>>,
    /// What was given so far, where it matters: a later CONNECT need not say it again.
    credentials: Option<Box<Credentials>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// CONNECT must come first.
    Waiting,
    Ready,
    /// It is no client but a hub.
    Hub,
}

/// What [`Session::receive`] did.
#[derive(Debug)]
pub struct Received {
    /// Bytes of the input that are done with.
    pub used: usize,
    /// What the session wants now.
    pub next: Next,
}

/// What a session wants of its driver.
#[derive(Debug)]
pub enum Next {
    /// At least this many bytes, counted from the first one that was not used.
    Read(usize),
    /// The turn was long: flush, let others have theirs, then give the rest of the input again.
    Yield,
    /// The answer to a question, with [`Session::answered`]; until then, no input.
    Ask(Question),
    /// The user has published as much as it may: flush, and give the rest of the input again at this time, not before.
    /// Nothing is to be read until then.
    Pause(Instant),
    /// Nothing more: the connection is closing.
    Close,
}

/// A turn ends after this many deliveries …
pub(crate) const TURN_DELIVERIES: usize = 4096;
/// … or bytes delivered, so that no publisher holds the broker for long.
pub(crate) const TURN_BYTES: usize = 256 * 1024;
/// … or bytes for the client itself, answers among them, so that mistakes by the thousand don't make it a slow reader
/// before it had a chance to read.
const TURN_SAID: usize = 16 * 1024;
/// A subject longer than this counts as a delivery for each of so many bytes.
const LONG: usize = 256;
const LONG_STEP: usize = 4;
/// A message larger than this is only waited for if there is memory for it.
pub(crate) const LARGE: usize = 64 * 1024;

impl Session {
    /// The session of a connection that was just attached.
    pub fn new<P: Port>(broker: &Broker<P>, id: ConnId) -> Self {
        let way = broker.conn(id).map(|conn| conn.way).unwrap_or_default();
        let waits = broker.settings().directory.asks(way);
        let phase = if waits { Phase::Waiting } else { Phase::Ready };
        Self { id, phase, verbose: true, pedantic: true, waiting: None, credentials: None }
    }

    /// The session of a connection to a hub.
    #[cfg(feature = "leafnode")]
    pub(crate) fn to_hub(id: ConnId) -> Self {
        Self { id, phase: Phase::Hub, verbose: false, pedantic: false, waiting: None, credentials: None }
    }

    /// Credentials that came before CONNECT; what CONNECT says comes before them.
    pub fn carry(&mut self, user: String, pass: String, token: String, jwt: String) {
        let carried = Credentials { user, pass, token, jwt, ..Credentials::default() };
        self.credentials = (!carried.is_empty() || !carried.pass.is_empty()).then(|| Box::new(carried));
    }

    /// The connection that it belongs to.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Reads operations from the start of `input` and does what they ask. Work is bounded: see [`Next::Yield`].
    pub fn receive<P: Port>(&mut self, broker: &mut Broker<P>, now: Now, input: &[u8]) -> Received {
        if self.phase == Phase::Hub {
            let received = crate::leaf::receive(broker, self.id, now, input);
            broker.answer_last(self.id);
            return received;
        }
        let mut used = 0;
        let mut spent = Cost::default();
        let mut tally = Tally::default();
        let next = loop {
            if !broker.conn(self.id).is_some_and(Conn::is_open) {
                break Next::Close;
            }
            let rest = input.get(used..).unwrap_or_default();
            let Some(first) = rest.first() else { break Next::Read(1) };
            if self.phase == Phase::Waiting
                && !matches!(first, b'C' | b'c')
                && !self.enter_unasked(broker, now)
            {
                break Next::Close;
            }
            let (headers, max_payload, metered, said) =
                broker.conn(self.id).map_or((false, 0, false, 0), |conn| {
                    (conn.headers, conn.max_payload, conn.meter.is_some(), conn.stage.len())
                });
            if spent.deliveries >= TURN_DELIVERIES || spent.bytes >= TURN_BYTES || said >= TURN_SAID {
                break Next::Yield;
            }
            let settings = broker.settings();
            let limits = Limits { max_control_line: settings.max_control_line, max_payload, headers };
            match client_op(rest, &limits) {
                Step::Need(total) if total > LARGE && !broker.budget.admits(total as u64) => {
                    broker.note(self.id, Level::Error, MEMORY_BUDGET);
                    broker.fail(self.id, MEMORY_BUDGET, CloseReason::MemoryBudget, now);
                    break Next::Close;
                }
                Step::Need(total) => break Next::Read(total),
                Step::Bad(rule) => {
                    self.broke(broker, rule, now);
                    break Next::Close;
                }
                Step::Op(op, len) => {
                    if let ClientOp::Pub(message) = &op
                        && metered
                        && let Err(until) = broker.meter_message(self.id, message, now)
                    {
                        break Next::Pause(until);
                    }
                    used += len;
                    if broker.settings().trace {
                        self.trace(broker, &op);
                    }
                    if let Some(question) = self.apply(broker, op, now, &mut tally, &mut spent) {
                        break Next::Ask(question);
                    }
                }
            }
        };
        tally.settle(broker, self.id, now);
        broker.answer_last(self.id);
        Received { used, next }
    }

    fn apply<P: Port>(
        &mut self,
        broker: &mut Broker<P>,
        op: ClientOp<'_>,
        now: Now,
        tally: &mut Tally,
        spent: &mut Cost,
    ) -> Option<Question> {
        match op {
            ClientOp::Pub(message) => {
                tally.msgs += 1;
                tally.bytes += u64::from(message.size.value);
                let cost = self.publish(broker, &message, now);
                spent.deliveries += cost.deliveries;
                spent.bytes += cost.bytes;
                // Where a subject that is this long leads takes as long to find out.
                if message.subject.len() > LONG {
                    spent.deliveries += message.subject.len() / LONG_STEP;
                }
            }
            ClientOp::Sub(sub) => {
                tally.interest += 1;
                self.subscribe(broker, sub, now);
            }
            ClientOp::Unsub(unsub) => {
                tally.interest += 1;
                broker.unsubscribe(self.id, unsub.sid, unsub.max, now);
                self.ok(broker);
            }
            ClientOp::Ping => self.ping(broker, now),
            ClientOp::Pong => broker.pong(self.id, now),
            ClientOp::Connect(argument) => return self.connect(broker, argument, now),
            ClientOp::Err(text) => {
                let text = String::from_utf8_lossy(text).into_owned();
                broker.note(self.id, Level::Error, format_args!("Client Error {text}"));
                broker.close(self.id, CloseReason::ParseError, now);
            }
            ClientOp::Info(argument) => self.info(broker, argument, now),
            ClientOp::Ok => {}
        }
        None
    }

    fn trace<P: Port>(&self, broker: &mut Broker<P>, op: &ClientOp<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = match op {
            // Credentials stay out of logs.
            ClientOp::Connect(_) => "<<- [CONNECT [REDACTED]]".to_owned(),
            ClientOp::Pub(m) => {
                let verb = if m.header_size.is_some() { "HPUB" } else { "PUB" };
                let reply = m.reply.map(|reply| format!(" {}", text(reply))).unwrap_or_default();
                let payload = traced(m.payload(), broker.settings().max_traced);
                let (subject, size) = (text(m.subject), m.size.value);
                format!("<<- [{verb} {subject}{reply} {size}]\n<<- MSG_PAYLOAD: {payload}")
            }
            ClientOp::Sub(s) => {
                let queue = s.queue.map(|queue| format!(" {}", text(queue))).unwrap_or_default();
                format!("<<- [SUB {}{queue} {}]", text(s.subject), text(s.sid))
            }
            ClientOp::Unsub(u) => {
                let max = u.max.map(|max| format!(" {max}")).unwrap_or_default();
                format!("<<- [UNSUB {}{max}]", text(u.sid))
            }
            ClientOp::Ping => "<<- [PING]".to_owned(),
            ClientOp::Pong => "<<- [PONG]".to_owned(),
            ClientOp::Info(_) => "<<- [INFO]".to_owned(),
            ClientOp::Ok => "<<- [+OK]".to_owned(),
            ClientOp::Err(e) => format!("<<- [-ERR {}]", text(e)),
        };
        for line in line.lines() {
            broker.note(self.id, Level::Trace, line);
        }
    }

    /// +OK, for those who asked for it.
    fn ok<P: Port>(&self, broker: &mut Broker<P>) {
        if self.verbose {
            if broker.settings().trace {
                broker.note(self.id, Level::Trace, "->> [OK]");
            }
            broker.stage(self.id, |out| out.put(emit::OK));
        }
    }
}

/// What a turn read; added to the figures once, at its end.
#[derive(Default)]
struct Tally {
    msgs: u64,
    bytes: u64,
    interest: u64,
}

impl Tally {
    fn settle<P: Port>(&self, broker: &mut Broker<P>, id: ConnId, now: Now) {
        if self.msgs == 0 && self.interest == 0 {
            return;
        }
        let Some(conn) = at(&mut broker.conns, id) else { return };
        conn.last = now.mono;
        conn.last_in = now.mono;
        let account = &mut broker.accounts[conn.account.index()];
        for counters in [&mut conn.counters, &mut account.counters, &mut broker.stats.counters] {
            counters.in_msgs += self.msgs;
            counters.in_bytes += self.bytes;
        }
    }
}
