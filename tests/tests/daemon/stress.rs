//! Order and completeness while many connections write to each other from several threads.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use midge_tests::daemon::{Daemon, Program};

const PUBLISHERS: usize = 4;
const SUBSCRIBERS: usize = 3;
/// Of each publisher.
const MESSAGES: usize = 20_000;

/// Each subscriber gets everything of each publisher, once, in order, though it stops reading now and then, so that
/// sockets fill up and outboxes change hands between publishers' tasks and the subscriber's own.
#[test]
fn nothing_is_lost_doubled_or_overtaken() {
    let program = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    let daemon = Daemon::start(program, None, &[]).unwrap_or_else(|why| panic!("{why}"));
    let connect = |more: &str| {
        let mut socket = TcpStream::connect(daemon.address()).expect("a connection");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        write!(socket, "CONNECT {{\"verbose\":false}}\r\n{more}PING\r\n").expect("said");
        let mut reader = BufReader::new(socket.try_clone().expect("a second handle"));
        let mut line = String::new();
        while line != "PONG\r\n" {
            line.clear();
            assert!(reader.read_line(&mut line).expect("an answer") > 0, "closed");
        }
        (socket, reader)
    };

    let readers: Vec<_> = (0..SUBSCRIBERS)
        .map(|subscriber| {
            let (mut socket, mut reader) = connect("SUB p.* 1\r\n");
            thread::spawn(move || {
                let mut next = [0; PUBLISHERS];
                let mut line = String::new();
                while next.iter().any(|next| *next < MESSAGES) {
                    line.clear();
                    assert!(reader.read_line(&mut line).expect("a line in time") > 0, "closed");
                    let Some(subject) = line.strip_prefix("MSG p.").and_then(|rest| rest.split(' ').next())
                    else {
                        assert_eq!(line, "PING\r\n");
                        socket.write_all(b"PONG\r\n").expect("said");
                        continue;
                    };
                    let publisher: usize = subject.parse().expect("a publisher's number");
                    line.clear();
                    reader.read_line(&mut line).expect("a payload in time");
                    let number: usize = line.trim_start_matches('.').trim_end().parse().expect("a number");
                    assert_eq!(number, next[publisher], "subscriber {subscriber}, publisher {publisher}");
                    next[publisher] += 1;
                    // One that reads in fits lets its socket fill up.
                    if subscriber == 0 && number % 5_000 == 4_999 {
                        thread::park_timeout(Duration::from_millis(20));
                    }
                }
            })
        })
        .collect();
    let writers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let (mut socket, _) = connect("");
            thread::spawn(move || {
                let mut batch = Vec::new();
                for number in 0..MESSAGES {
                    // Sizes from a few bytes to more than what is shared instead of copied.
                    let width = 8 + number % 7 * 40 + if number % 500 == 0 { 6000 } else { 0 };
                    write!(batch, "PUB p.{publisher} {width}\r\n{number:.>width$}\r\n").expect("memory");
                    if batch.len() > 1000 * (publisher + 1) {
                        socket.write_all(&batch).expect("sent");
                        batch.clear();
                    }
                }
                socket.write_all(&batch).expect("sent");
                socket
            })
        })
        .collect();
    // Publishers stay until everything has arrived.
    let sockets: Vec<_> = writers.into_iter().map(|writer| writer.join().expect("a publisher")).collect();
    readers.into_iter().for_each(|reader| reader.join().expect("a subscriber"));
    drop(sockets);
}
