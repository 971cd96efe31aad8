//! As many subscriptions as one client can ask for.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::thread;

use midge_tests::daemon::PATIENCE;
use midge_tests::process::eventually;

use crate::{Siege, report};

const COUNT: u32 = 1_000_000;

/// What came of a million SUBs: those that were refused.
fn subscribe(siege: &Siege, filter: fn(u32) -> String) -> (TcpStream, u32) {
    let mut socket = TcpStream::connect(siege.daemon.address()).expect("a connection");
    socket.set_read_timeout(Some(3 * PATIENCE)).expect("a socket");
    let mut reader = BufReader::new(socket.try_clone().expect("a second handle"));
    let counter = thread::spawn(move || {
        let (mut refused, mut line) = (0, String::new());
        while line != "PONG\r\n" {
            line.clear();
            assert!(reader.read_line(&mut line).expect("an answer in time") > 0, "closed");
            match line.as_str() {
                "PONG\r\n" | "PING\r\n" => {}
                info if info.starts_with("INFO ") => {}
                "-ERR 'Memory Budget Exceeded'\r\n" | "-ERR 'maximum subscriptions exceeded'\r\n" => {
                    refused += 1
                }
                other => panic!("{other}"),
            }
        }
        refused
    });
    socket.write_all(b"CONNECT {\"verbose\":false}\r\n").expect("said");
    for batch in 0..COUNT / 1000 {
        let subs: String = (batch * 1000..(batch + 1) * 1000)
            .map(|number| format!("SUB {} {number}\r\n", filter(number)))
            .collect();
        socket.write_all(subs.as_bytes()).expect("said");
    }
    socket.write_all(b"PING\r\n").expect("said");
    (socket, counter.join().expect("a count"))
}

#[test]
fn a_million_subscriptions() {
    let siege = Siege::lay("");
    let (socket, refused) = siege.endures("1,000,000 subscriptions of one client", "", || {
        subscribe(&siege, |number| format!("a.{number}.b"))
    });
    if siege.cage.is_some() {
        assert!(refused > 0, "all of them fit?");
    }
    report(format_args!("{} of them fit", COUNT - refused));
    drop(socket);
    // Once they are gone, others may subscribe again.
    let again = eventually(|| {
        let mut peer = siege.client("");
        peer.send("SUB again 1\r\n");
        peer.fence().ok()
    });
    assert!(again.is_some(), "the memory is free again");
}

#[test]
fn a_million_subscriptions_with_a_ceiling() {
    let siege = Siege::lay("max_subscriptions: 1000");
    let (_socket, refused) = siege.endures("1,000,000 subscriptions where 1,000 are allowed", "", || {
        subscribe(&siege, |number| format!("a.*.{number}.>"))
    });
    assert_eq!(refused, COUNT - 1000);
    assert!(siege.peak() < 24 << 20, "{} bytes", siege.peak());
}
