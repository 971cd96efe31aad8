//! What comes from the broker, as the engine reads it.

use midge_broker::{Interest, Letter, Now, Traced};
use midge_stream::time::Now as Moment;
use midge_stream::{Input, Message, Tag};

/// A message that came, or one that is traced.
pub fn input(letter: &Letter) -> Input<'_> {
    let message = message(letter);
    match letter.traced.as_deref().copied() {
        None => Input::Message(message),
        Some(Traced { number, only }) => Input::Traced { message, number, only },
    }
}

/// The message in a letter.
pub fn message(letter: &Letter) -> Message<'_> {
    Message {
        tag: Tag::from_bits(letter.tag),
        subject: letter.subject(),
        reply: letter.reply(),
        header: letter.header(),
        payload: letter.payload(),
    }
}

/// Somebody listens now to a subject that is watched, or nobody does.
pub fn interest(change: &Interest) -> Input<'_> {
    Input::Interest { tag: Tag::from_bits(change.tag), subject: &change.subject, exists: change.exists }
}

/// The broker's time, in which the wall clock is nanoseconds since the Unix epoch; after the year 2262, its end.
pub fn moment(now: Now) -> Moment {
    Moment { mono: now.mono, wall: i64::try_from(now.wall.as_nanos()).unwrap_or(i64::MAX) }
}
