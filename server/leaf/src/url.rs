//! A hub's address.

use std::fmt;

/// The port where leaf nodes connect, unless another is given.
const PORT: u16 = 7422;

/// A hub's address, and who to be there.
#[derive(Clone, PartialEq, Eq)]
pub struct HubUrl {
    /// A name or an address; one of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The scheme asks for encryption.
    pub tls: bool,
    /// The name that the hub's certificate has, where that is another than the host.
    pub tls_name: Option<String>,
    /// The user, if one is given.
    pub user: Option<String>,
    /// The password, if one is given.
    pub password: Option<String>,
}

/// Why something is no hub's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// It has no host, or no number where the port stands.
    Malformed,
    /// WebSocket and other ways that midge doesn't take to a hub.
    Scheme,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is not of the form nats-leaf://host:port",
            Self::Scheme => "midge connects to hubs with nats-leaf://, nats:// or tls://",
        })
    }
}

impl HubUrl {
    /// Reads `scheme://user:password@host:port`, of which all but the host may be left out.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("nats-leaf", text));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "nats-leaf" | "nats" | "leaf" => false,
            "tls" => true,
            _ => return Err(UrlError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = rest.get(..end).unwrap_or_default();
        let (who, place) = match authority.rsplit_once('@') {
            Some((who, place)) => (Some(who), place),
            None => (None, authority),
        };
        let (host, port) = if let Some(rest) = place.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or(UrlError::Malformed)?;
            (
                host,
                port.strip_prefix(':').or(Some("").filter(|_| port.is_empty())).ok_or(UrlError::Malformed)?,
            )
        } else if let Some((host, port)) = place.rsplit_once(':') {
            (host, port)
        } else {
            (place, "")
        };
        if host.is_empty() || (host.contains(':') && !place.starts_with('[')) {
            return Err(UrlError::Malformed);
        }
        let port = if port.is_empty() { PORT } else { port.parse().map_err(|_| UrlError::Malformed)? };
        let (user, password) =
            match who.map(|who| who.split_once(':').map_or((who, None), |(u, p)| (u, Some(p)))) {
                None => (None, None),
                Some((user, password)) => (Some(decoded(user)), password.map(decoded)),
            };
        Ok(Self { host: host.to_owned(), port, tls, tls_name: None, user, password })
    }

    /// `host:port`, as it stands in log lines and on pages.
    pub fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The address without user and password.
    pub fn shown(&self) -> String {
        format!("{}://{}", if self.tls { "tls" } else { "nats-leaf" }, self.place())
    }
}

impl fmt::Debug for HubUrl {
    /// Never the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// `%41` is `A`. What is no such escape stays as it is.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let [first, rest @ ..] = bytes {
        let escape = match (first, rest) {
            (b'%', [high, low, tail @ ..]) => digit(*high).zip(digit(*low)).map(|(h, l)| (h << 4 | l, tail)),
            _ => None,
        };
        let (byte, tail) = escape.unwrap_or((*first, rest));
        out.push(byte);
        bytes = tail;
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, place, tls, user, password) in [
            ("nats-leaf://hub:1234", "hub:1234", false, None, None),
            ("nats://hub", "hub:7422", false, None, None),
            ("hub", "hub:7422", false, None, None),
            ("tls://10.0.0.1:443/x", "10.0.0.1:443", true, None, None),
            ("nats://[::1]:9", "[::1]:9", false, None, None),
            ("nats://[::1]", "[::1]:7422", false, None, None),
            ("nats://u:p@hub", "hub:7422", false, Some("u"), Some("p")),
            ("nats://u:p%40%2fx@hub:1", "hub:1", false, Some("u"), Some("p@/x")),
            ("nats://token@hub:1", "hub:1", false, Some("token"), None),
        ] {
            let url = HubUrl::parse(text).unwrap();
            assert_eq!((url.place().as_str(), url.tls), (place, tls), "{text}");
            assert_eq!((url.user.as_deref(), url.password.as_deref()), (user, password), "{text}");
        }
    }

    #[test]
    fn what_is_no_address() {
        for text in [
            "nats://",
            "nats://:1",
            "nats://h:x",
            "nats://h:70000",
            "nats://a:b:1",
            "nats://[::1",
            "nats://[::1]x",
        ] {
            assert_eq!(HubUrl::parse(text), Err(UrlError::Malformed), "{text}");
        }
        for text in ["ws://h", "wss://h", "http://h"] {
            assert_eq!(HubUrl::parse(text), Err(UrlError::Scheme), "{text}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let url = HubUrl::parse("nats://u:secret@hub").unwrap();
        assert_eq!(format!("{url:?} {}", url.shown()), "nats-leaf://hub:7422 nats-leaf://hub:7422");
    }
}
