//! INFO: what a server says of itself (reference 3.1).

use crate::json::{self, Malformed, Text, Texts};

/// The members of INFO that a server on one node sends to clients. Absent ones are `None`, false or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info<'a> {
    /// The server's public key; unique for each start.
    pub server_id: Text<'a>,
    /// The server's name.
    pub server_name: Text<'a>,
    /// The nats-server version whose behaviour a client may count on.
    pub version: Text<'a>,
    /// The version of midge, if the server is one. nats-server has no such member, clients ignore it.
    pub midge: Text<'a>,
    /// Protocol version; 1.
    pub proto: i64,
    /// Commit of the build.
    pub git_commit: Text<'a>,
    /// Language runtime of the server.
    pub go: Text<'a>,
    /// The address that the server listens on, as configured.
    pub host: Text<'a>,
    /// The port that the server listens on.
    pub port: i64,
    /// Headers are understood.
    pub headers: bool,
    /// CONNECT must carry credentials.
    pub auth_required: bool,
    /// TLS must be used.
    pub tls_required: bool,
    /// A client certificate must be shown.
    pub tls_verify: bool,
    /// TLS may be used.
    pub tls_available: bool,
    /// Largest message, in bytes.
    pub max_payload: i64,
    /// Streams are on.
    pub jetstream: bool,
    /// The connection's number.
    pub client_id: u64,
    /// The client's address as the server sees it.
    pub client_ip: Text<'a>,
    /// To be signed by clients with nkeys.
    pub nonce: Text<'a>,
    /// The stream domain.
    pub domain: Text<'a>,
    /// Other addresses of the server or its cluster.
    pub connect_urls: Option<Texts<'a>>,
    /// Lame duck mode: reconnect elsewhere.
    pub ldm: bool,
    /// This INFO answers CONNECT: `remote_account` and `acc_is_sys` are set.
    pub connect_info: bool,
    /// The account that the connection is in.
    pub remote_account: Text<'a>,
    /// That account is the system account.
    pub acc_is_sys: bool,
    /// Level of the stream API.
    pub api_lvl: i64,
    /// Public key for sealed requests.
    pub xkey: Text<'a>,
}

impl Default for Info<'_> {
    fn default() -> Self {
        let none = Text::Plain("");
        Self {
            server_id: none,
            server_name: none,
            version: none,
            midge: none,
            proto: 1,
            git_commit: none,
            go: none,
            host: none,
            port: 0,
            headers: false,
            auth_required: false,
            tls_required: false,
            tls_verify: false,
            tls_available: false,
            max_payload: 0,
            jetstream: false,
            client_id: 0,
            client_ip: none,
            nonce: none,
            domain: none,
            connect_urls: None,
            ldm: false,
            connect_info: false,
            remote_account: none,
            acc_is_sys: false,
            api_lvl: 0,
            xkey: none,
        }
    }
}

impl<'a> Info<'a> {
    /// Reads INFO's argument. Members of the wrong type are an error, unknown ones are ignored.
    pub fn parse(argument: &'a [u8]) -> Result<Self, Malformed> {
        let mut info = Self::default();
        json::object(argument, |key, value| {
            let Some(key) = key.as_plain() else { return Ok(()) };
            let text = |member: &mut Text<'a>| value.text().map(|v| *member = v.unwrap_or_default());
            let flag = |member: &mut bool| value.bool().map(|v| *member = v.unwrap_or_default());
            let number = |member: &mut i64| value.integer().map(|v| *member = v.unwrap_or_default());
            match key {
                "server_id" => text(&mut info.server_id),
                "server_name" => text(&mut info.server_name),
                "version" => text(&mut info.version),
                "midge" => text(&mut info.midge),
                "proto" => number(&mut info.proto),
                "git_commit" => text(&mut info.git_commit),
                "go" => text(&mut info.go),
                "host" => text(&mut info.host),
                "port" => number(&mut info.port),
                "headers" => flag(&mut info.headers),
                "auth_required" => flag(&mut info.auth_required),
                "tls_required" => flag(&mut info.tls_required),
                "tls_verify" => flag(&mut info.tls_verify),
                "tls_available" => flag(&mut info.tls_available),
                "max_payload" => number(&mut info.max_payload),
                "jetstream" => flag(&mut info.jetstream),
                "client_id" => {
                    info.client_id = value.integer()?.unwrap_or_default().unsigned_abs();
                    Ok(())
                }
                "client_ip" => text(&mut info.client_ip),
                "nonce" => text(&mut info.nonce),
                "domain" => text(&mut info.domain),
                "connect_urls" => {
                    info.connect_urls = match value {
                        json::Value::Nested(list) => Some(Texts::Json(list)),
                        json::Value::Null => None,
                        _ => return Err(Malformed),
                    };
                    Ok(())
                }
                "ldm" => flag(&mut info.ldm),
                "connect_info" => flag(&mut info.connect_info),
                "remote_account" => text(&mut info.remote_account),
                "acc_is_sys" => flag(&mut info.acc_is_sys),
                "api_lvl" => number(&mut info.api_lvl),
                "xkey" => text(&mut info.xkey),
                _ => Ok(()),
            }
        })?;
        Ok(info)
    }

    /// Writes the argument of INFO, members in nats-server's order, empty optional ones left out.
    pub fn write(&self, out: &mut impl core::fmt::Write) -> core::fmt::Result {
        let mut json = json::Writer::begin(out)?;
        json.text("server_id", self.server_id)?;
        json.text("server_name", self.server_name)?;
        json.text("version", self.version)?;
        json.number("proto", self.proto)?;
        optional(&mut json, "git_commit", self.git_commit)?;
        json.text("go", self.go)?;
        json.text("host", self.host)?;
        json.number("port", self.port)?;
        json.bool("headers", self.headers)?;
        for (key, set) in [
            ("auth_required", self.auth_required),
            ("tls_required", self.tls_required),
            ("tls_verify", self.tls_verify),
            ("tls_available", self.tls_available),
        ] {
            flag(&mut json, key, set)?;
        }
        json.number("max_payload", self.max_payload)?;
        flag(&mut json, "jetstream", self.jetstream)?;
        if self.client_id != 0 {
            json.number("client_id", i64::try_from(self.client_id).unwrap_or(i64::MAX))?;
        }
        optional(&mut json, "client_ip", self.client_ip)?;
        optional(&mut json, "nonce", self.nonce)?;
        optional(&mut json, "domain", self.domain)?;
        if let Some(urls) = self.connect_urls {
            json.texts("connect_urls", urls)?;
        }
        flag(&mut json, "ldm", self.ldm)?;
        flag(&mut json, "connect_info", self.connect_info)?;
        optional(&mut json, "remote_account", self.remote_account)?;
        flag(&mut json, "acc_is_sys", self.acc_is_sys)?;
        if self.api_lvl != 0 {
            json.number("api_lvl", self.api_lvl)?;
        }
        optional(&mut json, "xkey", self.xkey)?;
        optional(&mut json, "midge", self.midge)?;
        json.end()
    }
}

fn optional<W: core::fmt::Write>(
    json: &mut json::Writer<'_, W>,
    key: &str,
    value: Text<'_>,
) -> core::fmt::Result {
    if value.is_empty() { Ok(()) } else { json.text(key, value) }
}

fn flag<W: core::fmt::Write>(json: &mut json::Writer<'_, W>, key: &str, set: bool) -> core::fmt::Result {
    if set { json.bool(key, true) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    /// As nats-server 2.15.1 sent it.
    const SEEN: &str = "{\"server_id\":\"N\",\"server_name\":\"rt\",\"version\":\"2.15.1\",\"proto\":1,\"git_commit\":\"b2fd3ef\",\"go\":\"go1.27.2\",\"host\":\"127.0.0.1\",\"port\":14990,\"headers\":true,\"max_payload\":1024,\"client_id\":5,\"client_ip\":\"127.0.0.1\",\"connect_urls\":[\"a:1\",\"b:2\"],\"connect_info\":true,\"remote_account\":\"$G\",\"api_lvl\":5,\"xkey\":\"XANH\"}";

    #[test]
    fn what_was_read_is_written_alike() {
        let info = Info::parse(SEEN.as_bytes()).unwrap();
        assert_eq!((info.max_payload, info.client_id, info.connect_info), (1024, 5, true));
        let mut text = String::new();
        info.write(&mut text).unwrap();
        assert_eq!(text, SEEN);
    }

    #[test]
    fn lists_of_the_writer() {
        let info = Info { connect_urls: Some(Texts::Plain(&["a:1", "b:2"])), ..Info::default() };
        let mut text = String::new();
        info.write(&mut text).unwrap();
        assert!(text.contains("\"connect_urls\":[\"a:1\",\"b:2\"]"), "{text}");
    }
}
