//! What the operator should hear of: values, because the core writes no log.

use std::fmt;

use midge_protocol::time::Instant;

/// How much an operator cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every operation on the wire.
    Trace,
    /// The life of each connection.
    Debug,
    /// What a calm log holds.
    Info,
    /// Something to look at.
    Warn,
    /// Something went wrong.
    Error,
}

/// How many lines a connection has earned lately. Whoever sends nothing but mistakes must not fill the log, which wears
/// out a card, and hides what others have to say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Noted {
    /// The period's number.
    period: u32,
    lines: u16,
    left_out: u16,
}

impl Noted {
    /// Seconds of a period, and lines that may be written in one.
    const PERIOD_S: u64 = 10;
    const LINES_MAX: u16 = 20;

    /// Counts a line. `None`: leave it out; else how many were left out since the last one that wasn't. Lines that
    /// somebody asked to see, debug and trace, are all written.
    pub(crate) fn count(&mut self, level: Level, now: Instant) -> Option<u16> {
        if level <= Level::Debug {
            return Some(0);
        }
        let period = u32::try_from(now.as_micros() / 1_000_000 / Self::PERIOD_S).unwrap_or(u32::MAX);
        if period != self.period {
            (self.period, self.lines) = (period, 0);
        }
        if self.lines >= Self::LINES_MAX {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// One line for the log.
#[derive(Clone, Debug)]
pub struct Notice {
    /// How much an operator cares.
    pub level: Level,
    /// The line, with the connection that it is about in front, as nats-server writes it.
    pub text: String,
}

impl Notice {
    pub(crate) fn new(level: Level, text: impl fmt::Display) -> Self {
        let text = text.to_string();
        let text = if text.chars().any(char::is_control) { one_line(&text) } else { text };
        Self { level, text }
    }
}

/// Control characters as escapes. Clients' words are in these lines: they must not make lines of their own, nor tell the
/// operator's terminal what to do.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_a_line_of_their_own() {
        let text = |text: &str| Notice::new(Level::Error, text).text;
        assert_eq!(text("User \"a\r\n[1] [INF] all is well\""), r#"User "a\r\n[1] [INF] all is well""#);
        assert_eq!(text("\u{1b}[2J\u{9b}31m \0 é"), "\\u{1b}[2J\\u{9b}31m \\u{0} é");
    }

    #[test]
    fn a_connection_that_makes_nothing_but_mistakes_goes_quiet() {
        let mut noted = Noted::default();
        let at = |second: u64| Instant::from_micros(second * 1_000_000);
        let written = (0..1000).filter(|_| noted.count(Level::Error, at(3)).is_some()).count();
        assert_eq!(written, usize::from(Noted::LINES_MAX));
        assert_eq!(noted.count(Level::Trace, at(3)), Some(0));
        assert_eq!(noted.count(Level::Error, at(13)), Some(980));
        assert_eq!(noted.count(Level::Error, at(13)), Some(0));
    }
}
