//! Header names of streams, and header blocks that are changed. Sources: reference 3.13 to 3.16; nats-server's
//! `stream.go`.

use midge_protocol::header::Header;

pub(crate) const MSG_ID: &str = "Nats-Msg-Id";
pub(crate) const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
pub(crate) const EXPECTED_LAST_SEQ: &str = "Nats-Expected-Last-Sequence";
pub(crate) const EXPECTED_LAST_SUBJECT_SEQ: &str = "Nats-Expected-Last-Subject-Sequence";
pub(crate) const EXPECTED_LAST_SUBJECT_SEQ_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
pub(crate) const EXPECTED_LAST_MSG_ID: &str = "Nats-Expected-Last-Msg-Id";
pub(crate) const ROLLUP: &str = "Nats-Rollup";
pub(crate) const TTL: &str = "Nats-TTL";
pub(crate) const MARKER_REASON: &str = "Nats-Marker-Reason";
pub(crate) const KV_OPERATION: &str = "KV-Operation";
pub(crate) const INCR: &str = "Nats-Incr";
pub(crate) const SCHEDULE: &str = "Nats-Schedule";
pub(crate) const SCHEDULE_NEXT: &str = "Nats-Schedule-Next";
pub(crate) const SCHEDULER: &str = "Nats-Scheduler";
pub(crate) const SCHEDULE_TARGET: &str = "Nats-Schedule-Target";
pub(crate) const SCHEDULE_SOURCE: &str = "Nats-Schedule-Source";
pub(crate) const SCHEDULE_TTL: &str = "Nats-Schedule-TTL";
pub(crate) const SCHEDULE_ROLLUP: &str = "Nats-Schedule-Rollup";
pub(crate) const SCHEDULE_TIME_ZONE: &str = "Nats-Schedule-Time-Zone";
pub(crate) const COUNTER_SOURCES: &str = "Nats-Counter-Sources";
pub(crate) const BATCH_ID: &str = "Nats-Batch-Id";
pub(crate) const BATCH_SEQ: &str = "Nats-Batch-Sequence";
pub(crate) const BATCH_COMMIT: &str = "Nats-Batch-Commit";
pub(crate) const STREAM_IDENTITY: &str = "Nats-Stream-Identity";
pub(crate) const STREAM_SOURCE: &str = "Nats-Stream-Source";
pub(crate) const REQUEST_INFO: &str = "Nats-Request-Info";
pub(crate) const REQUIRED_API_LEVEL: &str = "Nats-Required-Api-Level";
pub(crate) const PIN_ID: &str = "Nats-Pin-Id";
pub(crate) const MSG_SIZE: &str = "Nats-Msg-Size";

/// The value of a header, if it is there and not empty.
#[inline]
pub(crate) fn get<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    // Most messages have no headers, most headers none of ours.
    if block.is_empty() { None } else { find(block, name) }
}

fn find<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    Header::parse(block).ok()?.get(name.as_bytes()).filter(|value| !value.is_empty())
}

/// The value of a header, if it is there.
pub(crate) fn raw<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    if block.is_empty() { None } else { Header::parse(block).ok()?.get(name.as_bytes()) }
}

/// The value as text.
#[inline]
pub(crate) fn text<'a>(block: &'a [u8], name: &str) -> Option<&'a str> {
    get(block, name).and_then(|value| std::str::from_utf8(value).ok())
}

/// The value as a number; `Some(None)` if it isn't one.
pub(crate) fn number(block: &[u8], name: &str) -> Option<Option<u64>> {
    get(block, name).map(|value| std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()))
}

/// The block with one more header at its end; a new block if it is empty.
pub(crate) fn with(block: &[u8], name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len() + name.len() + value.len() + 16);
    match block.strip_suffix(b"\r\n") {
        Some(open) => out.extend_from_slice(open),
        None => out.extend_from_slice(b"NATS/1.0\r\n"),
    }
    for part in [name, ": ", value, "\r\n\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    out
}

/// The block with another value for a header, where it stands, or at its end.
pub(crate) fn set(block: &[u8], name: &str, value: &str) -> Vec<u8> {
    if raw(block, name).is_none() {
        return with(block, name, value);
    }
    let mut out = Vec::with_capacity(block.len() + value.len());
    for (at, line) in block.split_inclusive(|b| *b == b'\n').enumerate() {
        let is = line.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b":"));
        if at > 0 && is {
            for part in [name, ": ", value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        } else {
            out.extend_from_slice(line);
        }
    }
    out
}

/// The block without a header; nothing if no other is left.
pub(crate) fn without(block: &[u8], name: &str) -> Vec<u8> {
    without_lines(block, |line| line.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b":")))
}

/// The block without all headers whose names begin with `prefix`; nothing if no other is left.
pub(crate) fn without_all(block: &[u8], prefix: &str) -> Vec<u8> {
    without_lines(block, |line| line.starts_with(prefix.as_bytes()))
}

fn without_lines(block: &[u8], goes: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len());
    let mut fields = 0;
    for (at, line) in block.split_inclusive(|b| *b == b'\n').enumerate() {
        if at > 0 && goes(line) {
            continue;
        }
        fields += usize::from(at > 0 && line.contains(&b':'));
        out.extend_from_slice(line);
    }
    if fields == 0 { Vec::new() } else { out }
}

/// True if a request needs a newer API than ours.
pub(crate) fn needs_newer_api(block: &[u8]) -> bool {
    match get(block, REQUIRED_API_LEVEL) {
        None => false,
        Some(value) => {
            let level = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
            level.is_none_or(|level| level > crate::config::API_LEVEL as i64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_changed() {
        let block = with(b"", "A", "1");
        assert_eq!(block, b"NATS/1.0\r\nA: 1\r\n\r\n");
        let block = with(&block, "B", "2");
        assert_eq!(block, b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n");
        assert_eq!(without(&block, "A"), b"NATS/1.0\r\nB: 2\r\n\r\n");
        assert_eq!(without(&without(&block, "A"), "B"), b"");
        assert_eq!(without_all(&with(&block, "BC", "3"), "B"), b"NATS/1.0\r\nA: 1\r\n\r\n");
        assert_eq!(set(&block, "B", "3"), b"NATS/1.0\r\nA: 1\r\nB: 3\r\n\r\n");
        assert_eq!(set(&block, "C", "3"), b"NATS/1.0\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n");
        assert_eq!((get(&block, "B"), get(&block, "C")), (Some(&b"2"[..]), None));
        assert_eq!((number(&block, "B"), number(&with(b"", "N", "x"), "N")), (Some(Some(2)), Some(None)));
    }

    #[test]
    fn api_levels() {
        for (value, newer) in [("5", false), ("6", true), ("-1", false), ("x", true)] {
            assert_eq!(needs_newer_api(&with(b"", REQUIRED_API_LEVEL, value)), newer, "{value}");
        }
        assert!(!needs_newer_api(b""));
    }
}
