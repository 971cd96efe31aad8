//! WebSocket without sockets (RFC 6455), and its compression (RFC 7692), from the server's side.
//!
//! [`Request`] is what a peer asks for and what it is answered, [`Decoder`] takes its frames apart, [`Encoder`] makes
//! ours. None of them holds a message: payload goes from the peer's bytes straight to where it is wanted. That is why no
//! library of frames is used: they hand out whole messages, from a buffer in each connection, and most don't decompress. HTTP
//! and deflate are libraries'. What a peer is told that breaks a rule is nats-server's.

mod decoder;
mod encoder;
mod request;
mod status;

pub use decoder::{Decoded, Decoder, Event, Violation};
pub use encoder::{Encoder, control};
pub use request::{Cookies, HEAD_BYTES_MAX, Policy, Refusal, Request, Upgrade};
pub use status::{Status, close_payload};

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// The next part of a message.
    Continuation = 0,
    /// A message, or its first part, that is text; NATS makes no difference.
    Text = 1,
    /// A message, or its first part.
    Binary = 2,
    /// The last frame of its sender.
    Close = 8,
    /// Wants a pong with the same payload.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

/// No control frame carries more bytes.
pub const CONTROL_BYTES_MAX: usize = 125;

const FINAL: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const RESERVED: u8 = 0x30;
const MASKED: u8 = 0x80;

/// What a compressed message leaves out at its end.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
