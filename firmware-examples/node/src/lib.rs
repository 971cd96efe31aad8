//! A sensor node: what all firmware in this directory does, on whatever board.
//!
//! - publishes a [`Reading`] each interval, through an outbox, into the stream `READINGS`, where each is stored once: also
//!   those that were taken while the broker was away;
//! - says hello with headers when it has connected;
//! - answers requests on `plant.<name>.status` with a [`Status`];
//! - takes [`Command`]s one by one from the consumer `<name>` of the stream `COMMANDS`;
//! - keeps its [`Shadow`] in the key-value bucket `shadow`: follows `<name>.desired`, writes `<name>.reported`.
//!
//! A board gives it a line to the broker, a clock, a thermometer, a heater and a place for log lines: [`Board`].
#![no_std]
#![forbid(unsafe_code)]

mod values;

pub use midge_client::{Instant, Login};
pub use values::{Command, Reading, Shadow, Status};

use embedded_io::{Read, Write};
use midge_client::blocking::Connection;
use midge_client::header::{Block, Field};
use midge_client::jetstream::{self, Expect, Watch};
use midge_client::outbox::{Confirm, Outbox, Progress, QueueError, Ram};
use midge_client::{Backoff, Client, Config, Error, Event, Publish, Refused, Subject, Token, typed};

/// What a node needs of its board.
pub trait Board {
    /// The way to the broker. A read without a byte ends after a few ms, with `TimedOut`.
    type Line: Read + Write;

    /// A line that was just made.
    fn line(&mut self) -> Self::Line;

    /// Time since the start.
    fn now(&self) -> Instant;

    /// Does nothing for so long.
    fn sleep_ms(&mut self, ms: u32);

    /// The temperature, in hundredths of a degree.
    fn celsius_x100(&mut self) -> i16;

    /// Switches the heater.
    fn heat(&mut self, on: bool);

    /// Something that a person may want to read.
    fn log(&mut self, line: Log);
}

/// What a node has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Log {
    /// It runs, and waits for a broker.
    Started,
    /// The broker let it in.
    Connected,
    /// The connection is gone; it tries again.
    Lost,
    /// The broker complains.
    Complaint,
    /// A reading is stored.
    Stored,
    /// The outbox is full: the oldest reading went.
    Dropped,
    /// A command was carried out.
    Command,
    /// The desired state changed.
    Desired,
}

impl Log {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "waiting for a broker",
            Self::Connected => "connected",
            Self::Lost => "connection lost",
            Self::Complaint => "the broker complains",
            Self::Stored => "a reading is stored",
            Self::Dropped => "outbox full: dropped the oldest reading",
            Self::Command => "carried out a command",
            Self::Desired => "took over the desired state",
        }
    }
}

/// The names of one node.
#[derive(Clone, Copy)]
pub struct Names {
    /// Its own: the consumer of its commands, and how its `Nats-Msg-Id`s begin.
    pub name: &'static str,
    /// Where it says hello.
    pub hello: Subject<'static>,
    /// Where its readings go.
    pub readings: Subject<'static>,
    /// Where it answers.
    pub status: &'static str,
    /// What it is to be, in the bucket `shadow`.
    pub desired: &'static str,
    /// What it is, there too.
    pub reported: &'static str,
    /// Where changes of the first come; a subject of its own.
    pub changes: &'static str,
    /// What the headers of its hello say.
    pub board: &'static str,
}

/// The names that belong to a name: `names!("attic", "qemu-cortex-m3")`.
#[macro_export]
macro_rules! names {
    ($name:literal, $board:literal) => {
        $crate::Names {
            name: $name,
            hello: $crate::__subject!(concat!("plant.", $name, ".hello")),
            readings: $crate::__subject!(concat!("plant.", $name, ".reading")),
            status: concat!("plant.", $name, ".status"),
            desired: concat!($name, ".desired"),
            reported: concat!($name, ".reported"),
            changes: concat!("plant.", $name, ".changes"),
            board: $board,
        }
    };
}

#[doc(hidden)]
pub use midge_client::subject as __subject;

/// How many bytes of RAM a node has for what passes through.
pub struct Memory<const RECEIVE: usize, const TRANSMIT: usize, const OUTBOX: usize> {
    receive: [u8; RECEIVE],
    transmit: [u8; TRANSMIT],
    outbox: [u8; OUTBOX],
}

impl<const RECEIVE: usize, const TRANSMIT: usize, const OUTBOX: usize> Memory<RECEIVE, TRANSMIT, OUTBOX> {
    /// All clear.
    pub const fn new() -> Self {
        Self { receive: [0; RECEIVE], transmit: [0; TRANSMIT], outbox: [0; OUTBOX] }
    }
}

impl<const RECEIVE: usize, const TRANSMIT: usize, const OUTBOX: usize> Default
    for Memory<RECEIVE, TRANSMIT, OUTBOX>
{
    fn default() -> Self {
        Self::new()
    }
}

/// Status requests and changes of the shadow.
const SUBS: usize = 2;
/// One each for the outbox, a pull, the watch, and the shadow that is written.
const REQUESTS: usize = 4;
/// How long an answer may take.
const TIMEOUT_MS: u32 = 2_000;
/// How long a request for a command waits at the broker.
const PULL_MS: u32 = 10_000;

struct State {
    shadow: Shadow,
    status: Status,
    next_reading: Instant,
    /// The shadow is to be written.
    shadow_due: bool,
    pulling: Option<Token>,
    writing: Option<Token>,
}

/// What an event asks for. Events borrow the connection, so first they are read, then acted on.
enum Act {
    Nothing,
    Connected,
    Complaint,
    Status,
    Command(Option<Command>),
    Desired(Shadow),
    PullEnded,
    Written(bool),
}

/// Works for ever. `start` is different at each start of the board, as a count in flash or a random number is: the ids
/// of readings begin with it.
pub fn run<B: Board, const RECEIVE: usize, const TRANSMIT: usize, const OUTBOX: usize>(
    board: &mut B,
    names: &Names,
    login: &Login<'_>,
    memory: &mut Memory<RECEIVE, TRANSMIT, OUTBOX>,
    start: u32,
) -> ! {
    let mut unique = [0; 16];
    for (place, byte) in unique.iter_mut().zip(names.name.bytes().chain(start.to_le_bytes())) {
        *place = byte;
    }
    // A line tells nothing when the broker goes: only silence does. And it has one greeting to give, whenever it comes.
    let config = Config { connect_timeout_ms: 20_000, ping_interval_ms: 1_000, ..Config::new(0) };
    let mut client = Client::<SUBS, REQUESTS>::new(config, &mut memory.receive, &mut memory.transmit, unique);
    let queue = Ram::new(&mut memory.outbox, u64::from(start) << 32);
    let mut outbox = Outbox::new(queue, Confirm::Stream(names.name), TIMEOUT_MS);
    let mut backoff = Backoff::new(200, 5_000, start);
    let mut state = State {
        shadow: Shadow { interval_ms: 1_000, heater: false },
        status: Status::default(),
        next_reading: Instant::default(),
        shadow_due: true,
        pulling: None,
        writing: None,
    };
    let subscribed = client
        .subscribe(names.status, None)
        .and_then(|status| Ok((status, client.subscribe(names.changes, None)?)));
    let Ok((status, changes)) = subscribed else { park(board) };
    let mut watch = Watch::new("shadow", names.desired, changes, names.changes, TIMEOUT_MS);
    board.log(Log::Started);
    loop {
        let mut connection = Connection::new(&mut client, board.line(), login, board.now());
        while let Ok(()) = turn(board, names, &mut connection, &mut outbox, &mut watch, &mut state, status) {
            if state.status.connects > 0 && connection.client().is_ready() {
                backoff.reset();
            }
        }
        board.log(Log::Lost);
        board.sleep_ms(backoff.next_ms());
    }
}

fn park<B: Board>(board: &mut B) -> ! {
    loop {
        board.log(Log::Complaint);
        board.sleep_ms(u32::MAX);
    }
}

type Link<'c, 'b, L> = Connection<'c, 'b, L, SUBS, REQUESTS>;

/// Takes a reading if it is time, asks for what is due, waits for one event and does what it asks for.
fn turn<B: Board>(
    board: &mut B,
    names: &Names,
    connection: &mut Link<'_, '_, B::Line>,
    outbox: &mut Outbox<'_, Ram<'_>>,
    watch: &mut Watch<'_>,
    state: &mut State,
    status: midge_client::Sid,
) -> Result<(), Error<<B::Line as embedded_io::ErrorType>::Error>> {
    let now = board.now();
    if now >= state.next_reading {
        state.next_reading = now.after_ms(state.shadow.interval_ms.max(50));
        take_reading(board, names, outbox, state, now);
    }
    let client = connection.client();
    // Whatever is refused here for lack of room is asked for again in the next turn.
    let _ = outbox.poll(client, &mut [0; 96], now);
    let _ = watch.poll(client, now);
    if client.is_ready() && state.pulling.is_none() {
        state.pulling = client.pull("COMMANDS", names.name, PULL_MS, now).ok();
    }
    if client.is_ready() && state.shadow_due && state.writing.is_none() {
        let mut space = [0; 16];
        let deadline = now.after_ms(TIMEOUT_MS);
        if let Ok(value) = typed::encode(&state.shadow, &mut space) {
            state.writing = client.kv_put("shadow", names.reported, value, Expect::Anything, deadline).ok();
            state.shadow_due = state.writing.is_none();
        }
    }

    let (progress, act) = match connection.next(now)? {
        None => return Ok(()),
        Some(event) => {
            let act = match watch.handle(&event) {
                Some(Ok(entry)) => {
                    entry.value.and_then(|value| typed::decode(value).ok()).map_or(Act::Nothing, Act::Desired)
                }
                Some(Err(_)) => Act::Complaint,
                None => read(&event, state, status),
            };
            (Progress::from(&event), act)
        }
    };
    match outbox.handle(connection.client(), &progress) {
        Some(Ok(())) => {
            state.status.stored += 1;
            board.log(Log::Stored);
        }
        Some(Err(_)) => board.log(Log::Complaint),
        None => {}
    }
    match act {
        Act::Nothing => {}
        Act::Complaint => board.log(Log::Complaint),
        Act::Connected => {
            state.status.connects += 1;
            (state.pulling, state.writing, state.shadow_due) = (None, None, true);
            board.log(Log::Connected);
            hello(connection, names)?;
        }
        Act::Status => {
            state.status.uptime_ms = (now.as_micros() / 1_000) as u32;
            state.status.waiting = outbox.queue().used() as u32;
            let mut space = [0; 32];
            if let Ok(payload) = typed::encode(&state.status, &mut space) {
                connection.respond(payload)?;
            }
        }
        Act::Command(command) => {
            // What isn't understood won't be later either.
            connection.respond(if command.is_some() { jetstream::ACK } else { jetstream::TERM })?;
            match command {
                Some(Command::Interval { ms }) => state.shadow.interval_ms = ms,
                Some(Command::Heater { on }) => state.shadow.heater = on,
                None => return Ok(()),
            }
            obey(board, state, Log::Command);
        }
        Act::Desired(desired) => {
            if state.shadow != desired {
                state.shadow = desired;
                obey(board, state, Log::Desired);
            }
        }
        Act::PullEnded => state.pulling = None,
        Act::Written(done) => {
            state.writing = None;
            state.shadow_due |= !done;
        }
    }
    Ok(())
}

/// What `event` asks for.
fn read(event: &Event<'_>, state: &mut State, status: midge_client::Sid) -> Act {
    match event {
        Event::Connected => Act::Connected,
        Event::Error(_) => Act::Complaint,
        Event::Message { sid, message } if *sid == status && message.reply.is_some() => Act::Status,
        Event::Pulled { message } => {
            state.pulling = None;
            Act::Command(typed::decode(message.payload).ok())
        }
        Event::Answer { token, message } if state.writing == Some(*token) => {
            Act::Written(jetstream::pub_ack(message.payload).is_ok())
        }
        Event::Answer { token, .. } | Event::NoResponders { token } | Event::Expired { token } => {
            match Some(*token) {
                ended if ended == state.pulling => Act::PullEnded,
                ended if ended == state.writing => Act::Written(false),
                _ => Act::Nothing,
            }
        }
        _ => Act::Nothing,
    }
}

fn obey<B: Board>(board: &mut B, state: &mut State, why: Log) {
    board.heat(state.shadow.heater);
    state.shadow_due = true;
    state.next_reading = board.now();
    board.log(why);
}

fn take_reading<B: Board>(
    board: &mut B,
    names: &Names,
    outbox: &mut Outbox<'_, Ram<'_>>,
    state: &mut State,
    now: Instant,
) {
    state.status.readings += 1;
    let reading = Reading {
        number: state.status.readings,
        uptime_ms: (now.as_micros() / 1_000) as u32,
        celsius_x100: board.celsius_x100(),
        heater: state.shadow.heater,
    };
    let mut space = [0; 24];
    let Ok(payload) = typed::encode(&reading, &mut space) else { return };
    while let Err(QueueError::Full) = outbox.push(names.readings, payload) {
        board.log(Log::Dropped);
        state.status.dropped += 1;
        if outbox.drop_oldest().is_err() {
            return;
        }
    }
}

/// Tells who is there, in headers.
fn hello<L: Read + Write>(connection: &mut Link<'_, '_, L>, names: &Names) -> Result<(), Error<L::Error>> {
    let fields = [
        Field::new("Board", names.board),
        Field::new("Version", env!("CARGO_PKG_VERSION")),
        Field::new("Content-Type", "application/vnd.postcard"),
    ];
    let Ok(header) = Block::new(&fields) else { return Ok(()) };
    let message = Publish { header: Some(&header), ..Publish::new(names.hello, b"") };
    match connection.publish_with(&message) {
        // A broker without headers will do without a hello.
        Err(Error::Refused(Refused::Headers)) => Ok(()),
        result => result,
    }
}
