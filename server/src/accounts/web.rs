//! Accounts that a web server has, a path for each: `resolver: URL(http://…)`.
//!
//! Source: nats-server's `URLAccResolver`. As there, an account that was fetched stays known until its token ends.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use midge_broker::AccountClaims;
use midge_config::ResolverWeb;
use midge_jwt::{Kind, TOKEN_BYTES_MAX, nkey};
use midge_tls::ClientTls;
use smol_str::SmolStr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::log::Log;

/// Time for one account, as in nats-server.
const PATIENCE: Duration = Duration::from_millis(1900);
/// Accounts that are fetched at one time; the rest wait.
const FETCHES_MAX: usize = 16;
/// Accounts that are fetched for one user at most: their own, and those that it imports from.
const ACCOUNTS_MAX: usize = 256;

/// The web server.
pub(crate) struct Web {
    /// The address that account keys are put behind, without a name and a password.
    base: String,
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    slots: Semaphore,
}

impl Web {
    /// Reads the address, and whom to believe. An error is a line for the operator.
    pub(crate) fn open(options: &ResolverWeb) -> Result<Self, String> {
        let wrong = |why: &dyn std::fmt::Display| format!("error parsing URL for account resolver: {why}");
        let uri: Uri = options.url.expose().parse().map_err(|error| wrong(&error))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong(&"it begins with neither http:// nor https://")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong(&"it names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let authority = uri.authority().map(|it| it.as_str()).unwrap_or_default();
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let authorization = user.map(|user| {
            let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(user)))
                .unwrap_or_else(|_| HeaderValue::from_static(""));
            value.set_sensitive(true);
            value
        });
        let tls = match secure {
            false => None,
            true => {
                let tls = ClientTls::load(options.tls.as_ref())?;
                let name = ServerName::try_from(host.clone()).map_err(|error| wrong(&error))?;
                Some((TlsConnector::from(tls.config), name))
            }
        };
        let scheme = if secure { "https" } else { "http" };
        let path = uri.path().trim_end_matches('/');
        let base = format!("{scheme}://{place}{path}/");
        Ok(Self { base, host, port, authorization, tls, slots: Semaphore::new(FETCHES_MAX) })
    }

    /// The address, without secrets.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// An account, and those that it imports from, and so on; each of them is asked for once.
    pub(crate) async fn find(&self, key: &SmolStr, log: &Log) -> Vec<Arc<AccountClaims>> {
        let mut found = Vec::new();
        let mut wanted = vec![key.clone()];
        let mut asked = HashSet::new();
        while let Some(key) = wanted.pop() {
            if asked.len() >= ACCOUNTS_MAX || !asked.insert(key.clone()) {
                continue;
            }
            match self.account(&key).await {
                Ok(claims) => {
                    let imports = &claims.token.body.imports;
                    wanted.extend(imports.iter().map(|import| SmolStr::from(&import.account)));
                    found.push(Arc::new(claims));
                }
                Err(why) => log.warn(format_args!("Account fetch failed: {why}")),
            }
        }
        found
    }

    /// One account.
    pub(crate) async fn account(&self, key: &str) -> Result<AccountClaims, String> {
        if !nkey::is(key, Kind::Account) {
            return Err(format!("{key:?} is no account"));
        }
        let text = {
            let _slot = self.slots.acquire().await.map_err(|error| error.to_string())?;
            let fetched = timeout(PATIENCE, self.fetch(key)).await;
            fetched
                .unwrap_or_else(|_| Err("no answer in time".into()))
                .map_err(|why| format!("could not fetch <{:?}>: {why}", format!("{}{key}", self.base)))?
        };
        // Signatures are verified beside the event loop.
        let read =
            tokio::task::spawn_blocking(move || AccountClaims::read(&text).map_err(|why| why.to_string()));
        let claims = read.await.map_err(|error| error.to_string())??;
        if claims.key() == key { Ok(claims) } else { Err(format!("{key} has the token of {}", claims.key())) }
    }

    async fn fetch(&self, key: &str) -> Result<String, String> {
        let stream =
            TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| error.to_string())?;
        match &self.tls {
            None => self.exchange(stream, key).await,
            Some((connector, name)) => {
                let stream =
                    connector.connect(name.clone(), stream).await.map_err(|error| error.to_string())?;
                self.exchange(stream, key).await
            }
        }
    }

    async fn exchange<S>(&self, stream: S, key: &str) -> Result<String, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let text = |error: hyper::Error| error.to_string();
        let (mut sender, connection) =
            http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(text)?;
        let uri: Uri = format!("{}{key}", self.base)
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| error.to_string())?;
        let place = uri.authority().map(|it| it.as_str().to_owned()).unwrap_or_default();
        let mut request = Request::get(uri.path()).header(HOST, place).header(CONNECTION, "close");
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let answer = async move {
            let response = sender.send_request(request).await.map_err(text)?;
            match response.status() {
                StatusCode::OK => {}
                status => return Err(status.to_string()),
            }
            let body = Limited::new(response.into_body(), TOKEN_BYTES_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            String::from_utf8(body.to_vec()).map_err(|_| "what came is no text".to_owned())
        };
        // The connection lives as long as the answer is waited for.
        tokio::pin!(connection, answer);
        tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                // All has been read; the rest of the answer is in memory.
                Ok(()) => answer.await,
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use midge_jwt::{Account, Claims, KeyPair, Token};

    use super::*;

    /// Answers one request with these bytes, and tells the request's lines.
    fn serve(answer: Vec<u8>) -> (u16, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            let _ = stream.write_all(&answer);
            lines
        });
        (port, served)
    }

    fn web(url: &str) -> Result<Web, String> {
        Web::open(&ResolverWeb { url: url.to_owned().into(), tls: None })
    }

    #[tokio::test]
    async fn accounts_are_fetched_by_their_keys() {
        let (operator, house) =
            (KeyPair::new(Kind::Operator, &[1; 32]), KeyPair::new(Kind::Account, &[2; 32]));
        let key = house.public().to_string();
        let token = Token { claims: Claims::about(&key), body: Account::default() }.encode(&operator, 5);
        let ok = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let other = KeyPair::new(Kind::Account, &[3; 32]).public().to_string();
        let wrong = Token { claims: Claims::about(other), body: Account::default() }.encode(&operator, 5);
        for (answer, good) in [
            (ok(&token), true),
            (format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{token}"), true),
            (ok(&wrong), false),
            (ok("no token"), false),
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into(), false),
            (format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(TOKEN_BYTES_MAX + 1)), false),
            ("SSH-2.0-x\r\n".into(), false),
            (String::new(), false),
        ] {
            let (port, served) = serve(answer.clone().into_bytes());
            let web = web(&format!("http://ann:secret@127.0.0.1:{port}/jwt/v1/accounts")).unwrap();
            assert_eq!(web.base(), format!("http://127.0.0.1:{port}/jwt/v1/accounts/"));
            let found = web.account(&key).await;
            assert_eq!(found.is_ok(), good, "{found:?} to {}", &answer[..answer.len().min(60)]);
            assert!(!found.err().unwrap_or_default().contains("secret"));
            let lines = served.join().unwrap();
            assert_eq!(lines[0], format!("GET /jwt/v1/accounts/{key} HTTP/1.1"));
            assert!(lines.contains(&"authorization: Basic YW5uOnNlY3JldA==".to_owned()), "{lines:?}");
        }
        assert!(web("http://127.0.0.1:1/").unwrap().account("../secret").await.is_err());
    }

    #[test]
    fn addresses_are_checked() {
        for url in ["", "x", "ftp://h/", "/path", "http:///"] {
            assert!(web(url).is_err(), "{url}");
        }
        assert_eq!(web("http://h").unwrap().base(), "http://h/");
        assert_eq!(web("http://[::1]:99/a/").unwrap().base(), "http://[::1]:99/a/");
    }
}
