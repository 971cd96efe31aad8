//! Requests: one subscription for all answers, one token for each.

use super::{Error, Session, Sid};
use crate::emit::Sink;
use crate::subject::{Filter, Subject};
use crate::time::Instant;
use core::num::NonZeroU32;

/// Where answers go: `_INBOX.` and 26 characters that nobody else has. Kept as the bits behind them; the text is made
/// when it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Inbox {
    random: [u8; 16],
}

const PREFIX: &[u8] = b"_INBOX.";
const ID_LEN: usize = 26;
/// With the point behind it.
const INBOX_LEN: usize = 7 + ID_LEN + 1;
const TOKEN_LEN: usize = 7;

impl Inbox {
    /// An inbox named by 128 random bits. Whoever can guess them can forge answers, where permissions let him.
    pub const fn new(random: [u8; 16]) -> Self {
        Self { random }
    }

    /// What to subscribe to: `_INBOX.<id>.*`.
    pub fn answers(&self) -> Answers {
        let filter = core::array::from_fn(|at| if at < INBOX_LEN { self.byte(at) } else { b'*' });
        Answers { filter }
    }

    /// The subject of the answer to request `token`.
    pub fn reply(&self, token: Token) -> Reply {
        let subject = core::array::from_fn(|at| match at.checked_sub(INBOX_LEN) {
            None => self.byte(at),
            Some(at) => letter((token.0.get() >> (at.wrapping_mul(5) & 31)) as u8),
        });
        Reply { subject }
    }

    /// The request that an answer on `subject` is for; `None` if it is none of this inbox.
    pub fn token(&self, subject: &[u8]) -> Option<Token> {
        let (prefix, text) = subject.split_at_checked(INBOX_LEN)?;
        if text.len() != TOKEN_LEN || prefix.iter().enumerate().any(|(at, byte)| *byte != self.byte(at)) {
            return None;
        }
        let token = text.iter().rev().try_fold(0u32, |token, byte| {
            let digit = ALPHABET.iter().position(|letter| letter == byte)? as u32;
            // Seven letters hold 35 bits; three of the last one's five are always clear.
            if token >> 27 == 0 { Some(token << 5 | digit) } else { None }
        })?;
        NonZeroU32::new(token).map(Token)
    }

    /// A byte of `_INBOX.<id>.`
    fn byte(&self, at: usize) -> u8 {
        if let Some(byte) = PREFIX.get(at) {
            return *byte;
        }
        let at = at.wrapping_sub(PREFIX.len());
        if at >= ID_LEN {
            return b'.';
        }
        let bit = at.wrapping_mul(5);
        let byte = |at: usize| u16::from(self.random.get(at).copied().unwrap_or(0));
        let two = byte(bit >> 3) | byte((bit >> 3).wrapping_add(1)) << 8;
        letter((two >> (bit & 7)) as u8)
    }
}

/// The filter of all answers to an [`Inbox`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    filter: [u8; INBOX_LEN + 1],
}

impl Answers {
    /// For [`Session::subscribe`].
    pub fn filter(&self) -> Filter<'_> {
        Filter::trusted(&self.filter)
    }
}

/// One request among those of an [`Inbox`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Token(NonZeroU32);

/// A subject that an answer goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    subject: [u8; INBOX_LEN + TOKEN_LEN],
}

impl Reply {
    /// For [`Publish::reply`](super::Publish).
    pub fn subject(&self) -> Subject<'_> {
        Subject::trusted(&self.subject)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Answers {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Answers({})", self.filter());
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Reply {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Reply({})", self.subject());
    }
}

/// What a message for [`Sid::INBOX`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Answer {
    /// The answer to this request, which ends.
    To(Token),
    /// The answer to a request that has ended.
    Late,
    /// No answer: what a stream's consumer delivers bears the subject that it was published to.
    Foreign,
}

/// Up to `N` requests that wait for their one answer each.
///
/// Subscribe once on each connection; then, for each request, [`Requests::begin`] and publish with its reply subject;
/// hand the messages for [`Sid::INBOX`] to [`Requests::handle_answer`]. Requests outlive a connection: they end with
/// an answer or at their deadline.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Requests<const N: usize> {
    inbox: Inbox,
    last: u32,
    waiting: [Option<Waiting>; N],
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Waiting {
    token: Token,
    deadline: Instant,
}

impl<const N: usize> Requests<N> {
    /// No requests yet, with an inbox of 128 random bits.
    pub const fn new(random: [u8; 16]) -> Self {
        Self { inbox: Inbox::new(random), last: 0, waiting: [None; N] }
    }

    /// Subscribes to the answers, under [`Sid::INBOX`].
    pub fn subscribe(&self, session: &Session, out: &mut impl Sink) -> Result<(), Error> {
        session.subscribe(Sid::INBOX, self.inbox.answers().filter(), None, out)
    }

    /// Begins to wait. [`Error::Full`] if `N` requests wait already.
    pub fn begin(&mut self, deadline: Instant) -> Result<(Token, Reply), Error> {
        let place = self.waiting.iter_mut().find(|place| place.is_none()).ok_or(Error::Full)?;
        self.last = self.last.wrapping_add(1).max(1);
        let token = Token(NonZeroU32::new(self.last).unwrap_or(NonZeroU32::MIN));
        *place = Some(Waiting { token, deadline });
        Ok((token, self.inbox.reply(token)))
    }

    /// Takes a message for [`Sid::INBOX`].
    pub fn handle_answer(&mut self, subject: &[u8]) -> Answer {
        match self.inbox.token(subject) {
            Some(token) if self.cancel(token) => Answer::To(token),
            Some(_) => Answer::Late,
            None => Answer::Foreign,
        }
    }

    /// Ends a request without an answer. False if it had ended.
    pub fn cancel(&mut self, token: Token) -> bool {
        self.take(|waiting| waiting.token == token).is_some()
    }

    /// When the next request has waited for too long.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().flatten().map(|waiting| waiting.deadline).min()
    }

    /// Ends a request whose deadline has passed. Call it until it gives `None`.
    pub fn next_expired(&mut self, now: Instant) -> Option<Token> {
        self.take(|waiting| waiting.deadline <= now)
    }

    fn take(&mut self, which: impl Fn(&Waiting) -> bool) -> Option<Token> {
        let place = self.waiting.iter_mut().find(|place| place.as_ref().is_some_and(&which))?;
        place.take().map(|waiting| waiting.token)
    }
}

/// Five bits as a letter: shifts only, no division, for the smallest processors.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn letter(bits: u8) -> u8 {
    ALPHABET.get(usize::from(bits & 31)).copied().unwrap_or(b'a')
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn a_token_survives_its_subject() {
        let inbox = Inbox::new(*b"0123456789abcdef");
        assert!(Filter::new(inbox.answers().filter().as_bytes()).is_ok());
        for token in [1, 31, 32, 1 << 27, u32::MAX] {
            let token = Token(NonZeroU32::new(token).unwrap());
            let reply = inbox.reply(token);
            assert!(Subject::new(reply.subject().as_bytes()).is_ok());
            assert!(inbox.answers().filter().matches(reply.subject().as_bytes()));
            assert_eq!(inbox.token(reply.subject().as_bytes()), Some(token));
        }
        let seven = Token(NonZeroU32::new(7).unwrap());
        let other = Inbox::new(*b"0123456789abcdeF").reply(seven);
        assert_eq!(inbox.token(other.subject().as_bytes()), None);
        let mut forged = inbox.reply(seven).subject;
        forged[INBOX_LEN + TOKEN_LEN - 1] = b'7';
        assert_eq!(inbox.token(&forged), None, "more than 32 bits");
    }

    #[test]
    fn requests_end_once() {
        let at = |ms| Instant::default().saturating_add(Duration::from_millis(ms));
        let mut requests = Requests::<2>::new([7; 16]);
        let (a, reply) = requests.begin(at(20)).unwrap();
        let (b, _) = requests.begin(at(10)).unwrap();
        assert_eq!(requests.begin(at(5)), Err(Error::Full));
        assert_eq!(requests.deadline(), Some(at(10)));
        assert_eq!(requests.next_expired(at(9)), None);
        assert_eq!(requests.next_expired(at(10)), Some(b));
        assert_eq!(requests.next_expired(at(10)), None);
        assert_eq!(requests.handle_answer(reply.subject().as_bytes()), Answer::To(a));
        assert_eq!(requests.handle_answer(reply.subject().as_bytes()), Answer::Late);
        assert_eq!(requests.handle_answer(b"plant.a"), Answer::Foreign);
        assert_eq!(requests.deadline(), None);
    }
}
