//! One source and one destination, as streams have them: what isn't covered stays where it is.

use midge_protocol::subject::{Filter, is_literal};

use super::MappingError;
use super::transform::{Transform, check_tokens};

/// From one subject to another.
#[derive(Clone, Debug)]
pub struct Single {
    source: Box<str>,
    /// `None`: everything stays.
    transform: Option<Transform>,
}

impl Single {
    /// An empty source covers everything; with an empty destination, everything stays.
    pub fn new(source: &str, destination: &str) -> Result<Self, MappingError> {
        let source = if source.is_empty() { ">" } else { source };
        let transform = match destination {
            "" => None,
            destination => {
                check_tokens(destination)?;
                Some(Transform::new(source, destination)?)
            }
        };
        Ok(Self { source: source.into(), transform })
    }

    /// What becomes of `subject`; `None` if it isn't covered. `random` gives a number below its argument. The new subject
    /// may be invalid.
    pub fn apply(&self, subject: &[u8], random: &mut impl FnMut(u32) -> u32) -> Option<Vec<u8>> {
        let transform = self.transform.as_ref()?;
        let source = Filter::new(self.source.as_bytes()).ok()?;
        if !is_literal(subject) || !source.matches(subject) {
            return None;
        }
        let mut out = Vec::with_capacity(subject.len() + 16);
        transform.apply(subject, random, &mut out);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_covered_moves() {
        for (source, destination, subject, becomes) in [
            ("a.*", "b.$1", "a.x", Some("b.x")),
            ("a.*", "b.$1", "c.x", None),
            ("", "b.>", "a.x", Some("b.a.x")),
            (">", ">", "a.x", Some("a.x")),
            ("a.*", "", "a.x", None),
        ] {
            let single = Single::new(source, destination).unwrap();
            let out = single.apply(subject.as_bytes(), &mut |_| 0);
            assert_eq!(out.as_deref(), becomes.map(str::as_bytes), "{source} to {destination}: {subject}");
        }
        assert!(Single::new("a.*", "b.$2").is_err());
        assert!(Single::new("a", "b.{{nothing(1)}}").is_err());
    }
}
