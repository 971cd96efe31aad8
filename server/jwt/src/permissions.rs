//! What a user may publish and subscribe to, as tokens say it.

use serde::{Deserialize, Serialize};

/// Permissions of a user, or of all users of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permissions {
    /// Subjects to publish to.
    #[serde(rename = "pub")]
    pub publish: Permission,
    /// Subjects to subscribe to, or subjects and queue groups with a space between.
    #[serde(rename = "sub")]
    pub subscribe: Permission,
    /// Answers to what was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resp: Option<ResponsePermission>,
}

/// Allowed and denied subjects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permission {
    /// The allowed ones; none: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// The denied ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// Answers that may be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResponsePermission {
    /// Answers to one message; 0: the server's default, less: any number.
    pub max: i64,
    /// Nanoseconds that one may answer; 0: the server's default, less: for ever.
    pub ttl: i64,
}

impl Permissions {
    /// True if nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what no server takes.
    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        for (permission, queues) in [(&self.subscribe, true), (&self.publish, false)] {
            for entry in permission.allow.iter().chain(&permission.deny) {
                let words: Vec<_> = entry.split(' ').collect();
                match words[..] {
                    [subject] => subject_problems(subject, problems),
                    [subject, queue] => {
                        subject_problems(subject, problems);
                        subject_problems(queue, problems);
                        if !queues {
                            problems.push(format!(
                                "Permission Subject {entry:?} is not allowed to contain queue"
                            ));
                        }
                    }
                    _ => problems.push(format!("Permission Subject {entry:?} contains too many spaces")),
                }
            }
        }
    }
}

/// Adds what keeps `subject` from being one in a token: less than keeps it from being one on the wire.
pub(crate) fn subject_problems(subject: &str, problems: &mut Vec<String>) {
    if subject.is_empty() {
        return problems.push("subject cannot be empty".into());
    }
    if subject.contains(' ') {
        problems.push(format!("subject {subject:?} cannot have spaces"));
    }
    if subject.starts_with('.') || subject.ends_with('.') {
        problems.push(format!("subject {subject:?} cannot start or end with a `.`"));
    }
    if subject.contains("..") {
        problems.push(format!("subject {subject:?} cannot contain consecutive `.`"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_looked_at() {
        for (entry, publishes, subscribes) in [
            ("a.b", true, true),
            ("a q", false, true),
            ("a q r", false, false),
            ("", false, false),
            (".a", false, false),
            ("a..b", false, false),
        ] {
            let count = |permissions: Permissions| {
                let mut problems = Vec::new();
                permissions.problems(&mut problems);
                problems.is_empty()
            };
            let list = Permission { deny: vec![entry.into()], ..Permission::default() };
            assert_eq!(
                count(Permissions { publish: list.clone(), ..Permissions::default() }),
                publishes,
                "{entry}"
            );
            assert_eq!(
                count(Permissions { subscribe: list, ..Permissions::default() }),
                subscribes,
                "{entry}"
            );
        }
    }
}
