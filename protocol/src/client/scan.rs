//! INFO as it passes, in memory that doesn't depend on its length.
//!
//! It finds the members of the top level that a client acts on. It is no judge of JSON: nested values are passed over
//! by their brackets, and names are told apart by a hash of 32 bits. A caller that wants all of INFO, checked, has
//! [`crate::info`] for one that fits its buffer.

use super::Server;

/// Reads the argument of INFO byte by byte.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    state: State,
    depth: u8,
    in_text: bool,
    is_escaped: bool,
    /// The colon behind `name` has passed.
    in_value: bool,
    /// The hash of the member's name.
    name: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Begin,
    Inside,
    Done,
    Broken,
}

impl Scan {
    /// True if one object was there, and nothing else.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads the next byte and notes in `server` what it finds.
    #[inline(never)]
    pub(super) fn byte(&mut self, byte: u8, server: &mut Server) {
        if self.in_text {
            if byte == b'"' && !self.is_escaped {
                self.in_text = false;
            } else {
                self.is_escaped = byte == b'\\' && !self.is_escaped;
                self.character(byte, server);
            }
            return;
        }
        if byte <= b' ' {
            return;
        }
        if self.state != State::Inside {
            let begins = self.state == State::Begin && byte == b'{';
            (self.state, self.depth) = (if begins { State::Inside } else { State::Broken }, 1);
            return;
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => match self.depth.checked_add(1) {
                Some(depth) => self.depth = depth,
                None => self.state = State::Broken,
            },
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.state = if byte == b'}' { State::Done } else { State::Broken };
                }
            }
            b',' if self.depth == 1 => (self.in_value, self.name) = (false, 0),
            b':' if self.depth == 1 => self.in_value = true,
            _ => self.character(byte, server),
        }
    }

    /// A character of a name or of a value.
    fn character(&mut self, byte: u8, server: &mut Server) {
        if self.depth != 1 {
            return;
        }
        if !self.in_value {
            self.name = hash(self.name, byte);
            return;
        }
        let flag = match self.name {
            HEADERS => &mut server.headers,
            AUTH_REQUIRED => &mut server.auth_required,
            TLS_REQUIRED => &mut server.tls_required,
            TLS_AVAILABLE => &mut server.tls_available,
            LAME_DUCK => &mut server.lame_duck,
            MAX_PAYLOAD => return server.max_payload_digit(byte),
            NONCE if self.in_text => return server.nonce.push(byte),
            _ => return,
        };
        // The first character of true; those of false are others.
        *flag |= byte == b't' && !self.in_text;
    }
}

const HEADERS: u32 = hash_of(b"headers");
const AUTH_REQUIRED: u32 = hash_of(b"auth_required");
const TLS_REQUIRED: u32 = hash_of(b"tls_required");
const TLS_AVAILABLE: u32 = hash_of(b"tls_available");
const LAME_DUCK: u32 = hash_of(b"ldm");
const MAX_PAYLOAD: u32 = hash_of(b"max_payload");
const NONCE: u32 = hash_of(b"nonce");

/// FNV-1, begun with 0. Among the names that nats-server has, no two have the same.
pub(super) const fn hash(hash: u32, byte: u8) -> u32 {
    hash.wrapping_mul(0x0100_0193) ^ byte as u32
}

/// Of a text in lower case.
pub(super) const fn hash_of(mut name: &[u8]) -> u32 {
    let mut sum = 0;
    while let [byte, rest @ ..] = name {
        sum = hash(sum, byte.to_ascii_lowercase());
        name = rest;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(json: &str) -> Option<Server> {
        let (mut scan, mut server) = (Scan::default(), Server::default());
        json.bytes().for_each(|byte| scan.byte(byte, &mut server));
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
        assert_eq!((server.max_payload(), server.headers), (1024, false));
        assert!(server.auth_required && server.tls_available && server.lame_duck && !server.tls_required);
        assert_eq!(server.nonce.bytes(), b"abcdefghijklmno");
        assert_eq!(scan("{}"), Some(Server::default()));
        assert!(scan(r#"{"a":[1],"headers":true}"#).unwrap().headers);
        assert!(!scan(r#"{"headers":"true","a":"\\","x\"":1}"#).unwrap().headers);
        assert_eq!(scan(r#"{"max_payload":99999999999}"#).unwrap().max_payload(), u32::MAX);
        assert_eq!(scan(r#"{"max_payload":-1}"#).unwrap().max_payload(), u32::MAX);
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

    #[test]
    fn names_have_hashes_of_their_own() {
        // All members of INFO that nats-server 2.15.1 knows.
        let names = "server_id server_name version proto git_commit go host port headers auth_required tls_required \
            tls_verify tls_available max_payload jetstream ip client_id client_ip nonce cluster cluster_dynamic domain \
            connect_urls ws_connect_urls ldm compression connect_info remote_account acc_is_sys api_lvl xkey midge import export \
            lnoc lnocu info_on_connect routes_config gateway gateway_url gateway_urls gateway_cmd leafnode_urls feature_flags";
        let hashes: std::collections::BTreeSet<_> =
            names.split_whitespace().map(|name| hash_of(name.as_bytes())).collect();
        assert_eq!(hashes.len(), names.split_whitespace().count());
        assert!(!hashes.contains(&0));
    }
}
