//! The one judge of all tiers: given what was asked and answered before a fault, is what the store holds afterwards
//! allowed?
//!
//! - P1: every acknowledged message is readable, or named as damaged, or was removed by what its stream keeps.
//! - P2: nothing is readable that wasn't published, bytes are equal, and what was deleted with an acknowledgement is gone.
//! - P3: what one connection published is in the order in which it did.
//! - P4: a sequence number that was acknowledged is never given to another message.
//! - P5: the store starts, every stream that was acknowledged is there and takes new messages.
//! - P6: a consumer's floor is never past what it acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::history::{Answer, Deed, History, Keeps, STREAMS, body, number_in};

/// What a store holds, read message by message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// By name; a stream that the store doesn't know has no entry.
    pub streams: BTreeMap<&'static str, Held>,
}

/// What a stream holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// First and last sequence number by its own account.
    pub bounds: (u64, u64),
    /// Readable messages: subject and body.
    pub messages: BTreeMap<u64, (String, Vec<u8>)>,
    /// Sequence numbers that the store itself names as damaged.
    pub damaged: BTreeSet<u64>,
    /// The consumer's floor, if the stream has a consumer.
    pub floor: Option<u64>,
}

/// What is wrong, counted; all zero is right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// P1: acknowledged, due, neither readable nor named.
    pub lost: u64,
    /// Acknowledged, not readable, but named as damaged: allowed where something was damaged.
    pub named: u64,
    /// P2: readable and never published, or with other bytes or another subject.
    pub foreign: u64,
    /// P2: deleted or purged with an acknowledgement, and readable.
    pub risen: u64,
    /// P3: pairs out of order.
    pub disorder: u64,
    /// P4: an acknowledged sequence number holds or was given to another message.
    pub reused: u64,
    /// P5: streams that are gone, or refuse a new message; or the whole store, which counts as all of them.
    pub unavailable: u64,
    /// P6: floors past what was acknowledged.
    pub floor_ahead: u64,
    /// Acknowledgements of deliveries that were confirmed and are forgotten: delivered again, which is allowed.
    pub forgotten: u64,
    /// The first few violations in words.
    pub words: Vec<String>,
}

impl Verdict {
    /// True if nothing is wrong. Named damage is not wrong; whether it may be is the tier's to say.
    pub fn right(&self) -> bool {
        self.lost
            + self.foreign
            + self.risen
            + self.disorder
            + self.reused
            + self.unavailable
            + self.floor_ahead
            == 0
    }

    /// Adds another verdict's counts.
    pub fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.named += other.named;
        self.foreign += other.foreign;
        self.risen += other.risen;
        self.disorder += other.disorder;
        self.reused += other.reused;
        self.unavailable += other.unavailable;
        self.floor_ahead += other.floor_ahead;
        self.forgotten += other.forgotten;
        for words in &other.words {
            self.say(|| words.clone());
        }
    }

    /// Adds to the words, while they are few.
    pub fn say(&mut self, words: impl FnOnce() -> String) {
        if self.words.len() < 8 {
            self.words.push(words());
        }
    }

    /// The verdict on a store that doesn't start.
    pub fn dead(history: &History, why: &str) -> Self {
        let streams = history.entries.iter().filter(|entry| {
            matches!(entry.deed, Deed::Create(_)) && matches!(entry.answered, Some((_, Answer::Done(_))))
        });
        let unavailable = (streams.count() as u64).max(1);
        Self {
            unavailable,
            lost: history.acked_count() as u64,
            words: vec![format!("does not start: {why}")],
            ..Self::default()
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lost {} named {} foreign {} risen {} disorder {} reused {} unavailable {} floor-ahead {} forgotten {}",
            self.lost,
            self.named,
            self.foreign,
            self.risen,
            self.disorder,
            self.reused,
            self.unavailable,
            self.floor_ahead,
            self.forgotten
        )
    }
}

/// Judges what a store holds after a fault against what was asked and answered before it.
pub fn judge(history: &History, dump: &Dump) -> Verdict {
    let mut verdict = Verdict::default();
    for stream in STREAMS {
        let created = history.entries.iter().find(|entry| entry.deed == Deed::Create(stream));
        let Some(created) = created else {
            if dump.streams.contains_key(stream.name) {
                verdict.foreign += 1;
                verdict.say(|| format!("P2: stream {} that nobody made", stream.name));
            }
            continue;
        };
        let acked = history.acked(stream.name);
        let Some(held) = dump.streams.get(stream.name) else {
            if matches!(created.answered, Some((_, Answer::Done(_)))) {
                verdict.unavailable += 1;
                verdict.lost += acked.len() as u64;
                verdict.say(|| format!("P5: stream {} is gone, with {} messages", stream.name, acked.len()));
            }
            continue;
        };
        judge_stream(history, stream.name, stream.keeps, &acked, held, &mut verdict);
    }
    verdict
}

fn judge_stream(
    history: &History,
    stream: &'static str,
    keeps: Keeps,
    acked: &BTreeMap<u64, usize>,
    held: &Held,
    verdict: &mut Verdict,
) {
    // What may be gone, and what must be.
    let mut may_be_gone = BTreeSet::new();
    let mut must_be_gone = BTreeSet::new();
    for entry in &history.entries {
        let seqs: Vec<u64> = match &entry.deed {
            Deed::Delete { stream: of, seq } if *of == stream => vec![*seq],
            Deed::Purge { stream: of, through } if *of == stream => {
                acked.range(..=through).map(|(seq, _)| *seq).collect()
            }
            _ => continue,
        };
        if matches!(entry.answered, Some((_, Answer::Done(_)))) {
            must_be_gone.extend(seqs.iter().copied());
        }
        may_be_gone.extend(seqs);
    }

    // P2, P3, P4: each readable message.
    let mut last_number = None;
    for (seq, (subject, bytes)) in &held.messages {
        let number = number_in(history.seed, bytes);
        let published =
            number.and_then(|number| match history.entries.get(number).map(|entry| &entry.deed) {
                Some(Deed::Publish { stream: to, subject, length }) if *to == stream => {
                    Some((number, subject, body(history.seed, number, *length)))
                }
                _ => None,
            });
        match published {
            Some((number, wanted, whole)) if *wanted == *subject && whole == *bytes => {
                if acked.get(seq).is_some_and(|of| *of != number) {
                    verdict.reused += 1;
                    verdict.say(|| {
                        format!("P4: {stream} {seq} holds another message than was acknowledged there")
                    });
                }
                if last_number.is_some_and(|last| last >= number) {
                    verdict.disorder += 1;
                    verdict.say(|| format!("P3: {stream} {seq} is out of order or there twice"));
                }
                last_number = Some(number);
            }
            _ => {
                verdict.foreign += 1;
                verdict.say(|| {
                    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
                    format!(
                        "P2: {stream} {seq} on {subject:?} was never published: {start:?}, {} bytes",
                        bytes.len()
                    )
                });
            }
        }
        if must_be_gone.contains(seq) {
            verdict.risen += 1;
            verdict.say(|| format!("P2: {stream} {seq} was deleted and is back"));
        }
    }

    // P1: each acknowledged message.
    let newest = held.messages.keys().next_back().copied().unwrap_or(0).max(held.bounds.1);
    let mut newest_of: BTreeMap<&str, u64> = BTreeMap::new();
    for (seq, (subject, _)) in &held.messages {
        newest_of.insert(subject, *seq);
    }
    let subject_of = |number: usize| match &history.entries[number].deed {
        Deed::Publish { subject, .. } => subject.as_str(),
        _ => "",
    };
    let mut newest_acked_of: BTreeMap<&str, u64> = BTreeMap::new();
    for (seq, number) in acked {
        newest_acked_of.insert(subject_of(*number), *seq);
    }
    let published: Vec<usize> = history
        .entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| matches!(&entry.deed, Deed::Publish { stream: to, .. } if *to == stream))
        .map(|(number, _)| number)
        .collect();
    for (seq, number) in acked {
        if held.messages.contains_key(seq) || may_be_gone.contains(seq) {
            continue;
        }
        let removed = match keeps {
            Keeps::All => false,
            Keeps::Newest(count) => {
                // Published after it, and answered or not: these may have pushed it out.
                let after = published.len() - published.partition_point(|other| other <= number);
                newest >= seq + count && after as u64 >= count
            }
            // The oldest went, and nothing from the middle; never all of them.
            Keeps::Room => held.messages.keys().next().is_some_and(|first| first > seq),
            // A newer one that was acknowledged is judged in its own right.
            Keeps::Latest => [&newest_of, &newest_acked_of]
                .into_iter()
                .any(|newest| newest.get(subject_of(*number)).is_some_and(|newest| newest > seq)),
        };
        if removed {
            continue;
        }
        if held.damaged.contains(seq) {
            verdict.named += 1;
        } else {
            verdict.lost += 1;
            verdict.say(|| {
                format!("P1: {stream} {seq} was acknowledged and is gone; the stream says {:?}", held.bounds)
            });
        }
    }

    judge_floor(history, stream, acked, &may_be_gone, held, verdict);
}

fn judge_floor(
    history: &History,
    stream: &'static str,
    acked: &BTreeMap<u64, usize>,
    may_be_gone: &BTreeSet<u64>,
    held: &Held,
    verdict: &mut Verdict,
) {
    let mut asked = BTreeSet::new();
    let mut confirmed = BTreeSet::new();
    for entry in &history.entries {
        if let Deed::Acknowledge { stream: of, seq } = &entry.deed
            && *of == stream
        {
            asked.insert(*seq);
            if matches!(entry.answered, Some((_, Answer::Done(_)))) {
                confirmed.insert(*seq);
            }
        }
    }
    let Some(floor) = held.floor else {
        if !confirmed.is_empty() {
            verdict.unavailable += 1;
            verdict.say(|| format!("P5: the consumer of {stream} is gone"));
        }
        return;
    };
    let unasked = acked.range(..=floor).find(|(seq, _)| !asked.contains(seq) && !may_be_gone.contains(seq));
    if floor > 0
        && (unasked.is_some() || asked.is_empty() || floor > asked.iter().next_back().copied().unwrap_or(0))
    {
        verdict.floor_ahead += 1;
        verdict.say(|| format!("P6: the floor of {stream} is {floor}; {unasked:?} was never acknowledged"));
    }
    let due = acked
        .keys()
        .take_while(|seq| confirmed.contains(seq) || may_be_gone.contains(seq))
        .filter(|seq| confirmed.contains(seq));
    verdict.forgotten += due.filter(|seq| **seq > floor).count() as u64;
}

/// Judges the answers to new messages after a fault: P4 for their numbers, P5 for whether they were taken.
pub fn judge_more(before: &History, dump: &Dump, more: &[(&'static str, Option<Answer>)]) -> Verdict {
    let mut verdict = Verdict::default();
    for (stream, answer) in more {
        let known = before.last_acked(stream);
        let shown =
            dump.streams.get(stream).and_then(|held| held.messages.keys().next_back().copied()).unwrap_or(0);
        match answer {
            Some(Answer::Done(seq)) if *seq <= known || *seq <= shown => {
                verdict.reused += 1;
                verdict.say(|| format!("P4: {stream} gave {seq} again, it had acknowledged up to {known}"));
            }
            Some(Answer::Done(_)) => {}
            _ if !dump.streams.contains_key(stream) => {} // gone, and judged as that
            other => {
                verdict.unavailable += 1;
                verdict.say(|| format!("P5: {stream} takes no message: {other:?}"));
            }
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Entry, KEYS, LOG, RING, ROLL, SCRAP, Stream};

    fn created(stream: Stream) -> Entry {
        Entry { deed: Deed::Create(stream), asked: 0, answered: Some((0, Answer::Done(0))) }
    }

    fn published(stream: Stream, subject: &str, seq: Option<u64>) -> Entry {
        let deed = Deed::Publish { stream: stream.name, subject: subject.into(), length: 40 };
        Entry { deed, asked: 0, answered: seq.map(|seq| (0, Answer::Done(seq))) }
    }

    fn done(deed: Deed) -> Entry {
        Entry { deed, asked: 0, answered: Some((0, Answer::Done(0))) }
    }

    fn history(entries: Vec<Entry>) -> History {
        History { seed: 5, entries }
    }

    fn held(stream: &'static str, messages: &[(u64, &str, usize)]) -> Dump {
        let messages: BTreeMap<_, _> = messages
            .iter()
            .map(|(seq, subject, number)| (*seq, (subject.to_string(), body(5, *number, 40))))
            .collect();
        let bounds = (1, messages.keys().next_back().copied().unwrap_or(0));
        Dump { streams: BTreeMap::from([(stream, Held { bounds, messages, ..Held::default() })]) }
    }

    #[test]
    fn what_is_whole_is_right() {
        let past =
            history(vec![created(LOG), published(LOG, "log.a", Some(1)), published(LOG, "log.b", None)]);
        for dump in [held("log", &[(1, "log.a", 1)]), held("log", &[(1, "log.a", 1), (2, "log.b", 2)])] {
            assert_eq!(judge(&past, &dump), Verdict::default());
        }
    }

    #[test]
    fn a_loss_is_found_unless_it_is_named() {
        let past =
            history(vec![created(LOG), published(LOG, "log.a", Some(1)), published(LOG, "log.b", Some(2))]);
        let mut dump = held("log", &[(1, "log.a", 1)]);
        assert_eq!(judge(&past, &dump).lost, 1);
        dump.streams.get_mut("log").unwrap().damaged.insert(2);
        let verdict = judge(&past, &dump);
        assert!(verdict.right());
        assert_eq!(verdict.named, 1);
        assert_eq!(judge(&past, &Dump::default()).unavailable, 1);
        assert_eq!(judge(&past, &Dump::default()).lost, 2);
    }

    #[test]
    fn other_bytes_subjects_and_places_are_found() {
        let past =
            history(vec![created(LOG), published(LOG, "log.a", Some(1)), published(LOG, "log.b", Some(2))]);
        let mut dump = held("log", &[(1, "log.a", 1), (2, "log.b", 2)]);
        dump.streams.get_mut("log").unwrap().messages.get_mut(&2).unwrap().1[30] ^= 1;
        assert_eq!(judge(&past, &dump).foreign, 1);
        assert_eq!(judge(&past, &held("log", &[(1, "log.x", 1), (2, "log.b", 2)])).foreign, 1);
        let swapped = judge(&past, &held("log", &[(1, "log.b", 2), (2, "log.a", 1)]));
        assert_eq!((swapped.reused, swapped.disorder), (2, 1));
    }

    #[test]
    fn what_a_stream_does_not_keep_is_not_lost() {
        let mut entries = vec![created(ROLL)];
        entries.extend((1..=50).map(|seq| published(ROLL, "roll.a", Some(seq))));
        let all: Vec<_> = (11..=50).map(|seq| (seq, "roll.a", seq as usize)).collect();
        assert!(judge(&history(entries.clone()), &held("roll", &all)).right());
        assert_eq!(judge(&history(entries), &held("roll", &all[1..])).lost, 1);

        let mut entries = vec![created(RING)];
        entries.extend((1..=4).map(|seq| published(RING, "ring.a", Some(seq))));
        let (ring, message) = (history(entries), |seq| (seq, "ring.a", seq as usize));
        assert!(judge(&ring, &held("ring", &[message(3), message(4)])).right());
        assert_eq!(judge(&ring, &held("ring", &[message(1), message(3)])).lost, 2);
        assert_eq!(judge(&ring, &held("ring", &[])).lost, 4);

        let past = history(vec![
            created(KEYS),
            published(KEYS, "keys.a", Some(1)),
            published(KEYS, "keys.b", Some(2)),
            published(KEYS, "keys.a", Some(3)),
        ]);
        assert!(judge(&past, &held("keys", &[(2, "keys.b", 2), (3, "keys.a", 3)])).right());
        assert_eq!(judge(&past, &held("keys", &[(1, "keys.a", 1), (2, "keys.b", 2)])).lost, 1);
        assert_eq!(judge(&past, &held("keys", &[(3, "keys.a", 3)])).lost, 1);
    }

    #[test]
    fn the_deleted_stays_deleted() {
        let mut entries =
            vec![created(SCRAP), published(SCRAP, "scrap.a", Some(1)), published(SCRAP, "scrap.a", Some(2))];
        entries.push(done(Deed::Delete { stream: "scrap", seq: 1 }));
        assert_eq!(
            judge(&history(entries.clone()), &held("scrap", &[(1, "scrap.a", 1), (2, "scrap.a", 2)])).risen,
            1
        );
        assert!(judge(&history(entries.clone()), &held("scrap", &[(2, "scrap.a", 2)])).right());
        entries.push(done(Deed::Purge { stream: "scrap", through: 2 }));
        assert!(judge(&history(entries.clone()), &held("scrap", &[])).right());
        assert_eq!(judge(&history(entries), &held("scrap", &[(2, "scrap.a", 2)])).risen, 1);
    }

    #[test]
    fn a_floor_follows_acknowledgements() {
        let mut entries = vec![created(LOG)];
        entries.extend((1..=4).map(|seq| published(LOG, "log.a", Some(seq))));
        entries.extend([1, 2].map(|seq| done(Deed::Acknowledge { stream: "log", seq })));
        let mut dump = held("log", &[(1, "log.a", 1), (2, "log.a", 2), (3, "log.a", 3), (4, "log.a", 4)]);
        for (floor, ahead, forgotten) in [(2, 0, 0), (3, 1, 0), (1, 0, 1), (0, 0, 2), (3_000_000, 1, 0)] {
            dump.streams.get_mut("log").unwrap().floor = Some(floor);
            let verdict = judge(&history(entries.clone()), &dump);
            assert_eq!((verdict.floor_ahead, verdict.forgotten), (ahead, forgotten), "floor {floor}");
        }
        dump.streams.get_mut("log").unwrap().floor = None;
        assert_eq!(judge(&history(entries), &dump).unavailable, 1);
    }

    #[test]
    fn numbers_are_given_once() {
        let past = history(vec![created(LOG), published(LOG, "log.a", Some(7))]);
        let dump = held("log", &[(7, "log.a", 1)]);
        assert!(judge_more(&past, &dump, &[("log", Some(Answer::Done(8)))]).right());
        assert_eq!(judge_more(&past, &dump, &[("log", Some(Answer::Done(7)))]).reused, 1);
        assert_eq!(judge_more(&past, &dump, &[("log", None)]).unavailable, 1);
    }
}
