//! What a build without WebSocket has in the place of frames: nothing.

use std::io;
use std::task::Poll;

use midge_broker::{Batch, CloseReason};
use tokio::io::ReadBuf;

use crate::wire::Handle;

/// There is none.
pub(crate) enum Framed {}

impl Framed {
    pub(crate) fn write(&mut self, _: &mut Batch, _: &Handle, _: &mut usize) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn close(&mut self, _: CloseReason, _: &Handle) {
        match *self {}
    }

    pub(crate) fn read<R>(&mut self, _: &mut ReadBuf<'_>, _: &Handle, _: R) -> Poll<io::Result<()>> {
        match *self {}
    }
}
