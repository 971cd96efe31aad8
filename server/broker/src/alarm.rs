//! What the broker does at its own time, connections' deadlines aside.

use std::cmp::Reverse;

use midge_protocol::time::Instant;

use crate::account::AccountId;
use crate::broker::{Broker, Now};
use crate::conn::Port;

/// Something to do later. Each is set at most once at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    /// The time for an answer to a request in this account is over.
    Answers(AccountId),
    /// The server's figures are due, if somebody still listens.
    Statsz,
    /// An account's figures are due, if somebody still listens.
    Connections(AccountId),
    /// The time of an account begins or ends.
    AccountTimes,
}

impl<P: Port> Broker<P> {
    pub(crate) fn set_alarm(&mut self, at: Instant, alarm: Alarm) {
        self.alarms.push(Reverse((at, alarm)));
    }

    /// Sees to it that requests in an account end in time.
    pub(crate) fn arm_answers(&mut self, account: AccountId, at: Instant) {
        let Some(here) = self.accounts.get_mut(account.index()) else { return };
        if !std::mem::replace(&mut here.answers.armed, true) {
            self.set_alarm(at, Alarm::Answers(account));
        }
    }

    /// Does what is due.
    pub(crate) fn tick_alarms(&mut self, now: Now) {
        while let Some(Reverse((at, alarm))) = self.alarms.peek().copied() {
            if at > now.mono {
                break;
            }
            self.alarms.pop();
            match alarm {
                Alarm::Answers(account) => self.expire_answers(account, now),
                Alarm::Statsz => self.statsz_due(now),
                Alarm::Connections(account) => self.connections_due(account, now),
                Alarm::AccountTimes => self.account_times_due(now),
            }
        }
    }
}
