//! The node itself, without I/O: it tells the client what to send, and reads what comes.

use crate::{Board, Command, Log, Names, Reading, Shadow, Status};
use midge_client::header::{Block, Field};
use midge_client::jetstream::{self, Expect, Watch};
use midge_client::outbox::{Confirm, Outbox, Progress, QueueError, Ram};
use midge_client::{Config, Event, Instant, Publish, Refused, Sid, Token, typed};

/// Status requests and changes of the shadow.
const SUBS: usize = 2;
/// One each for the outbox, a pull, the watch, and the shadow that is written.
const REQUESTS: usize = 4;
/// How long an answer may take.
const TIMEOUT_MS: u32 = 2_000;
/// How long nothing is asked for after something was refused, as for want of a stream.
const PAUSE_MS: u32 = 1_000;
/// How long a request for a command waits at the broker.
const PULL_MS: u32 = 10_000;

pub(crate) type Client<'m> = midge_client::Client<'m, SUBS, REQUESTS>;

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

/// What a node knows and waits for.
pub struct Node<'m> {
    names: &'m Names,
    outbox: Outbox<'m, Ram<'m>>,
    watch: Watch<'m>,
    status_requests: Sid,
    shadow: Shadow,
    status: Status,
    next_reading: Instant,
    /// Nothing is asked for until then.
    next_request: Instant,
    /// The shadow is to be written.
    shadow_due: bool,
    pulling: Option<Token>,
    writing: Option<Token>,
}

/// What an event asks for. Events borrow the connection, so first they are read, then acted on.
pub(crate) struct Act {
    progress: Progress,
    what: What,
    is_refused: bool,
}

enum What {
    Nothing,
    Connected,
    Complaint,
    Status,
    Command(Option<Command>),
    Desired(Shadow),
    PullEnded,
    Written(bool),
}

impl<'m> Node<'m> {
    /// A node and its client. `start` is different at each start of the board, as a count in flash or a random number is: the
    /// ids of readings begin with it.
    pub(crate) fn new<const RECEIVE: usize, const TRANSMIT: usize, const OUTBOX: usize>(
        names: &'m Names,
        memory: &'m mut Memory<RECEIVE, TRANSMIT, OUTBOX>,
        start: u32,
    ) -> Result<(Self, Client<'m>), Refused> {
        let mut unique = [0; 16];
        for (place, byte) in unique.iter_mut().zip(names.name.bytes().chain(start.to_le_bytes())) {
            *place = byte;
        }
        // A line tells nothing when the broker goes: only silence does. And it may have one greeting to give, whenever it comes.
        let config = Config { connect_timeout_ms: 20_000, ping_interval_ms: 1_000, ..Config::new(0) };
        let mut client = Client::new(config, &mut memory.receive, &mut memory.transmit, unique);
        let queue = Ram::new(&mut memory.outbox, u64::from(start) << 32);
        let status_requests = client.subscribe(names.status, None)?;
        let changes = client.subscribe(names.changes, None)?;
        let node = Self {
            names,
            outbox: Outbox::new(queue, Confirm::Stream(names.name), TIMEOUT_MS),
            watch: Watch::new("shadow", names.desired, changes, names.changes, TIMEOUT_MS),
            status_requests,
            shadow: Shadow { interval_ms: 1_000, heater: false },
            status: Status::default(),
            next_reading: Instant::default(),
            next_request: Instant::default(),
            shadow_due: true,
            pulling: None,
            writing: None,
        };
        Ok((node, client))
    }

    /// When the next reading is to be taken.
    #[cfg(feature = "asynchronous")]
    pub(crate) fn next_reading(&self) -> Instant {
        self.next_reading
    }

    /// Takes a reading if it is time, whether there is a broker or not.
    pub(crate) fn measure<B: Board>(&mut self, board: &mut B) {
        let now = board.now();
        if now < self.next_reading {
            return;
        }
        self.next_reading = now.after_ms(self.shadow.interval_ms.max(50));
        self.status.readings += 1;
        let reading = Reading {
            number: self.status.readings,
            uptime_ms: (now.as_micros() / 1_000) as u32,
            celsius_x100: board.celsius_x100(),
            heater: self.shadow.heater,
        };
        let mut space = [0; 24];
        let Ok(payload) = typed::encode(&reading, &mut space) else { return };
        while let Err(QueueError::Full) = self.outbox.push(self.names.readings, payload) {
            board.log(Log::Dropped);
            self.status.dropped += 1;
            if self.outbox.drop_oldest().is_err() {
                return;
            }
        }
    }

    /// Asks for what is due. What is refused for lack of room is asked for again next time.
    pub(crate) fn ask(&mut self, client: &mut Client<'m>, now: Instant) {
        if now < self.next_request {
            return;
        }
        let _ = self.outbox.poll(client, &mut [0; 96], now);
        let _ = self.watch.poll(client, now);
        if client.is_ready() && self.pulling.is_none() {
            self.pulling = client.pull("COMMANDS", self.names.name, PULL_MS, now).ok();
        }
        if client.is_ready() && self.shadow_due && self.writing.is_none() {
            let mut space = [0; 16];
            let deadline = now.after_ms(TIMEOUT_MS);
            if let Ok(value) = typed::encode(&self.shadow, &mut space) {
                let reported = self.names.reported;
                self.writing = client.kv_put("shadow", reported, value, Expect::Anything, deadline).ok();
                self.shadow_due = self.writing.is_none();
            }
        }
    }

    /// What `event` asks for.
    pub(crate) fn read(&mut self, event: &Event<'_>) -> Act {
        let what = match self.watch.handle(event) {
            Some(Ok(entry)) => {
                entry.value.and_then(|value| typed::decode(value).ok()).map_or(What::Nothing, What::Desired)
            }
            Some(Err(_)) => What::Complaint,
            None => self.read_other(event),
        };
        let is_refused = matches!(event, Event::NoResponders { .. }) || matches!(what, What::Complaint);
        Act { progress: Progress::from(event), what, is_refused }
    }

    fn read_other(&mut self, event: &Event<'_>) -> What {
        match event {
            Event::Connected => What::Connected,
            Event::Error(_) => What::Complaint,
            Event::Message { sid, message } if *sid == self.status_requests && message.reply.is_some() => {
                What::Status
            }
            Event::Pulled { message } => {
                self.pulling = None;
                What::Command(typed::decode(message.payload).ok())
            }
            Event::Answer { token, message } if self.writing == Some(*token) => {
                What::Written(jetstream::pub_ack(message.payload).is_ok())
            }
            Event::Answer { token, .. } | Event::NoResponders { token } | Event::Expired { token } => {
                match Some(*token) {
                    ended if ended == self.pulling => What::PullEnded,
                    ended if ended == self.writing => What::Written(false),
                    _ => What::Nothing,
                }
            }
            _ => What::Nothing,
        }
    }

    /// Does it. What it says to the broker leaves with the connection's next call.
    pub(crate) fn act<B: Board>(
        &mut self,
        client: &mut Client<'m>,
        board: &mut B,
        act: &Act,
    ) -> Result<(), Refused> {
        if act.is_refused {
            self.next_request = board.now().after_ms(PAUSE_MS);
        }
        match self.outbox.handle(client, &act.progress) {
            Some(Ok(())) => {
                self.status.stored += 1;
                board.log(Log::Stored);
            }
            Some(Err(_)) => board.log(Log::Complaint),
            None => {}
        }
        match act.what {
            What::Nothing => {}
            What::Complaint => board.log(Log::Complaint),
            What::Connected => {
                self.status.connects += 1;
                (self.pulling, self.writing, self.shadow_due) = (None, None, true);
                board.log(Log::Connected);
                self.hello(client)?;
            }
            What::Status => {
                self.status.uptime_ms = (board.now().as_micros() / 1_000) as u32;
                self.status.waiting = self.outbox.queue().used() as u32;
                let mut space = [0; 32];
                if let Ok(payload) = typed::encode(&self.status, &mut space) {
                    client.respond(payload)?;
                }
            }
            What::Command(command) => {
                // What isn't understood won't be later either.
                client.respond(if command.is_some() { jetstream::ACK } else { jetstream::TERM })?;
                match command {
                    Some(Command::Interval { ms }) => self.shadow.interval_ms = ms,
                    Some(Command::Heater { on }) => self.shadow.heater = on,
                    None => return Ok(()),
                }
                self.obey(board, Log::Command);
            }
            What::Desired(desired) => {
                if self.shadow != desired {
                    self.shadow = desired;
                    self.obey(board, Log::Desired);
                }
            }
            What::PullEnded => self.pulling = None,
            What::Written(done) => {
                self.writing = None;
                self.shadow_due |= !done;
            }
        }
        Ok(())
    }

    fn obey<B: Board>(&mut self, board: &mut B, why: Log) {
        board.heat(self.shadow.heater);
        self.shadow_due = true;
        self.next_reading = board.now();
        board.log(why);
    }

    /// Tells who is there, in headers.
    fn hello(&self, client: &mut Client<'m>) -> Result<(), Refused> {
        let fields = [
            Field::new("Board", self.names.board),
            Field::new("Version", env!("CARGO_PKG_VERSION")),
            Field::new("Content-Type", "application/vnd.postcard"),
        ];
        let Ok(header) = Block::new(&fields) else { return Ok(()) };
        let message = Publish { header: Some(&header), ..Publish::new(self.names.hello, b"") };
        match client.publish_with(&message) {
            // A broker without headers will do without a hello.
            Err(Refused::Headers) => Ok(()),
            result => result,
        }
    }
}
