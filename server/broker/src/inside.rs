//! Subscribers and publishers inside the daemon: the system account's requests, streams, auth callouts.
//!
//! ```text
//!   publish ──> router ──> Inside{mailbox, tag} ──> Mailbox (bounded) ──> the driver: Broker::take_letters
//!                                                                             │
//!   subscribers <── router <───────────────────────────── Broker::inject <────┘ sooner or later
//! ```
//!
//! The broker never calls anybody: it puts a copy of the message into a mailbox and tells the driver, after the turn,
//! which mailboxes have mail ([`Broker::take_rings`]). Whoever empties a mailbox may take their time; what doesn't fit
//! into it was not delivered, so a requester who asked for that is told that nobody listens.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use midge_protocol::emit::{CRLF, Digits};
use midge_protocol::op::{Message, Size};
use midge_router::SubId;

use crate::account::AccountId;
use crate::account::service::info_header;
use crate::account::target::Target;
use crate::broker::{Broker, Now};
use crate::conn::{ConnId, Port};
use crate::system::ClientInfo;
use crate::watch::{Told, ToldQueue};

/// Where messages for one part of the daemon wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MailboxId(u8);

impl MailboxId {
    /// Requests to the server itself, see [`Broker::serve_requests`]. Every broker has this one.
    pub const SYSTEM: Self = Self(0);

    /// For use as an index; mailboxes are numbered in the order in which they were opened.
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// Bytes that wait for [`MailboxId::SYSTEM`] at most.
const SYSTEM_BYTES_MAX: usize = 1024 * 1024;
/// What is put together at once and kept for the next message.
const BODY_BYTES_KEPT: usize = 16 * 1024;
/// Bytes of letters' texts that share memory.
const TEXT_BYTES: usize = 16 * 1024;
/// Letters whose memory is kept for others.
const LETTERS_KEPT: usize = 256;
/// Mailboxes of one broker at most.
const MAILBOXES_MAX: u8 = 32;

/// A subscription of something inside the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inside {
    mailbox: MailboxId,
    tag: u64,
    /// It is told who publishes.
    told: bool,
}

impl Inside {
    /// It is told who publishes, which [`Broker::cross`] does.
    pub(crate) fn is_told(self) -> bool {
        self.told
    }
}

/// Names a subscription that [`Broker::subscribe_inside`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InsideSub {
    account: AccountId,
    id: SubId,
    inside: Inside,
}

/// A message's publisher wants to know what becomes of it: [`Broker::traced`] is to be called, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The trace.
    pub number: u64,
    /// Nothing is to become of it, but for what is told.
    pub only: bool,
}

/// A message for somebody inside the daemon. Those that wait together may share memory: they are to be gone together.
#[derive(Clone, Debug)]
pub struct Letter {
    /// What the subscriber called the subscription.
    pub tag: u64,
    /// The account that the subscription is in.
    pub account: AccountId,
    /// The connection that published, and its number, since ids are used again; none for messages from inside.
    pub from: Option<(ConnId, u64)>,
    /// With [`Broker::follow_traces`] only.
    pub traced: Option<Box<Traced>>,
    /// Subject, reply subject, header block, payload.
    text: Bytes,
    subject: u32,
    reply: u32,
    header: u32,
}

impl Letter {
    #[inline]
    fn part(&self, skip: &[u32], len: Option<u32>) -> &[u8] {
        let start: usize = skip.iter().map(|len| *len as usize).sum();
        let end = len.map_or(self.text.len(), |len| start + len as usize);
        self.text.get(start..end).unwrap_or_default()
    }

    /// Where it was published.
    #[inline]
    pub fn subject(&self) -> &[u8] {
        self.part(&[], Some(self.subject))
    }

    /// Where an answer is wanted.
    #[inline]
    pub fn reply(&self) -> Option<&[u8]> {
        Some(self.part(&[self.subject], Some(self.reply))).filter(|reply| !reply.is_empty())
    }

    /// The header block, from `NATS/1.0` to its empty line; empty if there is none.
    #[inline]
    pub fn header(&self) -> &[u8] {
        self.part(&[self.subject, self.reply], Some(self.header))
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.part(&[self.subject, self.reply, self.header], None)
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }
}

/// A message from inside the daemon.
#[derive(Clone, Copy, Debug, Default)]
pub struct Post<'a> {
    /// Who gets it: subscribers of this subject.
    pub subject: &'a [u8],
    /// The subject that they are shown, if it is another.
    pub shown: Option<&'a [u8]>,
    /// Where an answer is wanted.
    pub reply: Option<&'a [u8]>,
    /// The header block, from `NATS/1.0` to its empty line; empty for none.
    pub header: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

/// Messages that wait for one part of the daemon.
#[derive(Debug)]
pub(crate) struct Mailbox {
    letters: VecDeque<Letter>,
    /// Room for the texts of the next.
    room: BytesMut,
    bytes: usize,
    bytes_max: usize,
    /// Messages that did not fit.
    refused: u64,
}

impl Mailbox {
    fn new(bytes_max: usize) -> Self {
        Self { letters: VecDeque::new(), room: BytesMut::new(), bytes: 0, bytes_max, refused: 0 }
    }
}

/// All mailboxes, and which of them have mail that the driver wasn't told of.
#[derive(Debug)]
pub(crate) struct Mail {
    boxes: Vec<Mailbox>,
    told: ToldQueue,
    rings: u32,
    /// Mailboxes that are rung at when accounts change.
    followers: u32,
    /// Mailboxes that say what becomes of traced messages.
    tracers: u32,
    /// Where messages from inside are put together.
    body: Vec<u8>,
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            boxes: vec![Mailbox::new(SYSTEM_BYTES_MAX)],
            told: ToldQueue::new(),
            rings: 0,
            followers: 0,
            tracers: 0,
            body: Vec::new(),
        }
    }
}

/// Mailboxes that have mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings(u32);

impl Iterator for Rings {
    type Item = MailboxId;

    fn next(&mut self) -> Option<MailboxId> {
        let number = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        (number < u32::BITS).then_some(MailboxId(number as u8))
    }
}

impl Mail {
    /// Rings there whenever accounts change.
    pub(crate) fn follow(&mut self, mailbox: MailboxId) {
        self.followers |= 1 << mailbox.0;
    }

    /// Accounts have changed.
    pub(crate) fn ring_followers(&mut self) {
        self.rings |= self.followers;
    }

    pub(crate) fn traces(&self, inside: Inside) -> bool {
        self.tracers & 1 << inside.mailbox.0 != 0
    }

    /// A watched subject's interest has changed.
    pub(crate) fn tell(&mut self, told: Told) {
        self.rings |= 1 << told.2.0;
        self.told.push_back(told);
    }

    /// What a mailbox was not told of yet.
    pub(crate) fn take_told(&mut self, mailbox: MailboxId) -> ToldQueue {
        let (mine, others) = std::mem::take(&mut self.told).into_iter().partition(|told| told.2 == mailbox);
        self.told = others;
        mine
    }

    /// A copy of a message, for a subscriber inside. False if its mailbox is full.
    #[inline] // So that it is compiled as what calls it is.
    pub(crate) fn post(
        &mut self,
        to: Inside,
        account: AccountId,
        from: Option<(ConnId, u64)>,
        message: &Message<'_>,
    ) -> bool {
        let Some(mailbox) = self.boxes.get_mut(to.mailbox.index()) else { return false };
        let (reply, header, payload) =
            (message.reply.unwrap_or_default(), message.header(), message.payload());
        let parts = [message.subject, reply, header, payload];
        let len = parts.iter().map(|part| part.len()).sum();
        let bytes = size_of::<Letter>() + len;
        if mailbox.bytes + bytes > mailbox.bytes_max {
            mailbox.refused += 1;
            return false;
        }
        // The more come together, the more share memory; one that comes alone has no more than it needs.
        if mailbox.room.capacity() < len {
            mailbox.room = BytesMut::with_capacity(mailbox.bytes.min(TEXT_BYTES).max(len));
        }
        parts.iter().for_each(|part| mailbox.room.extend_from_slice(part));
        let text = mailbox.room.split().freeze();
        let len = |part: &[u8]| u32::try_from(part.len()).expect("a message has less than 4 GiB");
        let (subject, reply, header) = (len(message.subject), len(reply), len(header));
        mailbox.bytes += bytes;
        mailbox.letters.push_back(Letter {
            tag: to.tag,
            account,
            from,
            traced: None,
            text,
            subject,
            reply,
            header,
        });
        self.rings |= 1 << to.mailbox.0;
        true
    }
}

impl<P: Port> Broker<P> {
    /// Makes a place for messages of one more part of the daemon. `bytes_max` bounds what waits in it. `None` if there
    /// are 32 already.
    pub fn open_mailbox(&mut self, bytes_max: usize) -> Option<MailboxId> {
        let number = u8::try_from(self.mail.boxes.len()).ok().filter(|number| *number < MAILBOXES_MAX)?;
        self.mail.boxes.push(Mailbox::new(bytes_max));
        Some(MailboxId(number))
    }

    /// From now on messages that are traced come to `mailbox` with [`Letter::traced`].
    pub fn follow_traces(&mut self, mailbox: MailboxId) {
        self.mail.tracers |= 1 << mailbox.0;
    }

    /// Subscribes a part of the daemon: messages on `filter` in `account` go to `mailbox`, marked with `tag`. `None` if
    /// `filter` is none, or the account is gone or full.
    pub fn subscribe_inside(
        &mut self,
        account: AccountId,
        filter: &[u8],
        mailbox: MailboxId,
        tag: u64,
    ) -> Option<InsideSub> {
        self.subscribe_as(account, filter, Inside { mailbox, tag, told: false })
    }

    /// The same, and messages of connections say in their header `Nats-Request-Info` whose they are.
    pub fn subscribe_inside_told(
        &mut self,
        account: AccountId,
        filter: &[u8],
        mailbox: MailboxId,
        tag: u64,
    ) -> Option<InsideSub> {
        self.subscribe_as(account, filter, Inside { mailbox, tag, told: true })
    }

    fn subscribe_as(&mut self, account: AccountId, filter: &[u8], inside: Inside) -> Option<InsideSub> {
        let id = self.insert_target(account, filter, Target::Inside(inside))?;
        Some(InsideSub { account, id, inside })
    }

    /// The same, and messages that the account imports as streams come, too.
    pub fn subscribe_inside_and_imports(
        &mut self,
        account: AccountId,
        filter: &[u8],
        mailbox: MailboxId,
        tag: u64,
    ) -> Option<InsideSub> {
        let sub = self.subscribe_inside(account, filter, mailbox, tag)?;
        let found = self.accounts.get_mut(account.index())?;
        found.with_imports.insert(sub.id);
        if !found.ties.streams.is_empty() {
            self.add_beyond(account, sub.id, sub.inside);
        }
        Some(sub)
    }

    /// Ends such a subscription. Letters that wait stay. False if it ended before, with its account.
    pub fn unsubscribe_inside(&mut self, sub: InsideSub) -> bool {
        let account = self.accounts.get(sub.account.index());
        let target = account.and_then(|it| it.targets.get(it.subs.get(sub.id)?.conn()));
        let found = matches!(target, Some(Target::Inside(inside)) if *inside == sub.inside);
        if found {
            self.remove_shadows(sub.account, sub.id);
            self.accounts[sub.account.index()].with_imports.remove(&sub.id);
            self.remove_target(sub.account, sub.id);
        }
        found
    }

    /// Which mailboxes got mail since the last call. To be asked after every turn.
    pub fn take_rings(&mut self) -> Rings {
        Rings(std::mem::take(&mut self.mail.rings))
    }

    /// Empties a mailbox.
    pub fn take_letters(&mut self, mailbox: MailboxId) -> VecDeque<Letter> {
        let Some(from) = self.mail.boxes.get_mut(mailbox.index()) else { return VecDeque::new() };
        from.bytes = 0;
        from.room = BytesMut::new();
        std::mem::take(&mut from.letters)
    }

    /// Empties a mailbox into `letters`, which is empty. Its memory is used for what comes next.
    pub fn swap_letters(&mut self, mailbox: MailboxId, letters: &mut VecDeque<Letter>) {
        let Some(from) = self.mail.boxes.get_mut(mailbox.index()) else { return };
        from.bytes = 0;
        from.room = BytesMut::new();
        letters.clear();
        letters.shrink_to(LETTERS_KEPT);
        std::mem::swap(letters, &mut from.letters);
    }

    /// Empties a mailbox if there are at most `most` letters in it, `wanted` says yes to the tag of each, and there is nothing
    /// that [`Broker::take_interest`] would tell. None come if not.
    pub fn take_letters_if(
        &mut self,
        mailbox: MailboxId,
        most: usize,
        wanted: impl Fn(u64) -> bool,
    ) -> VecDeque<Letter> {
        let Some(from) = self.mail.boxes.get(mailbox.index()) else { return VecDeque::new() };
        let alone = self.mail.told.iter().all(|told| told.2 != mailbox);
        if alone && from.letters.len() <= most && from.letters.iter().all(|letter| wanted(letter.tag)) {
            self.take_letters(mailbox)
        } else {
            VecDeque::new()
        }
    }

    /// Letters in a mailbox.
    #[inline]
    pub fn letters_waiting(&self, mailbox: MailboxId) -> usize {
        self.mail.boxes.get(mailbox.index()).map_or(0, |from| from.letters.len())
    }

    /// Messages that a mailbox had no room for, ever.
    pub fn letters_refused(&self, mailbox: MailboxId) -> u64 {
        self.mail.boxes.get(mailbox.index()).map_or(0, |mailbox| mailbox.refused)
    }

    /// Publishes from inside: no permissions, no mappings, no echo. True if somebody got it.
    pub fn inject(&mut self, account: AccountId, post: &Post<'_>, now: Now) -> bool {
        if self.accounts.get(account.index()).is_none() {
            return false;
        }
        let mut body = std::mem::take(&mut self.mail.body);
        body.clear();
        for part in [post.header, post.payload, CRLF] {
            body.extend_from_slice(part);
        }
        let header = Digits::new(post.header.len() as u64);
        let size = Digits::new((body.len() - CRLF.len()) as u64);
        let message = Message {
            subject: post.shown.unwrap_or(post.subject),
            reply: post.reply,
            header_size: (!post.header.is_empty()).then(|| Size::from(&header)),
            size: Size::from(&size),
            body: &body,
        };
        let delivered = self.route(account, post.subject, ConnId::NOBODY, &message, None, now).delivered;
        if body.capacity() <= BODY_BYTES_KEPT {
            self.mail.body = body;
        }
        delivered
    }

    /// Asks the driver for the server's figures, to be published on `subject`.
    pub(crate) fn ask_statsz(&mut self, subject: &[u8]) {
        let Some(account) = self.system_account else { return };
        let none = Digits::new(0u64);
        let message = Message {
            subject: b"$SYS.REQ.SERVER.PING.STATSZ",
            reply: Some(subject),
            header_size: None,
            size: Size::from(&none),
            body: CRLF,
        };
        self.mail.post(Inside { mailbox: MailboxId::SYSTEM, tag: 0, told: false }, account, None, &message);
    }

    /// Hands a message to a subscriber inside. False if its mailbox is full.
    pub(crate) fn post_inside(
        &mut self,
        inside: Inside,
        account: AccountId,
        from: ConnId,
        message: &Message<'_>,
    ) -> bool {
        let publisher = self.conn(from).map(|conn| (from, conn.cid()));
        if inside.told && self.conn(from).is_some_and(|conn| conn.account == account) {
            return self.post_told(inside, account, from, message);
        }
        self.mail.post(inside, account, publisher, message)
    }

    /// The same, and says whose it is. What comes from other accounts says so already.
    #[cold]
    fn post_told(&mut self, inside: Inside, account: AccountId, from: ConnId, message: &Message<'_>) -> bool {
        // Tokens are nobody's business.
        let info = ClientInfo { jwt: Box::default(), ..self.client_info(from, account, true) };
        let header = info_header(message.header(), &info.to_json());
        let body = [&header, message.payload(), CRLF].concat();
        let size = Digits::new((body.len() - CRLF.len()) as u64);
        let header = Digits::new(header.len() as u64);
        let (header_size, size) = (Some(Size::from(&header)), Size::from(&size));
        let publisher = self.conn(from).map(|conn| (from, conn.cid()));
        self.mail.post(inside, account, publisher, &Message { header_size, size, body: &body, ..*message })
    }

    /// The same, and what becomes of it is to be said.
    #[cold]
    pub(crate) fn post_traced(
        &mut self,
        inside: Inside,
        account: AccountId,
        from: ConnId,
        message: &Message<'_>,
        traced: Traced,
    ) -> bool {
        let posted = self.post_inside(inside, account, from, message);
        let mailbox = self.mail.boxes.get_mut(inside.mailbox.index()).filter(|_| posted);
        if let Some(letter) = mailbox.and_then(|mailbox| mailbox.letters.back_mut()) {
            letter.traced = Some(Box::new(traced));
        }
        posted
    }
}
