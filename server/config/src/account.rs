//! Accounts: subject spaces of their own, and what crosses between them.

use std::time::Duration;

use midge_protocol::subject::{Filter, Subject};

use crate::auth::{Permissions, User};
use crate::block::{Block, block_of};
use crate::check::{percent, switch};
use crate::keys::Key;
use crate::options::GLOBAL_ACCOUNT;
use crate::report::Report;
use crate::transform::check_destination;
use crate::value::{Data, Position, Value, Written};

/// An account.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// Its name; not that of the global account.
    pub name: String,
    /// Its public nkey.
    pub nkey: Option<String>,
    /// Its users, default permissions applied.
    pub users: Vec<User>,
    /// Ceilings for the account as a whole.
    pub limits: AccountLimits,
    /// Its subject mappings.
    pub mappings: Vec<Mapping>,
    /// What it takes from other accounts.
    pub imports: Vec<Import>,
    /// What it offers to other accounts.
    pub exports: Vec<Export>,
    /// Its share of the streams; none: it has no streams.
    pub jetstream: Option<AccountJetStream>,
    /// Where messages with a trace header are reported to.
    pub trace_destination: Option<String>,
    /// How many of such messages are reported, in percent. Default 100.
    pub trace_percent: u8,
    /// Where the account was written.
    pub at: Written,
}

impl Account {
    pub(crate) fn read_all(root: &Block<'_>, report: &mut Report) -> Vec<Self> {
        let Some(value) = root.get("accounts") else { return Vec::new() };
        let mut accounts: Vec<Self> = match &value.data {
            Data::List(list) => list
                .iter()
                .filter_map(|value| match &value.data {
                    Data::Text(name) => Some(Self::named(name, &value.at)),
                    _ => None,
                })
                .collect(),
            Data::Map(map) => map
                .iter()
                .filter(|(_, entry)| !entry.used)
                .filter_map(|(name, entry)| {
                    Some(Self::read(
                        name,
                        &block_of(root.inner("accounts"), &entry.value)?,
                        &entry.value.at,
                        report,
                    ))
                })
                .collect(),
            _ => Vec::new(),
        };
        let mut seen = std::collections::HashSet::new();
        accounts.retain(|account| {
            let problem = match account.name.as_str() {
                GLOBAL_ACCOUNT => format!("{GLOBAL_ACCOUNT:?} is a Reserved Account"),
                name if !seen.insert(name.to_owned()) => format!("Duplicate Account Entry: {name}"),
                _ => return true,
            };
            report.error(&account.at.0, problem);
            false
        });
        accounts
    }

    fn named(name: &str, at: &Position) -> Self {
        Self {
            name: name.to_owned(),
            nkey: None,
            users: Vec::new(),
            limits: AccountLimits::default(),
            mappings: Vec::new(),
            imports: Vec::new(),
            exports: Vec::new(),
            jetstream: None,
            trace_destination: None,
            trace_percent: 100,
            at: Written(at.clone()),
        }
    }

    fn read(name: &str, block: &Block<'_>, at: &Position, report: &mut Report) -> Self {
        let default_permissions = Permissions::read(block, "default_permissions");
        let trace = block.block("msg_trace");
        let trace_destination = block.word("msg_trace").or_else(|| trace.as_ref()?.word("dest"));
        if let (Some(destination), Some(value)) = (&trace_destination, block.get("msg_trace"))
            && Subject::new(destination.as_bytes()).is_err()
        {
            report.error(&value.at, format!("Trace destination {destination:?} is not valid"));
        }
        let sampling = trace.as_ref().and_then(|trace| percent(&trace.get("sampling")?.data));
        Self {
            nkey: block.word("nkey"),
            users: User::read_all(block, default_permissions.as_ref(), report),
            limits: block.block("limits").map(|block| AccountLimits::read(&block)).unwrap_or_default(),
            mappings: Mapping::read_all(block, report),
            imports: Import::read_all(block, report),
            exports: block
                .blocks("exports")
                .into_iter()
                .filter_map(|block| Export::read(&block, report))
                .collect(),
            jetstream: AccountJetStream::read(block),
            trace_destination,
            trace_percent: sampling.unwrap_or(100),
            ..Self::named(name, at)
        }
    }
}

/// Ceilings for an account as a whole; none: no ceiling, written as 0 or less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountLimits {
    /// Connections at one time.
    pub connections_max: Option<u32>,
    /// Subscriptions at one time.
    pub subscriptions_max: Option<u32>,
    /// Bytes of a message.
    pub payload_bytes_max: Option<u32>,
    /// Leaf nodes at one time.
    pub leafnodes_max: Option<u32>,
}

impl AccountLimits {
    fn read(block: &Block<'_>) -> Self {
        Self {
            connections_max: block.ceiling("max_connections").flatten(),
            subscriptions_max: block.ceiling("max_subscriptions").flatten(),
            payload_bytes_max: block.ceiling("max_payload").flatten(),
            leafnodes_max: block.ceiling("max_leafnodes").flatten(),
        }
    }
}

/// An account's share of the streams; none: as much as the server has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountJetStream {
    /// Bytes in memory.
    pub memory_bytes_max: Option<u64>,
    /// Bytes on disk.
    pub file_bytes_max: Option<u64>,
    /// Streams.
    pub streams_max: Option<u32>,
    /// Consumers.
    pub consumers_max: Option<u32>,
    /// A stream must come with a ceiling of bytes. Default false.
    pub max_bytes_required: bool,
    /// Bytes of one stream in memory.
    pub memory_stream_bytes_max: Option<u64>,
    /// Bytes of one stream on disk.
    pub file_stream_bytes_max: Option<u64>,
    /// Unacknowledged messages of one consumer.
    pub ack_pending_max: Option<u32>,
}

impl AccountJetStream {
    fn read(account: &Block<'_>) -> Option<Self> {
        match &account.get("jetstream")?.data {
            Data::Bool(true) => Some(Self::default()),
            Data::Text(text) => (switch(text) == Some(true)).then(Self::default),
            _ => {
                let block = account.block("jetstream")?;
                let bytes = |name| block.int(name).and_then(|value| u64::try_from(value).ok());
                let count = |name| block.int(name).and_then(|value| u32::try_from(value).ok());
                Some(Self {
                    memory_bytes_max: bytes("max_memory"),
                    file_bytes_max: bytes("max_file"),
                    streams_max: count("max_streams"),
                    consumers_max: count("max_consumers"),
                    max_bytes_required: block.bool("max_bytes_required").unwrap_or_default(),
                    memory_stream_bytes_max: bytes("memory_max_stream_bytes"),
                    file_stream_bytes_max: bytes("store_max_stream_bytes"),
                    ack_pending_max: count("max_ack_pending"),
                })
            }
        }
    }
}

/// A subject and where its messages go instead. Of several mappings that fit, the first counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The subject, perhaps with wildcards.
    pub source: String,
    /// Where to: at least one. The weights for one cluster do not exceed 100 together.
    pub destinations: Vec<Destination>,
    /// Where the mapping was written.
    pub at: Written,
}

/// One destination of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The subject; its tokens may be transform functions.
    pub subject: String,
    /// The share of messages, in percent, 0 to 100.
    pub weight: u8,
    /// Only in the cluster of this name.
    pub cluster: Option<String>,
}

impl Mapping {
    /// Reads the `mappings` of the file or of an account, in the order of the text.
    pub(crate) fn read_all(block: &Block<'_>, report: &mut Report) -> Vec<Self> {
        let Some(Value { data: Data::Map(map), .. }) = block.get("mappings") else { return Vec::new() };
        let keys = block.inner("mappings");
        map.iter().filter_map(|(source, entry)| Self::read(source, &entry.value, keys, report)).collect()
    }

    fn read(source: &str, value: &Value, keys: &'static [Key], report: &mut Report) -> Option<Self> {
        let at = &value.at;
        if Filter::new(source.as_bytes()).is_err() {
            report.error(at, format!("Subject {source:?} is not a valid subject"));
            return None;
        }
        let destinations = match &value.data {
            Data::Text(subject) => vec![Destination { subject: subject.clone(), weight: 100, cluster: None }],
            Data::List(list) => {
                list.iter().filter_map(|value| Destination::read(value, keys, report)).collect()
            }
            _ => Destination::read(value, keys, report).into_iter().collect(),
        };
        for (i, destination) in destinations.iter().enumerate() {
            if let Err(text) = check_destination(source, &destination.subject) {
                report.error(at, text);
            }
            if destinations.iter().take(i).any(|other| other.subject == destination.subject) {
                report.error(at, format!("duplicate mapping destination {:?}", destination.subject));
            }
            let same = destinations.iter().take(i + 1).filter(|other| other.cluster == destination.cluster);
            if same.map(|other| u32::from(other.weight)).sum::<u32>() > 100 {
                report.error(at, format!("the weights of the mapping for {source:?} exceed 100%"));
                break;
            }
        }
        Some(Self { source: source.to_owned(), destinations, at: Written(at.clone()) })
    }
}

impl Destination {
    fn read(value: &Value, keys: &'static [Key], report: &mut Report) -> Option<Self> {
        let block = block_of(keys, value)?;
        let Some(weight) = block.get("weight") else {
            report.error(&value.at, "the mapping destination has no weight");
            return None;
        };
        let Some(weight) = percent(&weight.data) else {
            report.error(&weight.at, "the weight of a mapping destination is a percentage from 0 to 100");
            return None;
        };
        Some(Self {
            subject: block.word("destination").unwrap_or_default(),
            weight,
            cluster: block.word("cluster"),
        })
    }
}

/// What crosses between accounts: messages that flow one way, or requests and their answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// Messages that flow one way.
    Stream,
    /// Requests, and answers back.
    Service,
}

/// What an account offers to others.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// Messages or requests.
    pub crossing: Crossing,
    /// The subject, perhaps with wildcards.
    pub subject: String,
    /// The accounts that may import it. None: all.
    pub accounts: Option<Vec<String>>,
    /// What answers a request. Default: a single message.
    pub response: Response,
    /// How long an answer is waited for. Default 2 min.
    pub response_threshold: Option<Duration>,
    /// Where it is reported how long answers take.
    pub latency: Option<Latency>,
    /// The token of the subject, from 1, that must be the importing account's name.
    pub account_token: Option<u32>,
    /// Message traces may cross. Default false.
    pub allow_trace: bool,
    /// Where the export was written.
    pub at: Written,
}

/// Reports on how long answers take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Where reports go.
    pub subject: String,
    /// The share of requests in percent, 1 to 100. 0: those that ask for it in a header. Default 100.
    pub sampling: u8,
}

impl Latency {
    fn read(export: &Block<'_>, report: &mut Report) -> Option<Self> {
        let value = export.get("latency")?;
        let block = export.block("latency");
        let subject = export.word("latency").or_else(|| block.as_ref()?.word("subject"));
        let Some(subject) = subject else {
            report.error(&value.at, "Latency subject required, but missing");
            return None;
        };
        let sampling = match block.as_ref().and_then(|block| block.get("sampling")) {
            None => 100,
            Some(Value { data: Data::Text(text), .. }) if text.trim().eq_ignore_ascii_case("headers") => 0,
            Some(value) => match percent(&value.data) {
                Some(percent @ 1..) => percent,
                // The key's kind was checked and said.
                _ => return None,
            },
        };
        Some(Self { subject, sampling })
    }
}

/// What answers a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Response {
    /// One message.
    #[default]
    Single,
    /// Any number of messages.
    Stream,
    /// One message in pieces.
    Chunked,
}

impl Export {
    fn read(block: &Block<'_>, report: &mut Report) -> Option<Self> {
        let at = block.at()?;
        let (crossing, subject) = match (block.text("stream"), block.text("service")) {
            (Some(subject), None) => (Crossing::Stream, subject),
            (None, Some(subject)) => (Crossing::Service, subject),
            _ => {
                report.error(at, "an export is either a stream or a service");
                return None;
            }
        };
        let response = block.text("response_type").map(|text| text.to_ascii_lowercase());
        if crossing == Crossing::Stream {
            for name in ["response_type", "response_threshold", "latency", "allow_trace"] {
                if block.has(name) {
                    report.error(at, format!("Detected {name} directive on non-service"));
                }
            }
        }
        if Filter::new(subject.as_bytes()).is_err() {
            report.error(at, format!("subject {subject:?} is not a valid subject"));
        }
        Some(Self {
            crossing,
            subject,
            accounts: block.has("accounts").then(|| block.texts("accounts")),
            response: match response.as_deref() {
                Some("stream") => Response::Stream,
                Some("chunk" | "chunked") => Response::Chunked,
                _ => Response::Single,
            },
            response_threshold: block.nonzero_duration("response_threshold"),
            latency: Latency::read(block, report),
            account_token: block.nonzero("account_token_position"),
            allow_trace: block.bool("allow_trace").unwrap_or_default(),
            at: Written(at.clone()),
        })
    }
}

/// What an account takes from another.
#[derive(Clone, Debug, PartialEq)]
pub struct Import {
    /// Messages or requests.
    pub crossing: Crossing,
    /// The account that exports it.
    pub account: String,
    /// The subject there.
    pub subject: String,
    /// The subject here, if it is another.
    pub to: Option<String>,
    /// What the subject here begins with, before the subject there. Only for messages.
    pub prefix: Option<String>,
    /// The exporting account is told who asks. Default false.
    pub share: bool,
    /// Message traces may cross. Default false.
    pub allow_trace: bool,
    /// Where the import was written.
    pub at: Written,
}

impl Import {
    fn read_all(account: &Block<'_>, report: &mut Report) -> Vec<Self> {
        let blocks = account.blocks("imports").into_iter();
        let mut imports: Vec<_> = blocks.filter_map(|block| Self::read(&block, report)).collect();
        // Requests on one subject can not go to one account twice.
        let mut seen = std::collections::HashMap::new();
        imports.retain(|import| {
            let here = import.to.clone().unwrap_or_else(|| import.subject.clone());
            let key = (import.account.clone(), here);
            if import.crossing == Crossing::Stream {
                return true;
            }
            let earlier = seen.get(&key).cloned();
            if let Some(subject) = &earlier {
                let (account, here) = &key;
                let text = format!(
                    "Duplicate service import subject {here:?}, previously used in import for account {account:?}, \
                     subject {subject:?}"
                );
                report.error(&import.at.0, text);
            } else {
                seen.insert(key, import.subject.clone());
            }
            earlier.is_none()
        });
        imports
    }

    fn read(block: &Block<'_>, report: &mut Report) -> Option<Self> {
        let at = block.at()?;
        let (crossing, source) = match (block.block("stream"), block.block("service")) {
            (Some(source), None) => (Crossing::Stream, source),
            (None, Some(source)) => (Crossing::Service, source),
            _ => {
                report.error(at, "an import is either a stream or a service");
                return None;
            }
        };
        let (Some(account), Some(subject)) = (source.word("account"), source.word("subject")) else {
            report.error(at, "Expect an account name and a subject");
            return None;
        };
        let (to, prefix) = (block.word("to"), block.word("prefix"));
        if crossing == Crossing::Stream && to.is_some() && prefix.is_some() {
            report.error(at, "Stream import can not have a 'prefix' and a 'to' property");
        }
        if prefix.as_ref().is_some_and(|prefix| Subject::new(prefix.as_bytes()).is_err()) {
            report.error(
                at,
                format!(
                    "Error adding stream import {subject:?}: stream import prefix can not contain wildcard tokens"
                ),
            );
        }
        if crossing == Crossing::Service && block.has("allow_trace") {
            report.error(at, "Detected allow_trace directive on a non-stream");
        }
        if Filter::new(subject.as_bytes()).is_err() {
            report.error(at, format!("subject {subject:?} is not a valid subject"));
        }
        Some(Self {
            crossing,
            account,
            subject,
            to,
            prefix,
            share: block.bool("share").unwrap_or_default(),
            allow_trace: block.bool("allow_trace").unwrap_or_default(),
            at: Written(at.clone()),
        })
    }
}
