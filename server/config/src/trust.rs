//! Trust in identities that operators signed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::block::Block;
use crate::loader::Loader;
use crate::options::Secret;
use crate::report::Report;
use crate::text;
use crate::tls::Tls;
use crate::value::{Data, Written};

/// Whom to trust with accounts, and where to find them. Tokens are texts here, which nobody has read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trust {
    /// Operators' tokens. Written as such, or as the paths of files that hold them.
    pub operators: Vec<String>,
    /// Where they were written.
    pub at: Option<Written>,
    /// Public operator nkeys.
    pub trusted_keys: Vec<String>,
    /// Where account tokens are kept.
    pub resolver: Option<Resolver>,
    /// Account tokens by account nkey.
    pub resolver_preload: BTreeMap<String, String>,
    /// The only accounts whose users may come in; empty: any.
    pub resolver_pinned_accounts: Vec<String>,
    /// The token of the user that a connection without one is taken for.
    pub default_sentinel: Option<String>,
}

/// Where account tokens are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolver {
    /// In the configuration.
    Memory,
    /// In a directory, a file for each.
    Directory(ResolverDirectory),
    /// On a web server, a path for each.
    Web(ResolverWeb),
}

/// A web server that has account tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolverWeb {
    /// The address that account keys are put behind. It may hold a name and a password.
    pub url: Secret,
    /// Whom to believe there, where that is said.
    pub tls: Option<Tls>,
}

/// A directory of account tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverDirectory {
    /// The directory.
    pub dir: PathBuf,
    /// All accounts are to be found there, and new ones are taken; else only those that were used lately.
    pub full: bool,
    /// What becomes of an account that is deleted.
    pub deletion: Deletion,
    /// Accounts in it at most. Default: any number; of a cache 1000.
    pub limit: Option<u64>,
    /// The time after which an account that nobody used is dropped from a cache; none: never.
    pub ttl: Option<Duration>,
    /// How long an account may be looked for elsewhere. Default 1.9 s.
    pub timeout: Duration,
}

/// What becomes of an account that is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletion {
    /// Nobody may delete one.
    #[default]
    Refused,
    /// Its file is renamed.
    Renamed,
    /// Its file is gone.
    Gone,
}

impl Trust {
    pub(crate) fn read(root: &Block<'_>, report: &mut Report) -> Self {
        Self {
            operators: root.texts("operator"),
            at: root.get("operator").map(|value| Written(value.at.clone())),
            trusted_keys: root.texts("trusted_keys"),
            resolver: Resolver::read(root, report),
            resolver_preload: root.text_map("resolver_preload"),
            resolver_pinned_accounts: root.texts("resolver_pinned_accounts"),
            default_sentinel: root.word("default_sentinel"),
        }
    }

    /// Puts tokens in the place of the files that hold them.
    pub(crate) fn read_operators(&mut self, files: &dyn Loader, report: &mut Report) {
        let Some(at) = &self.at else { return };
        for operator in &mut self.operators {
            match files.read(Path::new(operator.as_str())).map(String::from_utf8) {
                Ok(Ok(text)) => *operator = text,
                Ok(Err(_)) => {
                    report.error(&at.0, format!("error parsing operator JWT: {operator}: not UTF-8"))
                }
                // All tokens begin so.
                Err(_) if operator.starts_with("eyJ") => {}
                Err(error) => report.error(&at.0, format!("error parsing operator JWT: {operator}: {error}")),
            }
        }
    }
}

impl Resolver {
    fn read(root: &Block<'_>, report: &mut Report) -> Option<Self> {
        let value = root.get("resolver")?;
        let at = &value.at;
        if let Data::Text(text) = &value.data {
            let upper = text.to_ascii_uppercase();
            if upper.contains("MEM") {
                return Some(Self::Memory);
            }
            let url = upper.find("URL").and_then(|at| text.get(at + 3..)?.trim_start().strip_prefix('('));
            let Some(url) = url.and_then(|rest| Some(rest.split_once(')')?.0.trim().trim_matches('"')))
            else {
                report.error(at, "a resolver is MEMORY, URL(\"url\") or a block with type and dir");
                return None;
            };
            if !root.text_map("resolver_preload").is_empty() {
                let text = "resolver preloads only available for writeable resolver types MEM/DIR/CACHE_DIR";
                report.error(at, text);
            }
            let tls = root.block("resolver_tls").map(|block| Tls::read(&block, report));
            return Some(Self::Web(ResolverWeb { url: url.to_owned().into(), tls }));
        }
        let block = root.block("resolver")?;
        let span = |name| match block.get(name).map(|value| &value.data) {
            Some(Data::Text(text)) => text::nanos(text).ok(),
            _ => None,
        };
        let positive =
            |nanos: i64| u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos);
        let (deletes, hard) = (block.bool("allow_delete").unwrap_or_default(), block.bool("hard_delete"));
        let (ttl, interval) = (span("ttl").unwrap_or(0), span("interval").unwrap_or(0));
        let kind = block.text("type").unwrap_or_default().to_ascii_uppercase();
        let mut complain = |wrong: bool, text: &str| {
            if wrong {
                report.error(at, text);
            }
        };
        let full = match kind.as_str() {
            "MEM" | "MEMORY" => return Some(Self::Memory),
            "FULL" => true,
            "CACHE" => false,
            _ => return None,
        };
        if full {
            complain(ttl != 0, "FULL does not accept ttl");
            complain(hard.is_some() && !deletes, "hard_delete has no effect without delete");
        } else {
            complain(interval != 0, "CACHE does not accept sync");
            complain(deletes, "CACHE does not accept allow_delete");
            complain(hard.is_some(), "CACHE does not accept hard_delete");
        }
        let dir = block.path("dir");
        complain(dir.is_none(), "dir has no value and needs to point to a directory");
        let timeout = span("timeout");
        complain(timeout.is_some_and(|timeout| timeout <= 0), "Fetch timeout is too smal");
        let limit = block.int("limit").and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
        Some(Self::Directory(ResolverDirectory {
            dir: dir.unwrap_or_default(),
            full,
            deletion: match (full && deletes, hard) {
                (false, _) => Deletion::Refused,
                (true, Some(true)) => Deletion::Gone,
                (true, _) => Deletion::Renamed,
            },
            limit: limit.or((!full).then_some(1000)),
            ttl: positive(ttl),
            timeout: timeout.and_then(positive).unwrap_or(Duration::from_millis(1900)),
        }))
    }
}
