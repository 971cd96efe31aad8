//! Who we are to the server.

use std::path::{Path, PathBuf};
use std::{fs, io};

use async_nats::{ConnectOptions, ServerAddr};

use crate::cli::Connection;
use crate::context::{Context, set, set_path};
use crate::exit::{Failure, Outcome};

/// How we show who we are.
pub(crate) enum Login {
    None,
    Token(String),
    User(String, String),
    Creds(PathBuf),
    Nkey(PathBuf),
}

impl Login {
    /// The first that is set: flags, context, URL.
    pub(crate) fn choose(flags: &Connection, context: &Context, addrs: &[ServerAddr]) -> Login {
        let url = addrs.iter().find(|addr| addr.has_user_pass());
        let decoded = |part: Option<&str>| part.map(percent_decoded);
        [
            Login::of(
                flags.creds.clone(),
                flags.nkey.clone(),
                flags.user.clone(),
                flags.password.clone(),
                flags.token.clone(),
            ),
            Login::of(
                set_path(&context.creds),
                set_path(&context.nkey),
                set(&context.user).map(str::to_owned),
                set(&context.password).map(str::to_owned),
                set(&context.token).map(str::to_owned),
            ),
            Login::of(
                None,
                None,
                decoded(url.and_then(|url| url.username())),
                decoded(url.and_then(|url| url.password())),
                None,
            ),
        ]
        .into_iter()
        .find(|login| !matches!(login, Login::None))
        .unwrap_or(Login::None)
    }

    fn of(
        creds: Option<PathBuf>,
        nkey: Option<PathBuf>,
        user: Option<String>,
        password: Option<String>,
        token: Option<String>,
    ) -> Login {
        match (creds, nkey, user, password, token) {
            (Some(path), ..) => Login::Creds(path),
            (_, Some(path), ..) => Login::Nkey(path),
            (_, _, Some(user), Some(password), _) => Login::User(user, password),
            (_, _, _, _, Some(token)) | (_, _, Some(token), None, _) => Login::Token(token),
            _ => Login::None,
        }
    }

    /// Gives the login to the connection that is about to be made. Reads its file if it is one.
    pub(crate) fn apply(self, options: ConnectOptions, servers: &str) -> Outcome<ConnectOptions> {
        let unreadable = |path: &Path, error: io::Error| {
            Failure::config(format_args!("cannot log in to {servers} with {}: {error}", path.display()))
        };
        match self {
            Login::None => Ok(options),
            Login::Token(token) => Ok(options.token(token)),
            Login::User(user, password) => Ok(options.user_and_password(user, password)),
            Login::Creds(path) => {
                let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
                options.credentials(&text).map_err(|error| unreadable(&path, error))
            }
            Login::Nkey(path) => {
                let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
                let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"));
                let missing = || unreadable(&path, io::Error::other("no user seed (SU…) in it"));
                Ok(options.nkey(seed.ok_or_else(missing)?.to_owned()))
            }
        }
    }
}

/// The user part of a URL as it was meant: a password may hold `%40` for `@`. Bad escapes are kept as they are.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%')
            .then(|| std::str::from_utf8(tail.get(..2)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_in_a_url_are_resolved() {
        assert_eq!(percent_decoded("p%40ss%2fw"), "p@ss/w");
        assert_eq!(percent_decoded("50%-%zz%4"), "50%-%zz%4");
    }
}
