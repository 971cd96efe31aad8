//! The monitoring port: the daemon's state as JSON, with nats-server's names (reference 3.6).

mod about;

pub(crate) use about::About;

use std::sync::Arc;

use crate::hub::Hub;

/// Answers requests until the daemon ends.
pub(crate) async fn serve(_listener: std::net::TcpListener, _hub: Arc<Hub>, _about: Arc<About>) {}
