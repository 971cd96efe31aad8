//! CONNECT as a client writes it.

use super::Server;
use crate::emit::Sink;

/// Who a client says it is. What is `None` is left out; a server takes its pick of the rest.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Login<'a> {
    /// The client's own name, for the server's monitoring.
    pub name: Option<&'a str>,
    /// User name.
    pub user: Option<&'a str>,
    /// Password.
    pub password: Option<&'a str>,
    /// Token.
    pub token: Option<&'a str>,
    /// Public nkey.
    pub nkey: Option<&'a str>,
    /// Signature of [`Server::nonce`] by that key, base64url without padding.
    pub signature: Option<&'a str>,
    /// User JWT.
    pub jwt: Option<&'a str>,
    /// Don't deliver this client's own messages to it.
    pub no_echo: bool,
    /// Understands no headers, so the server strips them; nor is it told when nobody answers.
    pub no_headers: bool,
}

impl<'a> Login<'a> {
    /// With a user's name and password.
    pub const fn user(user: &'a str, password: &'a str) -> Self {
        Self { user: Some(user), password: Some(password), ..Self::ANONYMOUS }
    }

    /// With a token.
    pub const fn token(token: &'a str) -> Self {
        Self { token: Some(token), ..Self::ANONYMOUS }
    }

    /// With nothing.
    pub const ANONYMOUS: Self = Self {
        name: None,
        user: None,
        password: None,
        token: None,
        nkey: None,
        signature: None,
        jwt: None,
        no_echo: false,
        no_headers: false,
    };

    /// Writes CONNECT, whole.
    #[inline(never)]
    pub(super) fn write(&self, server: &Server, out: &mut impl Sink) {
        out.put(BEGIN);
        // A server that takes no headers refuses a client that wants what needs them.
        if server.headers() && !self.no_headers {
            out.put(b",\"headers\":true,\"no_responders\":true");
        }
        if self.no_echo {
            out.put(b",\"echo\":false");
        }
        member(",\"name\":\"", self.name, out);
        member(",\"user\":\"", self.user, out);
        member(",\"pass\":\"", self.password, out);
        member(",\"auth_token\":\"", self.token, out);
        member(",\"nkey\":\"", self.nkey, out);
        member(",\"sig\":\"", self.signature, out);
        member(",\"jwt\":\"", self.jwt, out);
        out.put(b"}\r\n");
    }
}

/// Only the names: the rest is secret, or long.
impl core::fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Login").field("name", &self.name).field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Login<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Login {{ name: {}, user: {}, .. }}", self.name, self.user);
    }
}

/// Without headers a server assumes none, and no wish to hear of requests that nobody takes.
const BEGIN: &[u8] = concat!(
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1,\"lang\":\"rust\",\"version\":\"",
    env!("CARGO_PKG_VERSION"),
    "\""
)
.as_bytes();

/// A member of JSON: `begin` goes up to the first quote of its value.
#[inline(never)]
fn member(begin: &str, value: Option<&str>, out: &mut impl Sink) {
    let Some(value) = value else { return };
    out.put(begin.as_bytes());
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => out.put(&[b'\\', byte]),
            0..b' ' => {
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                out.put(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
            byte => out.put(&[byte]),
        }
    }
    out.put(b"\"");
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::Connect;

    /// CONNECT as a server reads it.
    fn read(login: &Login<'_>, server: &Server, test: impl FnOnce(Connect<'_>)) {
        let mut buffer = [0; 512];
        let mut out = crate::emit::Slice::new(&mut buffer);
        login.write(server, &mut out);
        let written = out.written().unwrap();
        let json = written.strip_prefix(b"CONNECT ").unwrap().strip_suffix(b"\r\n").unwrap();
        test(Connect::parse(json).unwrap());
    }

    #[test]
    fn secrets_stay_secret() {
        let login = Login { name: Some("attic"), jwt: Some("x.y"), ..Login::user("u", "secret") };
        assert_eq!(std::format!("{login:?}"), "Login { name: Some(\"attic\"), user: Some(\"u\"), .. }");
    }

    #[test]
    fn what_is_written_a_server_can_read() {
        let mut with_headers = Server::default();
        with_headers.flags |= 1 << super::super::server::HEADERS;
        let login = Login { name: Some("attic \"7\"\n\\é"), no_echo: true, ..Login::user("u", "p\u{1f}") };
        read(&login, &with_headers, |connect| {
            assert!(connect.name.unwrap().eq_str("attic \"7\"\n\\é"));
            assert!(connect.user.unwrap().eq_str("u") && connect.pass.unwrap().eq_str("p\u{1f}"));
            assert_eq!(
                (connect.headers, connect.no_responders, connect.echo),
                (Some(true), Some(true), Some(false))
            );
            assert_eq!(
                (connect.verbose, connect.pedantic, connect.protocol),
                (Some(false), Some(false), Some(1))
            );
            assert_eq!((connect.auth_token, connect.nkey, connect.jwt), (None, None, None));
        });
        read(&Login::token("t"), &Server::default(), |connect| {
            assert!(connect.auth_token.unwrap().eq_str("t"));
            assert_eq!((connect.headers, connect.no_responders, connect.echo), (None, None, None));
        });
        let keyed = Login { nkey: Some("UA"), signature: Some("s"), no_headers: true, ..Login::ANONYMOUS };
        read(&keyed, &with_headers, |connect| {
            assert!(connect.nkey.unwrap().eq_str("UA") && connect.sig.unwrap().eq_str("s"));
            assert_eq!(connect.headers, None);
        });
    }
}
