//! What of a consumer may change. Source: nats-server's `consumer.go` (`checkNewConsumerConfig`, `updateConfig`).

use super::Consumer;
use crate::config::ConsumerConfig;
use crate::cx::Cx;
use crate::error::{self, ApiError};
use crate::log::{Filters, Log};
use crate::time::Nanos;

impl Consumer {
    /// Makes it what `config`, which was checked, says.
    pub(crate) fn update(
        &mut self,
        config: ConsumerConfig,
        log: &dyn Log,
        cx: &mut Cx<'_>,
    ) -> Result<(), ApiError> {
        let (old, new) = (&*self.config, &config);
        for (differs, what) in [
            (old.deliver_policy != new.deliver_policy, "deliver policy can not be updated"),
            (old.mem_storage != new.mem_storage, "storage type can not be updated"),
            (old.direct != new.direct, "direct can not be updated"),
            (old.sourcing != new.sourcing, "sourcing can not be updated"),
            (old.opt_start_seq != new.opt_start_seq, "start sequence can not be updated"),
            (old.opt_start_time != new.opt_start_time, "start time can not be updated"),
            (old.ack_policy != new.ack_policy, "ack policy can not be updated"),
            (old.replay_policy != new.replay_policy, "replay policy can not be updated"),
            (old.idle_heartbeat != new.idle_heartbeat, "heart beats can not be updated"),
            (old.flow_control != new.flow_control, "flow control can not be updated"),
            (!old.is_push() && new.is_push(), "can not update pull consumer to push based"),
            (old.is_push() && !new.is_push(), "can not update push consumer to pull based"),
        ] {
            if differs {
                return Err(error::CONSUMER_CREATE.with(&[&what]));
            }
        }
        // Who made it a moment ago listens, as long as nothing else is known: else all who make it at once would have it.
        if old.deliver_subject != new.deliver_subject && (self.push.active || !self.push.known) {
            return Err(error::CONSUMER_NAME_EXIST.error());
        }
        if old.max_waiting != new.max_waiting {
            return Err(error::CONSUMER_CREATE.with(&[&"max waiting can not be updated"]));
        }
        let moved = old.deliver_subject != new.deliver_subject;
        let refiltered = old.filters() != new.filters();
        let paused = old.pause_until.unwrap_or(0) != new.pause_until.unwrap_or(0);
        if moved {
            self.unwatch_push(cx);
            (self.push.active, self.push.known) = (false, false);
        }
        *self.config = config;
        if moved {
            self.push.subject = self.config.deliver_subject.clone().into();
            self.watch_push(cx);
        }
        if refiltered {
            self.filters = Filters::new(self.config.filters());
            self.recount(log);
        }
        if paused {
            self.arm_pause(cx);
            self.event_paused(cx);
        }
        self.touched = true;
        self.changed();
        Ok(())
    }

    /// It was asked for again: one that is paused says so. Source: nats-server, seen.
    pub(crate) fn tell_pause(&self, cx: &mut Cx<'_>) {
        if self.paused_until(cx.now.wall).is_some() {
            self.event_paused(cx);
        }
    }

    /// Holds it until then; 0 lets it go on.
    pub(crate) fn pause(&mut self, until: Nanos, cx: &mut Cx<'_>) {
        let until = (until != 0).then_some(until);
        let differs = until.unwrap_or(0) != self.config.pause_until.unwrap_or(0);
        self.config.pause_until = until;
        self.touched = true;
        self.changed();
        if differs {
            self.arm_pause(cx);
            self.event_paused(cx);
        }
    }
}
