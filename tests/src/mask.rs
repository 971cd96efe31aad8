//! What differs from one run to the next in a recorded line, replaced by `${_}`.

/// Digits of a time in ns since the Unix epoch.
const NANOS_DIGITS: usize = 19;
/// Letters of an event's id.
const EVENT_ID_LETTERS: usize = 22;
/// Letters of a server's id.
const SERVER_ID_LETTERS: usize = 56;
/// Members whose numbers are lengths of time that nobody chose.
const LENGTHS: &[&str] = &["\"active\":", "\"ack_time\":", "\"pause_remaining\":"];

/// The line with `${_}` in place of times of these years, ids, and of the sizes of what held them. An ack subject, a
/// header and JSON may have them.
pub(crate) fn mask(line: &str) -> String {
    let (head, payload) = line.split_once(" |").unwrap_or((line, ""));
    let masked = volatile(payload);
    let mut head = volatile(head);
    if masked != payload {
        let sizes = if head.starts_with("HMSG") { 2 } else { 1 };
        let words: Vec<&str> = head.split(' ').collect();
        let kept = words.len().saturating_sub(sizes);
        head = words[..kept]
            .iter()
            .copied()
            .chain(std::iter::repeat_n("${_}", sizes))
            .collect::<Vec<_>>()
            .join(" ");
    }
    if line.contains(" |") { format!("{head} |{masked}") } else { head }
}

fn volatile(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(name) = LENGTHS.iter().find(|name| rest.starts_with(**name)) {
            let digits =
                rest[name.len()..].bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'-').count();
            masked += name;
            masked += "${_}";
            rest = &rest[name.len() + digits..];
            continue;
        }
        let word = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let token = &rest[..word];
        if let Some(time) = time(rest) {
            masked += "${_}";
            rest = &rest[time..];
        } else if is_volatile(token, &masked) {
            masked += "${_}";
            rest = &rest[word..];
        } else {
            let len = word.max(first.len_utf8());
            masked += &rest[..len];
            rest = &rest[len..];
        }
    }
    masked
}

/// Bytes of the time of day at the front of `text`, if its year is one of these.
fn time(text: &str) -> Option<usize> {
    let is_now = text.starts_with("202") && text.as_bytes().get(10) == Some(&b'T');
    let end = is_now.then(|| text.find('Z')).flatten()?;
    let parts = text[..end].bytes().all(|byte| byte.is_ascii_digit() || b"-:T.".contains(&byte));
    parts.then_some(end + 1)
}

fn is_volatile(token: &str, before: &str) -> bool {
    let nanos = token.len() == NANOS_DIGITS && token.bytes().all(|byte| byte.is_ascii_digit());
    let event = token.len() == EVENT_ID_LETTERS && before.ends_with("\"id\":\"");
    let server = token.len() == SERVER_ID_LETTERS && token.starts_with('N');
    nanos && !token.starts_with('9') || event || server
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_ids_and_their_sizes_are_masked() {
        for (line, masked) in [
            ("MSG in 1 5 | hello", "MSG in 1 5 | hello"),
            ("PONG", "PONG"),
            ("MSG in 1 20 | {\"ts\":\"2026-11-21T00:22:19.94Z\"}", "MSG in 1 ${_} | {\"ts\":\"${_}\"}"),
            (
                "MSG in 1 20 | {\"ts\":\"0001-01-01T00:00:00Z\"}",
                "MSG in 1 20 | {\"ts\":\"0001-01-01T00:00:00Z\"}",
            ),
            (
                "MSG a 1 $JS.ACK.S.C.1.1.1.1795220540244149815.1 1 | x",
                "MSG a 1 $JS.ACK.S.C.1.1.1.${_}.1 1 | x",
            ),
            ("MSG in 1 9 | {\"active\":12}", "MSG in 1 ${_} | {\"active\":${_}}"),
            (
                "HMSG in 1 9 9 | NATS/1.0\\r\\nNats-Time-Stamp: 2026-11-21T00:22:19Z\\r\\n\\r\\n",
                "HMSG in 1 ${_} ${_} | NATS/1.0\\r\\nNats-Time-Stamp: ${_}\\r\\n\\r\\n",
            ),
        ] {
            assert_eq!(mask(line), masked);
        }
    }
}
