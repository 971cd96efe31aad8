//! The parts of a turn that every message passes.

use midge_broker::{AccountId, Broker, Now, Post, Received, Session, Stall};

use crate::flush::note;
use crate::wire::Handle;

/// [`Session::receive`], for the daemon's connections.
#[inline(never)] // Else it would be compiled once more in its caller, and small instead of fast.
pub fn receive(session: &mut Session, broker: &mut Broker<Handle>, now: Now, input: &[u8]) -> Received {
    session.receive(broker, now, input)
}

/// [`Broker::flush`]. What was staged is written by [`crate::settle`], or by this thread's flusher.
#[inline(never)]
pub fn flush(broker: &mut Broker<Handle>, now: Now) -> Option<Stall<Handle>> {
    broker.flush(now, note)
}

/// [`Broker::inject`], for what streams send.
#[inline(never)]
pub fn inject(broker: &mut Broker<Handle>, account: AccountId, post: &Post<'_>, now: Now) -> bool {
    broker.inject(account, post, now)
}
