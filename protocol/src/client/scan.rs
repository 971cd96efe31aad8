//! INFO as it passes, in memory that doesn't depend on its length.
//!
//! It finds the members of the top level that a client acts on. It is no judge of JSON: nested values are passed over
//! by their brackets, and names are told apart by a hash of 32 bits. A caller that wants all of INFO, checked, has
//! [`crate::info`] for one that fits its buffer.

use super::Server;

/// Reads the argument of INFO byte by byte.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Scan {
    /// Brackets that are open, or [`DONE`], or [`BROKEN`]; 0: nothing has come yet.
    depth: u8,
    in_text: bool,
    is_escaped: bool,
    /// The colon behind the name has passed.
    in_value: bool,
    /// Of the server's id, of the number that it has given this client, and of the member's name; 0: none.
    hashes: [u32; 3],
}

const DONE: u8 = u8::MAX - 1;
const BROKEN: u8 = u8::MAX;
/// The place of the member's name among the hashes.
const NAME: usize = 2;

impl Scan {
    /// True if one object was there, and nothing else.
    pub(super) fn is_done(&self) -> bool {
        self.depth == DONE
    }

    /// True if nothing but white space has come yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.depth == 0
    }

    /// Hashes of the server's id and of the number that it has given this client; 0: none.
    pub(super) fn names(&self) -> [u32; 2] {
        let [server, client, _] = self.hashes;
        [server, client]
    }

    /// Reads the next byte and notes in `server` what it finds.
    #[inline(never)]
    pub(super) fn byte(&mut self, byte: u8, server: &mut Server) {
        if self.in_text {
            if byte == b'"' && !self.is_escaped {
                self.in_text = false;
                return;
            }
            self.is_escaped = byte == b'\\' && !self.is_escaped;
        } else if byte <= b' ' {
            return;
        } else if self.depth == 0 || self.depth >= DONE {
            self.depth = if self.depth == 0 && byte == b'{' { 1 } else { BROKEN };
            return;
        } else {
            // Brackets differ from braces in one bit, which the others have.
            match byte | 0x20 {
                b'"' => {
                    self.in_text = true;
                    return;
                }
                // Deeper than that is BROKEN, too, if only by one.
                b'{' => {
                    self.depth = self.depth.wrapping_add(1);
                    return;
                }
                b'}' => {
                    self.depth = self.depth.wrapping_sub(1);
                    if self.depth == 0 {
                        self.depth = if byte == b'}' { DONE } else { BROKEN };
                    }
                    return;
                }
                b',' if self.depth == 1 => {
                    (self.in_value, self.hashes[NAME]) = (false, 0);
                    return;
                }
                b':' if self.depth == 1 => {
                    self.in_value = true;
                    return;
                }
                _ => {}
            }
        }
        if self.depth == 1 {
            self.character(byte, server);
        }
    }

    /// A character of a name or of a value.
    #[inline]
    fn character(&mut self, byte: u8, server: &mut Server) {
        let mut place = NAME;
        if self.in_value {
            let Some(name) = NAMES.iter().position(|name| *name == self.hashes[NAME]) else { return };
            match name {
                NONCE => return server.nonce.push(byte),
                MAX_PAYLOAD => return server.max_payload_digit(byte),
                SERVER_ID | CLIENT_ID => place = name & 1,
                // The first character of true; those of false are others.
                flag => {
                    if byte == b't' && !self.in_text {
                        server.flags |= 1 << flag;
                    }
                    return;
                }
            }
        }
        if let Some(part) = self.hashes.get_mut(place) {
            *part = hash(*part, byte);
        }
    }
}

/// The members that count, as hashes of their names. The first ones are flags, in the order of their bits: `server::HEADERS` and
/// those behind it.
const NAMES: [u32; 9] = [
    hash_of(b"headers"),
    hash_of(b"auth_required"),
    hash_of(b"tls_required"),
    hash_of(b"tls_available"),
    hash_of(b"ldm"),
    hash_of(b"max_payload"),
    hash_of(b"server_id"),
    hash_of(b"client_id"),
    hash_of(b"nonce"),
];
const MAX_PAYLOAD: usize = 5;
const SERVER_ID: usize = 6;
const CLIENT_ID: usize = 7;
const NONCE: usize = 8;

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
        assert_eq!((server.max_payload(), server.headers()), (1024, false));
        assert!(server.auth_required() && server.tls_available() && server.lame_duck());
        assert!(!server.tls_required());
        assert_eq!(server.nonce.bytes(), b"abcdefghijklmno");
        assert_eq!(scan("{}"), Some(Server::default()));
        for (name, is_set) in [
            ("headers", Server::headers as fn(&Server) -> bool),
            ("auth_required", Server::auth_required),
            ("tls_required", Server::tls_required),
            ("tls_available", Server::tls_available),
            ("ldm", Server::lame_duck),
        ] {
            let server = scan(&std::format!("{{\"a\":[1],\"{name}\":true}}")).unwrap();
            assert!(is_set(&server) && server.flags.count_ones() == 1, "{name}");
        }
        assert!(!scan(r#"{"headers":"true","a":"\\","x\"":1}"#).unwrap().headers());
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
