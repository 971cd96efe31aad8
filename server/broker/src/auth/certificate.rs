//! Users who are known by the names in their certificates.
//!
//! Source: nats-server's `verify_and_map`: which names count, in which order, and how a subject is compared.

use smol_str::SmolStr;

use crate::sort::sort_by;

/// The names in a client's certificate that may be a user's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// E-mail addresses, DNS names, URIs, in this order.
    pub alternative: Vec<SmolStr>,
    /// The subject, part by part; none if there is a part that can't be compared.
    pub subject: Option<DistinguishedName>,
    /// The subject in one line, in the forms that are tried.
    pub lines: Vec<SmolStr>,
}

/// A subject: sets of types and values, the last set of the certificate first, as RFC 2253 writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DistinguishedName(pub Vec<Vec<(SmolStr, SmolStr)>>);

impl DistinguishedName {
    /// Reads `CN=sensor-7,OU=Attic+O=House`, with the escapes of RFC 4514. None if it isn't one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut sets = vec![Vec::new()];
        let mut rest = text;
        loop {
            let (kind, after) = rest.split_once('=')?;
            let kind = kind.trim_matches(' ');
            if kind.is_empty() || kind.contains([',', '+', '\\']) {
                return None;
            }
            let (value, end, after) = value(after)?;
            sets.last_mut()?.push((kind.into(), value));
            rest = after;
            match end {
                Some('+') => {}
                Some(_) => sets.push(Vec::new()),
                None => return Some(Self(sets)),
            }
        }
    }

    /// True if both have the same sets, in whatever order.
    fn is_reordered(&self, other: &Self) -> bool {
        let mut left: Vec<_> = other.0.iter().collect();
        self.0.len() == other.0.len()
            && self.0.iter().all(|set| {
                let found = left.iter().position(|other| same_set(set, other));
                found.map(|at| left.swap_remove(at)).is_some()
            })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| same_set(a, b))
    }
}

/// The order in a set doesn't matter, nor does the case of types.
fn same_set(a: &[(SmolStr, SmolStr)], b: &[(SmolStr, SmolStr)]) -> bool {
    let within = |a: &[(SmolStr, SmolStr)], b: &[(SmolStr, SmolStr)]| {
        a.iter().all(|(kind, value)| {
            b.iter().any(|(other, theirs)| kind.eq_ignore_ascii_case(other) && value == theirs)
        })
    };
    a.len() == b.len() && within(a, b) && within(b, a)
}

/// A value, what ended it, and what comes behind that.
fn value(text: &str) -> Option<(SmolStr, Option<char>, &str)> {
    if text.starts_with('#') {
        // Encoded in a way that isn't compared.
        return None;
    }
    let mut bytes = Vec::new();
    // Up to here spaces belong to the value.
    let mut kept = 0;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ',' | '+' => {
                bytes.truncate(kept);
                return Some((String::from_utf8(bytes).ok()?.into(), Some(c), &text[at + 1..]));
            }
            ' ' if bytes.is_empty() => {}
            ' ' => bytes.push(b' '),
            '\\' => {
                let (at, escaped) = chars.next()?;
                match escaped {
                    ' ' | '"' | '#' | '+' | ',' | ';' | '<' | '=' | '>' | '\\' => bytes.push(escaped as u8),
                    _ => {
                        let digits = text.get(at..at + 2)?;
                        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                            return None;
                        }
                        bytes.push(u8::from_str_radix(digits, 16).ok()?);
                        chars.next();
                    }
                }
                kept = bytes.len();
            }
            _ => {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                kept = bytes.len();
            }
        }
    }
    bytes.truncate(kept);
    Some((String::from_utf8(bytes).ok()?.into(), None, ""))
}

/// The users that certificates may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// Names that are subjects, sorted, so that of several that fit it is always the same one.
    subjects: Vec<(SmolStr, DistinguishedName)>,
}

impl Certificates {
    /// An index of these users' names.
    pub fn new<'a>(users: impl Iterator<Item = &'a SmolStr>) -> Self {
        let mut subjects: Vec<_> =
            users.filter_map(|name| Some((name.clone(), DistinguishedName::parse(name)?))).collect();
        sort_by(&mut subjects, |(a, _), (b, _)| a.cmp(b));
        Self { subjects }
    }

    /// The names that a certificate stands for, the first first.
    pub(crate) fn candidates<'a>(&'a self, names: &'a CertificateNames) -> impl Iterator<Item = &'a SmolStr> {
        let subject = names.subject.as_ref();
        let same = self.subjects.iter().filter(move |(_, own)| subject.is_some_and(|it| own.is_same(it)));
        let reordered =
            self.subjects.iter().filter(move |(_, own)| subject.is_some_and(|it| own.is_reordered(it)));
        let subjects = same.chain(reordered).map(|(name, _)| name);
        names.alternative.iter().chain(subjects).chain(&names.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Vec<Vec<(String, String)>>> {
        let DistinguishedName(sets) = DistinguishedName::parse(text)?;
        let plain = |set: Vec<(SmolStr, SmolStr)>| {
            set.into_iter().map(|(kind, value)| (kind.to_string(), value.to_string())).collect()
        };
        Some(sets.into_iter().map(plain).collect())
    }

    fn set(parts: &[(&str, &str)]) -> Vec<(String, String)> {
        parts.iter().map(|(kind, value)| ((*kind).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn subjects_are_read() {
        assert_eq!(
            parsed("CN=sensor-7, OU = Attic+O=House ,DC=lan"),
            Some(vec![
                set(&[("CN", "sensor-7")]),
                set(&[("OU", "Attic"), ("O", "House")]),
                set(&[("DC", "lan")])
            ])
        );
        for (text, value) in [
            (r"CN=a\,b", "a,b"),
            (r"CN=\20a\20", " a "),
            (r"CN=a\ ", "a "),
            (r"CN=M\c3\bcller", "Müller"),
            ("CN=Grüße=1", "Grüße=1"),
            ("CN=", ""),
        ] {
            assert_eq!(parsed(text), Some(vec![set(&[("CN", value)])]), "{text}");
        }
        for text in
            ["", "CN", "=a", "CN=a,", "CN=a,b", r"CN=\", r"CN=\zz", r"CN=\ü", r"CN=\ff", "CN=#04024869"]
        {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn the_order_of_names() {
        let users: Vec<SmolStr> =
            ["CN=a,O=b", "O=b,CN=a", "ou=x+CN=a,O=b", "ann@lan", "CN=c"].map(SmolStr::from).to_vec();
        let index = Certificates::new(users.iter());
        let names = |subject: &str| CertificateNames {
            alternative: vec!["ann@lan".into()],
            subject: DistinguishedName::parse(subject),
            lines: vec!["line".into()],
        };
        let candidates = |subject: &str| {
            let names = names(subject);
            index.candidates(&names).map(SmolStr::to_string).collect::<Vec<_>>()
        };
        // Whoever fits in the right order fits in any.
        assert_eq!(candidates("O=b,CN=a"), ["ann@lan", "O=b,CN=a", "CN=a,O=b", "O=b,CN=a", "line"]);
        assert_eq!(candidates("CN=a+OU=x,O=b"), ["ann@lan", "ou=x+CN=a,O=b", "ou=x+CN=a,O=b", "line"]);
        assert_eq!(candidates("CN=A"), ["ann@lan", "line"]);
        assert_eq!(candidates("CN=a,CN=a"), ["ann@lan", "line"]);
    }
}
