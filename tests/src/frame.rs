//! One thing a server said: a control line, with its payload if it carries a message.

use std::fmt::Write;

/// A frame as it was on the wire, line ends included, or the end of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Bytes(Vec<u8>),
    Eof,
}

impl Frame {
    /// Takes the first complete frame off `buffer`.
    pub(crate) fn take(buffer: &mut Vec<u8>) -> Option<Self> {
        let line = buffer.iter().position(|&byte| byte == b'\n')? + 1;
        let end = line + message_size(&buffer[..line]).map_or(0, |size| size + 2);
        if buffer.len() < end {
            return None;
        }
        let mut frame: Vec<u8> = buffer.drain(..end).collect();
        // Where nats-server itself is the sender it writes two spaces around the reply subject that there is not.
        if end > line
            && let Some(gap) = frame[..line].windows(2).position(|pair| pair == b"  ")
        {
            frame.remove(gap);
        }
        Some(Self::Bytes(frame))
    }

    /// The verb of the control line, empty at the end of the stream.
    pub(crate) fn verb(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default(),
            Self::Eof => b"",
        }
    }

    /// The JSON of an INFO.
    pub(crate) fn info(&self) -> Option<serde_json::Value> {
        match self {
            Self::Bytes(bytes) if self.verb() == b"INFO" => serde_json::from_slice(&bytes[4..]).ok(),
            _ => None,
        }
    }

    /// The frame as a script would write it, so that a failure can be read next to the script.
    pub(crate) fn capture(&self) -> String {
        let Self::Bytes(bytes) = self else { return "EOF".into() };
        let mut text = String::new();
        match bytes.windows(2).position(|pair| pair == b"\r\n") {
            Some(line) if bytes.len() > line + 2 && bytes.ends_with(b"\r\n") => {
                escape(&bytes[..line], &mut text);
                text.push_str(" |");
                let payload = &bytes[line + 2..bytes.len() - 2];
                if !payload.is_empty() {
                    text.push(' ');
                    escape(payload, &mut text);
                }
            }
            Some(line) if bytes.len() == line + 2 => escape(&bytes[..line], &mut text),
            _ => escape(bytes, &mut text),
        }
        text
    }
}

/// Writes bytes with the escapes that scripts use: long runs of one byte are folded.
pub(crate) fn escape(mut bytes: &[u8], text: &mut String) {
    while let Some(&first) = bytes.first() {
        let run = bytes.iter().take_while(|&&byte| byte == first).count();
        if run > 32 && first.is_ascii_alphanumeric() {
            let _ = write!(text, "\\({}*{run})", char::from(first));
            bytes = &bytes[run..];
            continue;
        }
        let (printed, used) = match first {
            b'\r' => ("\\r".into(), 1),
            b'\n' => ("\\n".into(), 1),
            b'\t' => ("\\t".into(), 1),
            b'\\' => ("\\\\".into(), 1),
            b' ' if bytes.len() == 1 => ("\\s".into(), 1),
            b' '..=b'~' => (char::from(first).to_string(), 1),
            _ => match first_char(bytes) {
                Some(c) if c.is_alphanumeric() => (c.to_string(), c.len_utf8()),
                _ => (format!("\\x{first:02x}"), 1),
            },
        };
        text.push_str(&printed);
        bytes = &bytes[used..];
    }
}

fn first_char(bytes: &[u8]) -> Option<char> {
    let chunk = bytes.utf8_chunks().next()?;
    chunk.valid().chars().next()
}

/// The payload's size, if `line` announces a message. The subject before it may be any bytes.
fn message_size(line: &[u8]) -> Option<usize> {
    let mut tokens = line.trim_ascii_end().split(|&byte| byte == b' ');
    let is_message = matches!(tokens.next()?, b"MSG" | b"HMSG");
    let size = std::str::from_utf8(tokens.next_back()?).ok()?;
    is_message.then(|| size.parse().ok()).flatten()
}
