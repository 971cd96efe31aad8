//! What follows from a turn before it is committed: deliveries, copies, dead letters, timers.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::Engine;
use crate::config::Storage;
use crate::stream::Letter;
use crate::time::Now;

impl Engine {
    /// Lets consumers have what came, sets timers.
    pub(super) fn settle(&mut self, now: Now) {
        self.hungry = false;
        let mut dirty = std::mem::take(&mut self.dirty);
        self.take_come(&dirty, now);
        let mut again = self.copy(&mut dirty, now).unwrap_or_else(|error| {
            self.bear(Err(error));
            BTreeSet::new()
        });
        let mut stalled = BTreeSet::new();
        while let Some(id) = dirty.pop_first() {
            if self.is_out_of_reach(id) {
                continue;
            }
            let Some((stream, mut cx)) = self.stream_cx(id, now) else { continue };
            if stream.copies.iter().any(|copy| copy.lag > 0) {
                stalled.insert(id);
            }
            let pumped = stream.pump(&mut cx).map(|all| {
                if !all {
                    again.insert(id);
                }
            });
            let dead = std::mem::take(&mut stream.dead);
            let unsaved = stream.config.storage == Storage::File && stream.has_unsaved_consumers();
            let mut timers = Vec::new();
            if let Some(at) = stream.deadline(&cx)
                && stream.armed.is_none_or(|armed| at < armed)
            {
                stream.armed = Some(at);
                timers.push((at, (id, None)));
            }
            for consumer in stream.consumers.values_mut() {
                if let Some(at) = consumer.take_timer(now.mono) {
                    timers.push((at, (id, Some(consumer.id))));
                }
            }
            self.timers.extend(timers.into_iter().map(Reverse));
            if unsaved {
                self.unsaved.insert(id);
            }
            self.bear(pumped);
            if !dead.is_empty() {
                again.extend(self.bury(id, &dead, now));
            }
        }
        // What consumers were done with may have made room for what is to be copied.
        if !stalled.is_empty() {
            match self.copy_stalled(&stalled, now) {
                Ok(changed) => again.extend(changed),
                Err(error) => self.bear(Err(error)),
            }
        }
        self.hungry = self.pump_backups(now) || !again.is_empty();
        self.dirty.append(&mut again);
        self.forget_stale_timers();
    }

    /// Gives dead letters of a stream to where it wants them. Gives that stream. In the same commit goes what the consumers
    /// know of it, so that nothing dies twice or is lost.
    fn bury(&mut self, id: u32, dead: &[Letter], now: Now) -> Option<u32> {
        self.out.promise();
        let stream = self.streams.get(&id)?;
        let (origin, grave) = (stream.config.name.clone(), stream.grave()?.to_owned());
        let found =
            self.spaces.get(&stream.account).and_then(|space| space.streams.get(grave.as_str()).copied());
        let Some(found) = found.filter(|found| *found != id) else {
            let count = dead.len();
            self.out.complain(format!("{count} dead letters of {origin} have no stream {grave} to go to"));
            return None;
        };
        let (stream, mut cx) = self.stream_cx(found, now)?;
        let buried = dead.iter().try_for_each(|letter| stream.bury(letter, &origin, &mut cx));
        if let Err(why) = buried {
            self.out.complain(format!("dead letters of {origin} can't go to {grave}: {why}"));
        }
        Some(found)
    }
}
