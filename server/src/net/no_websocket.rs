//! What a build without WebSocket has in its place: nothing, and it says so.

use std::sync::Arc;

use midge_broker::Peer;
use midge_config::WebSocket;
use midge_wire::Accepted;

use super::tls::Keeper;
use crate::hub::Hub;
use crate::workers::Seat;

/// There is none.
#[derive(Debug)]
pub(crate) enum Gate {}

impl Gate {
    pub(crate) fn new(_: &WebSocket, _: Arc<Keeper>) -> Result<Self, String> {
        Err("this build has no WebSocket".to_owned())
    }
}

/// Nobody calls.
#[expect(dead_code, reason = "whoever would call fills it in")]
pub(crate) struct Caller {
    pub(crate) hub: Arc<Hub>,
    pub(crate) socket: Accepted,
    pub(crate) peer: Peer,
    pub(crate) gate: Arc<Gate>,
    pub(crate) seat: Seat,
}

pub(crate) async fn run(caller: Box<Caller>) {
    let Caller { hub: _, socket: _, peer: _, gate, seat: _ } = *caller;
    match *gate {}
}
