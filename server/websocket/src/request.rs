//! What a peer asks for before there are frames: one HTTP request, and its answer.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Encoder;

/// A request is no longer than this.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// It has no more headers.
const HEADERS_MAX: usize = 96;
/// What a key is hashed with. Source: RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const EXTENSION: &str = "permessage-deflate";

/// How requests are judged.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Messages may be compressed.
    pub compression: bool,
    /// Browsers come only from pages of this listener.
    pub same_origin: bool,
    /// Browsers come only from pages of these; empty: of any.
    pub allowed_origins: Vec<String>,
    /// Connections are encrypted.
    pub secure: bool,
    /// Lines for the answer, each with its end.
    pub headers: String,
    /// The names of cookies whose values are credentials; empty: there is none.
    pub cookies: Cookies,
}

/// Cookies that carry credentials: their names, or their values. Empty: none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Cookies {
    /// A user's token.
    pub jwt: String,
    /// A user's name.
    pub user: String,
    /// A password.
    pub pass: String,
    /// A token that all share.
    pub token: String,
}

impl std::fmt::Debug for Cookies {
    /// Never a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookies")
    }
}

/// A request that was granted.
#[derive(Debug)]
pub struct Upgrade {
    /// What the peer is told.
    pub answer: Vec<u8>,
    /// How it wants its frames.
    pub encoder: Encoder,
    /// It masks its own.
    pub masked: bool,
    /// Where a proxy says that it comes from.
    pub forwarded_for: String,
    /// The credentials that it brought.
    pub cookies: Cookies,
}

/// Why a request was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP's code.
    pub status: u16,
    /// For the log.
    pub reason: String,
}

impl Refusal {
    fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }

    /// What the peer is told. Source: nats-server's `wsReturnHTTPError`.
    pub fn answer(&self) -> Vec<u8> {
        let text = match self.status {
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            _ => "Bad Request",
        };
        let (status, length) = (self.status, text.len() + 1);
        format!(
            "HTTP/1.1 {status} {text}\r\nContent-Type: text/plain; charset=utf-8\r\nSec-Websocket-Version: 13\r\n\
             X-Content-Type-Options: nosniff\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}\n"
        )
        .into_bytes()
    }
}

/// A request that came whole.
#[derive(Debug)]
pub struct Request<'a> {
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Request<'a> {
    /// Reads a request from the start of `input`, and how long it is. `None`: it isn't whole.
    pub fn read(input: &'a [u8]) -> Result<Option<(Self, usize)>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(input) {
            Ok(httparse::Status::Complete(length)) => {
                let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
                let headers = request.headers.iter().map(|header| (header.name, header.value)).collect();
                Ok(Some((Self { method, path, headers }, length)))
            }
            Ok(httparse::Status::Partial) if input.len() < HEAD_BYTES_MAX => Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                Err(Refusal::new(431, "the request is too long"))
            }
            Err(error) => Err(Refusal::new(400, error.to_string())),
        }
    }

    /// Grants the request, or says why not. Source: RFC 6455, section 4.2.1, in nats-server's order.
    pub fn judge(&self, policy: &Policy) -> Result<Upgrade, Refusal> {
        let bad = |reason: &str| Err(Refusal::new(400, reason));
        let path = self.path.split(['?', '#']).next().unwrap_or_default();
        if path.ends_with("/mqtt") {
            return Err(Refusal::new(404, "mqtt websocket endpoint not enabled"));
        }
        if path.ends_with("/leafnode") {
            return Err(Refusal::new(404, "Not configured to accept leaf node connections"));
        }
        if self.method != "GET" {
            return Err(Refusal::new(405, "request method must be GET"));
        }
        let host = self.text("Host");
        if host.is_empty() {
            return bad("'Host' missing in request");
        }
        if !self.lists("Upgrade", "websocket") {
            return bad("invalid value for header 'Upgrade'");
        }
        if !self.lists("Connection", "Upgrade") {
            return bad("invalid value for header 'Connection'");
        }
        let key = self.text("Sec-WebSocket-Key");
        if key.is_empty() {
            return bad("key missing");
        }
        if STANDARD.decode(key).map(|key| key.len()) != Ok(16) {
            return bad("invalid websocket key");
        }
        if !self.lists("Sec-WebSocket-Version", "13") {
            return bad("invalid version");
        }
        if let Err(why) = self.check_origin(host, policy) {
            return Err(Refusal::new(403, format!("origin not allowed: {why}")));
        }
        let compressed = policy.compression && self.asks_for_compression();
        let unmasked = self.text("Nats-No-Masking") == "true";
        let mut answer = String::from(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
        );
        answer.push_str(&accept(key));
        answer.push_str("\r\n");
        if compressed {
            let _ = write!(
                answer,
                "Sec-WebSocket-Extensions: {EXTENSION}; server_no_context_takeover; client_no_context_takeover\r\n"
            );
        }
        if unmasked {
            answer.push_str("Nats-No-Masking: true\r\n");
        }
        answer.push_str(&policy.headers);
        answer.push_str("\r\n");
        let forwarded = self.text("X-Forwarded-For");
        Ok(Upgrade {
            answer: answer.into_bytes(),
            encoder: Encoder { compressed, browser: self.text("User-Agent").starts_with("Mozilla/") },
            masked: !unmasked,
            forwarded_for: forwarded.parse::<std::net::IpAddr>().map(|ip| ip.to_string()).unwrap_or_default(),
            cookies: self.cookies(&policy.cookies),
        })
    }

    /// The values of all headers of this name.
    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(header, _)| header.eq_ignore_ascii_case(name))
            .filter_map(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The value of the first header of this name; empty if there is none.
    fn text(&self, name: &str) -> &'a str {
        self.all(name).next().unwrap_or_default()
    }

    /// Whether `word` stands in the lists of this name.
    fn lists(&self, name: &str, word: &str) -> bool {
        self.all(name).flat_map(|list| list.split(',')).any(|it| it.trim().eq_ignore_ascii_case(word))
    }

    fn asks_for_compression(&self) -> bool {
        let extensions = self.all("Sec-WebSocket-Extensions").flat_map(|list| list.split(','));
        extensions
            .flat_map(|extension| extension.split(';'))
            .any(|it| it.trim().eq_ignore_ascii_case(EXTENSION))
    }

    fn cookies(&self, names: &Cookies) -> Cookies {
        let mut found = Cookies::default();
        for pair in self.all("Cookie").flat_map(|line| line.split(';')) {
            let Some((name, value)) = pair.trim().split_once('=') else { continue };
            let value = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value);
            let sound = |byte: u8| (0x20..0x7f).contains(&byte) && !matches!(byte, b'"' | b';' | b'\\');
            if name.is_empty() || !value.bytes().all(sound) {
                continue;
            }
            for (wanted, slot) in [
                (&names.jwt, &mut found.jwt),
                (&names.user, &mut found.user),
                (&names.pass, &mut found.pass),
                (&names.token, &mut found.token),
            ] {
                if wanted == name {
                    value.clone_into(slot);
                    break;
                }
            }
        }
        found
    }

    /// Whether a browser may come from the page that it comes from; everybody else may come.
    fn check_origin(&self, host: &str, policy: &Policy) -> Result<(), String> {
        if !policy.same_origin && policy.allowed_origins.is_empty() {
            return Ok(());
        }
        let given = [self.text("Origin"), self.text("Sec-WebSocket-Origin")];
        let Some(given) = given.into_iter().find(|origin| !origin.is_empty()) else { return Ok(()) };
        let origin = Origin::read(given)?;
        if policy.same_origin {
            let scheme = if policy.secure { "https" } else { "http" };
            if Origin::read(&format!("{scheme}://{host}"))? != origin {
                return Err("not same origin".into());
            }
        }
        let mut allowed = policy.allowed_origins.iter();
        if !policy.allowed_origins.is_empty() && !allowed.any(|it| Origin::read(it).as_ref() == Ok(&origin)) {
            return Err("not in the allowed list".into());
        }
        Ok(())
    }
}

/// Where a page comes from.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: String,
}

impl Origin {
    fn read(text: &str) -> Result<Self, String> {
        let invalid = || format!("parse {text:?}: invalid URI for request");
        let (scheme, rest) = text.split_once(':').ok_or_else(invalid)?;
        let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(sound) {
            return Err(invalid());
        }
        let scheme = scheme.to_ascii_lowercase();
        let place =
            rest.strip_prefix("//").map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
        let place =
            place.map(|place| place.rsplit_once('@').map_or(place, |(_, place)| place)).unwrap_or_default();
        let default = if scheme == "https" { "443" } else { "80" };
        let (host, port) = match (place.strip_prefix('['), place.rsplit_once(':')) {
            (Some(inside), _) => {
                let (host, after) = inside.split_once(']').ok_or_else(invalid)?;
                // Without a port, the brackets stay: that is how the other side is read, too.
                match after.strip_prefix(':') {
                    Some(port) => (host, port),
                    None => (host, default),
                }
            }
            (None, Some((host, port))) if !host.contains(':') => (host, port),
            (None, Some(_)) => return Err(format!("address {place}: too many colons in address")),
            (None, None) => (place, default),
        };
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port: port.to_owned() })
    }
}

/// What proves that a request was understood. Source: RFC 6455, section 4.2.2.
fn accept(key: &str) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(GUID);
    STANDARD.encode(context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "GET / HTTP/1.1\r\nHost: h:80\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

    fn ask(head: &str, policy: &Policy) -> Result<Upgrade, Refusal> {
        let text = format!("{head}\r\n");
        let (request, length) = Request::read(text.as_bytes())?.expect("it is whole");
        assert_eq!(length, text.len());
        request.judge(policy)
    }

    fn granted(more: &str, policy: &Policy) -> Upgrade {
        ask(&format!("{HEAD}{more}"), policy).unwrap()
    }

    fn refused(head: &str, policy: &Policy) -> (u16, String) {
        let refusal = ask(head, policy).unwrap_err();
        (refusal.status, refusal.reason)
    }

    #[test]
    fn the_specifications_example() {
        let policy = Policy { headers: "X-A: b\r\n".into(), ..Policy::default() };
        let upgrade = granted("", &policy);
        assert_eq!(
            String::from_utf8(upgrade.answer).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-A: b\r\n\r\n"
        );
        assert!(upgrade.masked);
    }

    #[test]
    fn each_point_is_looked_at() {
        let policy = Policy::default();
        for (from, to, status, reason) in [
            ("GET", "POST", 405, "request method must be GET"),
            ("Host: h:80\r\n", "", 400, "'Host' missing in request"),
            ("Upgrade: websocket", "Upgrade: h2c", 400, "invalid value for header 'Upgrade'"),
            ("keep-alive, Upgrade", "close", 400, "invalid value for header 'Connection'"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "", 400, "key missing"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400, "invalid websocket key"),
            ("Version: 13", "Version: 8", 400, "invalid version"),
            ("GET /", "GET /mqtt", 404, "mqtt websocket endpoint not enabled"),
            ("GET /", "GET /leafnode", 404, "Not configured to accept leaf node connections"),
        ] {
            assert_eq!(refused(&HEAD.replacen(from, to, 1), &policy), (status, reason.into()));
        }
    }

    #[test]
    fn heads_that_are_no_heads() {
        assert!(Request::read(b"GET / HT").unwrap().is_none());
        assert_eq!(Request::read(b"CONNECT {}\r\n").unwrap_err().status, 400);
        let long = format!("{HEAD}X: {}", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(Request::read(long.as_bytes()).unwrap_err().status, 431);
        let many = format!("{HEAD}{}\r\n", "X: y\r\n".repeat(HEADERS_MAX));
        assert_eq!(Request::read(many.as_bytes()).unwrap_err().status, 431);
    }

    #[test]
    fn browsers_come_from_where_they_may() {
        let same = Policy { same_origin: true, ..Policy::default() };
        let listed = Policy {
            allowed_origins: vec!["https://a.b".into(), "http://c:8080".into()],
            ..Policy::default()
        };
        for (policy, origin, may) in [
            (&same, "http://H", true),
            (&same, "http://h:80/page", true),
            (&same, "https://h:80", false),
            (&same, "http://h:81", false),
            (&same, "null", false),
            (&listed, "https://A.B:443", true),
            (&listed, "http://c:8080", true),
            (&listed, "http://c", false),
            (&listed, "http://a.b:443", false),
        ] {
            let result = ask(&format!("{HEAD}Origin: {origin}\r\n"), policy);
            assert_eq!(result.is_ok(), may, "{origin}");
        }
        assert_eq!(
            refused(&format!("{HEAD}Origin: http://x\r\n"), &same),
            (403, "origin not allowed: not same origin".into())
        );
        granted("", &listed);
    }

    #[test]
    fn origins_that_are_no_addresses() {
        assert!(Origin::read("https://[::1]:1").is_ok());
        assert!(Origin::read("a.b").unwrap_err().contains("invalid URI"));
        assert!(Origin::read("http://a:b:c").unwrap_err().contains("too many colons"));
    }

    #[test]
    fn peers_get_what_they_ask_for_and_we_have() {
        let asks = "Sec-WebSocket-Extensions: x, permessage-deflate; client_max_window_bits\r\nUser-Agent: Mozilla/5\r\n";
        assert!(!granted(asks, &Policy::default()).encoder.compressed);
        let upgrade = granted(asks, &Policy { compression: true, ..Policy::default() });
        assert_eq!(upgrade.encoder, Encoder { compressed: true, browser: true });
        let answer = String::from_utf8(upgrade.answer).unwrap();
        assert!(
            answer
                .contains(": permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n")
        );
        let upgrade = granted("Nats-No-Masking: true\r\nX-Forwarded-For: 192.0.2.7\r\n", &Policy::default());
        assert!(!upgrade.masked);
        assert_eq!(upgrade.forwarded_for, "192.0.2.7");
        assert!(String::from_utf8(upgrade.answer).unwrap().contains("\r\nNats-No-Masking: true\r\n"));
        assert_eq!(granted("X-Forwarded-For: a, b\r\n", &Policy::default()).forwarded_for, "");
    }

    #[test]
    fn cookies_are_credentials_by_name() {
        let names = Cookies { jwt: "j".into(), user: "u".into(), ..Cookies::default() };
        let policy = Policy { cookies: names, ..Policy::default() };
        let found = granted("Cookie: x=1; j=eyJ.a-b; u=\"me\"\r\nCookie: p=2\r\n", &policy).cookies;
        assert!(found == Cookies { jwt: "eyJ.a-b".into(), user: "me".into(), ..Cookies::default() });
        assert!(granted("Cookie: j; =1; u=a\\b\r\n", &policy).cookies == Cookies::default());
    }
}
