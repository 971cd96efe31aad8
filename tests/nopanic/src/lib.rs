//! What a peer's bytes can reach in midge-protocol, as functions that are exported and so can't be optimized away.
//!
//! The library has no allocator and no standard library. Its panic handler calls a function that exists nowhere: what
//! could panic refers to it, and `./check` looks for that reference.
#![no_std]

use core::fmt::Write;
use midge_protocol::client::{
    Answer, Config, Event, Login, Publish, Requests, Session, Sid, Step as ClientStep, Subs,
};
use midge_protocol::connect::Connect;
use midge_protocol::emit::{self, Digits, Sink, Slice};
use midge_protocol::frame::{self, Decode, Encode};
use midge_protocol::header::{Block, Field, Header, Status};
use midge_protocol::info::Info;
use midge_protocol::json::{self, Text, Texts, Value};
use midge_protocol::limits::Limits;
use midge_protocol::op::{ClientOp, Message, ServerOp};
use midge_protocol::parse::{Step, client_op, server_op};
use midge_protocol::subject::{Filter, Subject, is_literal, is_word, tokens};
use midge_protocol::time::Instant;

unsafe extern "C" {
    fn PANIC_IS_REACHABLE() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Safety: never linked into anything that runs.
    unsafe { PANIC_IS_REACHABLE() }
}

/// Bytes from outside, of which the compiler knows nothing.
#[repr(C)]
pub struct Bytes {
    start: *const u8,
    len: usize,
}

impl Bytes {
    fn get(&self) -> &[u8] {
        // Safety: never called.
        unsafe { core::slice::from_raw_parts(self.start, self.len) }
    }
}

/// Memory to write to.
#[repr(C)]
pub struct Memory {
    start: *mut u8,
    len: usize,
}

impl Memory {
    fn get(&mut self) -> &mut [u8] {
        // Safety: never called.
        unsafe { core::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

/// Adds up what was read, so that all of it is needed.
#[derive(Default)]
struct Sum(usize);

impl Sum {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, byte| sum.rotate_left(5) ^ usize::from(*byte));
    }

    fn message(&mut self, message: &Message<'_>) {
        self.bytes(message.subject);
        self.bytes(message.reply.unwrap_or_default());
        self.bytes(message.header());
        self.bytes(message.payload());
    }
}

impl Write for Sum {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}

#[unsafe(no_mangle)]
extern "C" fn parse_client(input: &Bytes, max_control_line: u32, max_payload: u32, headers: bool) -> usize {
    let limits = Limits { max_control_line, max_payload, headers };
    let mut sum = Sum::default();
    match client_op(input.get(), &limits) {
        Step::Need(total) => sum.0 = total,
        Step::Bad(rule) => sum.bytes(rule.err_text().unwrap_or_default().as_bytes()),
        Step::Op(op, used) => {
            sum.0 = used;
            match op {
                ClientOp::Pub(message) => sum.message(&message),
                ClientOp::Sub(sub) => {
                    sum.bytes(sub.subject);
                    sum.bytes(sub.queue.unwrap_or_default());
                    sum.bytes(sub.sid);
                }
                ClientOp::Unsub(unsub) => sum.bytes(unsub.sid),
                ClientOp::Connect(text) | ClientOp::Info(text) | ClientOp::Err(text) => sum.bytes(text),
                ClientOp::Ping | ClientOp::Pong | ClientOp::Ok => {}
            }
        }
    }
    #[cfg(feature = "planted")]
    assert!(input.get()[0] != b'!');
    sum.0
}

#[unsafe(no_mangle)]
extern "C" fn parse_server(input: &Bytes, max_control_line: u32, max_payload: u32) -> usize {
    let limits = Limits { max_control_line, max_payload, headers: true };
    let mut sum = Sum::default();
    match server_op(input.get(), &limits) {
        Step::Need(total) => sum.0 = total,
        Step::Bad(rule) => sum.bytes(rule.err_text().unwrap_or_default().as_bytes()),
        Step::Op(ServerOp::Msg { sid, message }, used) => {
            sum.0 = used;
            sum.bytes(sid);
            sum.message(&message);
        }
        Step::Op(ServerOp::Info(text) | ServerOp::Err(text), _) => sum.bytes(text),
        Step::Op(_, used) => sum.0 = used,
    }
    sum.0
}

#[unsafe(no_mangle)]
extern "C" fn read_json(input: &Bytes) -> usize {
    let mut sum = Sum::default();
    let _ = json::object(input.get(), |key, value| {
        key.chars().for_each(|c| sum.0 ^= c as usize);
        match value {
            Value::Text(text) => text.chars().for_each(|c| sum.0 ^= c as usize),
            Value::Nested(nested) => json::texts(nested, |text| sum.0 ^= usize::from(text.eq_str("a")))?,
            other => sum.0 ^= other.integer()?.unwrap_or_default() as usize,
        }
        Ok(())
    });
    sum.0
}

#[unsafe(no_mangle)]
extern "C" fn read_connect(input: &Bytes) -> usize {
    let mut sum = Sum::default();
    if let Ok(connect) = Connect::parse(input.get()) {
        let _ = connect.write(&mut sum);
    }
    sum.0
}

#[unsafe(no_mangle)]
extern "C" fn read_info(input: &Bytes) -> usize {
    let mut sum = Sum::default();
    if let Ok(info) = Info::parse(input.get()) {
        let _ = info.write(&mut sum);
        let urls = Some(Texts::Plain(&["a:1"]));
        let name = core::str::from_utf8(input.get()).map_or(Text::default(), Text::Plain);
        let _ = Info { connect_urls: urls, server_name: name, ..info }.write(&mut sum);
    }
    sum.0
}

#[unsafe(no_mangle)]
extern "C" fn read_header(input: &Bytes, name: &Bytes) -> usize {
    let mut sum = Sum::default();
    if let Ok(header) = Header::parse(input.get()) {
        header.fields().for_each(|field| sum.bytes(field.value));
        sum.bytes(header.get(name.get()).unwrap_or_default());
        sum.bytes(header.get_ignoring_case(name.get()).unwrap_or_default());
        header.get_all(name.get()).for_each(|value| sum.bytes(value));
        if let Some(status) = header.status() {
            sum.0 ^= usize::from(status.code);
            sum.bytes(status.description);
        }
    }
    sum.0
}

#[unsafe(no_mangle)]
extern "C" fn write_header(name: &Bytes, value: &Bytes, code: u16, memory: &mut Memory) -> usize {
    let fields = [Field::new(name.get(), value.get()), Field::new("a", value.get())];
    let Ok(block) = Block::new(&fields) else { return 0 };
    let Ok(block) = block.with_status(Status { code, description: value.get() }) else { return 0 };
    let mut out = Slice::new(memory.get());
    block.put(&mut out);
    out.written().map_or(block.size(), |written| written.len())
}

#[unsafe(no_mangle)]
extern "C" fn subjects(a: &Bytes, b: &Bytes) -> usize {
    let mut sum = Sum(usize::from(is_literal(a.get())) ^ usize::from(is_word(b.get())));
    tokens(a.get()).for_each(|token| sum.bytes(token));
    if let (Ok(a), Ok(b)) = (Filter::new(a.get()), Filter::new(b.get())) {
        sum.0 ^= usize::from(a.is_subset_of(b))
            ^ usize::from(a.overlaps(b))
            ^ usize::from(a.matches(b.as_bytes()));
    }
    if let Ok(subject) = Subject::new(a.get()) {
        subject.tokens().for_each(|token| sum.bytes(token));
    }
    sum.0
}

#[unsafe(no_mangle)]
extern "C" fn write_operations(a: &Bytes, b: &Bytes, number: u32, memory: &mut Memory) -> usize {
    let mut out = Slice::new(memory.get());
    let (a, b) = (a.get(), b.get());
    let digits = Digits::new(number);
    emit::msg(&mut out, a, b, Some(a), Some(b), digits.as_bytes());
    emit::publish(&mut out, a, Some(b), Some(digits.as_bytes()), digits.as_bytes());
    emit::sub(&mut out, a, Some(b), a);
    emit::unsub(&mut out, a, Some(number));
    emit::connect(&mut out, &Connect::default());
    out.written().map_or(0, |written| written.len())
}

#[unsafe(no_mangle)]
extern "C" fn run_client(session: &mut Session, input: &Bytes, now: u64, memory: &mut Memory) -> usize {
    let (now, mut sum) = (Instant::from_micros(now), Sum::default());
    let mut out = Slice::new(memory.get());
    match session.next(input.get()) {
        ClientStep::Need { used, need } => sum.0 = used ^ need,
        ClientStep::Bad(_) => sum.0 = 1,
        ClientStep::Event(event, used) => {
            sum.0 = used;
            match event {
                Event::Greeting { json } | Event::Info { json } | Event::LameDuck { json } => {
                    sum.bytes(json.unwrap_or_default());
                    sum.bytes(session.server().nonce.bytes());
                }
                Event::Message { message, .. } => {
                    sum.bytes(message.subject);
                    sum.bytes(message.reply.unwrap_or_default());
                    sum.bytes(message.header);
                    sum.bytes(message.payload);
                    sum.bytes(message.field("a").unwrap_or_default());
                    sum.0 ^= usize::from(message.is_no_responders());
                }
                Event::Oversized(message) => sum.0 ^= message.size as usize,
                Event::Piece { data, .. } => sum.bytes(data),
                Event::Error(error) => sum.bytes(error.text()),
                _ => {}
            }
        }
    }
    session.poll_transmit(&mut out);
    let _ = session.tick(now);
    sum.0 ^ out.room()
}

#[unsafe(no_mangle)]
extern "C" fn new_client(place: &mut Session, buffer_size: usize, now: u64) {
    *place = Session::new(Config::new(buffer_size), Instant::from_micros(now));
}

#[unsafe(no_mangle)]
extern "C" fn client_verbs(
    session: &mut Session,
    a: &Bytes,
    b: &Bytes,
    now: u64,
    memory: &mut Memory,
) -> usize {
    let mut out = Slice::new(memory.get());
    let user = core::str::from_utf8(a.get()).ok();
    let _ = session.connect(Instant::from_micros(now), &Login::user(user.unwrap_or_default(), "secret"), &mut out);
    let fields = [Field::new(a.get(), b.get())];
    if let (Ok(subject), Ok(header)) = (Subject::new(a.get()), Block::new(&fields)) {
        let full = Publish { reply: Some(subject), header: Some(&header), ..Publish::new(subject, b.get()) };
        let _ = session.publish_with(&full, &mut out);
    }
    if let Ok(filter) = Filter::new(a.get()) {
        let _ = session.subscribe(Sid(1), filter, Some(b.get()), &mut out);
    }
    let _ = session.unsubscribe(Sid(1), Some(2), &mut out);
    let flushed = session.flush(&mut out).is_ok_and(|flush| session.is_flushed(flush));
    usize::from(flushed) ^ out.room()
}

#[unsafe(no_mangle)]
extern "C" fn client_tables(
    session: &Session,
    subs: &mut Subs<&'static str, 4>,
    requests: &mut Requests<4>,
    sid: u32,
    subject: &Bytes,
    now: u64,
    memory: &mut Memory,
) -> usize {
    let (mut out, now) = (Slice::new(memory.get()), Instant::from_micros(now));
    let _ = subs.subscribe("a.*", Some("q"));
    subs.unsubscribe(Sid(sid), Some(sid));
    let heard = subs.handle_message(Sid(sid));
    subs.handle_disconnect();
    let _ = subs.poll_transmit(session, &mut out);
    let _ = requests.subscribe(session, &mut out);
    if let Ok((_, reply)) = requests.begin(now) {
        out.put(reply.subject().as_bytes());
    }
    let answered = requests.handle_answer(subject.get()) != Answer::Foreign;
    let expired = requests.next_expired(now).is_some();
    let known = subs.subject(Sid(sid)).is_some();
    [heard, answered, expired, known, requests.deadline().is_some()].iter().filter(|yes| **yes).count()
}

#[unsafe(no_mangle)]
extern "C" fn frames(bytes: &Bytes, decode: &mut Decode, memory: &mut Memory) -> usize {
    let mut out = Slice::new(memory.get());
    let mut steps = 0usize;
    for byte in bytes.get() {
        steps ^= usize::from(decode.byte(*byte, &mut out) == frame::Step::Whole);
    }
    let sum = Encode::new(bytes.get()).fold(steps, |sum, byte| sum.rotate_left(5) ^ usize::from(byte));
    sum ^ decode.abandon() as usize ^ out.room()
}
