//! Words that are too large, too deep or too many.

use midge_tests::peer::Peer;

use crate::{Siege, is_full};

/// What the daemon says to `text` from a new client, up to the end of the connection or its PONG.
fn answer(siege: &Siege, text: &str) -> Vec<String> {
    let mut peer = Peer::connect(siege.daemon.address()).expect("a connection");
    peer.info().expect("a greeting");
    peer.send(text);
    peer.send("PING\r\n");
    let mut lines = Vec::new();
    while let Ok(Some(line)) = peer.line() {
        if line == "PONG" {
            break;
        }
        lines.push(line);
    }
    lines
}

fn pub_with_header(subject: &str, header: &str, payload: &str) -> String {
    let size = header.len() + payload.len();
    format!("HPUB {subject} {} {size}\r\n{header}{payload}\r\n", header.len())
}

#[test]
fn header_bombs() {
    let siege = Siege::lay(
        "accounts {
            A { users: [{user: a, password: p}], exports: [{service: help}] }
            B { users: [{user: b, password: p}], imports: [{service: {account: A, subject: help}, share: true}] }
        }, no_auth_user: b",
    );
    siege.endures("headers of 1 MiB with 80,000 and more fields", "", || {
        // Through a border, where a field is taken out and another put in, and to one who takes no headers.
        let mut service = siege.client(r#""user":"a","pass":"p","headers":true"#);
        let mut bare = siege.client("");
        service.send("SUB help 1\r\n");
        bare.send("SUB help 1\r\n");
        service.fence().expect("subscribed");
        let times = if is_full() { 200 } else { 20 };
        for field in ["a:b\r\n", "Nats-Request-Info:x\r\n", "\r\n", ":\r\n", "x\n", "k: \u{fffd}\r\n"] {
            for _ in 0..times {
                let mut header = format!("NATS/1.0\r\n{}", field.repeat(900_000 / field.len()));
                header.push_str("\r\n");
                let mut peer = siege.client(r#""headers":true,"user":"b","pass":"p""#);
                peer.send(&pub_with_header("help", &header, "x"));
                peer.fence().expect("a large message is no crime");
            }
            // Whoever gets them reads them.
            service.send("PING\r\n");
            while service.line().expect("a line").is_some_and(|line| line != "PONG") {}
            bare.send("PING\r\n");
            while bare.line().expect("a line").is_some_and(|line| line != "PONG") {}
        }
        for (text, why) in [
            ("HPUB help 12 4\r\nNATS/1.0\r\n\r\n\r\n", "a header longer than all"),
            ("HPUB help 99999999999999999999 1\r\nx\r\n", "a number without end"),
            ("HPUB help -1 1\r\nx\r\n", "a negative number"),
            ("HPUB help 4294967296 4294967297\r\nx\r\n", "more than 32 bits"),
        ] {
            let lines = answer(&siege, &format!("CONNECT {{\"headers\":true,\"verbose\":false}}\r\n{text}"));
            assert!(lines.len() <= 1, "{why}: {lines:?}");
        }
    });
}

#[test]
fn json_bombs() {
    let siege = Siege::lay(
        "max_control_line: 1MB, system_account: S, accounts { S { users: [{user: s, password: s}] }, A { users: [{user: a, password: a}] } }, no_auth_user: a",
    );
    siege.endures("JSON of 1 MB, nested and wide, in CONNECT, INFO and requests", "", || {
        let deep = "[".repeat(400_000);
        let objects = r#"{"a":"#.repeat(80_000);
        let wide = format!("[{}1]", "1,".repeat(200_000));
        let names = format!("{{{}\"a\":1}}", r#""a":1,"#.repeat(60_000));
        let text = format!("{{\"name\":\"{}\"}}", r"\u0000".repeat(60_000));
        let number = format!("{{\"protocol\":{}}}", "9".repeat(400_000));
        for bomb in [&deep, &objects, &wide, &names, &text, &number] {
            for nested in [bomb.clone(), format!("{{\"x\":{bomb}}}"), format!("{{\"user\":{bomb}")] {
                answer(&siege, &format!("CONNECT {nested}\r\n"));
                answer(&siege, &format!("INFO {nested}\r\n"));
                // Every account may ask for its own connections.
                let ask = format!("PUB $SYS.REQ.ACCOUNT.PING.CONNZ _I.1 {}\r\n{nested}\r\n", nested.len());
                answer(&siege, &format!("CONNECT {{\"verbose\":false}}\r\nSUB _I.1 1\r\n{ask}"));
            }
        }
    });
}

#[test]
fn deep_and_long_subjects() {
    let siege = Siege::lay("max_control_line: 4096");
    siege.endures("subjects of 2,000 tokens and of 4,000 bytes, with wildcards anywhere", "", || {
        let mut peer = siege.client("");
        let depth = 1_900;
        let token = |at: usize, number: usize| if at % (number + 1) == number { "*" } else { "a" };
        let count = if is_full() { 1_900 } else { 400 };
        for number in 0..count {
            let filter: Vec<_> = (0..depth).map(|at| token(at, number)).collect();
            peer.send(&format!("SUB {} {number}\r\n", filter.join(".")));
        }
        peer.send(&format!("SUB {}.> long\r\n", "b".repeat(4_000)));
        // Each is new to the match cache.
        for number in 0..count {
            let subject: Vec<_> = (0..depth).map(|at| if at == number { "c" } else { "a" }).collect();
            peer.send(&format!("PUB {} 0\r\n\r\n", subject.join(".")));
        }
        peer.send("PING\r\n");
        let mut refused = 0;
        loop {
            match peer.line().expect("a line").expect("still connected").as_str() {
                "PONG" => break,
                "-ERR 'Memory Budget Exceeded'" => refused += 1,
                _ => {}
            }
        }
        assert!(refused < count, "{refused} refused");
    });
    drop(siege);
    let ceiling = Siege::lay("max_sub_tokens: 16");
    let mut peer = ceiling.client("");
    peer.send(&format!("SUB {} 1\r\n", ["a"; 17].join(".")));
    let refused = peer.line().expect("a line").expect("still connected");
    assert!(refused.ends_with("too many tokens'"), "{refused}");
    peer.send(&format!("SUB {} 1\r\n", "a".repeat(5_000)));
    assert_eq!(peer.rest(), Ok(vec!["-ERR 'maximum control line exceeded'".to_owned()]));
}

#[test]
fn bytes_before_anybody_is_let_in() {
    let siege = Siege::lay("authorization { user: u, password: p }");
    siege.endures("a megabyte from strangers, a hundred times", r#""user":"u","pass":"p""#, || {
        for number in 0..100 {
            let text = match number % 4 {
                0 => "C".repeat(1 << 20),
                1 => format!("CONNECT {{\"user\":\"{}\"}}\r\n", "u".repeat(1 << 20)),
                2 => format!("PUB a 1000000\r\n{}\r\n", "x".repeat(1_000_000)),
                _ => "\0".repeat(1 << 20),
            };
            let lines = answer(&siege, &text);
            assert!(lines.iter().all(|line| line.starts_with("-ERR ")), "{lines:?}");
        }
    });
    // A control line is all that is kept of a stranger.
    assert!(siege.peak() < 24 << 20, "{} bytes", siege.peak());
}
