//! The client session: a server that says anything must not make it panic, wedge or ask for more than its buffer, and
//! neither the size of the buffer nor the cuts may change what the caller sees.
//!
//! The first byte is the size of the buffer, the second that of the pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use midge_protocol::client::{Config, Event, Login, Session, Step};
use midge_protocol::time::Instant;

fuzz_target!(|data: &[u8]| {
    let [buffer_size, piece, input @ ..] = data else { return };
    let small = see(input, 64 + usize::from(*buffer_size), usize::from(*piece).max(1));
    let whole = see(input, input.len() + 64, input.len().max(1));
    // A line that is longer than the buffer may be refused earlier, and the text of an -ERR is cut, which may change
    // what it means: compare up to there.
    for (small, whole) in small.iter().zip(&whole) {
        if small == "bad" || whole == "bad" || (small.starts_with("error") && small != whole) {
            return;
        }
        assert_eq!(small, whole);
    }
});

/// What a caller sees; a message that came in pieces like one that didn't.
fn see(wire: &[u8], buffer_size: usize, piece: usize) -> Vec<String> {
    let now = Instant::default();
    let mut session = Session::new(Config::new(buffer_size), now);
    let (mut buffer, mut seen, mut body, mut out) = (Vec::new(), Vec::new(), None, Vec::new());
    let mut rest = wire;
    while !rest.is_empty() {
        let room = buffer_size - buffer.len();
        assert!(room > 0, "the buffer is full and the session asks for more");
        let (taken, tail) = rest.split_at(room.min(piece).min(rest.len()));
        buffer.extend_from_slice(taken);
        rest = tail;
        loop {
            let (event, used) = match session.next(&buffer) {
                Step::Event(event, used) => (event, used),
                Step::Need { used, need } => {
                    assert!(need > buffer.len() - used && need <= buffer_size);
                    buffer.drain(..used);
                    break;
                }
                Step::Bad(_) => {
                    assert!(session.is_closed());
                    seen.push("bad".into());
                    return seen;
                }
            };
            assert!(used > 0 && used <= buffer.len());
            match event {
                Event::Greeting { .. } => {
                    seen.push(format!("greeting {:?}", session.server()));
                    session.connect(now, &Login::ANONYMOUS, &mut out).unwrap();
                }
                Event::Info { .. } | Event::LameDuck { .. } => {
                    seen.push(format!("info {:?}", session.server()))
                }
                Event::Message { sid, message } => {
                    seen.push(format!("message {sid:?} {:?}", [message.header, message.payload].concat()));
                }
                Event::Oversized(message) => {
                    assert!(body.is_none());
                    body = Some((message.sid, message.size, Vec::new()));
                }
                Event::Piece { data, left } => {
                    let (sid, size, bytes) = body.as_mut().expect("pieces follow their message");
                    bytes.extend_from_slice(data);
                    assert_eq!(bytes.len() + left as usize, *size as usize);
                    if left == 0 {
                        seen.push(format!("message {sid:?} {bytes:?}"));
                        body = None;
                    }
                }
                Event::Error(error) => seen.push(format!("error {}", error.is_fatal())),
                other => seen.push(format!("{other:?}")),
            }
            buffer.drain(..used);
        }
        session.poll_transmit(&mut out);
    }
    seen
}
