//! CONNECT, and what happens to those who don't send it.

use midge_jwt::{AuthorizationRequest, ClientInformation, ClientTls, ConnectOptions, ServerId};
use midge_protocol::connect::Connect;
use midge_protocol::error;
use midge_protocol::json::Text;
use smol_str::SmolStr;

use super::{Phase, Session};
use crate::auth::{
    Answer, Attempt, Callout, Consultation, Credentials, Identity, Known, Question, Verdict, Way,
};
use crate::broker::{Broker, Now};
use crate::closed::CloseReason;
use crate::conn::{Conn, Port};
use crate::notice::Level;

impl Session {
    /// CONNECT. A later one says everything anew, and the subscriptions end.
    pub(super) fn connect<P: Port>(
        &mut self,
        broker: &mut Broker<P>,
        argument: &[u8],
        now: Now,
    ) -> Option<Question> {
        let Ok(connect) = Connect::parse(argument) else {
            broker.note(self.id, Level::Error, "CONNECT is not understood: malformed JSON");
            broker.close(self.id, CloseReason::ProtocolViolation, now);
            return None;
        };
        if broker.conn(self.id)?.connected {
            broker.drop_subscriptions(self.id, now);
        }
        self.verbose = connect.verbose.unwrap_or(self.verbose);
        self.pedantic = connect.pedantic.unwrap_or(self.pedantic);
        broker.connected(self.id, now);
        let supports_headers = broker.settings().headers;
        let conn = broker.conn_mut(self.id)?;
        let way = conn.way;
        conn.echo = connect.echo.unwrap_or(conn.echo);
        conn.headers = supports_headers && connect.headers.unwrap_or(conn.headers);
        conn.no_responders = connect.no_responders.unwrap_or(conn.no_responders);
        for (slot, given) in [
            (&mut conn.name, connect.name),
            (&mut conn.lang, connect.lang),
            (&mut conn.version, connect.version),
        ] {
            if let Some(given) = given {
                *slot = given.chars().take(NAME_CHARS_MAX).collect();
            }
        }
        let protocol = connect.protocol.unwrap_or_else(|| i64::from(conn.async_info));
        conn.async_info = protocol >= 1;

        let given = |text: Option<Text<'_>>| text.is_some_and(|t| !t.is_empty());
        let mut credentials = self.credentials.take().map(|kept| *kept).unwrap_or_default();
        for (slot, given) in [
            (&mut credentials.user, connect.user),
            (&mut credentials.pass, connect.pass),
            (&mut credentials.token, connect.auth_token),
            (&mut credentials.nkey, connect.nkey),
            (&mut credentials.sig, connect.sig),
            (&mut credentials.jwt, connect.jwt),
        ] {
            // What came in cookies counts unless something else is said.
            if let Some(given) = given.filter(|given| way != Way::WebSocket || !given.is_empty()) {
                *slot = given.chars().collect();
            }
        }
        let wants_account = given(connect.account) || connect.new_account == Some(true);
        let wish = Wish { protocol, refused: wants_account };
        let host = broker.conn(self.id).map(|conn| conn.peer.host.clone()).unwrap_or_default();
        if broker.failures.hold(&host, &broker.settings.login_backoff, now.mono) {
            broker.debug(self.id, "too many logins from this address have failed lately");
            self.turn_away(broker, &credentials, now);
            return None;
        }
        self.judge(broker, Waiting { wish, credentials, known: Known::new() }, now)
    }

    /// The driver's answer to [`super::Next::Ask`]. It may lead to another question.
    #[must_use = "another question wants an answer, too"]
    pub fn answered<P: Port>(
        &mut self,
        broker: &mut Broker<P>,
        question: Question,
        answer: Answer,
        now: Now,
    ) -> Option<Question> {
        let mut waiting = *self.waiting.take()?;
        let answer = match answer {
            Answer::Accounts(accounts) => {
                broker.learn(accounts, now);
                Answer::Yes
            }
            Answer::Consulted(Err(why)) => {
                broker.note(self.id, Level::Warn, &why);
                Answer::Consulted(Err(why))
            }
            answer => answer,
        };
        waiting.known.push((question, answer));
        self.judge(broker, waiting, now)
    }

    fn judge<P: Port>(&mut self, broker: &mut Broker<P>, waiting: Waiting, now: Now) -> Option<Question> {
        let settings = broker.settings();
        let conn = broker.conn(self.id);
        let way = conn.map(|conn| conn.way).unwrap_or_default();
        let nonce = conn.map(|conn| settings.info.keys.nonce(conn.cid())).unwrap_or_default();
        let certificate = conn.and_then(|conn| conn.tls.as_ref()?.names.as_ref());
        let attempt = Attempt {
            credentials: &waiting.credentials,
            nonce: &nonce,
            certificate,
            host: conn.map_or("", |conn| &conn.peer.host),
            way,
            now: now.wall,
            known: &waiting.known,
        };
        let verdict = match settings.directory.judge(&attempt) {
            Verdict::Consult(whom) => {
                let callout = conn.map(|conn| callout(broker, conn, *whom, &waiting, now));
                callout
                    .map_or(Verdict::Denied(""), |callout| Verdict::Ask(Question::Callout(Box::new(callout))))
            }
            verdict => verdict,
        };
        if let Verdict::Ask(question) = verdict {
            self.waiting = Some(Box::new(waiting));
            return Some(question);
        }
        let keeps = settings.directory.asks(way);
        let maps = settings.directory.of(way).certificates.is_some() && waiting.credentials.nkey.is_empty();
        let Waiting { wish, credentials, .. } = waiting;
        if maps {
            self.note_certificate(broker, &credentials, matches!(verdict, Verdict::Granted(_)));
        }
        match verdict {
            Verdict::Granted(identity) if !wish.refused => {
                broker.conn_mut(self.id)?.unasked = credentials.is_empty();
                self.enter(broker, &identity, wish, now);
            }
            Verdict::Denied(cause) => {
                if !cause.is_empty() {
                    broker.debug(self.id, cause);
                }
                self.refuse(broker, &credentials, now);
            }
            _ => self.refuse(broker, &credentials, now),
        }
        self.credentials = keeps.then(|| Box::new(credentials));
        None
    }

    /// Says what became of a certificate that was to name a user.
    fn note_certificate<P: Port>(&self, broker: &mut Broker<P>, credentials: &Credentials, found: bool) {
        if found && !credentials.user.is_empty() {
            let text =
                format!("User {:?} found in connect proto, but user required from cert", credentials.user);
            return broker.note(self.id, Level::Warn, text);
        }
        if found {
            return;
        }
        let names = broker.conn(self.id).and_then(|conn| conn.tls.as_ref()?.names.as_ref());
        let text = match names {
            None => "User required in cert, no TLS connection state".to_owned(),
            Some(names) => {
                let shown: Vec<_> = names.alternative.iter().chain(names.lines.last()).collect();
                format!("User in cert {shown:?}, not found")
            }
        };
        broker.debug(self.id, text);
    }

    fn enter<P: Port>(&mut self, broker: &mut Broker<P>, identity: &Identity, wish: Wish, now: Now) {
        if !broker.admit(self.id, identity, now) {
            return;
        }
        self.phase = Phase::Ready;
        let Some(conn) = broker.conn(self.id) else { return };
        if !matches!(wish.protocol, 0 | 1) {
            broker.fail(self.id, error::INVALID_PROTOCOL, CloseReason::BadClientProtocol, now);
        } else if conn.no_responders && !conn.headers {
            let (text, reason) = (error::NO_RESPONDERS_NEEDS_HEADERS, CloseReason::NoRespondersNeedsHeaders);
            broker.fail(self.id, text, reason, now);
        } else {
            self.ok(broker);
        }
    }

    fn refuse<P: Port>(&self, broker: &mut Broker<P>, credentials: &Credentials, now: Now) {
        let host = broker.conn(self.id).map(|conn| conn.peer.host.clone()).unwrap_or_default();
        broker.failures.count(&host, &broker.settings.login_backoff, now.mono);
        self.turn_away(broker, credentials, now);
    }

    fn turn_away<P: Port>(&self, broker: &mut Broker<P>, credentials: &Credentials, now: Now) {
        let who = credentials.to_string();
        let text = if who.is_empty() {
            SmolStr::new_static("authentication error")
        } else {
            smol_str::format_smolstr!("authentication error - {who}")
        };
        broker.note(self.id, Level::Error, text);
        if let Some(conn) = broker.conn_mut(self.id) {
            // Whoever hears of it hears who it wasn't.
            conn.user = credentials.name().chars().take(NAME_CHARS_MAX).collect();
        }
        broker.fail(self.id, error::AUTHORIZATION_VIOLATION, CloseReason::AuthenticationFailure, now);
    }

    /// Something other than CONNECT came first. True if that is somebody's right.
    pub(super) fn enter_unasked<P: Port>(&mut self, broker: &mut Broker<P>, now: Now) -> bool {
        let conn = broker.conn(self.id);
        let (host, way) = conn.map(|conn| (conn.peer.host.clone(), conn.way)).unwrap_or_default();
        match broker.settings().directory.anonymous(&host, way) {
            Some(identity) => {
                broker.connected(self.id, now);
                self.phase = Phase::Ready;
                broker.conn_mut(self.id).into_iter().for_each(|conn| conn.unasked = true);
                broker.admit(self.id, &identity, now)
            }
            None => {
                self.refuse(broker, &Credentials::default(), now);
                false
            }
        }
    }
}

/// What a service is asked.
fn callout<P: Port>(
    broker: &Broker<P>,
    conn: &Conn<P>,
    whom: Consultation,
    waiting: &Waiting,
    now: Now,
) -> Callout {
    let settings = broker.settings();
    let (info, given) = (&settings.info, &waiting.credentials);
    let nonce = if given.sig.is_empty() { String::new() } else { info.keys.nonce(conn.cid) };
    let user = if given.name().is_empty() { whom.name.as_str() } else { given.name() };
    let request = AuthorizationRequest {
        server_id: ServerId {
            name: info.name.clone(),
            host: info.host.clone(),
            id: info.id.clone(),
            version: info.version.clone(),
            tags: info.tags.clone(),
            xkey: String::new(),
        },
        client_info: ClientInformation {
            host: conn.peer.host.to_string(),
            id: i64::try_from(conn.cid).unwrap_or(i64::MAX),
            user: user.to_owned(),
            name: conn.name.to_string(),
            tags: whom.tags.iter().map(SmolStr::to_string).collect(),
            name_tag: whom.name.to_string(),
            kind: "Client".into(),
            client_type: conn.way.client_type().into(),
            nonce,
        },
        connect_opts: ConnectOptions {
            jwt: given.jwt.clone(),
            nkey: given.nkey.clone(),
            sig: given.sig.clone(),
            auth_token: given.token.clone(),
            user: given.user.clone(),
            pass: given.pass.clone(),
            name: conn.name.to_string(),
            lang: conn.lang.to_string(),
            version: conn.version.to_string(),
            protocol: waiting.wish.protocol,
        },
        client_tls: conn
            .tls
            .as_ref()
            .map(|tls| ClientTls { version: tls.version.to_owned(), cipher: tls.cipher_suite.to_owned() }),
        ..AuthorizationRequest::default()
    };
    Callout::new(whom, request, &info.keys, (conn.cid, now.wall, settings.auth_timeout))
}

/// A CONNECT that is not decided.
#[derive(Debug)]
pub(super) struct Waiting {
    wish: Wish,
    credentials: Credentials,
    known: Known,
}

/// What CONNECT asked for that is judged once the identity is known.
#[derive(Clone, Copy, Debug)]
struct Wish {
    protocol: i64,
    /// Asked for an account of its own choice.
    refused: bool,
}

/// Names that clients give themselves are kept up to this many characters.
const NAME_CHARS_MAX: usize = 1024;
