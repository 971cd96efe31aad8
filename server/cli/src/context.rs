//! Contexts: named connection settings that the NATS tools share (NATS ADR-21).

use std::path::{Path, PathBuf};
use std::{env, fs};

use serde::Deserialize;

use crate::exit::{Failure, Outcome};

/// One context file. An empty string means "not set", as the tools that write these files have it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Context {
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) creds: String,
    pub(crate) nkey: String,
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) ca: String,
    pub(crate) inbox_prefix: String,
    pub(crate) jetstream_domain: String,
    pub(crate) jetstream_api_prefix: String,
    pub(crate) tls_first: bool,
    nsc: String,
    socks_proxy: String,
    user_jwt: String,
}

impl Context {
    /// Reads the context of that name from the user's configuration directory.
    pub(crate) fn load(name: &str) -> Outcome<Context> {
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(Failure::usage(format_args!("{name:?} cannot be the name of a context")));
        }
        let home = directory().ok_or_else(|| Failure::config("cannot find contexts: HOME is not set"))?;
        let path = home.join("nats/context").join(format!("{name}.json"));
        Context::read(&path)
    }

    fn read(path: &Path) -> Outcome<Context> {
        let wrong = |why: String| Failure::config(format_args!("context {}: {why}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let context: Context = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let unsupported =
            [("nsc", &context.nsc), ("socks_proxy", &context.socks_proxy), ("user_jwt", &context.user_jwt)];
        match unsupported.iter().find(|(_, value)| !value.is_empty()) {
            Some((field, _)) => Err(wrong(format!("midge does not support {field}"))),
            None => Ok(context),
        }
    }
}

/// `Some` unless the field is unset.
pub(crate) fn set(field: &str) -> Option<&str> {
    Some(field).filter(|field| !field.is_empty())
}

/// The path in a field, with a leading `~/` resolved.
pub(crate) fn set_path(field: &str) -> Option<PathBuf> {
    let path = set(field)?;
    match (path.strip_prefix("~/"), env::var_os("HOME")) {
        (Some(rest), Some(home)) => Some(Path::new(&home).join(rest)),
        _ => Some(path.into()),
    }
}

fn directory() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))
}
