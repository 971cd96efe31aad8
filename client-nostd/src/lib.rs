//! A NATS client for microcontrollers and everything larger: no heap, no unsafe code, no panic, over any byte stream of
//! [`embedded_io`] or [`embedded_io_async`]. It talks to midged, to nats-server, and to whatever speaks their protocol.
//!
//! # Five minutes
//!
//! A [`Client`] is what lives on: two buffers of yours, subscriptions, requests. A [`Connection`] lends it a transport
//! for as long as that works. Between them there is one loop, and one call in it, [`Connection::next`], that sends what is
//! due, reads once and says what happened.
//!
//! On a desk, with a server on port 4222 (`cargo run --release -p midged` in midge's repository), it is a program like any other. The
//! crate isn't published yet: `cargo new attic && cd attic && cargo add --path ../midge/client-nostd --features std midge-client`,
//! with the path to that repository, and in `src/main.rs`
//!
#![cfg_attr(feature = "std", doc = "```no_run")]
#![cfg_attr(not(feature = "std"), doc = "```text")]
//! use midge_client::blocking::Connection;
//! use midge_client::tcp::{Clock, Tcp};
//! use midge_client::{Client, Config, Event, Login, Subject, subject};
//! use std::time::Duration;
//!
//! const TEMPERATURE: Subject = subject!("plant.attic.temp");
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let (mut receive, mut transmit, clock) = ([0; 256], [0; 256], Clock::start());
//!     // Sixteen bytes that no other device has: random ones, or the chip's serial number.
//!     let mut client = Client::<2>::new(Config::new(0), &mut receive, &mut transmit, [7; 16]);
//!     client.subscribe("plant.attic.heater", None)?;
//!     let transport = Tcp::connect("127.0.0.1:4222", Duration::from_millis(100))?;
//!     let mut connection = Connection::new(&mut client, transport, &Login::ANONYMOUS, clock.now());
//!     loop {
//!         match connection.next(clock.now())? {
//!             Some(Event::Connected) => connection.publish(TEMPERATURE, b"21.5")?,
//!             Some(Event::Message { message, .. }) => {
//!                 println!("heater: {}", String::from_utf8_lossy(message.payload));
//!                 // Whoever asked gets an answer; nobody did if there is no reply subject.
//!                 if message.reply.is_some() {
//!                     connection.respond(b"warming")?;
//!                 }
//!             }
//!             _ => {}
//!         }
//!     }
//! }
//! ```
//!
//! `midge sub 'plant.>'`, or `nats sub 'plant.>'`, started before it shows the reading, and `midge request plant.attic.heater on` gets
//! `warming`.
//!
//! On a board it is the same: without `std`, with a transport of the board's, and mostly asynchronous. What it needs beside this
//! crate is `embedded-io-async` 0.7, if it names the traits as here:
//!
//! ```
//! use embedded_io_async::{Read, Write};
//! use midge_client::{Client, Config, Connection, Error, Event, Instant, Login, Subject, subject};
//!
//! const TEMPERATURE: Subject = subject!("plant.attic.temp");
//!
//! async fn run<T: Read + Write>(transport: T, now: impl Fn() -> Instant) -> Result<(), Error<T::Error>> {
//!     let (mut receive, mut transmit) = ([0; 256], [0; 256]);
//!     let mut client = Client::<2>::new(Config::new(0), &mut receive, &mut transmit, [7; 16]);
//!     let heater = client.subscribe("plant.attic.heater", None)?;
//!
//!     let login = Login::user("attic", "secret");
//!     let mut connection = Connection::new(&mut client, transport, &login, now());
//!     loop {
//!         match connection.next(now()).await? {
//!             Some(Event::Connected) => connection.publish(TEMPERATURE, b"21.5").await?,
//!             Some(Event::Message { sid, message }) if sid == heater => {
//!                 let is_on = message.payload == b"on";
//!                 // Whoever asked gets an answer; nobody did if there is no reply subject.
//!                 if message.reply.is_some() {
//!                     connection.respond(if is_on { b"warming" } else { b"cooling" }).await?;
//!                 }
//!             }
//!             _ => {}
//!         }
//!     }
//! }
//! ```
//!
//! [`blocking::Connection`] has the same methods without `async`. For programs that poll, as over smoltcp, the
//! [`Client`] is a machine without I/O that can be driven by hand: [`Client::space`] and [`Client::handle_received`] take
//! what arrives, [`Client::next`] says what it means, [`Client::poll_transmit`] and [`Client::handle_sent`] give what is
//! to be sent.
//!
//! # Time
//!
//! The client has no clock: each call is told what time it is. [`Connection::deadline`] is when it wants to be called even
//! if nothing arrives: to answer for a request that waited too long, to ask a silent server for a sign of life, to give
//! it up. With embassy:
//!
//! ```text
//! let deadline = connection.deadline().map_or(embassy_time::Instant::MAX, |at| embassy_time::Instant::from_micros(at.as_micros()));
//! match select(connection.next(now()), Timer::at(deadline)).await {
//!     Either::First(event) => ...,
//!     Either::Second(()) => {}            // the loop calls `next` again, which looks at the time
//! }
//! ```
//!
//! A blocking transport needs a time-out instead: a read that fails with `TimedOut` has lost nothing, `next` gives `None`.
//!
//! The server asks for signs of life, too. `next` answers its PINGs as it comes past them, whatever the program makes of the
//! messages; there is no queue between them that could be full. A program that works on one message for longer than the
//! server's ping interval, two minutes by default, calls [`Connection::keep_alive`] meanwhile, which reads nothing.
//!
//! # Dropping futures
//!
//! Every future may be dropped at any await, as `select` does. A verb queues its frame whole or not at all, before it
//! waits; what is queued leaves with the next call of any method; what has arrived stays in the buffer. A dropped
//! `publish` was either not taken at all or will be sent. That holds as far as the transport's own futures lose nothing
//! when they are dropped, as those of embassy-net's and tokio's sockets do. Those of embedded-tls forget half a record, as its
//! blocking reads do at a time-out: put [`Records`] below it, and it holds over TLS, too.
//!
//! # Buffers
//!
//! *Receive*: the longest message that is to come in one piece takes
//! `4 + subject + 1 + sid + 1 + (reply + 1) + digits + 2 + header + payload + 2` bytes; with 64 there is room for a subject
//! of 20 and 24 bytes of payload. What is longer isn't lost, and never taken for protocol: [`Event::Oversized`] tells its
//! subject and size, and [`Event::Piece`]s hand it over, to be kept elsewhere or passed over. The server's INFO may be of
//! any length: it is read as it passes.
//!
//! *Transmit*: the longest frame that is sent. A message takes
//! `4 + subject + 1 + (reply + 1) + digits + 2 + header + payload + 2`, a subscription `4 + filter + 1 + (queue + 1) + sid + 2`,
//! CONNECT 144 and, for each credential, 9 to 16 and its length, in which a quote, a backslash or a control character counts 6.
//! A frame leaves in one write.
//!
//! # What it takes
//!
//! Measured on a Cortex-M3, opt-level `s`, LTO, by `tests/device/check` at each change, which fails if one grows. Flash is
//! what firmware with the client has over the same firmware without.
//!
//! | what | flash | state | stack |
//! |---|---|---|---|
//! | blocking: password, publish, subscribe, receive, keepalive | 5.0 kB | 192 B | 0.4 kB |
//! | the same, asynchronous, futures in the stack | 5.6 kB | 192 B | 0.6 kB |
//! | blocking with headers, queue groups, requests and answers | 7.6 kB | 248 B | 0.5 kB |
//! | asynchronous with all of that | 8.4 kB | 248 B | 0.8 kB |
//! | blocking with all of that and an nkey | 18.5 kB | | 9.1 kB while it signs |
//!
//! What that has not, beside the blocking client with requests. Where JSON is read, the reader of it is in the number, some 3 kB, of
//! which there is one however many of these a firmware has:
//!
//! | what | flash | reads JSON | where |
//! |---|---|---|---|
//! | back-off, and servers out of `connect_urls` | 3.8 kB | yes | [`Backoff`], [`Servers`] |
//! | a message into a stream, until it is stored | 4.4 kB | yes | [`jetstream::Delivery`] |
//! | commands, one by one, with receipts | 0.9 kB | no | [`Client::pull`] |
//! | get and put in a key-value bucket | 5.3 kB | yes | [`Client::kv_get`], [`Client::kv_put`] |
//! | a key that is followed | 5.6 kB | yes | [`jetstream::Watch`] |
//! | an outbox in RAM, into a stream | 6.9 kB | yes | [`outbox::Ram`] |
//! | an outbox in flash, into a stream; without the flash's driver | 8.8 kB | yes | `outbox::Flash`, feature `flash` |
//! | values: three fields there and back | 0.3 kB | no | `typed`, feature `postcard` |
//! | a serial line with noise on it | 1.5 kB | no | [`serial::Framed`] |
//! | all of these | 18.0 kB | | |
//!
//! In memory: a subscription takes 32 bytes of state, a request that can wait 12, a server of [`Servers`] 48, an outbox its buffer. A
//! published message of 16 bytes takes
//! 368 instructions and one write, a received one 647 and one read; asynchronous 448 and 689.
//!
//! Where the 5.0 kB are: what servers say 1.6 kB (control lines 0.9, verbs 0.4, complaints 0.2, bodies that don't fit 0.1), INFO
//! 0.6, CONNECT with its texts 0.5, subscriptions 0.5, frames to send 0.6, time 0.2, what ties it to a transport 0.6, and
//! the program's own calls.
//!
//! Features: `nkey` (logins with keys), `flash` (an outbox over embedded-storage), `postcard` (typed payloads), `defmt`
//! (its `Format` for all types), `std` (TCP and a clock of the standard library). All else is always there, and the
//! linker drops what isn't called.
//!
//! # When something is wrong
//!
//! [`Error::remedy`] says what helps: connect again, other credentials, the same call later, or another call. A
//! complaint of the server that doesn't end the connection is an [`Event::Error`]. Reconnecting is a loop around the first
//! one: [`Backoff`] says how long to wait, [`Servers`] where to go, and the client asks for its subscriptions again.
//!
//! ```
//! use embedded_io::{Read, Write};
//! use midge_client::blocking::Connection;
//! use midge_client::{Backoff, Client, Error, Event, Instant, Login, Remedy, Servers};
//!
//! fn run<T: Read + Write>(
//!     client: &mut Client<'_, 4>,
//!     servers: &mut Servers<3>,
//!     dial: impl Fn(&str) -> Option<T>,
//!     sleep_ms: impl Fn(u32),
//!     now: impl Fn() -> Instant,
//! ) -> Error<T::Error> {
//!     let login = Login::token("secret");
//!     let mut backoff = Backoff::new(500, 60_000, 4711);
//!     loop {
//!         if let Some(transport) = servers.current().and_then(&dial) {
//!             let mut connection = Connection::new(client, transport, &login, now());
//!             let error = loop {
//!                 match connection.next(now()) {
//!                     Ok(Some(Event::Greeting { json } | Event::Info { json })) => servers.learn(json),
//!                     Ok(Some(Event::Connected)) => backoff.reset(),
//!                     Ok(_) => {}
//!                     Err(error) => break error,
//!                 }
//!             };
//!             if error.remedy() == Remedy::Credentials {
//!                 return error;
//!             }
//!         }
//!         servers.advance();
//!         sleep_ms(backoff.next_ms());
//!     }
//! }
//! ```
//!
//! # Recipes
//!
//! - **A request**: [`Connection::request`] gives a token; [`Event::Answer`], [`Event::NoResponders`] or, at its deadline,
//!   [`Event::Expired`] has the same one. The client's second number is how many can wait at once.
//! - **Readings that must arrive**: [`outbox`] keeps them while the link is down, in RAM or in flash, and drains them in
//!   order; into a stream each is stored once, for its `Nats-Msg-Id` stays the same. Wait no longer than to its `deadline`.
//! - **One message into a stream**: [`jetstream::Delivery`].
//! - **Commands, one by one**: [`Client::pull`] asks a consumer, [`Event::Pulled`] is the command, `respond` with
//!   [`jetstream::ACK`] is the receipt.
//! - **The device's shadow**: [`jetstream::Watch`] follows a key, [`Client::kv_put`] writes one.
//! - **TCP over smoltcp**, without an executor: the example `smoltcp` has a blocking transport that polls the stack while it
//!   waits, some eighty lines.
//! - **TCP over embassy-net**: its socket is a transport as it is; wrapped in [`Unflushed`] it doesn't wait for each message to
//!   be acknowledged. The example `embassy`.
//! - **TLS**: see [below](#tls).
//! - **A UART**: [`serial::Framed`] carries the protocol over a line with noise on it, to a midged that listens there. On a bare
//!   line, too, a server that was started anew is noticed by its INFO: [`Breach::Session`], and a new connection is due.
//! - **An nkey**: as with TLS, but that the login shows what `nkey::UserKey::sign` made of [`Client::server`].
//! - **Values instead of bytes**: the module `typed`, with the feature `postcard`.
//! - **Many readings in one write**: queue them with [`Client::publish`] by [`Connection::client`]; the next call sends all.
//!
//! # TLS
//!
//! A transport that does TLS is a transport. With embedded-tls 0.19 (Apache-2.0; TLS 1.3, its feature `rustpki` to check the
//! server's certificate), the example `tls`:
//!
//! ```text
//! // nats-server, and midged unless told otherwise, greet in the open and then expect TLS:
//! let mut connection = Connection::greet(&mut client, tcp, now());
//! while !matches!(connection.next(now()).await?, Some(Event::Greeting { .. })) {}
//! let records = Records::new(connection.into_transport(), &mut records_in, &mut records_out);
//! let mut tls = TlsConnection::<_, Aes128GcmSha256>::new(records, &mut tls_in, &mut tls_out);
//! let config = TlsConfig::new().with_server_name("gateway.example");
//! tls.open(TlsContext::new(&config, Authority::new(CA_DER))).await?;      // with a time limit; it can't be taken up again
//! let mut connection = Connection::resume(&mut client, tls);              // forgets what else came in the open
//! connection.login(&login, now()).await?;                                 // and on with `next`, as ever
//! ```
//!
//! To a listener with `handshake_first` shake hands at once, and use [`Connection::new`]. `Authority` is the example's
//! `CryptoProvider`: a random generator and a `CertVerifier` with the authority's certificate. That checks signatures (P-256;
//! more with features), the name against the certificate's DNS names, and, with a clock, the dates; it doesn't ask whether a
//! certificate may sign others, so let the authority sign servers and nothing else. A device without a clock passes `NoClock`.
//!
//! *Buffers*: `records_in` and `tls_in` each hold the longest record that comes. A server's longest is its certificate, about
//! 600 bytes for P-256, or what it has to send at once, up to 16 KB if this client can be behind by that much; 4 KB do for
//! sensors. `tls_out` holds a frame and 128 bytes, `records_out` two such records. *Takes*, on a Cortex-M3, beside the
//! buffers: some 90 KB of flash and 32 KB of stack for the handshake with a certificate check.
//!
//! # What it doesn't do
//!
//! JWTs need no support beyond [`Login::jwt`]. No object store, no ordered consumers, no push consumers beyond those of
//! [`jetstream::Watch`].
#![no_std]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::arithmetic_side_effects)
)]

mod backoff;
pub mod blocking;
mod buffer;
mod client;
mod connection;
mod error;
pub mod jetstream;
#[cfg(feature = "nkey")]
pub mod nkey;
pub mod outbox;
mod records;
pub mod serial;
#[cfg(feature = "std")]
pub mod tcp;
#[cfg(feature = "postcard")]
pub mod typed;
mod unflushed;

pub use backoff::{Backoff, Servers};
pub use client::Client;
pub use connection::Connection;
pub use error::{Error, Lost, Remedy};
pub use midge_protocol::client::{
    Breach, Config, Error as Refused, Event, Flush, Login, Message, Oversized, Publish, Server, ServerError,
    Sid, Silence, Token,
};
pub use midge_protocol::header;
pub use records::{RecordError, Records};
pub use unflushed::Unflushed;
// The module, and the macro of the same name.
pub use midge_protocol::subject;
pub use midge_protocol::subject::Subject;
pub use midge_protocol::time::Instant;
