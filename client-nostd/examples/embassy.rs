//! A device over embassy-net. Its futures run on tokio here; on a board embassy-executor runs them, and the stack's
//! runner is a task of its own.
//!
//! ```sh
//! cargo run -p midge-client --features std --example embassy 127.0.0.1:4222
//! ```

#![allow(clippy::expect_used, reason = "a program on a desk may end")]

#[path = "device/mod.rs"]
mod device;
#[path = "wire/mod.rs"]
mod wire;

use embassy_net::tcp::TcpSocket;
use embassy_net::{Ipv4Cidr, Stack, StackResources, StaticConfigV4};
use midge_client::tcp::Clock;
use midge_client::{Client, Config, Connection, Login, Unflushed};
use std::error::Error;
use std::net::SocketAddr;

#[allow(dead_code, reason = "tests call what it calls")]
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4222".into());
    run(server.parse().expect("an address"), 5).await.expect("it works");
}

/// A device that publishes so many readings.
pub(crate) async fn run(server: SocketAddr, rounds: usize) -> Result<(), Box<dyn Error>> {
    let mut resources = StackResources::<1>::new();
    let address = StaticConfigV4 {
        address: Ipv4Cidr::new(wire::BOARD.0, 24),
        gateway: None,
        dns_servers: Default::default(),
    };
    let config = embassy_net::Config::ipv4_static(address);
    let (stack, mut runner) = embassy_net::new(wire::connect(server), config, &mut resources, 4711);
    tokio::select! {
        never = runner.run() => never,
        result = device(stack, rounds) => result,
    }
}

async fn device(stack: Stack<'_>, rounds: usize) -> Result<(), Box<dyn Error>> {
    let clock = Clock::start();
    let (mut receive, mut transmit) = ([0; 256], [0; 256]);
    let mut client = Client::<1>::new(Config::new(0), &mut receive, &mut transmit, [7; 16]);
    client.subscribe("plant.attic.*", None)?;

    let (mut arrive, mut leave) = ([0; 1024], [0; 1024]);
    let mut socket = TcpSocket::new(stack, &mut arrive, &mut leave);
    socket.connect((wire::GATEWAY.0, wire::PORT)).await.map_err(|error| format!("{error:?}"))?;
    // Its flush would wait until the other side has acknowledged everything.
    let transport = Unflushed(socket);
    let mut connection = Connection::new(&mut client, transport, &Login::ANONYMOUS, clock.now());
    device::converse(&mut connection, clock, rounds).await.map_err(|error| format!("{error:?}").into())
}
