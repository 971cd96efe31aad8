//! What comes in, to whom it is for.

use super::Engine;
use crate::config::Storage;
use crate::error::{self, ApiError};
use crate::log::LogError;
use crate::seam::{Input, Message, Output, Tag, What};
use crate::stream::counted;
use crate::time::Now;

/// Room for a message.
struct Room {
    storage: Storage,
    bytes: u64,
    is_there: Result<(), ApiError>,
}

impl Engine {
    /// Takes an input in.
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        let now = self.read_clock(now);
        let done = self.take(input, now);
        self.bear(done);
    }

    /// Answers a request for one message, if that changes nothing and doesn't wait for the disk. The answer is there for
    /// [`Engine::poll`] then. False: nothing was done, and the message is for [`Engine::handle`].
    pub fn answer_at_once(&mut self, message: &Message<'_>, now: Now) -> bool {
        let Some((What::Direct, id, _)) = message.tag.split() else { return false };
        // What waits for a commit comes first, and is not to come out by this.
        if self.is_owed() || !self.out.is_empty() || self.is_for_origin(id, message.subject) {
            return false;
        }
        let Some((stream, mut cx)) = self.stream_cx(id, now) else { return false };
        let answered = stream.answer_at_once(message, &mut cx);
        self.out.let_out();
        answered
    }

    /// The server is about to close its connections: clients that wait for messages of consumers are told so, as far as they
    /// are known.
    pub fn part(&mut self, now: Now) {
        let now = self.read_clock(now);
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        for id in ids {
            let Some((stream, mut cx)) = self.stream_cx(id, now) else { continue };
            stream.consumers.values_mut().for_each(|consumer| consumer.part(&mut cx));
        }
    }

    fn take(&mut self, input: Input<'_>, now: Now) -> Result<(), LogError> {
        match input {
            Input::Message(message) => self.on_message(&message, now),
            Input::Traced { message, number, only } => self.on_traced(&message, number, only, now),
            Input::Interest { tag, subject, exists } => {
                self.on_interest(tag, subject, exists, now);
                Ok(())
            }
            Input::Lost { receipt, subject } => {
                let Some((what, stream, consumer)) = receipt.tag.split() else { return Ok(()) };
                if what == What::Link {
                    if let Some((stream, mut cx)) = self.stream_cx(stream, now) {
                        stream.on_link_lost(consumer, &mut cx);
                    }
                    self.touch(stream);
                    return Ok(());
                }
                self.with_consumer(stream, consumer, now, |consumer, cx| {
                    consumer.on_lost(receipt.seq, subject, cx);
                });
                Ok(())
            }
        }
    }

    /// Says what becomes of a message, and does it, unless it is only to be said.
    fn on_traced(
        &mut self,
        message: &Message<'_>,
        number: u64,
        only: bool,
        now: Now,
    ) -> Result<(), LogError> {
        let mut fate = None;
        if let Some((What::Stream, id, _)) = message.tag.split()
            && let Some(room) = self.room_in(id, message)
            && let Some((stream, mut cx)) = self.stream_cx(id, now)
        {
            fate = Some(stream.foresee(message, room.is_there, only, &mut cx));
        }
        if !only {
            self.on_message(message, now)?;
        }
        self.out.push(Output::Traced { number, fate });
        Ok(())
    }

    fn on_message(&mut self, message: &Message<'_>, now: Now) -> Result<(), LogError> {
        let Some((what, stream, consumer)) = message.tag.split() else { return Ok(()) };
        let (reply, header, payload) = (message.reply, message.header, message.payload);
        let changes = matches!(what, What::Next | What::Ack | What::Flow | What::Reset);
        if changes && self.is_out_of_reach(stream) {
            return Ok(());
        }
        match (what, reply) {
            (What::Api, _) => return self.on_request(stream, message, now),
            (What::Stream, _) => return self.on_publish(stream, message, now),
            (What::Direct, _) => {
                if self.is_for_origin(stream, message.subject) {
                    return Ok(());
                }
                let Some((stream, mut cx)) = self.stream_cx(stream, now) else { return Ok(()) };
                return stream.on_direct(message, &mut cx);
            }
            (What::Next, Some(reply)) => self.with_consumer(stream, consumer, now, |consumer, cx| {
                consumer.on_next(reply, header, payload, cx);
            }),
            (What::Ack, reply) => self.with_consumer(stream, consumer, now, |consumer, cx| {
                consumer.on_ack(message.subject, reply, payload, cx);
            }),
            (What::Flow, _) => self.with_consumer(stream, consumer, now, |consumer, cx| {
                consumer.on_flow(message.subject, header, cx);
            }),
            (What::Reset, Some(_)) => return self.on_reset(stream, consumer, message, now),
            (What::Snapshot, _) => self.on_snapshot_ack(consumer, now),
            (What::Restore, _) => self.on_restore_chunk(consumer, message, now),
            (What::Link, _) => {
                if !self.is_out_of_reach(stream)
                    && let Some((stream, mut cx)) = self.stream_cx(stream, now)
                {
                    stream.on_link(consumer, message, &mut cx)?;
                }
                self.touch(stream);
            }
            (What::Next | What::Reset | What::Push | What::Waiting | What::Events, _) => {}
        }
        Ok(())
    }

    fn on_interest(&mut self, tag: Tag, subject: &[u8], exists: bool, now: Now) {
        match tag.split() {
            Some((What::Events, account, _)) => {
                if let Some(space) = self.spaces.get_mut(&account) {
                    space.events = exists;
                }
            }
            Some((What::Push, stream, consumer)) => {
                self.with_consumer(stream, consumer, now, |consumer, cx| {
                    consumer.on_push_interest(subject, exists, cx);
                })
            }
            Some((What::Waiting, stream, consumer)) => {
                self.with_consumer(stream, consumer, now, |consumer, _| {
                    consumer.on_waiting_interest(subject, exists);
                });
            }
            Some((What::Snapshot, _, number)) => self.on_snapshot_interest(number, exists),
            _ => {}
        }
    }

    /// Whether there is room for a message in a stream.
    fn room_in(&self, id: u32, message: &Message<'_>) -> Option<Room> {
        let (storage, account) = self.streams.get(&id).map(|it| (it.config.storage, it.account))?;
        let Message { subject, header, payload, .. } = message;
        let bytes = counted(storage, subject.len(), header.len(), payload.len());
        let is_there = match self.is_out_of_reach(id) {
            true => Err(error::STREAM_STORE_FAILED.with(&[&LogError::Failed])),
            false => self.check_room(storage, account, bytes),
        };
        Some(Room { storage, bytes, is_there })
    }

    pub(super) fn on_publish(&mut self, id: u32, message: &Message<'_>, now: Now) -> Result<(), LogError> {
        let Some(Room { storage, bytes, is_there: room }) = self.room_in(id, message) else {
            return Ok(());
        };
        let Some((stream, mut cx)) = self.stream_cx(id, now) else { return Ok(()) };
        stream.ingest(message, room, &mut cx)?;
        self.used[storage as usize] += bytes;
        self.dirty.insert(id);
        Ok(())
    }
}
