//! INFO as it passes, in memory that doesn't depend on its length.
//!
//! It finds the members of the top level that a client acts on. It is no judge of JSON: nested values are passed over
//! by their brackets. A caller that wants all of INFO, checked, has [`crate::info`] for one that fits its buffer.

use super::Server;

/// Reads the argument of INFO byte by byte.
#[derive(Clone, Debug, Default)]
pub(super) struct Scan {
    depth: u8,
    state: State,
    in_text: bool,
    escaped: bool,
    key: Option<Key>,
    word: Word,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Begin,
    Inside,
    Done,
    Broken,
}

/// The members that matter.
#[derive(Clone, Copy, Debug)]
enum Key {
    MaxPayload,
    Headers,
    AuthRequired,
    TlsRequired,
    TlsAvailable,
    LameDuck,
    Nonce,
}

impl Scan {
    /// Reads on and notes in `server` what it finds.
    pub(super) fn read(&mut self, json: &[u8], server: &mut Server) {
        for byte in json {
            self.byte(*byte, server);
        }
    }

    /// True if one object was there, and nothing else.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn byte(&mut self, byte: u8, server: &mut Server) {
        if self.in_text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_text = false;
                    return;
                }
                _ => {}
            }
            return self.word.push(byte);
        }
        match (self.state, byte) {
            (_, b' ' | b'\t' | b'\r' | b'\n') => {}
            (State::Begin, b'{') => (self.state, self.depth) = (State::Inside, 1),
            (State::Inside, b'{' | b'[') => match self.depth.checked_add(1) {
                Some(depth) => self.depth = depth,
                None => self.state = State::Broken,
            },
            (State::Inside, b'}' | b']') => {
                self.end_member(server);
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.state = if byte == b'}' { State::Done } else { State::Broken };
                }
            }
            (State::Inside, b',') => self.end_member(server),
            (State::Inside, b':') if self.depth == 1 => {
                self.key = Key::named(self.word.bytes());
                self.word.clear();
            }
            (State::Inside, b'"') => {
                self.in_text = true;
                self.word.clear();
            }
            (State::Inside, _) => self.word.push(byte),
            (State::Begin | State::Done | State::Broken, _) => self.state = State::Broken,
        }
    }

    fn end_member(&mut self, server: &mut Server) {
        let key = if self.depth == 1 { self.key.take() } else { None };
        let word = self.word.bytes();
        let set = word == b"true";
        match key {
            Some(Key::MaxPayload) => {
                // Zero, or no number: the server names no limit.
                let size = word.iter().try_fold(0u32, |size, digit| {
                    let digit = digit.wrapping_sub(b'0');
                    (digit <= 9).then(|| size.saturating_mul(10).saturating_add(u32::from(digit)))
                });
                server.max_payload = size.filter(|size| *size > 0).unwrap_or(u32::MAX);
            }
            Some(Key::Headers) => server.headers = set,
            Some(Key::AuthRequired) => server.auth_required = set,
            Some(Key::TlsRequired) => server.tls_required = set,
            Some(Key::TlsAvailable) => server.tls_available = set,
            Some(Key::LameDuck) => server.lame_duck = set,
            Some(Key::Nonce) => server.nonce = self.word,
            None => {}
        }
        self.word.clear();
    }
}

impl Key {
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"max_payload" => Self::MaxPayload,
            b"headers" => Self::Headers,
            b"auth_required" => Self::AuthRequired,
            b"tls_required" => Self::TlsRequired,
            b"tls_available" => Self::TlsAvailable,
            b"ldm" => Self::LameDuck,
            b"nonce" => Self::Nonce,
            _ => return None,
        })
    }
}

/// A short text: a name, a number, a nonce. A longer one counts as none.
pub(super) type Word = super::server::Nonce;

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(json: &str) -> Option<Server> {
        let (mut scan, mut server) = (Scan::default(), Server::default());
        scan.read(json.as_bytes(), &mut server);
        scan.is_done().then_some(server)
    }

    #[test]
    fn members_of_the_top_level_count() {
        let server = scan(
            r#" {"server_id":"a\"headers\":true","x":{"headers":true,"y":["]}"]},"connect_urls":["a:1","b:2"],
            "max_payload" : 1024 ,"auth_required":true,"tls_required":false,"tls_available":true,"ldm":true,
            "nonce":"abcdefghijklmno"} "#,
        )
        .unwrap();
        assert_eq!((server.max_payload, server.headers), (1024, false));
        assert!(server.auth_required && server.tls_available && server.lame_duck && !server.tls_required);
        assert_eq!(server.nonce.bytes(), b"abcdefghijklmno");
        assert_eq!(scan("{}"), Some(Server::default()));
        assert!(scan(r#"{"a":[1],"headers":true}"#).unwrap().headers);
        assert_eq!(scan(r#"{"max_payload":99999999999}"#).unwrap().max_payload, u32::MAX);
        assert_eq!(scan(r#"{"max_payload":-1}"#).unwrap().max_payload, u32::MAX);
    }

    #[test]
    fn what_is_too_long_counts_as_none() {
        let server = scan(&std::format!(r#"{{"nonce":"{}"}}"#, "n".repeat(25))).unwrap();
        assert_eq!(server.nonce.bytes(), b"");
    }

    #[test]
    fn one_object_is_asked_for() {
        for bad in ["", "{", "x", "[]", "{}}", "{}x", r#"{"a""#, r#"{"a":"}"#] {
            assert_eq!(scan(bad), None, "{bad}");
        }
        assert_eq!(scan(&"{".repeat(300)), None);
    }
}
