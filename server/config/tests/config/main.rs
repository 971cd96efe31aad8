//! The crate from outside: the language, the keys, the command line, and a real nats-server beside us.

mod any_input;
mod args;
mod grammar;
mod options;
mod reference;

use midge_config::{MemoryFiles, Options, Report, World, load_text};

/// Loads a text that includes nothing, in an empty environment.
fn load(text: &str) -> Result<(Options, Report), Report> {
    load_text("test.conf", text.as_bytes(), World { files: &MemoryFiles::new(), environment: &|_| None })
}

/// The options of a text that is fine.
fn options(text: &str) -> Options {
    load(text).unwrap_or_else(|report| panic!("{text}\n{report}")).0
}

/// The first error about a text.
fn error(text: &str) -> String {
    match load(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(report) => report.errors.first().expect("a refused configuration has an error").to_string(),
    }
}
