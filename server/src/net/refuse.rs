//! Listeners of protocols that are configured but not served yet: open, so that whoever knows the port learns why.

use std::sync::Arc;
use std::time::Duration;

use midge_broker::{CloseReason, Peer};
use midge_wire::{Accepted, Handle};
use tokio::io::AsyncReadExt;

use super::listen::Protocol;
use crate::hub::Hub;
use crate::workers::Seat;

/// A peer has this long to say what it wants and to read the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers in the peer's own protocol that it isn't served, and closes.
pub(crate) async fn run(hub: Arc<Hub>, socket: Accepted, peer: Peer, protocol: Protocol, _seat: Seat) {
    let Ok((handle, mut reader)) = Handle::open(socket, None) else { return };
    let (name, answer): (_, &[u8]) = match protocol {
        Protocol::Websocket => return,
        Protocol::Leafnode => ("leaf node", b"-ERR 'leaf nodes are not served by this version of midge'\r\n"),
        // CONNACK, return code 3: server unavailable.
        Protocol::Mqtt => ("MQTT", &[0x20, 2, 0, 3]),
    };
    hub.log.debug(format_args!("{peer} - refused: {name} connections are not served yet"));
    let talk = async {
        let mut sink = [0; 1024];
        // A leaf node waits for our word; the others speak first.
        if protocol != Protocol::Leafnode && reader.read(&mut sink).await.unwrap_or(0) == 0 {
            return;
        }
        handle.say(answer);
        handle.shut_down(CloseReason::IncorrectPort);
        while reader.read(&mut sink).await.is_ok_and(|n| n > 0) {}
    };
    // A peer that doesn't answer is closed all the same.
    let _ = tokio::time::timeout(PATIENCE, talk).await;
}
