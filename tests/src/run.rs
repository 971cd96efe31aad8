//! Plays scripts: sends what they send, and judges what comes back.
//!
//! A script's lines happen one after the other although its clients are separate connections: before another
//! client acts, the one that sent last is *fenced*, a PING whose PONG the script never sees. "Nothing comes" and
//! "one of these gets it" are judged behind such fences too, so no step ever waits for silence.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cast::Cast;
use crate::frame::{Frame, escape};
use crate::mask::mask;
use crate::script::{Action, Expected, Piece, Script, Side, Step, Text};
use crate::target::{Read, Target, Wire, World};

/// How a play cuts what its clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// As the script has it.
    Whole,
    /// Every byte is read by the server on its own.
    Bytewise,
    /// The send with this index is cut in two before this byte.
    At(usize, usize),
}

/// Why a script failed.
#[derive(Debug)]
pub struct Failure {
    script: String,
    line: usize,
    cut: Cut,
    what: String,
    log: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scripts/{}.nats:{}: {}", self.script, self.line, self.what)?;
        match self.cut {
            Cut::Whole => {}
            Cut::Bytewise => write!(f, "\n  with every byte sent on its own")?,
            Cut::At(send, byte) => write!(f, "\n  with send {} cut before byte {byte}", send + 1)?,
        }
        for line in self.log.lines() {
            write!(f, "\n  | {line}")?;
        }
        Ok(())
    }
}

/// Whether the server's log names `key`. What was written before the server was ready may still be on its way.
fn said(mut world: Box<dyn World>, key: &str) -> bool {
    (0..100).any(|_| {
        let named = world.log().contains(key);
        if !named {
            world.advance(Duration::from_millis(10));
        }
        named
    })
}

/// Plays a script on a target, in as many cuts as it asks for, and returns the number of plays.
pub fn play(script: &Script, target: &Target) -> Result<usize, Failure> {
    let fail =
        |what| Failure { script: script.name.clone(), line: 0, cut: Cut::Whole, what, log: String::new() };
    let cast = Cast::new(&script.roles, target.now()).map_err(fail)?;
    let config = script.config.as_ref().map(|config| cast.fill(config));
    let started = target.start(script, config.as_deref());
    if let (Some(key), Side::Ours) = (&script.unserved, target.side()) {
        return match started.map(|world| said(world, key)) {
            Err(why) if why.contains(key) => Ok(1),
            Err(why) => Err(fail(why)),
            Ok(true) => Ok(1),
            Ok(false) => Err(fail(format!(
                "midge starts with `{key}` and doesn't warn: the script should not say `unserved`"
            ))),
        };
    }
    let mut world = started.map_err(fail)?;
    let mut play_cut = |cut| play_cut(script, target, &mut *world, &cast, cut);
    let sends = play_cut(Cut::Whole)?;
    if !script.fragmented {
        return Ok(1);
    }
    play_cut(Cut::Bytewise)?;
    let mut plays = 2;
    for (send, &length) in sends.iter().enumerate() {
        for byte in 1..length {
            play_cut(Cut::At(send, byte))?;
            plays += 1;
        }
    }
    Ok(plays)
}

/// Plays a script that only sends, and returns it with everything that came back written below each step.
pub fn record(name: &str, source: &str, target: &Target) -> Result<String, String> {
    let script = Script::parse(name, source).map_err(|err| err.to_string())?;
    let cast = Cast::new(&script.roles, target.now())?;
    let config = script.config.as_ref().map(|config| cast.fill(config));
    let mut world = target.start(&script, config.as_deref())?;
    let mut player = Player::new(&script, target, &mut *world, &cast, Cut::Whole);
    let mut recorded = String::new();
    for (index, line) in source.lines().enumerate() {
        recorded += line;
        recorded.push('\n');
        for step in script.steps_on(target.side()).filter(|step| step.line == index + 1) {
            player.step(step)?;
            let mut names: Vec<String> = player.clients.keys().cloned().collect();
            names.sort();
            let mut within = if matches!(step.action, Action::Wait) { QUIET / 2 } else { LISTEN };
            for name in names {
                let client = player.client(&name)?;
                while let Some(frame) = client.next(within, false) {
                    within = QUIET / 2;
                    recorded += &format!("{name}< {}\n", mask(&frame.capture()));
                    client.closed |= frame == Frame::Eof;
                }
            }
        }
    }
    Ok(recorded)
}

/// How long an expected frame may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to listen where no fence can be put, in the middle of a line.
const QUIET: Duration = Duration::from_millis(40);
/// How long to listen while recording: what a disk has to do with takes a while.
const LISTEN: Duration = Duration::from_millis(120);

fn play_cut(
    script: &Script,
    target: &Target,
    world: &mut dyn World,
    cast: &Cast,
    cut: Cut,
) -> Result<Vec<usize>, Failure> {
    let fail = |line, what, log| Failure { script: script.name.clone(), line, cut, what, log };
    let mut player = Player::new(script, target, world, cast, cut);
    let mut last = 0;
    for step in script.steps_on(target.side()) {
        last = step.line;
        player.step(step).map_err(|what| fail(step.line, what, player.world.log()))?;
    }
    player.finish().map_err(|what| fail(last, what, player.world.log()))?;
    Ok(player.sends)
}

struct Player<'w> {
    world: &'w mut dyn World,
    cast: &'w Cast,
    clients: HashMap<String, Client>,
    bound: HashMap<String, Vec<u8>>,
    /// Clients whose script asks for the server's PINGs.
    pinged: Vec<String>,
    /// Clients whose script asks for the greeting.
    greeted: Vec<String>,
    cut: Cut,
    /// Length of each send so far.
    sends: Vec<usize>,
}

struct Client {
    wire: Box<dyn Wire>,
    buffer: Vec<u8>,
    frames: VecDeque<Frame>,
    outgoing: Outgoing,
    pongs: usize,
    shows_pings: bool,
    /// What the greeting gave to sign.
    nonce: Option<String>,
    /// Something was sent that may not be processed yet.
    dirty: bool,
    /// The end of the stream was read off the wire.
    ended: bool,
    /// The script has seen the end of the stream.
    closed: bool,
    /// The script has closed the sending half.
    finished: bool,
}

/// Knows where in the protocol a client's bytes have got to, as far as a fence needs it.
#[derive(Default)]
struct Outgoing {
    line: Vec<u8>,
    payload: usize,
    pings: usize,
}

impl<'w> Player<'w> {
    fn new(script: &Script, target: &Target, world: &'w mut dyn World, cast: &'w Cast, cut: Cut) -> Self {
        let mut pinged = Vec::new();
        let mut first: HashMap<&String, bool> = HashMap::new();
        for step in script.steps_on(target.side()) {
            let (clients, sees_first) = match &step.action {
                Action::Send(clients, ..) | Action::Finish(clients) => (clients, false),
                Action::Expect(clients, _, expected) => {
                    if expected.is_ping() {
                        pinged.extend_from_slice(clients);
                    }
                    (clients, !matches!(expected, Expected::Nothing))
                }
                _ => continue,
            };
            clients.iter().for_each(|client| {
                first.entry(client).or_insert(sees_first);
            });
        }
        let greeted = first.into_iter().filter(|(_, sees)| *sees).map(|(client, _)| client.clone()).collect();
        Self {
            world,
            cast,
            clients: HashMap::new(),
            bound: HashMap::new(),
            pinged,
            greeted,
            cut,
            sends: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        if !step.after.is_zero() {
            self.world.advance(match step.action {
                // A real clock needs no help: the expectation below waits as much longer.
                Action::Expect(..) if self.world.is_real() => Duration::ZERO,
                _ => step.after,
            });
        }
        let patience = PATIENCE + step.after;
        match &step.action {
            Action::Wait => Ok(()),
            Action::Send(clients, times, text) => {
                for name in clients {
                    let nonce = self.client(name)?.nonce.clone();
                    let spoken = |it: &str| self.cast.speak(it, nonce.as_deref()).map(String::into_bytes);
                    let bytes =
                        text.fill_measured(|it| self.bound.get(it).cloned().or_else(|| spoken(it)))?;
                    self.send(name, &bytes.repeat(*times))?;
                }
                Ok(())
            }
            Action::Finish(clients) => {
                for name in clients {
                    let client = self.client(name)?;
                    client.wire.finish();
                    (client.finished, client.dirty) = (true, false);
                }
                Ok(())
            }
            Action::Expect(clients, times, expected) => {
                for name in clients {
                    for _ in 0..*times {
                        self.expect(name, expected, patience).map_err(|what| format!("{name} {what}"))?;
                    }
                }
                Ok(())
            }
            Action::ExpectSet(name, set) => self.expect_set(name, set),
            Action::ExpectShared(clients, times, text) => self.expect_shared(clients, *times, text),
            Action::Reload(config) => {
                let config = self.cast.fill(config);
                self.fence_all().and_then(|()| self.world.reload(&config))
            }
            Action::Signal(signal) => self.fence_all().and_then(|()| self.world.signal(*signal)),
            Action::Restart => {
                self.fence_all()?;
                self.clients.clear();
                self.world.restart()
            }
            Action::Exit(code) => match self.world.exit(patience)? {
                it if it == *code => Ok(()),
                other => Err(format!("expected exit {code}, got {other}")),
            },
        }
    }

    /// The end of a script: nothing may be left unread anywhere.
    fn finish(&mut self) -> Result<(), String> {
        self.fence_all()?;
        let mut names: Vec<String> = self.clients.keys().cloned().collect();
        names.sort();
        for name in names {
            let client = self.client(&name)?;
            if !client.closed {
                client.expect_nothing().map_err(|what| format!("at the end, {name} {what}"))?;
            }
        }
        Ok(())
    }

    fn client(&mut self, name: &str) -> Result<&mut Client, String> {
        if !self.clients.contains_key(name) {
            self.fence_all()?;
            let wire = self.world.connect()?;
            let mut client = Client::new(wire, self.pinged.iter().any(|it| it == name));
            if !self.greeted.iter().any(|it| it == name) {
                match client.next_raw(PATIENCE) {
                    Some(frame) if frame.verb() == b"INFO" => {}
                    other => return Err(format!("{name} expected the greeting\n{}", got(other.as_ref()))),
                }
            }
            self.clients.insert(name.into(), client);
        }
        Ok(self.clients.get_mut(name).expect("inserted above"))
    }

    fn send(&mut self, name: &str, bytes: &[u8]) -> Result<(), String> {
        self.fence_others(name)?;
        let (cut, index) = (self.cut, self.sends.len());
        self.sends.push(bytes.len());
        let client = self.client(name)?;
        if client.closed || client.finished {
            return Err(format!("{name} is closed"));
        }
        let pieces: Vec<&[u8]> = match cut {
            Cut::Bytewise => bytes.chunks(1).collect(),
            Cut::At(send, byte) if send == index => <[&[u8]; 2]>::from(bytes.split_at(byte)).into(),
            _ => vec![bytes],
        };
        for (index, piece) in pieces.into_iter().enumerate() {
            if index > 0 {
                client.wire.settle();
            }
            client.wire.send(piece);
        }
        client.outgoing.track(bytes);
        client.dirty = true;
        Ok(())
    }

    fn expect(&mut self, name: &str, expected: &Expected, patience: Duration) -> Result<(), String> {
        match expected {
            Expected::Nothing => {
                self.fence_others(name)?;
                self.client(name)?.expect_nothing()
            }
            Expected::Refused => {
                self.fence_all()?;
                match self.world.connect() {
                    Ok(_) => Err("expected to be refused, got a connection".into()),
                    Err(_) => Ok(()),
                }
            }
            Expected::Eventually(last) => loop {
                let client = self.client(name)?;
                let frame = client.next(patience, matches!(**last, Expected::Info(_)));
                match &frame {
                    Some(Frame::Eof) if !matches!(**last, Expected::Eof) => {
                        return Err(self.mismatch(name, last, frame));
                    }
                    None => return Err(self.mismatch(name, last, frame)),
                    Some(it) if self.accepts(last, it) => {
                        self.client(name)?.saw(it);
                        return Ok(());
                    }
                    Some(_) => {}
                }
            },
            Expected::Info(members) => loop {
                let frame = self.client(name)?.next(patience, true);
                let after_pong = |info: &Value| info.get("connect_info").is_some();
                match frame.as_ref().and_then(Frame::info) {
                    Some(info) if after_pong(&info) && !after_pong(members) => {}
                    Some(info) if is_subset(members, &info) => return Ok(()),
                    _ => return Err(self.mismatch(name, expected, frame)),
                }
            },
            Expected::Frame(_) | Expected::Eof => {
                let frame = self.client(name)?.next(patience, false);
                match &frame {
                    Some(it) if self.accepts(expected, it) => {
                        self.client(name)?.saw(it);
                        Ok(())
                    }
                    _ => Err(self.mismatch(name, expected, frame)),
                }
            }
        }
    }

    fn expect_set(&mut self, name: &str, set: &[Text]) -> Result<(), String> {
        let mut open: Vec<&Text> = set.iter().collect();
        while !open.is_empty() {
            let frame = self.client(name)?.next(PATIENCE, false);
            let at = match &frame {
                Some(Frame::Bytes(bytes)) => open.iter().position(|text| self.binds(text, bytes)),
                _ => None,
            };
            let Some(at) = at else {
                let rest: Vec<String> = open.iter().map(|text| show(text)).collect();
                return Err(format!(
                    "{name} expected, in any order: {}\n{}",
                    rest.join("  "),
                    got(frame.as_ref())
                ));
            };
            open.remove(at);
        }
        Ok(())
    }

    fn expect_shared(&mut self, names: &[String], times: usize, text: &Text) -> Result<(), String> {
        self.fence_all()?;
        let mut shares = Vec::new();
        for name in names {
            let client = self.client(name)?;
            client.fence()?;
            let mut share = 0;
            while let Some(Frame::Bytes(bytes)) = self.client(name)?.peek()
                && self.binds(text, &bytes)
            {
                self.client(name)?.frames.pop_front();
                share += 1;
            }
            shares.push(share);
        }
        let fair = times == 1 || shares.iter().all(|&share| share > 0);
        match shares.iter().sum::<usize>() == times && fair {
            true => Ok(()),
            false => Err(format!(
                "expected {times} of {} shared by {}, got {shares:?}",
                show(text),
                names.join(","),
            )),
        }
    }

    fn fence_others(&mut self, name: &str) -> Result<(), String> {
        let others = self.clients.iter_mut().filter(|(other, client)| *other != name && client.dirty);
        others
            .into_iter()
            .try_for_each(|(other, client)| client.fence().map_err(|what| format!("{other} {what}")))
    }

    fn fence_all(&mut self) -> Result<(), String> {
        self.fence_others("")
    }

    fn accepts(&mut self, expected: &Expected, frame: &Frame) -> bool {
        match (expected, frame) {
            (Expected::Eof, Frame::Eof) => true,
            (Expected::Frame(text), Frame::Bytes(bytes)) => self.binds(text, bytes),
            (Expected::Info(members), _) => frame.info().is_some_and(|info| is_subset(members, &info)),
            _ => false,
        }
    }

    fn binds(&mut self, text: &Text, bytes: &[u8]) -> bool {
        let known = |name: &str| {
            let spoken = || self.cast.speak(name, None).map(String::into_bytes);
            self.bound.get(name).cloned().or_else(spoken)
        };
        match text.matches(bytes, known) {
            Some(bound) => {
                self.bound.extend(bound);
                true
            }
            None => false,
        }
    }

    fn mismatch(&mut self, name: &str, expected: &Expected, frame: Option<Frame>) -> String {
        let mut text = format!("expected {}\n{}", expected.show(), got(frame.as_ref()));
        if frame.is_some()
            && let Some(client) = self.clients.get_mut(name)
        {
            while let Some(frame) = client.next(QUIET, true) {
                text += &format!("\n      then {}", frame.capture());
                if frame == Frame::Eof {
                    break;
                }
            }
        }
        text
    }
}

impl Client {
    fn new(wire: Box<dyn Wire>, shows_pings: bool) -> Self {
        Self {
            wire,
            buffer: Vec::new(),
            frames: VecDeque::new(),
            outgoing: Outgoing::default(),
            pongs: 0,
            shows_pings,
            nonce: None,
            dirty: false,
            ended: false,
            closed: false,
            finished: false,
        }
    }

    /// The next frame that concerns the script.
    fn next(&mut self, within: Duration, with_info: bool) -> Option<Frame> {
        let deadline = Instant::now() + within;
        if self.closed {
            return None;
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let frame = self.next_raw(left)?;
            let after_pong = || frame.info().is_some_and(|info| info.get("connect_info").is_some());
            if with_info || !after_pong() {
                return Some(frame);
            }
        }
    }

    /// The next frame from queue or wire, server PINGs aside.
    fn next_raw(&mut self, within: Duration) -> Option<Frame> {
        match self.frames.pop_front() {
            Some(frame) => Some(frame),
            None => self.pull(within),
        }
    }

    /// What waits in the queue, without what the script does not see.
    fn peek(&mut self) -> Option<Frame> {
        while let Some(frame) = self.frames.front() {
            if frame.info().is_none_or(|info| info.get("connect_info").is_none()) {
                return Some(frame.clone());
            }
            self.frames.pop_front();
        }
        None
    }

    /// The next frame from the wire.
    fn pull(&mut self, within: Duration) -> Option<Frame> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(frame) = Frame::take(&mut self.buffer) {
                match frame.verb() {
                    b"PING" if !self.shows_pings => {
                        if self.outgoing.at_start() {
                            self.wire.send(b"PONG\r\n");
                        }
                        continue;
                    }
                    b"PONG" => self.pongs += 1,
                    b"INFO" if self.nonce.is_none() => {
                        let nonce = frame.info().and_then(|info| Some(info["nonce"].as_str()?.to_owned()));
                        self.nonce = nonce;
                    }
                    _ => {}
                }
                return Some(frame);
            }
            if self.ended {
                // A frame that the end cut short is shown before the end.
                let rest = std::mem::take(&mut self.buffer);
                return Some(if rest.is_empty() { Frame::Eof } else { Frame::Bytes(rest) });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.wire.read(&mut self.buffer, left) {
                Read::Bytes => {}
                Read::Eof => self.ended = true,
                Read::Quiet => return None,
            }
        }
    }

    /// Returns when the server has processed everything sent, with all that came of it for this client queued.
    fn fence(&mut self) -> Result<(), String> {
        self.dirty = false;
        if self.closed || self.ended || self.finished {
            return Ok(());
        }
        if !self.outgoing.at_start() {
            self.wire.settle();
            return Ok(());
        }
        self.wire.send(b"PING\r\n");
        let due = self.outgoing.pings + 1;
        loop {
            match self.pull(PATIENCE) {
                Some(_) if self.pongs == due => {
                    self.pongs -= 1;
                    return Ok(());
                }
                Some(Frame::Eof) => {
                    self.frames.push_back(Frame::Eof);
                    return Ok(());
                }
                Some(frame) => self.frames.push_back(frame),
                None => return Err("got no PONG for the runner's PING".into()),
            }
        }
    }

    fn expect_nothing(&mut self) -> Result<(), String> {
        let fenced = self.outgoing.at_start() && !self.finished;
        self.fence()?;
        let within = if fenced { Duration::ZERO } else { QUIET };
        let frame = if fenced { self.peek() } else { self.next(within, false) };
        match frame {
            None => Ok(()),
            Some(Frame::Eof) if self.finished => Ok(()),
            Some(frame) => {
                let mut text = format!("expected nothing\n{}", got(Some(&frame)));
                for frame in self.frames.iter().skip(usize::from(fenced)) {
                    text += &format!("\n      then {}", frame.capture());
                }
                Err(text)
            }
        }
    }

    /// Notes what the script has just seen.
    fn saw(&mut self, frame: &Frame) {
        self.closed |= *frame == Frame::Eof;
        if frame.verb() == b"PONG" && self.pongs == self.outgoing.pings {
            self.dirty = false;
        }
    }
}

impl Outgoing {
    fn track(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.payload > 0 {
                self.payload -= 1;
            } else if byte != b'\n' {
                self.line.push(byte);
            } else {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).to_ascii_uppercase();
                let mut words = line.split_ascii_whitespace();
                match words.next() {
                    Some(verb) if verb.starts_with("PING") => self.pings += 1,
                    Some("PUB" | "HPUB") => {
                        let size: usize = words.last().and_then(|size| size.parse().ok()).unwrap_or(0);
                        self.payload = size.saturating_add(2);
                    }
                    _ => {}
                }
            }
        }
    }

    fn at_start(&self) -> bool {
        self.line.is_empty() && self.payload == 0
    }
}

impl Expected {
    fn is_ping(&self) -> bool {
        match self {
            Self::Frame(Text(pieces)) => {
                matches!(pieces.first(), Some(Piece::Bytes(it)) if it.starts_with(b"PING"))
            }
            Self::Eventually(last) => last.is_ping(),
            _ => false,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Frame(text) => show(text),
            Self::Info(members) => format!("INFO {members}"),
            Self::Eof => "EOF".into(),
            Self::Eventually(last) => format!("… {}", last.show()),
            Self::Nothing => "nothing".into(),
            Self::Refused => "refused".into(),
        }
    }
}

fn show(Text(pieces): &Text) -> String {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => escape(bytes, &mut text),
            Piece::Name(name) => text += &format!("${{{name}}}"),
        }
    }
    text.strip_suffix("\\r\\n").map(String::from).unwrap_or(text)
}

fn got(frame: Option<&Frame>) -> String {
    format!("       got {}", frame.map_or("nothing in time".into(), Frame::capture))
}

/// Whether all members of `part` are in `whole`: `null` stands for absence, `"*"` for any value.
fn is_subset(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            part.iter().all(|(name, value)| match whole.get(name) {
                Some(present) => is_subset(value, present),
                None => value.is_null(),
            })
        }
        (Value::String(any), _) if any == "*" => true,
        _ => part == whole,
    }
}
