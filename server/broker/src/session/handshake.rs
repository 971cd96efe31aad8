//! CONNECT, and what happens to those who don't send it.

use midge_protocol::connect::Connect;
use midge_protocol::error;
use midge_protocol::json::Text;
use smol_str::SmolStr;

use super::{Phase, Session, Verify};
use crate::auth::{Identity, Verdict};
use crate::broker::{Broker, Now};
use crate::closed::CloseReason;
use crate::conn::Port;
use crate::notice::Level;

impl Session {
    /// CONNECT. A later one says everything anew, and the subscriptions end.
    pub(super) fn connect<P: Port>(
        &mut self,
        broker: &mut Broker<P>,
        argument: &[u8],
        now: Now,
    ) -> Option<Verify> {
        let Ok(connect) = Connect::parse(argument) else {
            broker.note(self.id, Level::Error, "CONNECT is not understood: malformed JSON");
            broker.close(self.id, CloseReason::ProtocolViolation, now);
            return None;
        };
        if broker.conn(self.id)?.connected {
            broker.drop_subscriptions(self.id);
        }
        self.verbose = connect.verbose.unwrap_or(self.verbose);
        self.pedantic = connect.pedantic.unwrap_or(self.pedantic);
        broker.connected(self.id, now);
        let supports_headers = broker.settings().headers;
        let conn = broker.conn_mut(self.id)?;
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
        ] {
            if let Some(given) = given {
                *slot = given.chars().collect();
            }
        }
        credentials.other |= given(connect.nkey);
        let wants_account = given(connect.account) || connect.new_account == Some(true);
        let wish = Wish { protocol, refused: wants_account };
        let directory = &broker.settings().directory;
        let verdict = directory.check(&credentials);
        self.credentials = directory.is_required().then(|| Box::new(credentials.clone()));
        match verdict {
            Verdict::Granted(identity) => self.enter(broker, &identity, wish, now),
            Verdict::Denied => self.refuse(broker, &credentials.user, now),
            Verdict::Hash { hash, secret, identity } => {
                self.wish = Some(wish);
                return Some(Verify { hash, secret, identity });
            }
        }
        None
    }

    /// The driver's answer to [`super::Next::Verify`].
    pub fn verified<P: Port>(&mut self, broker: &mut Broker<P>, question: &Verify, matches: bool, now: Now) {
        let wish = self.wish.take().unwrap_or_default();
        if matches {
            self.enter(broker, &question.identity, wish, now);
        } else {
            self.refuse(broker, &question.identity.user, now);
        }
    }

    fn enter<P: Port>(&mut self, broker: &mut Broker<P>, identity: &Identity, wish: Wish, now: Now) {
        if wish.refused {
            return self.refuse(broker, &identity.user, now);
        }
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

    fn refuse<P: Port>(&self, broker: &mut Broker<P>, user: &str, now: Now) {
        let text = if user.is_empty() {
            SmolStr::new_static("authentication error")
        } else {
            smol_str::format_smolstr!("authentication error - User {user:?}")
        };
        broker.note(self.id, Level::Error, text);
        broker.fail(self.id, error::AUTHORIZATION_VIOLATION, CloseReason::AuthenticationFailure, now);
    }

    /// Something other than CONNECT came first. True if that is somebody's right.
    pub(super) fn enter_unasked<P: Port>(&mut self, broker: &mut Broker<P>, now: Now) -> bool {
        match broker.settings().directory.anonymous() {
            Some(identity) => {
                broker.connected(self.id, now);
                self.phase = Phase::Ready;
                broker.admit(self.id, &identity, now)
            }
            None => {
                self.refuse(broker, "", now);
                false
            }
        }
    }
}

/// What CONNECT asked for that is judged once the identity is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    protocol: i64,
    /// Asked for an account of its own choice.
    refused: bool,
}

/// Names that clients give themselves are kept up to this many characters.
const NAME_CHARS_MAX: usize = 1024;
