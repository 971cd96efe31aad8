//! The header block of a message: `NATS/1.0`, fields, an empty line.
//!
//! ```text
//!   NATS/1.0 503 No Responders CR LF      version line, with a status on answers of the server
//!   Nats-Subject: plant.line1 CR LF       field: name, colon, value
//!   CR LF
//! ```
//!
//! Reading is lazy and forgives: white space around a value is dropped, a line that is no field is passed over, a
//! line may end with LF alone. Names may repeat. They keep their case, and [`Header::get`] minds it, as ADR-4 and
//! nats-server do; [`Header::get_ignoring_case`] is the option that ADR-4 names.
//!
//! Writing doesn't forgive: a [`Block`] exists only if no name or value in it could be read as something else.
//!
//! Sources: ADR-4 ("NATS Message Headers"); nats-server's `client.go` (`sliceHeader`, `getHeaderKeyIndex`).

use crate::emit::{CRLF, Digits, Sink};

/// Begins every block.
pub const VERSION: &[u8] = b"NATS/1.0";
/// The status that says that nobody subscribed to a request's subject.
pub const NO_RESPONDERS: u16 = 503;

/// Why some bytes are not a header block, or can't become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum HeaderError {
    /// The block doesn't begin with a line `NATS/1.0`.
    Version,
    /// A name is empty, or holds something else than printable ASCII without the colon.
    Name,
    /// A value or a description holds CR or LF.
    Value,
    /// A status code isn't three digits.
    Code,
}

impl core::fmt::Display for HeaderError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Version => "the header block doesn't begin with NATS/1.0",
            Self::Name => "a header name must be printable ASCII without a colon",
            Self::Value => "a header value can't hold a line end",
            Self::Code => "a status code has three digits",
        })
    }
}

impl core::error::Error for HeaderError {}

/// A header block that was received. Only its version line has been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Header<'a> {
    status: &'a [u8],
    fields: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads the version line of `block`, as [`crate::op::Message::header`] gives it.
    pub fn parse(block: &'a [u8]) -> Result<Self, HeaderError> {
        let (line, fields) = next_line(block);
        match line.strip_prefix(VERSION) {
            Some(status @ ([] | [b' ' | b'\t', ..])) => Ok(Self { status: trim(status), fields }),
            _ => Err(HeaderError::Version),
        }
    }

    /// The status of the version line, if it has one.
    pub fn status(&self) -> Option<Status<'a>> {
        let (code, description) = self.status.split_at_checked(3)?;
        let code = code.iter().try_fold(0u16, |code, digit| {
            let digit = u16::from(digit.wrapping_sub(b'0'));
            (digit <= 9).then(|| code.wrapping_mul(10).wrapping_add(digit))
        })?;
        Some(Status { code, description: trim(description) })
    }

    /// The fields in their order.
    pub fn fields(&self) -> Fields<'a> {
        Fields { rest: self.fields }
    }

    /// The first value of the field `name`, case minded.
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.fields().find(|field| field.name == name).map(|field| field.value)
    }

    /// The first value of the field `name`, whatever its case.
    pub fn get_ignoring_case(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.fields().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// All values of the field `name`, case minded.
    pub fn get_all<'n>(&self, name: &'n [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.fields().filter(move |field| field.name == name).map(|field| field.value)
    }
}

/// What a server says instead of a payload: `503 No Responders`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Status<'a> {
    /// Three digits.
    pub code: u16,
    /// The text behind them; may be empty.
    pub description: &'a [u8],
}

/// One line of a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Field<'a> {
    /// In its own case.
    pub name: &'a [u8],
    /// Without white space around it.
    pub value: &'a [u8],
}

impl<'a> Field<'a> {
    /// A field of anything that has bytes. Checked when a [`Block`] is made of it.
    pub fn new(name: &'a (impl AsRef<[u8]> + ?Sized), value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self { name: name.as_ref(), value: value.as_ref() }
    }
}

/// Iterator over the fields of a [`Header`].
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        while !self.rest.is_empty() {
            let (line, rest) = next_line(self.rest);
            self.rest = if line.is_empty() { &[] } else { rest };
            let colon = line.iter().position(|b| *b == b':').unwrap_or(0);
            if let Some((name @ [_, ..], [_, value @ ..])) = line.split_at_checked(colon) {
                return Some(Field { name, value: trim(value) });
            }
        }
        None
    }
}

/// A header block that can be sent: every part of it was checked.
///
/// White space around a value is written, but no reader will see it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Block<'a> {
    status: Option<Status<'a>>,
    fields: &'a [Field<'a>],
}

impl<'a> Block<'a> {
    /// A block of fields, as publishers send it.
    pub fn new(fields: &'a [Field<'a>]) -> Result<Self, HeaderError> {
        for field in fields {
            if field.name.is_empty() || !field.name.iter().all(|b| b.is_ascii_graphic() && *b != b':') {
                return Err(HeaderError::Name);
            }
            if has_line_end(field.value) {
                return Err(HeaderError::Value);
            }
        }
        Ok(Self { status: None, fields })
    }

    /// The same block with a status, as servers send it.
    pub fn with_status(self, status: Status<'a>) -> Result<Self, HeaderError> {
        if !(100..=999).contains(&status.code) {
            return Err(HeaderError::Code);
        }
        if has_line_end(status.description) {
            return Err(HeaderError::Value);
        }
        Ok(Self { status: Some(status), ..self })
    }

    /// Bytes that [`Block::put`] writes.
    pub fn size(&self) -> usize {
        let begin = VERSION.len().saturating_add(CRLF.len()).saturating_add(CRLF.len());
        let status = self.status.map_or(0, |status| match status.description.len() {
            0 => 4,
            description => description.saturating_add(5),
        });
        self.fields.iter().fold(begin.saturating_add(status), |size, field| {
            // A colon, a space, CR LF.
            size.saturating_add(field.name.len()).saturating_add(field.value.len()).saturating_add(4)
        })
    }

    /// Writes the block, with its empty line.
    pub fn put(&self, out: &mut impl Sink) {
        out.put(VERSION);
        if let Some(Status { code, description }) = self.status {
            out.put(b" ");
            out.put(Digits::new(code).as_bytes());
            if !description.is_empty() {
                out.put(b" ");
                out.put(description);
            }
        }
        out.put(CRLF);
        for field in self.fields {
            out.put(field.name);
            out.put(b": ");
            out.put(field.value);
            out.put(CRLF);
        }
        out.put(CRLF);
    }
}

/// The first line without its end, and what follows it.
fn next_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    (line.strip_suffix(b"\r").unwrap_or(line), rest.strip_prefix(b"\n").unwrap_or_default())
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

fn has_line_end(bytes: &[u8]) -> bool {
    bytes.iter().any(|b| matches!(b, b'\r' | b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn written(block: &Block<'_>) -> Vec<u8> {
        let mut buffer = [0; 256];
        let mut out = crate::emit::Slice::new(&mut buffer);
        block.put(&mut out);
        assert_eq!(out.len(), block.size());
        out.written().unwrap().to_vec()
    }

    #[test]
    fn fields_are_read() {
        let header =
            Header::parse(b"NATS/1.0\r\nA:1\r\nB:  two words \t\r\na: 2\r\nA: 3:4\r\nempty:\r\n\r\n")
                .unwrap();
        let fields: Vec<_> = header.fields().map(|f| (f.name, f.value)).collect();
        let expected: [(&[u8], &[u8]); 5] =
            [(b"A", b"1"), (b"B", b"two words"), (b"a", b"2"), (b"A", b"3:4"), (b"empty", b"")];
        assert_eq!(fields, expected);
        assert_eq!(header.get(b"a"), Some(&b"2"[..]));
        assert_eq!(header.get_ignoring_case(b"a"), Some(&b"1"[..]));
        assert_eq!(header.get_all(b"A").count(), 2);
        assert_eq!((header.get(b"C"), header.status()), (None, None));
    }

    #[test]
    fn what_is_no_field_is_passed_over() {
        let header = Header::parse(b"NATS/1.0\nno colon\n: no name\nA: 1\n\nB: behind the end\n").unwrap();
        assert_eq!(header.fields().collect::<Vec<_>>(), [Field::new("A", "1")]);
        assert_eq!(Header::parse(b"NATS/1.0").unwrap().fields().count(), 0);
        assert_eq!(Header::parse(b"NATS/1.0\r\nA: cut").unwrap().get(b"A"), Some(&b"cut"[..]));
    }

    #[test]
    fn status_lines() {
        for (line, status) in [
            ("NATS/1.0 503\r\n\r\n", Some((503, ""))),
            ("NATS/1.0 503 No Responders\r\n\r\n", Some((503, "No Responders"))),
            ("NATS/1.0  404  No Messages \r\n\r\n", Some((404, "No Messages"))),
            ("NATS/1.0 50\r\n\r\n", None),
            ("NATS/1.0 abc\r\n\r\n", None),
            ("NATS/1.0\r\n\r\n", None),
        ] {
            let seen = Header::parse(line.as_bytes()).unwrap().status();
            assert_eq!(
                seen.map(|s| (s.code, core::str::from_utf8(s.description).unwrap())),
                status,
                "{line}"
            );
        }
        for bad in ["", "NATS/1.01\r\n\r\n", "HTTP/1.0\r\n\r\n", "NATS", "nats/1.0\r\n"] {
            assert_eq!(Header::parse(bad.as_bytes()), Err(HeaderError::Version), "{bad}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let fields = [Field::new("Nats-Msg-Id", "7"), Field::new("a", ""), Field::new("a", b"\xff: x")];
        let block = Block::new(&fields).unwrap();
        let bytes = written(&block);
        assert_eq!(bytes, b"NATS/1.0\r\nNats-Msg-Id: 7\r\na: \r\na: \xff: x\r\n\r\n");
        assert_eq!(Header::parse(&bytes).unwrap().fields().collect::<Vec<_>>(), fields);

        let status = Status { code: 503, description: b"No Responders" };
        let bytes = written(&block.with_status(status).unwrap());
        assert_eq!(Header::parse(&bytes).unwrap().status(), Some(status));
    }

    #[test]
    fn nothing_can_be_smuggled_in() {
        for name in ["", "a b", "a:", "a\r", "a\n", "é", "\u{7f}"] {
            assert_eq!(Block::new(&[Field::new(name, "")]).unwrap_err(), HeaderError::Name, "{name:?}");
        }
        for value in ["\r", "\n", "a\r\nB: c"] {
            assert_eq!(Block::new(&[Field::new("a", value)]).unwrap_err(), HeaderError::Value, "{value:?}");
        }
        let block = Block::new(&[]).unwrap();
        let status = |code, description| block.with_status(Status { code, description });
        assert_eq!(status(99, b"").unwrap_err(), HeaderError::Code);
        assert_eq!(status(1000, b"").unwrap_err(), HeaderError::Code);
        assert_eq!(status(503, b"\r\n").unwrap_err(), HeaderError::Value);
    }
}
