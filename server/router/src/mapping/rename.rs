//! Subjects that have two names, one on either side of an import.

use midge_protocol::subject::STAR;

use super::transform::{Part, Transform};
use super::{MappingError, numbered};

/// A filter and its name on another side: `out.*.*` here is `in.$2.$1` there. Each wildcard stands for the same token on
/// both sides, so what goes one way finds back.
#[derive(Clone, Debug)]
pub struct Rename {
    forth: Transform,
    back: Transform,
    /// The name there, as a filter: `in.*.*`.
    there: String,
}

impl Rename {
    /// `here` is a filter with wildcards. `there` may number them, as `$2` or `{{wildcard(2)}}`; a `*` is the next one.
    pub fn new(here: &str, there: &str) -> Result<Self, MappingError> {
        let numbers = numbered(there);
        let forth = Transform::new(here, &numbers)?;
        let tokens = || numbers.split('.');
        for (part, token) in forth.parts.iter().zip(tokens()) {
            if !matches!(part, Part::Literal(_) | Part::Token(_)) {
                return Err(MappingError::NotForImports(token.to_owned()));
            }
        }
        let is_wild = |place: usize| matches!(forth.parts.get(place), Some(Part::Token(_)));
        let filter = tokens().enumerate().map(|(place, token)| if is_wild(place) { "*" } else { token });
        let filter = filter.collect::<Vec<_>>().join(".");
        let wild = forth.parts.iter().filter_map(|part| match part {
            Part::Token(place) => Some(*place),
            _ => None,
        });
        let mut undone = Vec::new();
        for (place, token) in here.split('.').enumerate() {
            if token.as_bytes() != STAR {
                undone.push(token.to_owned());
                continue;
            }
            let Some(at) = wild.clone().position(|of| of == place) else {
                return Err(MappingError::NotAllWildcards(numbers));
            };
            undone.push(format!("${}", at + 1));
        }
        let back = Transform::new(&filter, &undone.join("."))?;
        Ok(Self { forth, back, there: filter })
    }

    /// The name there, as a filter.
    pub fn there(&self) -> &str {
        &self.there
    }

    /// Appends what a subject or filter here, which must be covered, is called there.
    pub fn forth(&self, subject: &[u8], out: &mut Vec<u8>) {
        self.forth.apply(subject, &mut |_| 0, out);
    }

    /// Appends what a subject or filter there, which must be covered, is called here.
    pub fn back(&self, subject: &[u8], out: &mut Vec<u8>) {
        self.back.apply(subject, &mut |_| 0, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (here, there, filter, pairs) in [
            ("out.*", "in.*", "in.*", [("out.x", "in.x"), ("out.*", "in.*")]),
            ("out.*.*", "in.$2.$1", "in.*.*", [("out.a.b", "in.b.a"), ("out.*.b", "in.b.*")]),
            (
                "a.*.b.*",
                "{{wildcard(2)}}.x.{{wildcard(1)}}",
                "*.x.*",
                [("a.1.b.2", "2.x.1"), ("a.1.b.*", "*.x.1")],
            ),
            ("out.>", "pre.out.>", "pre.out.>", [("out.a.b", "pre.out.a.b"), ("out.>", "pre.out.>")]),
            ("*.>", "p.$1.>", "p.*.>", [("a.b.c", "p.a.b.c"), ("*.b.*", "p.*.b.*")]),
            (">", "p.>", "p.>", [("a", "p.a"), ("a.>", "p.a.>")]),
        ] {
            let rename = Rename::new(here, there).unwrap();
            assert_eq!(rename.there(), filter);
            for (one, other) in pairs {
                let (mut forth, mut back) = (Vec::new(), Vec::new());
                rename.forth(one.as_bytes(), &mut forth);
                rename.back(other.as_bytes(), &mut back);
                assert_eq!(
                    (String::from_utf8(forth).unwrap(), String::from_utf8(back).unwrap()),
                    (other.into(), one.into())
                );
            }
        }
    }

    /// Texts of nats-server 2.15.1.
    #[test]
    fn what_cannot_be_undone_is_refused() {
        let error = |here, there| Rename::new(here, there).unwrap_err().to_string();
        let text = "invalid mapping destination";
        assert_eq!(error("a.*.*", "b.$1"), format!("{text}: not using all of the token wildcard(s) in b.$1"));
        assert_eq!(
            error("a.*", "b.{{partition(3,1)}}"),
            format!(
                "{text}: the only mapping function allowed for import transforms is {{{{Wildcard()}}}} in {{{{partition(3,1)}}}}"
            )
        );
        assert_eq!(error("a.*", "b.$2"), format!("{text}: wildcard index out of range in $2: [2]"));
        assert_eq!(error("a.>", "b"), "invalid subject");
    }
}
