//! What parsing costs: ns per operation and MB/s, the best of several rounds, on one core.
//!
//! `cargo bench -p midge-protocol`. Figures move with the machine: compare runs of the same hour only.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic)]

use midge_protocol::connect::Connect;
use midge_protocol::limits::Limits;
use midge_protocol::op::ClientOp;
use midge_protocol::parse::{Step, client_op, server_op};
use std::hint::black_box;
use std::time::{Duration, Instant};

const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"user\":\"sensor\",\"pass\":\"secret\",\
    \"lang\":\"rust\",\"version\":\"0.51.0\",\"protocol\":1,\"headers\":true,\"no_responders\":true}\r\n";

fn main() {
    println!("{:<24}{:>8}{:>12}{:>10}", "", "bytes", "ns per op", "MB/s");
    let body = |size: usize| "x".repeat(size);
    let header = "NATS/1.0\r\nNats-Msg-Id: 12345678\r\n\r\n";
    for (name, op) in [
        ("PUB 16 B", format!("PUB plant.line1.temp 16\r\n{}\r\n", body(16))),
        ("PUB 16 B, reply", format!("PUB plant.line1.temp _INBOX.a.1 16\r\n{}\r\n", body(16))),
        ("PUB 128 B", format!("PUB plant.line1.temp 128\r\n{}\r\n", body(128))),
        ("PUB 4 KiB", format!("PUB plant.line1.temp 4096\r\n{}\r\n", body(4096))),
        ("HPUB 35 B + 16 B", format!("HPUB plant.line1.temp 35 51\r\n{header}{}\r\n", body(16))),
        ("SUB", "SUB plant.*.temp 17\r\n".into()),
        ("PING", "PING\r\n".into()),
        ("CONNECT, JSON too", CONNECT.into()),
    ] {
        measure(name, &op, |input| match client_op(input, &Limits::default()) {
            Step::Op(ClientOp::Connect(json), used) => {
                assert!(black_box(Connect::parse(json)).is_ok());
                used
            }
            Step::Op(op, used) => {
                black_box(op);
                used
            }
            step => panic!("{name}: {step:?}"),
        });
    }
    measure("MSG 16 B", &format!("MSG plant.line1.temp 17 16\r\n{}\r\n", body(16)), |input| {
        let Step::Op(op, used) = server_op(input, &Limits::default()) else { panic!("MSG") };
        black_box(op);
        used
    });
    large_payload();
}

/// Repeats `op` in one buffer that fits a cache and reads all of it with `read`, which says how much it took.
fn measure(name: &str, op: &str, read: impl Fn(&[u8]) -> usize) {
    let count = (32 * 1024 / op.len()).max(1);
    let input = op.repeat(count);
    let round = || {
        let mut rest = black_box(input.as_bytes());
        while !rest.is_empty() {
            rest = &rest[read(rest)..];
        }
    };
    let ns = best(round) / count as f64;
    println!("{name:<24}{:>8}{ns:>12.1}{:>10.0}", op.len(), op.len() as f64 * 1_000.0 / ns);
}

/// A payload of 1 MiB that arrives 100 bytes at a time: whoever heeds `Need` asks the parser a few times in all.
fn large_payload() {
    let input = format!("PUB plant.line1.temp 1048576\r\n{}\r\n", "x".repeat(1 << 20));
    let line = input.find('\n').map_or(0, |at| at + 1);
    for (name, heed) in [("1 MiB in 100 B, heeding", true), ("1 MiB in 100 B, asking", false)] {
        let read = || {
            let (mut calls, mut need) = (0u64, 1);
            for seen in (0..input.len()).step_by(100).chain([input.len()]) {
                if seen < need && heed {
                    continue;
                }
                calls += 1;
                match client_op(black_box(&input.as_bytes()[..seen]), &Limits::default()) {
                    Step::Need(total) => need = total,
                    step => {
                        black_box(step);
                    }
                }
            }
            calls
        };
        let calls = read();
        let ns = best(|| {
            black_box(read());
        });
        // Of the body, the parser looks at the last two bytes only.
        let touched = calls * line as u64 + 2;
        println!(
            "{name:<24}{:>8}{ns:>12.0}          {calls} calls, {touched} bytes touched at most",
            input.len()
        );
    }
}

/// The fastest of many runs of `round`, in ns.
fn best(round: impl Fn()) -> f64 {
    let (started, mut best) = (Instant::now(), Duration::MAX);
    while started.elapsed() < Duration::from_millis(300) {
        let before = Instant::now();
        round();
        best = best.min(before.elapsed());
    }
    best.as_nanos() as f64
}
