//! What a server says, byte for byte: anything that is no whole operation is a panic.

/// An operation of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Info,
    Pong,
    Err(String),
    Msg { subject: String, reply: String, header: String, payload: String },
}

/// All whole operations in `bytes`; the last one may be cut.
pub(crate) fn operations(mut bytes: &[u8]) -> Vec<Op> {
    let mut found = Vec::new();
    while let Some((op, rest)) = operation(bytes) {
        found.extend(op);
        bytes = rest;
    }
    found
}

/// `None` for what is cut. A PING is no operation that anybody looks at.
fn operation(bytes: &[u8]) -> Option<(Option<Op>, &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, rest) = (&bytes[..end], &bytes[end + 2..]);
    assert!(!line.contains(&b'\n'), "a bare line feed: {:?}", String::from_utf8_lossy(line));
    let text = String::from_utf8_lossy(line).into_owned();
    let op = match text.split_once(' ').map_or(text.as_str(), |(verb, _)| verb) {
        "INFO" => Op::Info,
        "PONG" => Op::Pong,
        "PING" => return Some((None, rest)),
        "-ERR" => Op::Err(text),
        verb @ ("MSG" | "HMSG") => {
            // Bytes that are no text are no separators either.
            let words: Vec<_> = text.split(' ').skip(1).collect();
            let number = |word: &str| word.parse::<usize>().unwrap_or_else(|_| panic!("no number: {text:?}"));
            let numbers = usize::from(verb == "HMSG") + 1;
            assert!((2 + numbers..=3 + numbers).contains(&words.len()), "{text:?}");
            let total = number(words[words.len() - 1]);
            let header = if verb == "HMSG" { number(words[words.len() - 2]) } else { 0 };
            let (body, after) = (rest.get(..total)?, rest.get(total..total + 2)?);
            assert_eq!(after, b"\r\n", "{text:?}");
            let (header, payload) = body.split_at(header);
            let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let reply = if words.len() == 3 + numbers { words[2] } else { "" };
            let (subject, reply) = (words[0].to_owned(), reply.to_owned());
            let op = Op::Msg { subject, reply, header: string(header), payload: string(payload) };
            return Some((Some(op), &rest[total + 2..]));
        }
        _ => panic!("no operation: {text:?}"),
    };
    Some((Some(op), rest))
}
