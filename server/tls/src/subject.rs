//! A certificate's subject, in the words that nats-server uses: people have written them into configurations.
//!
//! Sources: nats-server's mapping of certificates to users (`checkClientTLSCertSubject`) for what is compared, Go's
//! `crypto/x509/pkix` for how a subject is written in one line.

use std::fmt::{self, Write};

use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{BmpString, ObjectIdentifier, TeletexStringRef, Utf8StringRef};
use x509_cert::der::{Encode, Tag, Tagged};
use x509_cert::name::Name;

/// Sets of types and values, in the order of the certificate. A set has usually one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject(Vec<Vec<Attribute>>);

/// One part of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attribute {
    /// Its type's short name, where nats-server knows one: `CN`, `OU`, `DC` …
    name: Option<&'static str>,
    /// Its text, if it is one.
    value: Option<String>,
    oid: ObjectIdentifier,
    /// Where there is no text.
    der: Vec<u8>,
}

impl Subject {
    pub(crate) fn read(name: &Name) -> Self {
        Self(name.0.iter().map(|set| set.0.iter().map(Attribute::read).collect()).collect())
    }

    /// As RFC 2253 orders it, last set first. None if there is something in it that nats-server has no name for: such a
    /// subject is not compared part by part.
    pub fn distinguished_name(&self) -> Option<Vec<Vec<(&'static str, String)>>> {
        let sets = self.0.iter().rev().filter(|set| !set.is_empty());
        sets.map(|set| {
            let parts = set.iter().rev();
            parts.map(|part| Some((part.name?, part.value.clone()?))).collect()
        })
        .collect()
    }

    /// In one line, of the standard parts only: `CN=sensor-7,OU=Attic,O=House`.
    pub fn standard(&self) -> String {
        line(&self.standard_sets())
    }

    /// As [`Subject::standard`], followed by the domain components; none without those.
    pub fn with_domain(&self) -> Option<String> {
        let mut text = self.standard();
        let components = self.0.iter().flatten().filter(|part| part.name == Some("DC"));
        let components: Vec<_> = components.filter_map(|part| part.value.as_deref()).collect();
        for component in &components {
            let _ = write!(text, ",DC={component}");
        }
        (!components.is_empty()).then_some(text)
    }

    /// The standard parts, each type's values in one set, in the order that Go has for types.
    fn standard_sets(&self) -> Vec<Vec<&Attribute>> {
        const ORDER: [&str; 9] = ["C", "O", "OU", "L", "ST", "STREET", "POSTALCODE", "CN", "SERIALNUMBER"];
        let of_type = |name: &str| {
            let parts = self.0.iter().flatten();
            let parts = parts.filter(|part| part.standard() == Some(name) && part.value.is_some());
            let mut set: Vec<_> = parts.collect();
            if matches!(name, "CN" | "SERIALNUMBER") {
                // There is room for one, and the last one has it.
                set.drain(..set.len().saturating_sub(1));
                set.retain(|part| part.value.as_deref() != Some(""));
            }
            set
        };
        ORDER.into_iter().map(of_type).filter(|set| !set.is_empty()).collect()
    }
}

impl fmt::Display for Subject {
    /// In one line, all of it. What isn't standard is last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.0.iter().flatten().filter(|part| part.standard().is_none());
        let mut sets: Vec<_> = rest.map(|part| vec![part]).collect();
        sets.extend(self.standard_sets());
        f.write_str(&line(&sets))
    }
}

impl Attribute {
    fn read(part: &AttributeTypeAndValue) -> Self {
        let name = NAMES.iter().find(|(oid, _)| *oid == part.oid).map(|(_, name)| *name);
        let bytes = part.value.value();
        let value = match part.value.tag() {
            Tag::Utf8String => part.value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.to_string()),
            Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
                String::from_utf8(bytes.to_vec()).ok().filter(|text| text.is_ascii())
            }
            Tag::TeletexString => {
                part.value.decode_as::<TeletexStringRef<'_>>().ok().map(|text| text.as_str().to_owned())
            }
            Tag::BmpString => part.value.decode_as::<BmpString>().ok().map(|text| text.to_string()),
            _ => None,
        };
        let der = if value.is_none() { part.value.to_der().unwrap_or_default() } else { Vec::new() };
        Self { name, value, oid: part.oid, der }
    }

    /// The name, if it is one of those that Go has a field for.
    fn standard(&self) -> Option<&'static str> {
        self.name.filter(|name| *name != "DC")
    }
}

/// nats-server's short names of types.
const NAMES: [(ObjectIdentifier, &str); 10] = [
    (ObjectIdentifier::new_unwrap("2.5.4.3"), "CN"),
    (ObjectIdentifier::new_unwrap("2.5.4.5"), "SERIALNUMBER"),
    (ObjectIdentifier::new_unwrap("2.5.4.6"), "C"),
    (ObjectIdentifier::new_unwrap("2.5.4.7"), "L"),
    (ObjectIdentifier::new_unwrap("2.5.4.8"), "ST"),
    (ObjectIdentifier::new_unwrap("2.5.4.9"), "STREET"),
    (ObjectIdentifier::new_unwrap("2.5.4.10"), "O"),
    (ObjectIdentifier::new_unwrap("2.5.4.11"), "OU"),
    (ObjectIdentifier::new_unwrap("2.5.4.17"), "POSTALCODE"),
    (ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.25"), "DC"),
];

/// Sets in reverse, as RFC 2253 writes them.
fn line(sets: &[Vec<&Attribute>]) -> String {
    let mut text = String::new();
    for (n, set) in sets.iter().rev().enumerate() {
        if n > 0 {
            text.push(',');
        }
        for (n, part) in set.iter().enumerate() {
            if n > 0 {
                text.push('+');
            }
            match part.standard() {
                Some(name) => text.push_str(name),
                None => {
                    let _ = write!(text, "{}", part.oid);
                }
            }
            text.push('=');
            match &part.value {
                Some(value) => escape(value, &mut text),
                None => {
                    text.push('#');
                    for byte in &part.der {
                        let _ = write!(text, "{byte:02x}");
                    }
                }
            }
        }
    }
    text
}

fn escape(value: &str, text: &mut String) {
    let last = value.len().saturating_sub(1);
    for (at, c) in value.char_indices() {
        let special = match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => at == 0 || at == last,
            '#' => at == 0,
            _ => false,
        };
        if special {
            text.push('\\');
        }
        text.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(sets: &[&[(&str, &str)]]) -> Subject {
        let part = |(kind, value): &(&str, &str)| {
            let known = NAMES.iter().find(|(_, name)| name == kind);
            Attribute {
                name: known.map(|(_, name)| *name),
                value: Some((*value).to_owned()),
                oid: known.map_or_else(|| ObjectIdentifier::new_unwrap(kind), |(oid, _)| *oid),
                der: Vec::new(),
            }
        };
        Subject(sets.iter().map(|set| set.iter().map(part).collect()).collect())
    }

    #[test]
    fn in_one_line() {
        let ordinary =
            subject(&[&[("C", "CH")], &[("O", "Attic")], &[("OU", "a"), ("OU", "b")], &[("CN", "x")]]);
        assert_eq!(ordinary.to_string(), "CN=x,OU=a+OU=b,O=Attic,C=CH");
        assert_eq!(ordinary.standard(), ordinary.to_string());
        assert_eq!(ordinary.with_domain(), None);
        let shuffled =
            subject(&[&[("CN", "old")], &[("SERIALNUMBER", "7")], &[("CN", "new")], &[("C", "CH")]]);
        assert_eq!(shuffled.to_string(), "SERIALNUMBER=7,CN=new,C=CH");
        let odd = subject(&[&[("CN", r#" #a, "b"\c<;>+ "#)], &[("O", "#1")]]);
        assert_eq!(odd.to_string(), r#"CN=\ #a\, \"b\"\\c\<\;\>\+\ ,O=\#1"#);
        assert_eq!(subject(&[]).to_string(), "");
    }

    #[test]
    fn what_is_not_standard_comes_last() {
        let domain = subject(&[&[("DC", "lan")], &[("DC", "attic")], &[("CN", "x")]]);
        let dc = "0.9.2342.19200300.100.1.25";
        assert_eq!(domain.to_string(), format!("CN=x,{dc}=attic,{dc}=lan"));
        assert_eq!(domain.standard(), "CN=x");
        assert_eq!(domain.with_domain().as_deref(), Some("CN=x,DC=lan,DC=attic"));
        let email = subject(&[&[("1.2.840.113549.1.9.1", "a@b")], &[("CN", "x")]]);
        assert_eq!(email.to_string(), "CN=x,1.2.840.113549.1.9.1=a@b");
        assert_eq!(email.distinguished_name(), None);
    }

    #[test]
    fn part_by_part() {
        let parts = subject(&[&[("DC", "lan")], &[("OU", "a"), ("O", "b")], &[("CN", "x")]]);
        let owned = |parts: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
            parts.iter().map(|(kind, value)| (*kind, (*value).to_owned())).collect()
        };
        assert_eq!(
            parts.distinguished_name(),
            Some(vec![owned(&[("CN", "x")]), owned(&[("O", "b"), ("OU", "a")]), owned(&[("DC", "lan")])])
        );
    }

    #[test]
    fn what_is_no_text_is_shown_as_it_is() {
        let number = |kind| {
            let Subject(sets) = subject(&[&[(kind, "")]]);
            Attribute { value: None, der: vec![2, 1, 7], ..sets[0][0].clone() }
        };
        let both = Subject(vec![vec![number("CN")], vec![number("1.2.3")]]);
        assert_eq!((both.to_string(), both.distinguished_name()), ("1.2.3=#020107".to_owned(), None));
    }
}
