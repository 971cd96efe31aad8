//! Encryption, as far as the broker must know of it: what INFO says, and what is shown of a connection.
//!
//! A connection that may be encrypted arrives with [`crate::Broker::arrive`]. While the driver and the peer agree on
//! keys it gets no messages and its time for CONNECT does not run; [`crate::Broker::secured`] ends that.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use midge_protocol::time::Instant;
use smol_str::SmolStr;

use crate::auth::{CertificateNames, Way};
use crate::broker::{Broker, Now};
use crate::closed::CloseReason;
use crate::conn::{Conn, ConnId, Peer, Port};

/// What INFO says of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsOffer {
    /// A client must use it.
    pub required: bool,
    /// A client may use it.
    pub available: bool,
    /// A client must show a certificate.
    pub verify: bool,
}

/// What a handshake agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// IANA's name of the cipher suite.
    pub cipher_suite: &'static str,
    /// The handshake came before INFO.
    pub first: bool,
    /// The certificates that the peer showed, its own first.
    pub peer_certificates: Vec<PeerCertificate>,
    /// The names in the peer's own certificate, where users are known by them.
    pub names: Option<CertificateNames>,
}

/// What is shown of a peer's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The subject, as in `CN=sensor-7,O=Attic`.
    pub subject: SmolStr,
    /// SHA-256 of the public key's DER form.
    pub key_sha256: [u8; 32],
    /// SHA-256 of the certificate.
    pub sha256: [u8; 32],
}

impl<P: Port> Broker<P> {
    /// As [`Broker::attach`], for a connection over a listener with TLS, which is not encrypted yet: its time for
    /// CONNECT begins with [`Broker::secured`]. INFO is staged if `greeted`, else it waits for [`Broker::greet`] or
    /// [`Broker::secured`].
    pub fn arrive(&mut self, port: P, peer: Peer, greeted: bool, now: Now) -> ConnId {
        let id = self.seat(port, peer, Way::Tls, now);
        if let Some(conn) = self.conn_mut(id) {
            // The end of time: nobody waits for CONNECT yet.
            conn.until.set(conn.until.get().map(|_| Instant::default() + Duration::MAX));
        }
        if greeted {
            self.stage_info(id, false);
        }
        self.welcome(id, now);
        id
    }

    /// As [`Broker::attach`], for a connection over WebSocket, with the way that it is encrypted.
    pub fn attach_websocket(
        &mut self,
        port: P,
        peer: Peer,
        facts: Option<Arc<TlsFacts>>,
        now: Now,
    ) -> ConnId {
        let id = self.seat(port, peer, Way::WebSocket, now);
        self.conn_mut(id).into_iter().for_each(|conn| conn.tls = facts.clone());
        self.stage_info(id, false);
        self.welcome(id, now);
        id
    }

    /// Stages the INFO that was held back, because the peer did not begin a handshake.
    pub fn greet(&mut self, id: ConnId) {
        self.stage_info(id, false);
    }

    /// The connection is as it will stay: encrypted as `facts` say, or in the clear, where that is allowed. INFO is
    /// staged if the handshake came before it.
    pub fn secured(&mut self, id: ConnId, facts: Option<Arc<TlsFacts>>, now: Now) {
        let (auth_timeout, ping_interval) = (self.settings.auth_timeout, self.settings.ping_interval);
        let Some(conn) = self.conn_mut(id).filter(|conn| conn.is_open()) else { return };
        conn.until.set(conn.until.get().map(|_| now.mono + auth_timeout));
        conn.ping_at = now.mono + ping_interval;
        let first = facts.as_ref().is_some_and(|facts| facts.first);
        conn.tls = facts;
        self.rearm(id);
        if first {
            self.stage_info(id, false);
        }
    }

    /// Closes encrypted connections that came this way and whose peers' keys are not among these digests. Returns how
    /// many.
    pub fn close_unpinned(&mut self, way: Way, pinned: &HashSet<[u8; 32]>, now: Now) -> usize {
        let is_pinned = |facts: &TlsFacts| {
            facts.peer_certificates.first().is_some_and(|shown| pinned.contains(&shown.key_sha256))
        };
        let strangers: Vec<_> = self
            .connections()
            .filter(|(_, conn)| conn.way == way && conn.tls.as_ref().is_some_and(|facts| !is_pinned(facts)))
            .map(|(id, _)| id)
            .collect();
        strangers.iter().for_each(|id| self.close(*id, CloseReason::TlsHandshake, now));
        strangers.len()
    }

    /// What INFO says of TLS to one connection.
    pub(crate) fn tls_offer(&self, conn: &Conn<P>) -> TlsOffer {
        let mut offer = match conn.way {
            Way::Plain | Way::Hub => TlsOffer::default(),
            Way::Tls => self.settings.info.tls,
            Way::WebSocket => {
                let secure = conn.tls.is_some();
                return TlsOffer {
                    required: secure,
                    available: secure,
                    verify: self.settings.info.tls.verify,
                };
            }
        };
        offer.required |= conn.tls.as_ref().is_some_and(|facts| facts.first);
        offer
    }
}
