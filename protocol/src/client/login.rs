//! CONNECT as a client writes it.

use super::Server;
use crate::emit::Sink;

/// Who a client says it is: [`Login::ANONYMOUS`], or one that it was made into. A server takes its pick of what is there.
///
/// ```
/// use midge_protocol::client::Login;
///
/// static LOGIN: Login<'_> = Login::user("sensor", "secret").named("attic");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Login<'a> {
    /// In the order of [`MEMBERS`].
    members: [Option<&'a str>; 7],
    no_echo: bool,
    no_headers: bool,
}

impl<'a> Login<'a> {
    /// With nothing.
    pub const ANONYMOUS: Self = Self { members: [None; 7], no_echo: false, no_headers: false };

    /// With a user's name and password.
    pub const fn user(user: &'a str, password: &'a str) -> Self {
        let mut login = Self::ANONYMOUS;
        (login.members[1], login.members[2]) = (Some(user), Some(password));
        login
    }

    /// With a token.
    pub const fn token(token: &'a str) -> Self {
        let mut login = Self::ANONYMOUS;
        login.members[3] = Some(token);
        login
    }

    /// With a public nkey and the signature of [`Server::nonce`] by it, base64url without padding.
    pub const fn nkey(public: &'a str, signature: &'a str) -> Self {
        let mut login = Self::ANONYMOUS;
        (login.members[4], login.members[5]) = (Some(public), Some(signature));
        login
    }

    /// With a user's JWT, beside the nkey.
    pub const fn jwt(mut self, jwt: &'a str) -> Self {
        self.members[6] = Some(jwt);
        self
    }

    /// With the client's own name, for the server's monitoring.
    pub const fn named(mut self, name: &'a str) -> Self {
        self.members[0] = Some(name);
        self
    }

    /// The server doesn't deliver this client's own messages to it.
    pub const fn without_echo(mut self) -> Self {
        self.no_echo = true;
        self
    }

    /// The client understands no headers, so the server strips them; nor is it told when nobody answers.
    pub const fn without_headers(mut self) -> Self {
        self.no_headers = true;
        self
    }

    /// Writes CONNECT, without its CR LF.
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
        let mut names = MEMBERS;
        for member in &self.members {
            let [len, rest @ ..] = names else { break };
            let Some((name, rest)) = rest.split_at_checked(usize::from(*len)) else { break };
            names = rest;
            if let Some(value) = member {
                out.put(name);
                value.bytes().for_each(|byte| character(byte, out));
                out.put(b"\"");
            }
        }
        out.put(b"}");
    }
}

/// Only the names: the rest is secret, or long.
impl core::fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [name, user, ..] = self.members;
        f.debug_struct("Login").field("name", &name).field("user", &user).finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Login<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        let [name, user, ..] = self.members;
        defmt::write!(f, "Login {{ name: {}, user: {}, .. }}", name, user);
    }
}

/// Without headers a server assumes none, and no wish to hear of requests that nobody takes.
const BEGIN: &[u8] = concat!(
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1,\"version\":\"",
    env!("CARGO_PKG_VERSION"),
    "\""
)
.as_bytes();

/// The members that a login may have, each up to the first quote of its value and behind the number of its bytes.
const MEMBERS: &[u8] = b"\x09,\"name\":\"\x09,\"user\":\"\x09,\"pass\":\"\x0f,\"auth_token\":\"\
    \x09,\"nkey\":\"\x08,\"sig\":\"\x08,\"jwt\":\"";

/// A character of a text in JSON. All that mean something there are written in the same way.
fn character(byte: u8, out: &mut impl Sink) {
    if byte >= b' ' && byte != b'"' && byte != b'\\' {
        return out.put(&[byte]);
    }
    // Such a byte is less than 0x60.
    let (high, low) = (b'0'.wrapping_add(byte >> 4), byte & 15);
    let letter = if low > 9 { b'a'.wrapping_sub(10) } else { b'0' };
    out.put(&[b'\\', b'u', b'0', b'0', high, letter.wrapping_add(low)]);
}

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
        let json = written.strip_prefix(b"CONNECT ").unwrap();
        test(Connect::parse(json).unwrap());
    }

    #[test]
    fn secrets_stay_secret() {
        let login = Login::user("u", "secret").named("attic").jwt("x.y");
        assert_eq!(std::format!("{login:?}"), "Login { name: Some(\"attic\"), user: Some(\"u\"), .. }");
    }

    #[test]
    fn what_is_written_a_server_can_read() {
        let mut with_headers = Server::default();
        with_headers.flags |= 1 << super::super::server::HEADERS;
        let login = Login::user("u", "p\u{1f}").named("attic \"7\"\n\\é").without_echo();
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
        let keyed = Login::nkey("UA", "s").without_headers();
        read(&keyed, &with_headers, |connect| {
            assert!(connect.nkey.unwrap().eq_str("UA") && connect.sig.unwrap().eq_str("s"));
            assert_eq!(connect.headers, None);
        });
    }
}
