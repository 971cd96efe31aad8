//! What happens to a consumer as time passes.

use super::{Consumer, NEVER};
use crate::cx::Cx;
use crate::time::{Instant, duration};

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alive {
    Yes,
    /// Nobody has used it for too long: it is to be deleted.
    No,
}

impl Consumer {
    /// All its timers.
    pub(super) fn timers(&self, now: Instant) -> [Option<Instant>; 9] {
        let waiting = self.pull.waiting.iter();
        let idle = !self.is_bound() && self.waiting() == 0;
        let push = self.config.is_push() && self.push.active;
        [
            // Acknowledgements. Those that came since may make it too early, but not too late.
            self.again_from.filter(|from| !self.pending.is_empty() && *from != NEVER),
            // Requests that expire.
            waiting.clone().filter_map(|request| request.expires).min(),
            // Their heartbeats.
            waiting.filter_map(|request| request.heartbeat.map(|(_, next)| next)).min(),
            // Those of a push consumer.
            self.push.heartbeat.filter(|_| push).map(|(_, next)| next),
            // Its rate.
            (push && self.push.rate_at > now && self.has_more()).then_some(self.push.rate_at),
            // Replay.
            self.replay.map(|replay| replay.hold).filter(|hold| *hold > now),
            // It is used by nobody.
            idle.then(|| self.inactive_after().map(|after| self.idle_since + after)).flatten(),
            // A client that has messages to itself is silent.
            self.pull.pin.as_ref().map(|pin| pin.until),
            // A pause ends.
            self.resumes,
        ]
    }

    /// A timer that is to be set now.
    pub(crate) fn take_timer(&mut self, now: Instant) -> Option<Instant> {
        let at = self.deadline(now).filter(|at| self.armed.is_none_or(|armed| *at < armed))?;
        self.armed = Some(at);
        Some(at)
    }

    fn has_more(&self) -> bool {
        self.unseen > 0 || !self.queue.is_empty()
    }

    /// Does what is due. With `buries`, dead letters go to a stream of their own.
    pub(crate) fn tick(&mut self, buries: bool, cx: &mut Cx<'_>) -> Alive {
        self.expire_acks(buries, cx);
        self.drop_gone(cx);
        self.expire_requests(cx);
        self.beat_push(cx);
        self.touched = true;
        let now = cx.now.mono;
        if self.pull.pin.as_ref().is_some_and(|pin| pin.until <= now) {
            let group = self.config.priority_groups.first().cloned().unwrap_or_default();
            self.unpin(&group, "timeout", cx);
        }
        if self.resumes.is_some_and(|at| at <= now) {
            self.resumes = None;
            self.arm_pause(cx);
            if self.resumes.is_none() {
                self.event_paused(cx);
            }
        }
        let idle = !self.is_bound() && self.waiting() == 0;
        let over = self.inactive_after().is_some_and(|after| self.idle_since + after <= now);
        if idle && over { Alive::No } else { Alive::Yes }
    }

    /// Looks again when its pause should be over.
    pub(super) fn arm_pause(&mut self, cx: &Cx<'_>) {
        let until = self.paused_until(cx.now.wall);
        self.resumes = until.map(|until| cx.now.mono + duration(until - cx.now.wall));
    }

    /// The calendar is another.
    pub(crate) fn on_clock(&mut self, cx: &mut Cx<'_>) {
        if self.resumes.is_some() {
            // It ends in the next tick, if it is over.
            self.resumes =
                self.paused_until(cx.now.wall).map(|until| cx.now.mono + duration(until - cx.now.wall));
            self.resumes = self.resumes.or(Some(cx.now.mono));
            self.touched = true;
        }
    }

    fn expire_acks(&mut self, buries: bool, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        if self.again_from.is_none_or(|from| from > now) {
            return;
        }
        let due = self.pending.iter().filter(|(_, pending)| !pending.queued && pending.again_at <= now);
        let due: Vec<u64> = due.map(|(seq, _)| *seq).collect();
        for seq in due {
            let count = self.again.get(&seq).copied().unwrap_or(0) + 1;
            // One that went more than once is given up only when its turn comes, as in nats-server; but a dead letter goes
            // where somebody sees it.
            if self.is_exhausted(count) && (buries || count == 1) {
                self.give_up(seq, count, cx);
            } else if let Some(pending) = self.pending.get_mut(&seq) {
                pending.queued = true;
                self.queue.push_back(seq);
            }
        }
        let waits = self.pending.values().filter(|pending| !pending.queued);
        self.again_from = waits.map(|pending| pending.again_at).min();
    }

    fn expire_requests(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let is_due = |request: &super::pull::Request| {
            let beat = request.heartbeat.map(|(_, next)| next);
            request.expires.into_iter().chain(beat).any(|at| at <= now)
        };
        if !self.pull.waiting.iter().any(is_due) {
            return;
        }
        let mut at = 0;
        while let Some(request) = self.pull.waiting.get(at) {
            if request.expires.is_some_and(|expires| expires <= now) {
                self.dismiss(at, "408 Request Timeout", true, cx);
                // It was used until now.
                self.idle_since = now;
                continue;
            }
            // Those that don't wait have waited for acknowledgements until now, and wait no longer.
            if request.no_wait && request.got > 0 {
                self.dismiss(at, "404 No Messages", false, cx);
                continue;
            }
            if let Some((every, next)) = request.heartbeat
                && next <= now
            {
                let reply = request.reply.clone();
                self.beat(&reply, cx);
                if let Some(request) = self.pull.waiting.get_mut(at) {
                    request.heartbeat = Some((every, now + every));
                }
            }
            at += 1;
        }
    }
}
