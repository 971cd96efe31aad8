//! For firmware without a scheduler.

use crate::node::Client;
use crate::{Board, Log, Login, Memory, Names, Node};
use embedded_io::{Read, Write};
use midge_client::blocking::Connection;
use midge_client::{Backoff, Event};

pub use crate::serial::{Port, Serial};

/// The chip's clock.
pub trait Clock: Copy {
    /// Since the start, in us.
    fn now_us(self) -> u64;

    /// Waits for about a ms.
    fn wait(self);
}

/// The way to the broker.
pub trait Uplink {
    /// A way that was just opened, over which the broker gives its greeting. A read without a byte ends after a few ms, with
    /// `TimedOut`.
    type Plain<'l>: Read + Write
    where
        Self: 'l;

    /// What the rest goes over: the same, or TLS upon it.
    type Line<'l>: Read + Write
    where
        Self: 'l;

    /// Opens it.
    fn connect(&mut self) -> Option<Self::Plain<'_>>;

    /// After the greeting: shakes hands for TLS, if that is wanted.
    fn secure<'l>(plain: Self::Plain<'l>) -> Option<Self::Line<'l>>
    where
        Self: 'l;

    /// Lets a few ms pass.
    fn rest(&mut self);
}

/// Works for ever. `start` is different at each start of the board, as a count in flash or a random number is: the ids
/// of readings begin with it.
pub fn run<B: Board, U: Uplink, const RECEIVE: usize, const TRANSMIT: usize, const OUTBOX: usize>(
    board: &mut B,
    uplink: &mut U,
    names: &Names,
    login: &Login<'_>,
    memory: &mut Memory<RECEIVE, TRANSMIT, OUTBOX>,
    start: u32,
) -> ! {
    let Ok((mut node, mut client)) = Node::new(names, memory, start) else {
        board.log(Log::Complaint);
        loop {
            uplink.rest();
        }
    };
    let mut backoff = Backoff::new(200, 5_000, start);
    board.log(Log::Started);
    loop {
        session(board, uplink, login, &mut node, &mut client, &mut backoff);
        board.log(Log::Lost);
        let until = board.now().after_ms(backoff.next_ms());
        while board.now() < until {
            node.measure(board);
            uplink.rest();
        }
    }
}

/// From the opening of a way until it ends.
fn session<'m, B: Board, U: Uplink>(
    board: &mut B,
    uplink: &mut U,
    login: &Login<'_>,
    node: &mut Node<'m>,
    client: &mut Client<'m>,
    backoff: &mut Backoff,
) {
    let Some(plain) = uplink.connect() else { return };
    // What the broker says first comes before TLS.
    let mut connection = Connection::greet(client, plain, board.now());
    loop {
        node.measure(board);
        match connection.next(board.now()) {
            Ok(Some(Event::Greeting { .. })) => break,
            Ok(_) => {}
            Err(_) => return,
        }
    }
    let Some(line) = U::secure(connection.into_transport()) else { return };
    let mut connection = Connection::resume(client, line);
    let mut goes_on = connection.login(login, board.now()).is_ok();
    while goes_on {
        node.measure(board);
        let now = board.now();
        node.ask(connection.client(), now);
        goes_on = match connection.next(now) {
            Ok(Some(event)) => {
                let act = node.read(&event);
                if connection.client().is_ready() {
                    backoff.reset();
                }
                node.act(connection.client(), board, &act).is_ok()
            }
            Ok(None) => true,
            Err(_) => false,
        };
    }
}
