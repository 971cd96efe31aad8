//! For firmware on embassy.

use crate::{Board, Log, Login, Memory, Names, Node};
use core::pin::pin;
use embassy_futures::select::{Either, select};
use embassy_time::Timer;
use embedded_io_async::{Read, Write};
use midge_client::serial::Framed;
use midge_client::{Backoff, Connection, Instant};

/// The way to the broker.
pub trait Uplink {
    /// What it is, once it is open. Its futures lose nothing when they are dropped.
    type Line<'l>: Read + Write
    where
        Self: 'l;

    /// Opens it.
    #[expect(async_fn_in_trait, reason = "one executor, one thread")]
    async fn connect(&mut self) -> Option<Self::Line<'_>>;
}

/// TCP over embassy-net.
#[cfg(feature = "network")]
pub struct Network<'s, const RECEIVE: usize, const TRANSMIT: usize> {
    stack: embassy_net::Stack<'s>,
    broker: ([u8; 4], u16),
    receive: [u8; RECEIVE],
    transmit: [u8; TRANSMIT],
}

#[cfg(feature = "network")]
impl<'s, const RECEIVE: usize, const TRANSMIT: usize> Network<'s, RECEIVE, TRANSMIT> {
    /// To a broker with an address of IPv4. The buffers are what TCP has on its way.
    pub fn new(stack: embassy_net::Stack<'s>, broker: ([u8; 4], u16)) -> Self {
        Self { stack, broker, receive: [0; RECEIVE], transmit: [0; TRANSMIT] }
    }
}

#[cfg(feature = "network")]
impl<'s, const RECEIVE: usize, const TRANSMIT: usize> Uplink for Network<'s, RECEIVE, TRANSMIT> {
    type Line<'l>
        = embassy_net::tcp::TcpSocket<'l>
    where
        Self: 'l;

    async fn connect(&mut self) -> Option<Self::Line<'_>> {
        self.stack.wait_config_up().await;
        let mut socket = embassy_net::tcp::TcpSocket::new(self.stack, &mut self.receive, &mut self.transmit);
        socket.set_timeout(Some(embassy_time::Duration::from_secs(10)));
        socket.set_nagle_enabled(false);
        let (address, port) = self.broker;
        socket.connect((embassy_net::Ipv4Address::from(address), port)).await.ok()?;
        Some(socket)
    }
}

/// A serial port, in frames: midged's `framing: crc`.
pub struct Serial<U> {
    port: U,
    /// The longest operation that midged sends.
    frame: [u8; 768],
}

impl<U: Read + Write> Serial<U> {
    /// Over a port that keeps what arrives until it is read, by interrupts or DMA.
    pub fn new(port: U) -> Self {
        Self { port, frame: [0; 768] }
    }
}

impl<U: Read + Write> Uplink for Serial<U> {
    type Line<'l>
        = Framed<'l, &'l mut U>
    where
        Self: 'l;

    async fn connect(&mut self) -> Option<Self::Line<'_>> {
        Some(Framed::new(&mut self.port, &mut self.frame))
    }
}

/// embassy's time, for [`Board::now`].
pub fn now() -> Instant {
    Instant::from_micros(embassy_time::Instant::now().as_micros())
}

/// Works for ever. `start` is different at each start of the board, as a count in flash or a random number is: the ids
/// of readings begin with it.
pub async fn run<B: Board, U: Uplink, const RECEIVE: usize, const TRANSMIT: usize, const OUTBOX: usize>(
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
            Timer::after_secs(60).await;
        }
    };
    let mut backoff = Backoff::new(200, 5_000, start);
    board.log(Log::Started);
    loop {
        if let Some(line) = measuring(&mut node, board, uplink.connect()).await {
            let mut connection = Connection::new(&mut client, line, login, board.now());
            loop {
                node.measure(board);
                let now = board.now();
                node.ask(connection.client(), now);
                let wake =
                    connection.deadline().map_or(node.next_reading(), |at| at.min(node.next_reading()));
                match select(connection.next(now), Timer::at(time(wake))).await {
                    Either::First(Ok(Some(event))) => {
                        let act = node.read(&event);
                        if connection.client().is_ready() {
                            backoff.reset();
                        }
                        if node.act(connection.client(), board, &act).is_err() {
                            break;
                        }
                    }
                    Either::First(Err(_)) => break,
                    Either::First(Ok(None)) | Either::Second(()) => {}
                }
            }
        }
        board.log(Log::Lost);
        measuring(&mut node, board, Timer::after_millis(backoff.next_ms().into())).await;
    }
}

/// Waits for something, and takes readings meanwhile.
async fn measuring<B: Board, R>(node: &mut Node<'_>, board: &mut B, wait: impl Future<Output = R>) -> R {
    let mut wait = pin!(wait);
    loop {
        node.measure(board);
        if let Either::First(done) = select(wait.as_mut(), Timer::at(time(node.next_reading()))).await {
            return done;
        }
    }
}

fn time(at: Instant) -> embassy_time::Instant {
    embassy_time::Instant::from_micros(at.as_micros())
}
