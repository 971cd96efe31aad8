//! One subscription, as /connz and /subsz show it.

use midge_broker::{Account, Sub};
use serde::Serialize;
use smol_str::SmolStr;

use super::text::is_zero;

/// nats-server's `SubDetail`.
#[derive(Serialize)]
pub(super) struct SubDetail {
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    account: SmolStr,
    /// An account's name in an operator's JWT; else its name.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    account_tag: SmolStr,
    subject: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    qgroup: String,
    sid: String,
    msgs: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    cid: u64,
}

impl SubDetail {
    /// `sub` of connection `cid`, without its account's name.
    pub(super) fn new(account: &Account, sub: Sub<'_>, cid: u64) -> Self {
        let mut qgroup = Vec::new();
        account.router().queue_of(sub.id(), &mut qgroup);
        Self {
            account: SmolStr::default(),
            account_tag: SmolStr::default(),
            subject: subject(account, sub),
            qgroup: text(qgroup),
            sid: String::from_utf8_lossy(sub.sid()).into_owned(),
            msgs: sub.delivered(),
            max: sub.max().into(),
            cid,
        }
    }

    /// The same with its account's name.
    pub(super) fn in_account(self, account: &Account) -> Self {
        Self { account: account.name().into(), account_tag: account.tag().clone(), ..self }
    }
}

/// The filter of `sub`. Bytes that are not UTF-8 are shown as U+FFFD.
pub(super) fn subject(account: &Account, sub: Sub<'_>) -> String {
    let mut subject = Vec::new();
    account.router().filter_of(sub.id(), &mut subject);
    text(subject)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
