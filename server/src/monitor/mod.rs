//! The monitoring port: the daemon's state as JSON, with nats-server's names (reference 3.6).
//!
//! ```text
//!   http    connections, requests, which page
//!   query   what stands behind the `?`
//!   requests    the same pages for those who ask over NATS, $SYS.REQ.…
//!   varz, connz, subsz, accountz, leafz, jsz, healthz    one page each: collect under the broker's lock, serialise after it
//!   absent    what nats-server has and midge does without
//!   metrics    all of them, for Prometheus
//!   sub, text, process    what pages are made of
//! ```
//!
//! Nobody has to log in here, as with nats-server, so everything is bounded: connections, the size of a request, the
//! time it may take, and the rows of an answer ([`ROWS_MAX`]). A monitor that reads slowly costs its answer's bytes
//! until its time is over; it never holds a lock.

mod about;
mod absent;
mod accountz;
mod connz;
mod healthz;
mod http;
mod jsz;
mod leafz;
mod metrics;
mod process;
mod query;
mod requests;
mod statsz;
mod sub;
mod subsz;
mod text;
mod varz;

pub(crate) use about::About;
pub(crate) use requests::{Desk, Order};

use std::sync::Arc;

use crate::hub::Hub;

/// Rows of an answer, whatever `limit` says: connections or subscriptions, at most half a kilobyte each.
const ROWS_MAX: usize = 8192;

/// Answers requests until the daemon ends, over TLS if `secure`.
pub(crate) async fn serve(listener: std::net::TcpListener, secure: bool, hub: Arc<Hub>, about: Arc<About>) {
    let log = Arc::clone(&hub.log);
    if let Err(error) = http::serve(listener, secure, hub, about).await {
        log.error(format_args!("the monitor's listener failed: {error}"));
    }
}
