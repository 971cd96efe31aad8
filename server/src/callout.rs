//! Carries questions about users to services that are clients themselves, and answers back.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use midge_broker::{Answer, CALLOUT_SUBJECT, Callout, MailboxId, Post, Question};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::clock::entropy;
use crate::hub::Hub;

/// Bytes of answers that wait at most. One that doesn't fit is no answer.
pub(crate) const MAIL_BYTES_MAX: usize = 1024 * 1024;

/// The questions that wait for an answer: one for each connection at most.
#[derive(Debug)]
pub(crate) struct Courier {
    mailbox: Option<MailboxId>,
    open: Mutex<HashMap<u64, oneshot::Sender<Bytes>>>,
}

impl Courier {
    pub(crate) fn new(mailbox: Option<MailboxId>) -> Self {
        Self { mailbox, open: Mutex::default() }
    }

    /// Hands answers to those who wait, until the task is aborted.
    pub(crate) async fn run(hub: &Hub) {
        let Some(mailbox) = hub.courier.mailbox else { return };
        let Some(bell) = hub.bell(mailbox) else { return };
        loop {
            bell.notified().await;
            for letter in hub.look(|broker, _| broker.take_letters(mailbox)) {
                if let Some(waiting) = hub.courier.open().remove(&letter.tag) {
                    // Whoever waited may have gone.
                    let _ = waiting.send(Bytes::copy_from_slice(letter.payload()));
                }
            }
        }
    }

    /// Asks a service, and waits for its answer.
    pub(crate) async fn ask(hub: &Hub, callout: Box<Callout>) -> (Question, Answer) {
        let carried = Self::carry(hub, &callout).await;
        let read = match carried {
            Err(why) => Err(why),
            Ok(answer) => {
                let callout = callout.clone();
                let reading = tokio::task::spawn_blocking(move || callout.read(&answer).map(Box::new));
                reading.await.unwrap_or_else(|error| Err(error.to_string()))
            }
        };
        (Question::Callout(callout), Answer::Consulted(read))
    }

    async fn carry(hub: &Hub, callout: &Callout) -> Result<Bytes, String> {
        let account = callout.account.clone();
        let signing = {
            let (callout, nonce) = (callout.clone(), entropy());
            tokio::task::spawn_blocking(move || callout.message(nonce))
        };
        let (header, payload) = signing.await.map_err(|error| error.to_string())?;
        let Some(mailbox) = hub.courier.mailbox else { return Err("no room for answers".into()) };
        let (sender, answered) = oneshot::channel();
        let tag = u64::from_le_bytes(entropy());
        let reply = format!("_INBOX.{:032x}", u128::from_le_bytes(entropy()));
        hub.courier.open().insert(tag, sender);
        let (asked, _) = hub.turn(|broker, now| {
            let account = broker.account_named(&callout.account)?;
            let sub = broker.subscribe_inside(account, reply.as_bytes(), mailbox, tag)?;
            let post = Post {
                subject: CALLOUT_SUBJECT.as_bytes(),
                reply: Some(reply.as_bytes()),
                header: &header,
                payload: &payload,
                ..Post::default()
            };
            let heard = midge_wire::inject(broker, account, &post, now);
            Some((sub, heard))
        });
        let answer = match asked {
            Some((_, true)) => timeout(callout.timeout, answered).await.ok().and_then(Result::ok),
            _ => None,
        };
        hub.courier.open().remove(&tag);
        if let Some((sub, _)) = asked {
            hub.turn(|broker, _| broker.unsubscribe_inside(sub));
        }
        match (asked, answer) {
            (_, Some(answer)) => Ok(answer),
            (Some((_, true)), None) => {
                Err(format!("Authorization callout response not received in time on account {account:?}"))
            }
            _ => Err(format!("Nobody listens to authorization callouts on account {account:?}")),
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Bytes>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
