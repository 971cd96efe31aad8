//! The parsers, as a connection calls them: however the input is cut, the same operations come out, and a parser
//! never asks for what it has.
//!
//! The first byte is the size of the pieces, the second the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use midge_protocol::limits::Limits;
use midge_protocol::op::{ClientOp, LeafOp, Message, ServerOp};
use midge_protocol::parse::{Step, client_op, leaf_op, server_op};

fuzz_target!(|data: &[u8]| {
    let [piece, limits, input @ ..] = data else { return };
    let limits = Limits {
        max_control_line: 8 << (limits & 7),
        max_payload: 16 << (limits >> 3 & 7),
        headers: limits & 64 == 0,
    };
    let piece = usize::from(*piece).max(1);
    let client = |input: &'_ [u8]| client_op(input, &limits).check(input, client_facts);
    let server = |input: &'_ [u8]| server_op(input, &limits).check(input, server_facts);
    let leaf = |input: &'_ [u8]| leaf_op(input, &limits).check(input, leaf_facts);
    assert_eq!(read(input, piece, leaf), read(input, usize::MAX, leaf));
    assert_eq!(read(input, piece, client), read(input, usize::MAX, client));
    assert_eq!(read(input, piece, server), read(input, usize::MAX, server));
});

/// What came of a step, in terms that don't depend on where the input was cut: kind, bytes used, a sum of what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact {
    Need(usize),
    Op(u64, usize),
    Bad(midge_protocol::error::Rule),
}

/// Reads `input` in pieces. The facts up to the first broken rule.
fn read(input: &[u8], piece: usize, step: impl Fn(&[u8]) -> Fact) -> Vec<Fact> {
    let (mut seen, mut used, mut need, mut facts) = (0, 0, 1, Vec::new());
    while seen < input.len() {
        seen = seen.saturating_add(piece).min(input.len());
        while seen - used >= need {
            match step(&input[used..seen]) {
                Fact::Need(total) => need = total,
                fact @ Fact::Op(_, n) => {
                    facts.push(fact);
                    used += n;
                    need = 1;
                }
                fact @ Fact::Bad(_) => {
                    facts.push(fact);
                    return facts;
                }
            }
        }
    }
    facts
}

trait Check<Op> {
    fn check(self, input: &[u8], sum: impl FnOnce(&Op) -> u64) -> Fact;
}

impl<Op> Check<Op> for Step<Op> {
    fn check(self, input: &[u8], sum: impl FnOnce(&Op) -> u64) -> Fact {
        match self {
            Step::Need(total) => {
                assert!(total > input.len(), "asks for no more than it has");
                Fact::Need(total)
            }
            Step::Op(op, used) => {
                assert!(used > 0 && used <= input.len(), "used {used} of {}", input.len());
                Fact::Op(sum(&op), used)
            }
            Step::Bad(rule) => Fact::Bad(rule),
        }
    }
}

fn client_facts(op: &ClientOp<'_>) -> u64 {
    match op {
        ClientOp::Pub(message) => body(message),
        ClientOp::Sub(sub) => sum(&[sub.subject, sub.queue.unwrap_or(b"\n"), sub.sid]),
        ClientOp::Unsub(unsub) => sum(&[unsub.sid, &unsub.max.unwrap_or(0).to_le_bytes()]),
        ClientOp::Connect(text) | ClientOp::Info(text) | ClientOp::Err(text) => sum(&[text]),
        ClientOp::Ping => 1,
        ClientOp::Pong => 2,
        ClientOp::Ok => 3,
    }
}

fn server_facts(op: &ServerOp<'_>) -> u64 {
    match op {
        ServerOp::Msg { sid, message } => sum(&[sid, &body(message).to_le_bytes()]),
        ServerOp::Info(text) | ServerOp::Err(text) => sum(&[text]),
        ServerOp::Ping => 1,
        ServerOp::Pong => 2,
        ServerOp::Ok => 3,
    }
}

fn leaf_facts(op: &LeafOp<'_>) -> u64 {
    match op {
        LeafOp::Msg { queues, message } => {
            let names: Vec<_> = queues.iter().collect();
            sum(&[&sum(&names).to_le_bytes(), &body(message).to_le_bytes()])
        }
        LeafOp::Sub(sub) => {
            let (queue, weight) = sub.queue.unwrap_or((b"\n", 0));
            sum(&[sub.subject, queue, &weight.to_le_bytes()])
        }
        LeafOp::Unsub { subject, queue } => sum(&[subject, queue.unwrap_or(b"\n")]),
        LeafOp::Info(text) | LeafOp::Connect(text) | LeafOp::Err(text) => sum(&[text]),
        LeafOp::Ping => 1,
        LeafOp::Pong => 2,
        LeafOp::Ok => 3,
    }
}

fn body(message: &Message<'_>) -> u64 {
    assert_eq!(message.body.len(), message.size.value as usize + 2);
    assert_eq!(message.header().len() + message.payload_crlf().len(), message.body.len());
    assert_eq!(message.payload().len() + 2, message.payload_crlf().len());
    sum(&[
        message.subject,
        message.reply.unwrap_or(b"\n"),
        message.size.text,
        message.header(),
        message.payload(),
    ])
}

/// FNV-1a over parts, their borders included.
fn sum(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().copied().map(u16::from).chain([256]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
