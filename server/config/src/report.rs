//! What a reader of a configuration has to say: every error and every warning, each with its place.

use std::fmt;

use crate::value::Position;

/// One finding. Shown as `file:line:column: text`, or as the text alone if it belongs to no place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, if the finding is about something that was written.
    pub at: Option<Position>,
    /// What is wrong and what would be right. Never holds a secret.
    pub text: String,
}

impl Problem {
    /// A finding about something at `at`.
    pub fn new(at: &Position, text: impl Into<String>) -> Self {
        Self { at: Some(at.clone()), text: text.into() }
    }

    /// A finding about the whole.
    pub fn general(text: impl Into<String>) -> Self {
        Self { at: None, text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) => write!(f, "{at}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for Problem {}

/// All findings about one configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// With any of these the configuration is refused.
    pub errors: Vec<Problem>,
    /// Worth a look; the configuration works.
    pub warnings: Vec<Problem>,
}

impl Report {
    pub(crate) fn error(&mut self, at: &Position, text: impl Into<String>) {
        self.errors.push(Problem::new(at, text));
    }

    pub(crate) fn warn(&mut self, at: &Position, text: impl Into<String>) {
        self.warnings.push(Problem::new(at, text));
    }
}

impl fmt::Display for Report {
    /// Warnings first, then errors, one a line: the order in which nats-server prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.warnings.iter().chain(&self.errors).try_for_each(|problem| writeln!(f, "{problem}"))
    }
}

impl std::error::Error for Report {}
