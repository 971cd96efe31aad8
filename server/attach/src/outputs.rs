//! What the engine says, done in the broker.

use std::collections::HashMap;

use bytes::Bytes;
use midge_broker::{AccountId, Broker, Heard, InsideSub, MailboxId, Now, Port, Post, StreamStep};
use midge_stream::{Fate, Input, Output, Receipt, Tag};

use crate::accounts::Accounts;

/// What was done, as far as more may follow from it.
pub struct Outputs {
    mailbox: MailboxId,
    subs: HashMap<(Tag, Bytes), InsideSub>,
    /// Messages that reached nobody.
    lost: Vec<(Receipt, Bytes)>,
}

impl Outputs {
    /// Of an engine whose letters come into this mailbox.
    pub fn new(mailbox: MailboxId) -> Self {
        Self { mailbox, subs: HashMap::new(), lost: Vec::new() }
    }

    /// Some messages reached nobody, of which the engine is to hear.
    pub fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Lets `hear` have each message that reached nobody.
    pub fn take_lost(&mut self, mut hear: impl FnMut(Input<'_>)) {
        for (receipt, subject) in std::mem::take(&mut self.lost) {
            hear(Input::Lost { receipt, subject: &subject });
        }
    }

    /// Does what the engine says, as far as the account is still there. `inject` is [`Broker::inject`], compiled where the
    /// driver wants it. Gives the bytes of header and payload that were published.
    pub fn act<P: Port>(
        &mut self,
        broker: &mut Broker<P>,
        accounts: &Accounts,
        output: Output,
        now: Now,
        inject: impl FnOnce(&mut Broker<P>, AccountId, &Post<'_>, Now) -> bool,
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
                let delivered = inject(broker, id, &post, now);
                if let Some(receipt) = publish.receipt.filter(|_| !delivered) {
                    self.lost.push((receipt, publish.subject));
                }
                publish.header.len() + publish.payload.len()
            }
        }
    }
}
