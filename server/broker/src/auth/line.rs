//! Serial lines: who comes over one need not say who they are, for the line itself tells.

use std::sync::Arc;

use smol_str::SmolStr;

use super::{Directory, Identity, Permit};

/// A serial line, as far as the broker knows of it. Its name is the host of those who come over it: a path, which no
/// address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The largest message from it, in bytes.
    pub payload_bytes_max: u32,
    /// Who a device is that shows no credentials; `None`: it is judged as those who come over TCP.
    pub device: Option<LineDevice>,
}

/// Who the device on a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineDevice {
    /// One of the users.
    User(SmolStr),
    /// Somebody of the line's own, called as the line is.
    Own {
        /// The account that it is in.
        account: SmolStr,
        /// What it may do; `None`: everything.
        permit: Option<Arc<Permit>>,
    },
}

impl Directory {
    /// Who somebody without credentials is that comes from `host`, if that is a line that tells.
    pub(crate) fn on_line(&self, host: &str) -> Option<Identity> {
        let (name, line) = self.lines.get_key_value(host)?;
        match line.device.as_ref()? {
            LineDevice::User(name) => self.users.get_key_value(name).map(|(name, user)| user.identity(name)),
            LineDevice::Own { account, permit } => Some(Identity {
                user: name.clone(),
                account: account.clone(),
                permit: permit.clone(),
                warrant: None,
            }),
        }
    }

    /// The ceiling for messages from `host`, if it is a line.
    pub(crate) fn line_payload_max(&self, host: &str) -> Option<u32> {
        self.lines.get(host).map(|line| line.payload_bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Credentials, Entered, Proof, Secret, User, Verdict, Way};
    use std::time::Duration;

    fn directory(device: Option<LineDevice>) -> Directory {
        let user =
            User { proof: Proof::Secret(Secret::new("1")), account: "A".into(), permit: None, welcome: true };
        Directory {
            users: [("attic".into(), user)].into(),
            lines: [("/dev/ttyUSB0".into(), Line { payload_bytes_max: 100, device })].into(),
            ..Directory::default()
        }
    }

    fn enter(directory: &Directory, host: &str, user: &str, pass: &str) -> Option<Identity> {
        let credentials = Credentials { user: user.into(), pass: pass.into(), ..Credentials::default() };
        let known = Vec::new();
        let attempt = super::super::Attempt {
            credentials: &credentials,
            nonce: "",
            certificate: None,
            host,
            way: Way::Plain,
            now: Duration::ZERO,
            known: &known,
        };
        match directory.judge(&attempt) {
            Verdict::Granted(identity) => Some(identity),
            _ => None,
        }
    }

    #[test]
    fn a_line_tells_who_is_on_it() {
        let user = directory(Some(LineDevice::User("attic".into())));
        assert_eq!(enter(&user, "/dev/ttyUSB0", "", "").unwrap().user, "attic");
        assert!(enter(&user, "/dev/ttyUSB1", "", "").is_none(), "another line");
        assert!(enter(&user, "192.0.2.1", "", "").is_none(), "no line");
        assert!(enter(&user, "/dev/ttyUSB0", "attic", "2").is_none(), "who says a name must prove it");
        assert_eq!(user.anonymous("/dev/ttyUSB0", Way::Plain).unwrap().account, "A");
        assert!(user.anonymous("192.0.2.1", Way::Plain).is_none());

        let own = directory(Some(LineDevice::Own { account: "B".into(), permit: None }));
        let identity = enter(&own, "/dev/ttyUSB0", "", "").unwrap();
        assert_eq!((identity.user.as_str(), identity.account.as_str()), ("/dev/ttyUSB0", "B"));

        assert!(enter(&directory(None), "/dev/ttyUSB0", "", "").is_none(), "it tells nothing");
    }

    #[test]
    fn after_a_reload_the_line_tells_anew() {
        let (old, own) = (
            directory(Some(LineDevice::User("attic".into()))),
            directory(Some(LineDevice::Own { account: "A".into(), permit: None })),
        );
        let entered = |user, host| Entered { way: Way::Plain, user, unasked: true, certificate: None, host };
        assert_eq!(own.readmit(&old, &entered("attic", "/dev/ttyUSB0")).unwrap().user, "/dev/ttyUSB0");
        assert!(directory(None).readmit(&old, &entered("attic", "/dev/ttyUSB0")).is_none());
        assert!(own.readmit(&old, &entered("attic", "192.0.2.1")).is_none());
    }
}
