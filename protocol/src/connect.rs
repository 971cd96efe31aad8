//! CONNECT: what a client says of itself (reference 3.1).

use crate::json::{self, Malformed, Text};

/// The members that were given. What is `None` was absent or null: on a first CONNECT a server takes its default,
/// on a later one it keeps what it has.
///
/// Member names are compared without regard to case, as nats-server does; unknown members are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Deliver a client's own messages to it. A server's default: true.
    pub echo: Option<bool>,
    /// Answer each operation with +OK. A server's default: true.
    pub verbose: Option<bool>,
    /// Check publish subjects. A server's default: true.
    pub pedantic: Option<bool>,
    /// The client insists on TLS.
    pub tls_required: Option<bool>,
    /// Understands message headers.
    pub headers: Option<bool>,
    /// Wants a 503 when nobody got a request.
    pub no_responders: Option<bool>,
    /// 0, or 1 if INFO may come at any time.
    pub protocol: Option<i64>,
    /// User name.
    pub user: Option<Text<'a>>,
    /// Password.
    pub pass: Option<Text<'a>>,
    /// Token.
    pub auth_token: Option<Text<'a>>,
    /// Public nkey.
    pub nkey: Option<Text<'a>>,
    /// Signature of the nonce, base64url without padding.
    pub sig: Option<Text<'a>>,
    /// User JWT.
    pub jwt: Option<Text<'a>>,
    /// The client's own name.
    pub name: Option<Text<'a>>,
    /// The client's language.
    pub lang: Option<Text<'a>>,
    /// The client library's version.
    pub version: Option<Text<'a>>,
    /// An account that the client picks itself; servers refuse it.
    pub account: Option<Text<'a>>,
    /// Asks for a new account; servers refuse it.
    pub new_account: Option<bool>,
}

impl<'a> Connect<'a> {
    /// Reads CONNECT's argument. A member of the wrong type is an error, as it is for nats-server.
    pub fn parse(argument: &'a [u8]) -> Result<Self, Malformed> {
        let mut connect = Self::default();
        json::object(argument, |key, value| {
            // Longer names than the longest known one are unknown.
            let mut name = [0u8; 16];
            let mut len = 0usize;
            for c in key.chars() {
                let Some(slot) = name.get_mut(len) else { return Ok(()) };
                *slot = u8::try_from(c).unwrap_or(0).to_ascii_lowercase();
                len = len.saturating_add(1);
            }
            match name.get(..len).unwrap_or_default() {
                b"echo" => set(&mut connect.echo, value.bool()?),
                b"verbose" => set(&mut connect.verbose, value.bool()?),
                b"pedantic" => set(&mut connect.pedantic, value.bool()?),
                b"tls_required" => set(&mut connect.tls_required, value.bool()?),
                b"headers" => set(&mut connect.headers, value.bool()?),
                b"no_responders" => set(&mut connect.no_responders, value.bool()?),
                b"protocol" => set(&mut connect.protocol, value.integer()?),
                b"user" => set(&mut connect.user, value.text()?),
                b"pass" => set(&mut connect.pass, value.text()?),
                b"auth_token" => set(&mut connect.auth_token, value.text()?),
                b"nkey" => set(&mut connect.nkey, value.text()?),
                b"sig" => set(&mut connect.sig, value.text()?),
                b"jwt" => set(&mut connect.jwt, value.text()?),
                b"name" => set(&mut connect.name, value.text()?),
                b"lang" => set(&mut connect.lang, value.text()?),
                b"version" => set(&mut connect.version, value.text()?),
                b"account" => set(&mut connect.account, value.text()?),
                b"new_account" => set(&mut connect.new_account, value.bool()?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(connect)
    }

    /// Writes the argument of CONNECT: the members that are given, in the order that clients use.
    pub fn write(&self, out: &mut impl core::fmt::Write) -> core::fmt::Result {
        let mut json = json::Writer::begin(out)?;
        for (key, value) in [
            ("verbose", self.verbose),
            ("pedantic", self.pedantic),
            ("echo", self.echo),
            ("tls_required", self.tls_required),
            ("headers", self.headers),
            ("no_responders", self.no_responders),
            ("new_account", self.new_account),
        ] {
            if let Some(value) = value {
                json.bool(key, value)?;
            }
        }
        if let Some(protocol) = self.protocol {
            json.number("protocol", protocol)?;
        }
        for (key, value) in [
            ("user", self.user),
            ("pass", self.pass),
            ("auth_token", self.auth_token),
            ("nkey", self.nkey),
            ("sig", self.sig),
            ("jwt", self.jwt),
            ("name", self.name),
            ("lang", self.lang),
            ("version", self.version),
            ("account", self.account),
        ] {
            if let Some(value) = value {
                json.text(key, value)?;
            }
        }
        json.end()
    }
}

fn set<T>(member: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *member = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    #[test]
    fn members() {
        let connect = Connect::parse(
            br#"{"verbose":false,"Protocol":1,"user":"a\"b","lang":null,"x":[1],"import":{"allow":["a"]}}"#,
        )
        .unwrap();
        assert_eq!((connect.verbose, connect.protocol, connect.lang), (Some(false), Some(1), None));
        assert!(connect.user.unwrap().eq_str("a\"b"));
        for bad in [&b"{\"verbose\":\"no\"}"[..], b"{\"protocol\":1.5}", b"{\"user\":5}", b"", b"{", b"x"] {
            assert_eq!(Connect::parse(bad), Err(Malformed));
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let connect = Connect {
            verbose: Some(false),
            protocol: Some(1),
            name: Some("sensor \"7\"\n".into()),
            ..Connect::default()
        };
        let mut text = String::new();
        connect.write(&mut text).unwrap();
        assert_eq!(text, "{\"verbose\":false,\"protocol\":1,\"name\":\"sensor \\\"7\\\"\\u000a\"}");
        let read = Connect::parse(text.as_bytes()).unwrap();
        assert!(read.name.unwrap().eq_str("sensor \"7\"\n"));
        assert_eq!((read.verbose, read.protocol), (connect.verbose, connect.protocol));
    }
}
