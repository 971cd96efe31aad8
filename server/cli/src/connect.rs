//! The connection, and the things that a server says on it besides messages.

use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fs, io};

use async_nats::client::traits::Publisher;
use async_nats::message::OutboundMessage;
use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Message, PublishErrorKind,
    Request, RequestErrorKind, ServerAddr, ServerError, SubscribeError, Subscriber,
};
use bytes::Bytes;
use midge_protocol::subject::Filter;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::cli::Connection;
use crate::context::{Context, set, set_path};
use crate::exit::{Failure, Outcome};
use crate::login::Login;

/// An established connection.
///
/// It reconnects by itself; [`trouble`](Link::trouble) is for commands that would rather fail and
/// [`notices`](Link::notices) for those that go on.
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) timeout: Duration,
    events: mpsc::Receiver<Event>,
    /// For people, without passwords.
    servers: String,
    /// True between the notices that the connection was lost and that it is back.
    down: bool,
    last_notice: String,
    /// A subject that only a mistake would subscribe to.
    probe: String,
}

impl Link {
    /// Connects with the given settings, within their timeout per server.
    pub(crate) async fn open(connection: &Connection) -> Outcome<Link> {
        let context = match &connection.context {
            Some(name) => Context::load(name)?,
            None => Context::default(),
        };
        let servers = connection.server.as_deref().or(set(&context.url)).unwrap_or(DEFAULT_SERVER);
        let addrs = parse_servers(servers)?;
        let servers = addrs.iter().map(shown).collect::<Vec<_>>().join(", ");

        let (sender, mut events) = mpsc::channel(EVENTS_MAX);
        let options = Login::choose(connection, &context, &addrs)
            .apply(ConnectOptions::new(), &servers)?
            .name("midge")
            .connection_timeout(connection.timeout)
            .subscription_capacity(SUBSCRIPTION_MESSAGES_MAX)
            .event_callback(move |event| {
                let sender = sender.clone();
                // It fails only once the command has ended and nobody listens any more.
                async move { drop(sender.send(event).await) }
            });
        let client = with_tls(options, connection, &context)?
            .connect(addrs.as_slice())
            .await
            .map_err(|error| explain(&error, &servers))?;
        // The first event tells of this very connection.
        while !matches!(events.recv().await, Some(Event::Connected) | None) {}

        let probe = format!("{}.>.probe", client.new_inbox());
        Ok(Link {
            client,
            timeout: connection.timeout,
            events,
            servers,
            down: false,
            last_notice: String::new(),
            probe,
        })
    }

    /// The server that we talk to, or all that we may talk to. Holds no passwords.
    pub(crate) fn servers(&self) -> &str {
        &self.servers
    }

    /// Queues a message for sending; [`round_trip`](Link::round_trip) makes sure of it.
    ///
    /// An error that the server sent before takes precedence, and a lost connection is an error.
    pub(crate) async fn publish(&mut self, message: OutboundMessage) -> Outcome {
        let size = message.payload.len();
        let client = self.client.clone();
        let sent = tokio::select! {
            biased;
            failure = self.trouble() => return Err(failure),
            sent = client.publish_message(message) => sent,
        };
        sent.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Failure::runtime(format_args!(
                "the server takes messages of up to {} bytes, headers included; this body has {size}",
                client.max_payload()
            )),
            PublishErrorKind::InvalidSubject => Failure::usage("the subject is not valid"),
            PublishErrorKind::Send => self.lost(),
        })
    }

    /// Subscribes, as a member of a queue group if one is given.
    pub(crate) async fn subscribe(&self, subject: &str, queue: Option<&str>) -> Outcome<Subscriber> {
        if let Err(error) = Filter::new(subject.as_bytes()) {
            return Err(Failure::usage(format_args!("cannot subscribe to {subject:?}: {error}")));
        }
        let subscribed = match queue {
            Some(queue) => self.client.queue_subscribe(subject.to_owned(), queue.to_owned()).await,
            None => self.client.subscribe(subject.to_owned()).await,
        };
        subscribed.map_err(|error: SubscribeError| {
            Failure::usage(format_args!("cannot subscribe to {subject:?}: {error}"))
        })
    }

    /// Sends a request and waits for its first answer. For `pub` and `request`, who show all that comes, it is
    /// too simple.
    pub(crate) async fn request(
        &mut self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
        limit: Duration,
    ) -> Outcome<Message> {
        let mut request = Request::new().payload(payload).timeout(Some(limit));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let client = self.client.clone();
        let answered = self.watched(client.send_request(subject.to_owned(), request)).await?;
        answered.map_err(|error| match error.kind() {
            RequestErrorKind::TimedOut => Failure::unavailable(format_args!("no answer within {limit:?}")),
            RequestErrorKind::NoResponders if subject.contains("API.") => Failure::unavailable(format_args!(
                "streams are not served by {} (nobody answers on {subject})",
                self.servers
            )),
            RequestErrorKind::NoResponders => {
                Failure::unavailable(format_args!("nobody answers on {subject} (no responders)"))
            }
            RequestErrorKind::InvalidSubject => {
                Failure::usage(format_args!("cannot ask on {subject:?}: the subject is not valid"))
            }
            RequestErrorKind::MaxPayloadExceeded => Failure::runtime(format_args!(
                "the server takes messages of up to {} bytes, headers included",
                self.client.max_payload()
            )),
            _ => Failure::unavailable(error),
        })
    }

    /// Waits for what the client library does; an error that the server sends meanwhile takes precedence.
    pub(crate) async fn watched<T>(&mut self, work: impl Future<Output = T>) -> Outcome<T> {
        tokio::select! {
            biased;
            failure = self.trouble() => Err(failure),
            done = work => Ok(done),
        }
    }

    /// Completes when the server says that something went wrong, or goes away.
    pub(crate) async fn trouble(&mut self) -> Failure {
        loop {
            match self.events.recv().await {
                Some(Event::ServerError(error)) => return Failure::runtime(server_text(&error)),
                Some(Event::Disconnected | Event::Closed) | None => return self.lost(),
                Some(_) => {}
            }
        }
    }

    /// Tells the operator on stderr what happens to the connection, and lets it be reestablished.
    ///
    /// Completes with a failure when the server refuses what the command is for, such as a subject that we may
    /// not hear.
    pub(crate) async fn notices(&mut self) -> Failure {
        loop {
            let notice = match self.events.recv().await {
                Some(Event::ServerError(error)) => {
                    let text = error.to_string().to_lowercase();
                    if REFUSALS.iter().any(|refusal| text.contains(refusal)) {
                        return Failure::runtime(server_text(&error));
                    }
                    server_text(&error)
                }
                Some(Event::Disconnected) => {
                    self.down = true;
                    format!("lost the connection to {}, trying again", self.servers)
                }
                Some(Event::Connected) => {
                    self.down = false;
                    format!("connected to {} again", self.servers)
                }
                Some(Event::LameDuckMode) => "the server is about to shut down".to_owned(),
                Some(Event::SlowConsumer(_)) => "too slow for these messages, some were dropped".to_owned(),
                // While it is down, each attempt would repeat why the first one failed.
                Some(Event::ClientError(error)) if !self.down => error.to_string(),
                Some(Event::ClientError(_) | Event::Draining) => continue,
                Some(Event::Closed) | None => return self.lost(),
            };
            if notice != self.last_notice {
                eprintln!("midge: {notice}");
                self.last_notice = notice;
            }
        }
    }

    /// Waits until the server has handled all that was sent so far, and says how long that took.
    ///
    /// Errors that came before are reported. The client library tells nobody of a PONG, so this subscribes to a
    /// subject that cannot be: a server answers in order, with an error that leaves the connection as it was.
    /// Unlike a message to ourselves, nobody who listens to `>` gets to see it.
    pub(crate) async fn round_trip(&mut self) -> Outcome<Duration> {
        if self.down {
            return Err(self.lost());
        }
        let (client, limit) = (self.client.clone(), self.timeout);
        let started = Instant::now();
        let answered = async {
            let _refused = client.subscribe(self.probe.clone()).await.map_err(|_| self.lost())?;
            loop {
                match self.events.recv().await {
                    Some(Event::ServerError(error)) if self.answers_probe(&error) => {
                        return Ok(started.elapsed());
                    }
                    Some(Event::ServerError(error)) => return Err(Failure::runtime(server_text(&error))),
                    Some(Event::Disconnected | Event::Closed) | None => return Err(self.lost()),
                    Some(_) => {}
                }
            }
        };
        timeout(limit, answered).await.unwrap_or_else(|_| {
            Err(Failure::unavailable(format_args!("{} did not answer within {limit:?}", self.servers)))
        })
    }

    /// No other subject of ours is invalid, they are checked before; nor may one subscribe to everything.
    fn answers_probe(&self, error: &ServerError) -> bool {
        let text = error.to_string();
        text.contains(&self.probe) || text.to_lowercase().contains("invalid subject")
    }

    fn lost(&self) -> Failure {
        Failure::unavailable(format_args!("lost the connection to {}", self.servers))
    }
}

fn with_tls(mut options: ConnectOptions, flags: &Connection, context: &Context) -> Outcome<ConnectOptions> {
    let file = |flag: &Option<PathBuf>, field: &str| {
        let Some(path) = flag.clone().or_else(|| set_path(field)) else { return Ok(None) };
        // The library reads it only later, and then does not say which file it was.
        match fs::File::open(&path) {
            Ok(_) => Ok(Some(path)),
            Err(error) => Err(Failure::config(format_args!("cannot read {}: {error}", path.display()))),
        }
    };
    if let Some(ca) = file(&flags.tlsca, &context.ca)? {
        options = options.add_root_certificates(ca).require_tls(true);
    }
    options = match (file(&flags.tlscert, &context.cert)?, file(&flags.tlskey, &context.key)?) {
        (Some(cert), Some(key)) => options.add_client_certificate(cert, key),
        (None, None) => options,
        _ => return Err(Failure::usage("a certificate needs its key: give --tlscert and --tlskey")),
    };
    if flags.tlsfirst || context.tls_first {
        options = options.tls_first();
    }
    Ok(match set(&context.inbox_prefix) {
        Some(prefix) => options.custom_inbox_prefix(prefix),
        None => options,
    })
}

fn parse_servers(servers: &str) -> Outcome<Vec<ServerAddr>> {
    let parse = |server: &str| {
        let addr: ServerAddr = server
            .parse()
            .map_err(|_| Failure::usage("--server: not a URL such as nats://127.0.0.1:4222"))?;
        match addr.scheme() {
            "nats" | "tls" if !addr.host().is_empty() => Ok(addr),
            "nats" | "tls" => Err(Failure::usage("--server: the URL has no host")),
            other => Err(Failure::usage(format_args!("--server: {other}:// is not supported"))),
        }
    };
    servers.split(',').map(str::trim).map(parse).collect()
}

/// The address without who logs in to it.
fn shown(addr: &ServerAddr) -> String {
    match addr.host() {
        host if host.contains(':') => format!("{}://[{host}]:{}", addr.scheme(), addr.port()),
        host => format!("{}://{host}:{}", addr.scheme(), addr.port()),
    }
}

fn explain(error: &ConnectError, servers: &str) -> Failure {
    let source = std::error::Error::source(error);
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => Failure::runtime(format_args!(
            "{servers} refused the login: authorization violation (see --user, --creds, --nkey, --context)"
        )),
        ConnectErrorKind::Authentication => {
            Failure::config(format_args!("cannot log in to {servers}: the key cannot sign"))
        }
        ConnectErrorKind::TimedOut => {
            Failure::unavailable(format_args!("cannot connect to {servers}: no answer in time"))
        }
        _ => {
            let refused = source
                .and_then(|source| source.downcast_ref::<io::Error>())
                .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            let why = match source {
                _ if refused => "connection refused (is midged running?)".to_owned(),
                Some(source) => plain(&source.to_string()),
                None => error.to_string(),
            };
            Failure::unavailable(format_args!("cannot connect to {servers}: {why}"))
        }
    }
}

fn server_text(error: &ServerError) -> String {
    format!("the server says: {}", plain(&error.to_string()))
}

/// Without the library's prefix.
fn plain(text: &str) -> String {
    text.trim_start_matches("nats: ").to_owned()
}

/// Errors that leave the connection up, and the command without what it came for.
const REFUSALS: [&str; 2] = ["permissions violation", "maximum subscriptions exceeded"];

const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";

/// Events that wait to be looked at. The library drops what does not fit its own queue of 128.
const EVENTS_MAX: usize = 128;

/// Messages that may wait to be printed; the library drops more, and says so.
const SUBSCRIPTION_MESSAGES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        let addrs = parse_servers("nats://a:b@10.0.0.1, [::1]:4333,tls://hub.example").unwrap();
        let shown: Vec<String> = addrs.iter().map(shown).collect();
        assert_eq!(shown, ["nats://10.0.0.1:4222", "nats://[::1]:4333", "tls://hub.example:4222"]);
    }

    #[test]
    fn addresses_that_make_no_sense_are_refused() {
        for servers in ["", "http://x", "nats://", "a,,b", "nats://h:99999"] {
            assert!(matches!(parse_servers(servers), Err(Failure::Usage(_))), "{servers}");
        }
    }
}
