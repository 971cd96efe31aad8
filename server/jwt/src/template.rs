//! Permissions that are made for each user, from what is said of the user and of the account.

use std::fmt;

use midge_protocol::subject::Filter;

use crate::account::Account;
use crate::permissions::Permissions;
use crate::token::Token;
use crate::user::User;

/// Subjects that one list of a template may come to.
const SUBJECTS_MAX: usize = 4096;

/// Why a template doesn't fit a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// There is no such function.
    Function(String),
    /// What is denied must be known: a tag that the user doesn't have, or a value that makes no subject.
    Denied(String),
    /// More subjects than anybody needs.
    TooMany,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(name) => write!(f, "template operation {name:?} is not defined"),
            Self::Denied(entry) => write!(f, "generated invalid subject from {entry:?}"),
            Self::TooMany => write!(f, "template expansion exceeds limit: {SUBJECTS_MAX}"),
        }
    }
}

impl std::error::Error for Unfit {}

/// Fills in what `permissions` leave open: `{{name()}}`, `{{subject()}}`, `{{account-name()}}`, `{{account-subject()}}`,
/// `{{tag(x)}}` and `{{account-tag(x)}}`, which stand for as many subjects as there are tags `x:…`. Allowed subjects
/// that come to nothing are left out, and if that leaves none, nothing is allowed.
pub fn fill(
    permissions: &Permissions,
    user: &Token<User>,
    account: &Token<Account>,
) -> Result<Permissions, Unfit> {
    let mut filled = permissions.clone();
    for permission in [&mut filled.subscribe, &mut filled.publish] {
        let some_allowed = !permission.allow.is_empty();
        permission.allow = expand(&permission.allow, false, user, account)?;
        permission.deny = expand(&permission.deny, true, user, account)?;
        if some_allowed && permission.allow.is_empty() && !permission.deny.iter().any(|deny| deny == ">") {
            permission.deny.push(">".into());
        }
    }
    Ok(filled)
}

fn expand(
    list: &[String],
    strict: bool,
    user: &Token<User>,
    account: &Token<Account>,
) -> Result<Vec<String>, Unfit> {
    if !list.iter().any(|entry| next_call(entry).is_some()) {
        return Ok(list.to_vec());
    }
    let mut subjects = Vec::new();
    for entry in list {
        let mut forms = vec![entry.clone()];
        let mut rest = entry.as_str();
        while let Some((call, after)) = next_call(rest) {
            rest = after;
            let values = values(call, user, account)?;
            let values = match values.is_empty() {
                true if strict => return Err(Unfit::Denied(entry.clone())),
                // Makes no subject, and so is left out.
                true => vec![" ".to_owned()],
                false => values,
            };
            if forms.len() * values.len() > SUBJECTS_MAX - subjects.len().min(SUBJECTS_MAX) {
                return Err(Unfit::TooMany);
            }
            let replaced = forms.iter().flat_map(|form| values.iter().map(|value| form.replace(call, value)));
            forms = replaced.collect();
        }
        for subject in forms {
            if Filter::new(subject.as_bytes()).is_ok() {
                subjects.push(subject);
            } else if strict {
                return Err(Unfit::Denied(entry.clone()));
            }
        }
    }
    Ok(subjects)
}

/// The first `{{…}}`, braces included, and what stands behind it.
fn next_call(text: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    loop {
        let start = from + text.get(from..)?.find("{{")?;
        let inner = text.get(start + 2..)?;
        let length = inner.find('}')?;
        let end = start + 2 + length + 2;
        if length > 0 && inner.get(length..).is_some_and(|rest| rest.starts_with("}}")) {
            return Some((text.get(start..end)?, text.get(end..)?));
        }
        from = start + 1;
    }
}

/// What a call stands for.
fn values(call: &str, user: &Token<User>, account: &Token<Account>) -> Result<Vec<String>, Unfit> {
    let name = call.strip_prefix("{{").and_then(|call| call.strip_suffix("}}")).unwrap_or(call).trim();
    let lower = name.to_ascii_lowercase();
    let one = |value: &str| Ok(vec![value.to_owned()]);
    match lower.as_str() {
        "name()" => return one(&user.claims.name),
        "subject()" => return one(&user.claims.sub),
        "account-name()" => return one(&account.claims.name),
        "account-subject()" => return one(&user.body.issuer_account),
        _ => {}
    }
    let inside = |function: &str| lower.strip_prefix(function)?.strip_suffix(')');
    let (tag, tags) = match (inside("tag("), inside("account-tag(")) {
        (Some(tag), _) => (tag, &user.body.tags),
        (_, Some(tag)) => (tag, &account.body.tags),
        _ => return Err(Unfit::Function(name.to_owned())),
    };
    let values = tags.iter().filter_map(|it| it.strip_prefix(tag)?.strip_prefix(':'));
    Ok(values.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Claims, Permission};

    fn user() -> Token<User> {
        let tags = ["room:attic", "room:cellar", "floor:2", "bad:a b"].map(str::to_owned).to_vec();
        let body = User { tags, issuer_account: "AID".into(), ..User::default() };
        Token { claims: Claims { name: "sensor".into(), ..Claims::about("UID") }, body }
    }

    fn account() -> Token<Account> {
        let body = Account { tags: vec!["site:home".into()], ..Account::default() };
        Token { claims: Claims { name: "house".into(), ..Claims::about("AID") }, body }
    }

    fn filled(allow: &[&str], deny: &[&str]) -> Result<Permission, Unfit> {
        let list = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let publish = Permission { allow: list(allow), deny: list(deny) };
        fill(&Permissions { publish, ..Permissions::default() }, &user(), &account()).map(|it| it.publish)
    }

    #[test]
    fn functions() {
        for (template, subjects) in [
            ("a.{{name()}}.>", &["a.sensor.>"][..]),
            ("{{ Subject() }}", &["UID"]),
            ("{{account-name()}}.{{account-subject()}}", &["house.AID"]),
            ("{{tag(room)}}", &["attic", "cellar"]),
            ("{{tag(floor)}}.{{tag(room)}}.{{account-tag(site)}}", &["2.attic.home", "2.cellar.home"]),
            ("{{name()}}.{{name()}}", &["sensor.sensor"]),
            ("{{{{name()}}", &[]),
            ("{x}.{{}}.{{name()}}", &["{x}.{{}}.sensor"]),
        ] {
            match filled(&[template], &[]) {
                Ok(permission) => assert_eq!(permission.allow, subjects, "{template}"),
                Err(error) => assert!(subjects.is_empty(), "{template}: {error}"),
            }
        }
    }

    #[test]
    fn what_comes_to_nothing_is_left_out_or_refused() {
        let some = filled(&["{{tag(none)}}", "{{tag(bad)}}", "plain"], &[]).unwrap();
        assert_eq!((some.allow, some.deny), (vec!["plain".to_owned()], vec![]));
        let none = filled(&["{{tag(none)}}"], &[]).unwrap();
        assert_eq!((none.allow, none.deny), (vec![], vec![">".to_owned()]));
        assert!(matches!(filled(&[], &["{{tag(none)}}"]), Err(Unfit::Denied(_))));
        assert!(matches!(filled(&[], &["{{tag(bad)}}"]), Err(Unfit::Denied(_))));
        assert!(matches!(filled(&["{{password()}}"], &[]), Err(Unfit::Function(_))));
    }

    #[test]
    fn tags_multiply_up_to_a_limit() {
        let mut user = user();
        user.body.tags = (0..100).map(|i| format!("t:{i}")).collect();
        let list = |entry: &str| Permissions {
            publish: Permission { allow: vec![entry.into()], ..Permission::default() },
            ..Permissions::default()
        };
        let fill = |entry: &str| fill(&list(entry), &user, &account()).map(|it| it.publish.allow.len());
        assert_eq!(fill("{{tag(t)}}"), Ok(100));
        assert_eq!(fill("{{tag(t)}}.{{tag(t)}}.{{tag(t)}}"), Err(Unfit::TooMany));
    }
}
