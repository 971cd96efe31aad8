//! Questions about the streams, which only the storage thread can answer.
//!
//! ```text
//!   a page of the monitor ── Question ──> Inquiry ── bell ──> the storage thread, between two commits ──> the answer
//! ```

#![cfg_attr(not(feature = "jetstream"), expect(dead_code, reason = "without streams nobody answers"))]

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use midge_inquiry::{Missing, Sums, Wanted};
use tokio::sync::oneshot;

/// How long an answer may take: a disk that hangs does not hang who asks whether the daemon is well.
const PATIENCE: Duration = Duration::from_secs(2);

/// Questions that wait at most.
const WAITING_MAX: usize = 256;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// [`Answer::Sums`].
    Sums,
    /// [`Answer::Sums`] and [`Answer::Report`].
    Report(Wanted),
    /// [`Answer::Report`] on one account, or [`Answer::Missing`].
    Account(Wanted),
    /// Whether an account, a stream and a consumer are there, as far as they are named.
    Find { account: String, stream: String, consumer: String },
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Sums(Sums),
    /// Members of a JSON object, without its braces; not empty.
    Report(Sums, String),
    Missing(Missing),
    Found,
}

/// There is no answer in time: the storage thread waits for its disk, or too much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unresponsive;

impl fmt::Display for Unresponsive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the streams don't answer: their disk may hang")
    }
}

/// Questions that wait, and whom they are answered by.
#[derive(Default)]
pub(crate) struct Inquiry {
    waiting: Mutex<Vec<(Question, oneshot::Sender<Answer>)>>,
    /// The accounts that have streams.
    accounts: Mutex<BTreeSet<String>>,
}

impl Inquiry {
    /// The answer, if it comes in time. `ring` wakes who answers.
    pub(crate) async fn ask(&self, question: Question, ring: impl FnOnce()) -> Result<Answer, Unresponsive> {
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= WAITING_MAX {
                return Err(Unresponsive);
            }
            waiting.push((question, sender));
        }
        ring();
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        answer.map_err(|_| Unresponsive)?.map_err(|_| Unresponsive)
    }

    /// Whether an account has streams.
    pub(crate) fn has_streams(&self, account: &str) -> bool {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).contains(account)
    }
}

#[cfg(feature = "jetstream")]
impl Inquiry {
    /// What is to be answered now.
    pub(crate) fn take(&self) -> Vec<(Question, oneshot::Sender<Answer>)> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The accounts that have streams now.
    pub(crate) fn set_accounts<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.clear();
        accounts.extend(names.map(str::to_owned));
    }
}
