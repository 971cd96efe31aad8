//! The subscriptions that outlive a connection.

use super::{Error, Session, Sid, check_queue, end, number, word};
use crate::emit::Sink;
use crate::subject::Filter;

/// A table of up to `N` subscriptions, which asks for them again on each new connection.
///
/// `S` is how the caller keeps a subject: `&'static str`, a fixed-capacity string, a `Vec<u8>`. The table writes
/// nothing by itself: [`Subs::poll_transmit`] writes what is due.
///
/// Sids are not used twice, so that a late message for an ended subscription finds nobody.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Subs<S, const N: usize> {
    entries: [Option<Entry<S>>; N],
    /// Nine digits, and the bit [`IS_DUE`]: something is to be written.
    last_sid: u32,
}

const IS_DUE: u32 = 1 << 31;

#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Entry<S> {
    sid: Sid,
    subject: S,
    queue: Option<S>,
    /// Deliveries after which it ends, counted on this connection as the server does; 0: no end.
    max: u32,
    delivered: u32,
    due: Due,
}

/// What is to be written for an entry. A number, so that no entry is all zeros.
type Due = u8;
const NOTHING: Due = 0;
/// SUB, then UNSUB if there is a maximum.
const SUB: Due = 1;
/// UNSUB with the maximum.
const MAX: Due = 2;
/// UNSUB, then the entry goes.
const END: Due = 3;

impl<S: AsRef<[u8]>, const N: usize> Default for Subs<S, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: AsRef<[u8]>, const N: usize> Subs<S, N> {
    /// An empty table.
    pub fn new() -> Self {
        Self { entries: [const { None }; N], last_sid: Sid::INBOX.0 }
    }

    /// Adds a subscription.
    pub fn subscribe(&mut self, subject: S, queue: Option<S>) -> Result<Sid, Error> {
        Filter::new(subject.as_ref())?;
        check_queue(subject.as_ref(), queue.as_ref().map(S::as_ref))?;
        let place = self.entries.iter_mut().find(|place| place.is_none()).ok_or(Error::Full)?;
        // More digits are no sid of ours, see `line`.
        let last = self.last_sid & !IS_DUE;
        let sid = Sid(if last < 999_999_999 { last.wrapping_add(1) } else { 1 });
        self.last_sid = sid.0 | IS_DUE;
        *place = Some(Entry { sid, subject, queue, max: 0, delivered: 0, due: SUB });
        Ok(sid)
    }

    /// Ends a subscription: now, or after `max` deliveries counted from its start. An unknown sid is no error: it may
    /// just have ended.
    pub fn unsubscribe(&mut self, sid: Sid, max: Option<u32>) {
        self.last_sid |= IS_DUE;
        let Some(place) = place(&mut self.entries, sid) else { return };
        let Some(entry) = place else { return };
        match max {
            Some(max) if max > entry.delivered => {
                entry.max = max;
                if entry.due == NOTHING {
                    entry.due = MAX;
                }
            }
            // The server never heard of it.
            _ if entry.due == SUB => *place = None,
            _ => entry.due = END,
        }
    }

    /// Counts a message for `sid`. False if that subscription has ended: the message is to be dropped.
    pub fn handle_message(&mut self, sid: Sid) -> bool {
        let Some(place) = place(&mut self.entries, sid) else { return false };
        let Some(entry) = place else { return false };
        if entry.due == END {
            return false;
        }
        // With a maximum it ends before that wraps.
        entry.delivered = entry.delivered.wrapping_add(1);
        if entry.max > 0 && entry.delivered >= entry.max {
            // The server has ended it by itself, unless it was never told.
            if entry.due == NOTHING {
                *place = None;
            } else {
                entry.due = END;
                self.last_sid |= IS_DUE;
            }
        }
        true
    }

    /// The connection is gone: all that is still wanted is due again.
    pub fn handle_disconnect(&mut self) {
        self.last_sid |= IS_DUE;
        for place in &mut self.entries {
            let Some(entry) = place else { continue };
            if entry.due == END {
                *place = None;
                continue;
            }
            // The next server counts from zero.
            entry.max = entry.max.saturating_sub(entry.delivered);
            entry.delivered = 0;
            entry.due = SUB;
        }
    }

    /// True if [`Subs::poll_transmit`] has something to write.
    pub fn is_due(&self) -> bool {
        self.last_sid & IS_DUE != 0
    }

    /// Writes what is due; stops when something doesn't fit, and goes on from there when called again.
    pub fn poll_transmit(&mut self, session: &Session, out: &mut impl Sink) -> Result<(), Error> {
        session.can_speak()?;
        for place in &mut self.entries {
            let Some(entry) = place else { continue };
            while entry.due != NOTHING {
                let begin = out.position();
                if entry.due == SUB {
                    out.put(b"SUB ");
                    out.put(entry.subject.as_ref());
                    word(out, entry.queue.as_ref().map(S::as_ref));
                } else {
                    out.put(b"UNSUB");
                }
                number(out, entry.sid.0, false);
                if entry.due == MAX {
                    number(out, entry.max, false);
                }
                end(out, begin)?;
                if entry.due == END {
                    *place = None;
                    break;
                }
                entry.due = if entry.due == SUB && entry.max > 0 { MAX } else { NOTHING };
            }
        }
        self.last_sid &= !IS_DUE;
        Ok(())
    }

    /// The subscriptions, with their subjects.
    pub fn iter(&self) -> impl Iterator<Item = (Sid, &S)> {
        self.entries.iter().flatten().filter(|e| e.due != END).map(|entry| (entry.sid, &entry.subject))
    }

    /// The subject of `sid`.
    pub fn subject(&self, sid: Sid) -> Option<&S> {
        self.iter().find(|(known, _)| *known == sid).map(|(_, subject)| subject)
    }
}

fn place<S>(entries: &mut [Option<Entry<S>>], sid: Sid) -> Option<&mut Option<Entry<S>>> {
    entries.iter_mut().find(|place| place.as_ref().is_some_and(|entry| entry.sid == sid))
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Login};
    use super::*;
    use crate::emit::Slice;
    use crate::time::Instant;
    use std::string::String;

    /// A session that may speak.
    fn session() -> Session {
        let mut session = Session::new(Config::new(512), Instant::default());
        session.next(b"INFO {\"headers\":true}\r\n");
        session.connect(Instant::default(), &Login::ANONYMOUS, &mut Slice::new(&mut [0; 512])).unwrap();
        session
    }

    /// What is due, written into so many bytes.
    fn due<const N: usize>(subs: &mut Subs<&str, N>, room: usize) -> String {
        let mut buffer = [0; 256];
        let mut out = Slice::new(&mut buffer[..room]);
        let _ = subs.poll_transmit(&session(), &mut out);
        String::from_utf8(out.written().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_new_connection_is_asked_again() {
        let mut subs = Subs::<_, 3>::new();
        let (a, b) = (subs.subscribe("a.*", None).unwrap(), subs.subscribe("b", Some("q")).unwrap());
        assert_eq!(due(&mut subs, 256), "SUB a.* 1\r\nSUB b q 2\r\n");
        assert_eq!(due(&mut subs, 256), "");
        subs.unsubscribe(b, Some(3));
        assert_eq!(due(&mut subs, 256), "UNSUB 2 3\r\n");
        assert!(subs.handle_message(a) && subs.handle_message(b));
        subs.handle_disconnect();
        assert_eq!(due(&mut subs, 256), "SUB a.* 1\r\nSUB b q 2\r\nUNSUB 2 2\r\n");
        assert!(subs.handle_message(b) && subs.handle_message(b));
        assert!(!subs.handle_message(b), "the maximum is reached");
        assert_eq!(subs.iter().collect::<std::vec::Vec<_>>(), [(a, &"a.*")]);
    }

    #[test]
    fn what_does_not_fit_follows_later() {
        let mut subs = Subs::<_, 3>::new();
        let a = subs.subscribe("a", None).unwrap();
        subs.unsubscribe(a, Some(9));
        subs.subscribe("b", None).unwrap();
        assert_eq!(due(&mut subs, 15), "SUB a 1\r\n");
        assert_eq!(due(&mut subs, 15), "UNSUB 1 9\r\n");
        assert_eq!(due(&mut subs, 8), "");
        assert_eq!(due(&mut subs, 9), "SUB b 2\r\n");
    }

    #[test]
    fn ending() {
        let mut subs = Subs::<_, 1>::new();
        let a = subs.subscribe("a", None).unwrap();
        assert_eq!(subs.subscribe("b", None), Err(Error::Full));
        subs.unsubscribe(a, None);
        assert_eq!(due(&mut subs, 256), "", "the server never heard of it");
        let b = subs.subscribe("b", None).unwrap();
        due(&mut subs, 256);
        subs.unsubscribe(b, None);
        assert!(!subs.handle_message(b));
        assert_eq!(due(&mut subs, 256), "UNSUB 2\r\n");
        assert!(subs.subscribe("c", None).is_ok());
    }

    #[test]
    fn nothing_can_be_smuggled_in() {
        let mut subs = Subs::<_, 1>::new();
        assert!(matches!(subs.subscribe("a\r\nPING", None), Err(Error::Subject(_))));
        assert_eq!(subs.subscribe("a", Some("q r")), Err(Error::Queue));
        let long = "a".repeat(4096);
        assert_eq!(subs.subscribe(&long, None), Err(Error::ControlLine));
    }
}
