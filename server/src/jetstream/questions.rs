//! What those who watch the daemon want to know.

use midge_attach::Accounts;
use midge_inquiry::Missing;
use midge_stream::Engine;
use midge_stream::time::Now;

use crate::inquiry::{Answer, Question};

/// What is answered.
pub(super) fn answer(question: Question, engine: &Engine, accounts: &Accounts, now: Now) -> Answer {
    let tag = |name: &str| accounts.tag(name).unwrap_or(name).to_owned();
    let sums = engine.sums();
    match question {
        Question::Sums => Answer::Sums(sums),
        Question::Report(wanted) => Answer::Report(sums, members(&engine.report(&wanted, &tag, now))),
        Question::Account(wanted) => match engine.account_report(&wanted, &tag, now) {
            Some(report) => Answer::Report(sums, members(&report)),
            None => Answer::Missing(Missing::Account),
        },
        Question::Find { account, stream, consumer } => match engine.find(&account, &stream, &consumer) {
            Ok(()) => Answer::Found,
            Err(missing) => Answer::Missing(missing),
        },
    }
}

/// A JSON object's members.
fn members(report: &impl serde::Serialize) -> String {
    // It has string keys only, and memory takes everything.
    let json = serde_json::to_string(report).unwrap_or_default();
    json.strip_prefix('{').and_then(|json| json.strip_suffix('}')).unwrap_or_default().to_owned()
}
