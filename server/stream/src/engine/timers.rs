//! What is due.

use std::cmp::Reverse;

use super::Engine;
use crate::consumer::Alive;
use crate::log::LogError;
use crate::time::Now;

impl Engine {
    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        let now = self.read_clock(now);
        let done = self.do_due(now);
        self.bear(done);
        self.tick_backups(now);
    }

    fn do_due(&mut self, now: Now) -> Result<(), LogError> {
        let mut done = Ok(());
        while let Some(Reverse((at, (id, consumer)))) = self.timers.peek().copied() {
            if at > now.mono {
                break;
            }
            self.timers.pop();
            if self.is_out_of_reach(id) {
                continue;
            }
            let Some((stream, mut cx)) = self.stream_cx(id, now) else { continue };
            // One stream that can't do it doesn't hold up others.
            let mut note = |result: Result<(), LogError>| match result {
                Err(error) if done.is_ok() || error.is_of_all() => done = Err(error),
                _ => {}
            };
            match consumer {
                None if stream.armed == Some(at) => {
                    stream.armed = None;
                    note(stream.tick(&mut cx));
                }
                None => continue,
                Some(number) => {
                    let buries = stream.grave().is_some();
                    let Some(consumer) = stream.consumers.get_mut(&number) else { continue };
                    if consumer.armed != Some(at) {
                        continue;
                    }
                    consumer.armed = None;
                    if consumer.tick(buries, &mut cx) == Alive::No {
                        note(stream.delete_consumer(number, &mut cx).map(|_| ()));
                    }
                }
            }
            self.dirty.insert(id);
        }
        done
    }

    /// Timers that were set earlier than needed are skipped when they are due; those of what is gone, too. They are not
    /// to pile up until then.
    pub(super) fn forget_stale_timers(&mut self) {
        let live: usize = self.streams.values().map(|stream| 1 + stream.consumers.len()).sum();
        if self.timers.len() > 64 + 8 * live {
            let streams = &self.streams;
            self.timers.retain(|Reverse((at, (id, consumer)))| {
                streams.get(id).is_some_and(|stream| match consumer {
                    None => stream.armed == Some(*at),
                    Some(number) => stream.consumers.get(number).is_some_and(|it| it.armed == Some(*at)),
                })
            });
        }
    }
}
