//! What the engine says, done in the broker.

use std::collections::HashMap;

use bytes::Bytes;
use midge_broker::{Broker, Heard, InsideSub, MailboxId, Now, Post, StreamStep};
use midge_stream::{Fate, Output, Receipt, Tag};
use midge_wire::Handle;

use super::accounts::Accounts;

/// What was done, as far as more may follow from it.
pub(super) struct Outputs {
    mailbox: MailboxId,
    subs: HashMap<(Tag, Bytes), InsideSub>,
    /// Messages that reached nobody.
    lost: Vec<(Receipt, Bytes)>,
}

impl Outputs {
    pub(super) fn new(mailbox: MailboxId) -> Self {
        Self { mailbox, subs: HashMap::new(), lost: Vec::new() }
    }

    /// Some messages reached nobody.
    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    pub(super) fn take_lost(&mut self) -> Vec<(Receipt, Bytes)> {
        std::mem::take(&mut self.lost)
    }

    /// Gives the bytes that it published.
    pub(super) fn act(
        &mut self,
        broker: &mut Broker<Handle>,
        accounts: &Accounts,
        output: Output,
        now: Now,
    ) -> usize {
        match output {
            Output::Subscribe { account, filter, tag } => {
                if let Some(id) = accounts.id(account)
                    && let Some(sub) = match (tag.takes_imports(), tag.is_told()) {
                        (true, _) => {
                            broker.subscribe_inside_and_imports(id, &filter, self.mailbox, tag.to_bits())
                        }
                        (_, true) => broker.subscribe_inside_told(id, &filter, self.mailbox, tag.to_bits()),
                        _ => broker.subscribe_inside(id, &filter, self.mailbox, tag.to_bits()),
                    }
                {
                    self.subs.insert((tag, filter), sub);
                }
                0
            }
            Output::Unsubscribe { filter, tag } => {
                if let Some(sub) = self.subs.remove(&(tag, filter)) {
                    broker.unsubscribe_inside(sub);
                }
                0
            }
            Output::Watch { account, subject, group, tag } => {
                let heard = group.as_deref().map_or(Heard::Anyhow, Heard::Literally);
                if let Some(id) = accounts.id(account) {
                    broker.watch(id, &subject, heard, self.mailbox, tag.to_bits());
                }
                0
            }
            Output::Unwatch { account, subject, tag } => {
                if let Some(id) = accounts.id(account) {
                    broker.unwatch(id, &subject, self.mailbox, tag.to_bits());
                }
                0
            }
            Output::Traced { number, fate } => {
                let said = fate.map(|fate| {
                    let Fate { stream, subject, no_interest, error } = fate;
                    StreamStep { stream, subject, no_interest, error }
                });
                broker.traced(number, said, now);
                0
            }
            Output::Publish(publish) => {
                let Some(id) = accounts.id(publish.account) else { return 0 };
                let post = Post {
                    subject: &publish.subject,
                    shown: publish.shown.as_deref(),
                    reply: publish.reply.as_deref(),
                    header: &publish.header,
                    payload: &publish.payload,
                };
                let delivered = midge_wire::inject(broker, id, &post, now);
                if let Some(receipt) = publish.receipt.filter(|_| !delivered) {
                    self.lost.push((receipt, publish.subject));
                }
                publish.header.len() + publish.payload.len()
            }
        }
    }
}
