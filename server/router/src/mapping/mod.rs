//! Subject mappings: a message that arrives on one subject goes on under another.
//!
//! Source of the rules: reference 3.2; nats-server's `subject_transform.go` and `selectMappedSubject`, and the values
//! in the tests, which nats-server 2.15.1 gave.

mod rename;
mod single;
mod transform;

use core::fmt;

use midge_protocol::subject::{self, Filter, STAR};

pub use rename::Rename;
pub use single::Single;
pub use transform::Transform;
use transform::{check_tokens, literal_len};

/// Where some of the messages of a [`Mapping`] go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// A subject whose tokens may be transform functions, as `$1` or `{{partition(8,1)}}`.
    pub subject: String,
    /// Share of the messages in percent.
    pub weight: u8,
    /// Counts only in the cluster of this name. midge is never part of one: such a destination is checked, then
    /// left out.
    pub cluster: Option<String>,
}

/// What became of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The mapping does not cover the subject.
    Unchanged,
    /// The message goes to another subject (or was chosen to stay on its own).
    Mapped,
    /// The message is lost, as the weights ask for.
    Dropped,
}

/// One source and its weighted destinations.
#[derive(Clone, Debug)]
pub struct Mapping {
    source: String,
    /// Bytes of the source in front of its first wildcard; `None` if it has none.
    literal_len: Option<usize>,
    /// By rising weight.
    choices: Box<[Choice]>,
}

#[derive(Clone, Debug)]
struct Choice {
    /// A throw of 0 to 99 below this, and not below an earlier one, is for this transform.
    below: u8,
    transform: Transform,
}

impl Mapping {
    /// Checks a mapping.
    ///
    /// Weights below 100 in sum leave the rest of the messages on their subject; but if the source is itself one
    /// of the destinations, the rest is lost, which is a way to simulate loss.
    pub fn new(source: &str, destinations: &[Destination]) -> Result<Self, MappingError> {
        Filter::new(source.as_bytes()).map_err(|_| MappingError::InvalidSubject)?;
        let mut choices = Vec::new();
        for (i, destination) in destinations.iter().enumerate() {
            let earlier = &destinations[..i];
            if earlier.iter().any(|other| other.subject == destination.subject) {
                return Err(MappingError::Duplicate(destination.subject.clone()));
            }
            if destination.weight > 100 {
                return Err(MappingError::Weight);
            }
            if total_weight(&destinations[..=i], destination.cluster.as_deref()) > 100 {
                return Err(MappingError::TotalWeight);
            }
            check_tokens(&destination.subject)?;
            let transform = Transform::new(source, &destination.subject)?;
            if destination.cluster.is_none() {
                choices.push((destination.weight, transform));
            }
        }
        let total: u8 = choices.iter().map(|(weight, _)| weight).sum();
        if total != 100 && destinations.iter().all(|destination| destination.subject != source) {
            choices.push((100 - total, Transform::new(source, &own_destination(source))?));
        }
        let mut sorted: Vec<(u8, Transform)> = Vec::with_capacity(choices.len());
        for (weight, transform) in choices {
            sorted.insert(sorted.partition_point(|(other, _)| *other <= weight), (weight, transform));
        }
        let mut below = 0;
        let choices = sorted.into_iter().map(|(weight, transform)| {
            below += weight;
            Choice { below, transform }
        });
        Ok(Self { source: source.to_owned(), literal_len: literal_len(source), choices: choices.collect() })
    }

    /// What the mapping covers, as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// True if the mapping is for messages on `subject`. Of several mappings the first that covers it decides.
    pub fn covers(&self, subject: &[u8]) -> bool {
        let source = self.source.as_bytes();
        let Some(literal_len) = self.literal_len else { return source == subject };
        if subject.get(..literal_len) != source.get(..literal_len) {
            return false;
        }
        let Ok(source) = Filter::new(source) else { return false };
        if subject::is_literal(subject) {
            source.matches(subject)
        } else {
            Filter::new(subject).is_ok_and(|subject| subject.is_subset_of(source))
        }
    }

    /// Writes to `out`, in place of what it held, the subject that a message on `subject` goes to. `random` gives a
    /// number below its argument. The new subject may be invalid (`split` of `--a` makes an empty token): it then
    /// reaches nobody.
    pub fn apply(&self, subject: &[u8], random: &mut impl FnMut(u32) -> u32, out: &mut Vec<u8>) -> Outcome {
        if !self.covers(subject) {
            return Outcome::Unchanged;
        }
        out.clear();
        let choice = match &*self.choices {
            [choice] if choice.below == 100 => Some(choice),
            choices => {
                let throw = random(100);
                choices.iter().find(|choice| throw < u32::from(choice.below))
            }
        };
        let Some(choice) = choice else { return Outcome::Dropped };
        choice.transform.apply(subject, random, out);
        Outcome::Mapped
    }
}

/// The destination that leaves a message where it is: `a.*` is `a.$1`.
fn own_destination(source: &str) -> String {
    numbered(source)
}

/// Wildcards by their numbers: `a.*.*` is `a.$1.$2`.
fn numbered(source: &str) -> String {
    let mut stars = 0;
    let tokens = source.split('.').map(|token| {
        if token.as_bytes() != STAR {
            return token.to_owned();
        }
        stars += 1;
        format!("${stars}")
    });
    tokens.collect::<Vec<_>>().join(".")
}

fn total_weight(destinations: &[Destination], cluster: Option<&str>) -> u32 {
    let same = destinations.iter().filter(|destination| destination.cluster.as_deref() == cluster);
    same.map(|destination| u32::from(destination.weight)).sum()
}

/// Why a mapping is refused. Displays as nats-server's error, without the place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingError {
    /// Source or destination is not a subject, or one of them alone ends in `>`.
    InvalidSubject,
    /// This destination is listed twice.
    Duplicate(String),
    /// A weight above 100.
    Weight,
    /// Weights above 100 in sum, within the server's own or one cluster's destinations.
    TotalWeight,
    /// An empty token, one behind `>`, or white space. With the token, as in all that follow; it may be empty.
    InvalidTransform(String),
    /// A call of something that does not exist.
    UnknownFunction(String),
    /// The source has fewer wildcards.
    IndexOutOfRange(String),
    /// An argument is missing.
    NotEnoughArgs(String),
    /// An argument is no number, or too large a one, or a delimiter with a space.
    InvalidArg(String),
    /// An argument more than the function takes.
    TooManyArgs(String),
    /// A function that can't be undone, for a subject that has two names.
    NotForImports(String),
    /// A wildcard of the source that the destination leaves out, for a subject that has two names.
    NotAllWildcards(String),
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (why, token) = match self {
            Self::InvalidSubject => return f.write_str("invalid subject"),
            Self::Duplicate(subject) => return write!(f, "duplicate entry for {subject:?}"),
            Self::Weight => return f.write_str("individual weights need to be <= 100"),
            Self::TotalWeight => return f.write_str("total weight needs to be <= 100"),
            Self::InvalidTransform(token) => ("invalid transform", token),
            Self::UnknownFunction(token) => ("unknown function", token),
            Self::IndexOutOfRange(token) => ("wildcard index out of range", token),
            Self::NotEnoughArgs(token) => ("not enough arguments passed to the function", token),
            Self::InvalidArg(token) => ("function argument is invalid or in the wrong format", token),
            Self::TooManyArgs(token) => ("too many arguments passed to the function", token),
            Self::NotForImports(token) => {
                ("the only mapping function allowed for import transforms is {{Wildcard()}}", token)
            }
            Self::NotAllWildcards(token) => ("not using all of the token wildcard(s)", token),
        };
        write!(f, "invalid mapping destination: {why}")?;
        if token.is_empty() { Ok(()) } else { write!(f, " in {token}") }
    }
}

impl core::error::Error for MappingError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(subject: &str, weight: u8) -> Destination {
        Destination { subject: subject.into(), weight, cluster: None }
    }

    fn single(source: &str, subject: &str) -> Result<Mapping, MappingError> {
        Mapping::new(source, &[destination(subject, 100)])
    }

    /// The subject that `subject` becomes; as it is if the mapping does not cover it.
    fn map(mapping: &Mapping, subject: &str, throw: u32) -> Option<String> {
        let mut out = b"what was here before".to_vec();
        match mapping.apply(subject.as_bytes(), &mut |bound| throw % bound, &mut out) {
            Outcome::Unchanged => Some(subject.to_owned()),
            Outcome::Mapped => Some(String::from_utf8(out).unwrap()),
            Outcome::Dropped => None,
        }
    }

    /// Source, destination, and subjects with what they become.
    type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

    /// What nats-server 2.15.1 makes of these.
    #[test]
    fn transforms() {
        #[rustfmt::skip]
        let cases: &[Case] = &[
            ("l1.*.*", "x.$2.$1", &[("l1.a.b", "x.b.a"), ("l1.*.b", "x.b.*"), ("l1.a.>", "l1.a.>"), ("l1.>.a", "l1.>.a")]),
            ("l2.*.*", "x.{{wildcard(2)}}.{{ Wildcard ( 1 ) }}", &[("l2.a.b", "x.b.a")]),
            ("p1.*.*", "x.{{partition(10)}}", &[("p1.a.b", "x.7"), ("p1.c.d", "x.1"), ("p1.foo.bar", "x.9")]),
            ("p2.*.*", "x.{{partition(10,1)}}", &[("p2.a.b", "x.0"), ("p2.c.d", "x.8"), ("p2.foo.bar", "x.3")]),
            ("p3.*.*", "x.{{Partition(1000, 2, 1)}}.$1", &[("p3.a.b", "x.708.a"), ("p3.c.d", "x.64.c"), ("p3.foo.bar", "x.762.foo")]),
            ("p4.*", "x.{{partition(0)}}", &[("p4.a", "x.0")]),
            ("p5.*", "x.{{partition(-1)}}", &[("p5.a", "x.2893277363"), ("p5.b", "x.2910054982")]),
            ("p6.*", "x.{{partition(2147483647,1)}}", &[("p6.a", "x.1678518573"), ("p6.b", "x.1728851430")]),
            ("p7.*.>", "x.{{partition(7)}}.>", &[("p7.a.b", "x.3.b"), ("p7.a.b.c", "x.6.b.c")]),
            ("lp.a", "x.{{partition(10)}}", &[("lp.a", "x.1")]),
            ("sl.*", "x.{{splitfromleft(1,3)}}", &[("sl.12345", "x.123.45"), ("sl.123", "x.123"), ("sl.12", "x.12"), ("sl.1234", "x.123.4")]),
            ("sr.*", "x.{{SplitFromRight(1,3)}}", &[("sr.12345", "x.12.345"), ("sr.123", "x.123"), ("sr.12", "x.12"), ("sr.1234", "x.1.234")]),
            ("sz.*", "x.{{splitfromleft(1,0)}}.{{splitfromright(1,-1)}}", &[("sz.12345", "x.12345.12345")]),
            ("cl.*", "x.{{SliceFromLeft(1,3)}}", &[("cl.1234567890", "x.123.456.789.0"), ("cl.123", "x.123"), ("cl.1234", "x.123.4"), ("cl.123456", "x.123.456"), ("cl.12", "x.12")]),
            ("cr.*", "x.{{sliceFromright(1,3)}}", &[("cr.1234567890", "x.1.234.567.890"), ("cr.123", "x.123"), ("cr.1234", "x.1.234"), ("cr.123456", "x.123.456"), ("cr.12", "x.12")]),
            ("le.*", "x.{{left(1,3)}}", &[("le.12345", "x.123"), ("le.123", "x.123"), ("le.12", "x.12"), ("le.1234", "x.123")]),
            ("ri.*", "x.{{Right(1,3)}}", &[("ri.12345", "x.345"), ("ri.123", "x.123"), ("ri.12", "x.12"), ("ri.1234", "x.234")]),
            ("sp.*", "x.{{split(1,-)}}", &[("sp.a-b-c", "x.a.b.c"), ("sp.-a--b-", "x.a.b"), ("sp.abc", "x.abc"), ("sp.a-", "x.a")]),
            ("sq.*", "x.{{Split(1,--)}}", &[("sq.a--b-c", "x.a.b-c"), ("sq.a---b", "x.a.-b")]),
            ("se.*", "x.{{split(1,)}}", &[("se.abc", "x.a.b.c"), ("se.é-z", "x.é.-.z")]),
            ("f1.>", "x.>", &[("f1.a", "x.a"), ("f1.a.b.c", "x.a.b.c"), ("f1.a.>", "x.a.>"), ("f1.*", "x.*")]),
            ("f2.*.>", "x.{{wildcard(1)}}.y.>", &[("f2.a.b", "x.a.y.b"), ("f2.a.b.c.d", "x.a.y.b.c.d")]),
            ("f3.*.>", "x.y.>", &[("f3.a.b", "x.y.b"), ("f3.a.b.c.d", "x.y.b.c.d")]),
            ("f4.>", ">", &[("f4.a.b", "a.b")]),
            ("z.*", "x.$0.{{wildcard(0)}}.{{left(0,1)}}.{{wildcard(-1)}}", &[("z.a", "x.z.z.z.z")]),
            ("m.*", "x.pre{{wildcard(1)}}.{{wildcard(1)}}post.{{q{{wildcard(1)}}.$x.{{}}", &[("m.a", "x.pre{{wildcard(1)}}.{{wildcard(1)}}post.a.$x.{{}}")]),
            ("lit", "x.lit", &[("lit", "x.lit"), ("lit.a", "lit.a")]),
            ("r1.*", "x.{{random(1)}}", &[("r1.a", "x.0")]),
            ("r2.*", "x.{{random(0)}}", &[("r2.a", "x.0")]),
            ("e.*", "x", &[("e.a", "x"), ("e", "e")]),
        ];
        for (source, subject, pairs) in cases {
            let mapping = single(source, subject).unwrap();
            for (from, to) in *pairs {
                assert_eq!(map(&mapping, from, 0).unwrap(), *to, "{source} to {subject}: {from}");
                assert_eq!(mapping.covers(from.as_bytes()), from != to);
            }
        }
        let random = single("r.*", "x.{{random(10)}}.{{random(-4)}}").unwrap();
        assert_eq!(map(&random, "r.a", 27).unwrap(), "x.7.3");
    }

    /// Texts of nats-server 2.15.1, as its `-t` prints them behind the place in the file.
    #[test]
    fn errors() {
        const RANGE: &str = "wildcard index out of range in";
        const FEW: &str = "not enough arguments passed to the function in";
        const MANY: &str = "too many arguments passed to the function in";
        const FORM: &str = "function argument is invalid or in the wrong format in";
        const UNKNOWN: &str = "unknown function in";
        for (source, subject, why, token) in [
            ("a.*", "b.{{foo(1)}}", UNKNOWN, "{{foo(1)}}"),
            ("a.*", "b.{{x}}", UNKNOWN, "{{x}}"),
            ("a.*", "b.{{SPLIT(1,-)}}", UNKNOWN, "{{SPLIT(1,-)}}"),
            ("a.*", "b.{{wildcard(2)}}", RANGE, "{{wildcard(2)}}: [2]"),
            ("a.*", "b.{{wildcard()}}", FEW, "{{wildcard()}}"),
            ("a.*", "b.{{wildcard(1,2)}}", MANY, "{{wildcard(1,2)}}"),
            ("a.*", "b.{{wildcard(x)}}", FORM, "{{wildcard(x)}}"),
            ("a.*", "b.$2", RANGE, "$2: [2]"),
            ("a.>", "b.$1.>", RANGE, "$1: [1]"),
            ("a", "b.{{wildcard(1)}}", RANGE, "{{wildcard(1)}}"),
            ("a", "b.$1", RANGE, "$1"),
            ("a", "b.{{split(1,-)}}", RANGE, "{{split(1,-)}}"),
            ("a.*", "b.{{partition()}}", FORM, "{{partition()}}"),
            ("a.*", "b.{{partition(x)}}", FORM, "{{partition(x)}}"),
            ("a.*", "b.{{partition(3,x)}}", FORM, "{{partition(3,x)}}"),
            ("a.*", "b.{{partition(3,2)}}", RANGE, "{{partition(3,2)}}: [2]"),
            ("a.*", "b.{{partition(2147483648)}}", FORM, "{{partition(2147483648)}}"),
            ("a.*", "b.{{random()}}", FORM, "{{random()}}"),
            ("a.*", "b.{{random(1,2)}}", FEW, "{{random(1,2)}}"),
            ("a.*", "b.{{random(2147483648)}}", FORM, "{{random(2147483648)}}"),
            ("a.*", "b.{{split(1)}}", FEW, "{{split(1)}}"),
            ("a.*", "b.{{split(1,-,x)}}", MANY, "{{split(1,-,x)}}"),
            ("a.*", "b.{{split(x,-)}}", FORM, "{{split(x,-)}}"),
            ("a.*", "b.{{split(1,- )}}", FORM, "{{split(1,- )}}"),
            ("a.*", "b.{{splitfromleft(1)}}", FEW, "{{splitfromleft(1)}}"),
            ("a.*", "b.{{splitfromleft(1,2,3)}}", MANY, "{{splitfromleft(1,2,3)}}"),
            ("a.*", "b.{{splitfromleft(1,x)}}", FORM, "{{splitfromleft(1,x)}}"),
            ("a.*", "b.{{splitFromLeft(x,1)}}", FORM, "{{splitFromLeft(x,1)}}"),
            ("a.*", "b.{{SplitFromLeft(2,1)}}", RANGE, "{{SplitFromLeft(2,1)}}: [2]"),
            ("a.*", "b.{{slicefromleft(1,3000000000)}}", FORM, "{{slicefromleft(1,3000000000)}}"),
            ("a.*", "b..c", "invalid transform", ""),
            ("a.*", ".b", "invalid transform", ""),
            ("a.*", "b.>.c", "invalid transform in", "c"),
            ("a.*", "b c.$1", "invalid transform", ""),
        ] {
            let error = single(source, subject).expect_err(subject).to_string();
            let space = if token.is_empty() { "" } else { " " };
            assert_eq!(error, format!("invalid mapping destination: {why}{space}{token}"), "{subject}");
        }
        for (source, subject) in
            [("a.*", "b.*"), ("a.*", "b.>"), ("a.>", "b"), ("a..b", "b"), ("a b", "b"), ("", "b")]
        {
            assert_eq!(single(source, subject).expect_err(subject).to_string(), "invalid subject");
        }
        for (source, subject) in [
            ("a.*", "$1"),
            ("a", "b.{{partition(3,1)}}"),
            ("a", "b.{{random(3)}}"),
            ("a.*", "b.{{ splitfromright ( 1 , 2 ) }}"),
            ("a.*", "b.{{split(1, -)}}"),
        ] {
            assert!(single(source, subject).is_ok(), "{subject}");
        }
    }

    /// Where throws of 0 to 99 lead, as shares: 4,000 messages through nats-server 2.15.1 gave these within 2 %.
    #[test]
    fn weights() {
        let (a, b, c) = (Some("a"), Some("b"), Some("c"));
        for (destinations, shares) in [
            (vec![destination("b", 30), destination("c", 10)], vec![(c, 10), (b, 30), (a, 60)]),
            (vec![destination("a", 30), destination("c", 10)], vec![(c, 10), (a, 30), (None, 60)]),
            (vec![destination("a", 50)], vec![(a, 50), (None, 50)]),
            (vec![destination("b", 0)], vec![(a, 100)]),
            (vec![], vec![(a, 100)]),
            (vec![destination("a", 0), destination("c", 100)], vec![(c, 100)]),
            (vec![Destination { cluster: Some("x".into()), ..destination("b", 40) }], vec![(a, 100)]),
        ] {
            let mapping = Mapping::new("a", &destinations).unwrap();
            let throws = shares.into_iter().flat_map(|(to, share)| std::iter::repeat_n(to, share));
            for (throw, to) in (0..100).zip(throws) {
                assert_eq!(map(&mapping, "a", throw).as_deref(), to, "{destinations:?} {throw}");
            }
        }
        for (source, subject, rest) in
            [("a.*", "b.$1", Some("a.z")), ("a.>", "a.>", None), ("a.*", "a.$1", Some("a.z"))]
        {
            let mapping = Mapping::new(source, &[destination(subject, 25)]).unwrap();
            assert_eq!(map(&mapping, "a.z", 24).unwrap(), subject.replace("$1", "z").replace('>', "z"));
            assert_eq!(map(&mapping, "a.z", 99).as_deref(), rest, "{source}");
        }
    }

    #[test]
    fn weights_that_are_refused() {
        let cluster = |name: &str, to: Destination| Destination { cluster: Some(name.to_owned()), ..to };
        for (source, destinations, error) in [
            ("a", vec![destination("b", 60), destination("c", 50)], "total weight needs to be <= 100"),
            ("a", vec![destination("b", 101)], "individual weights need to be <= 100"),
            ("a", vec![destination("b", 60), destination("b", 10)], "duplicate entry for \"b\""),
            (
                "a",
                vec![cluster("x", destination("b", 60)), cluster("x", destination("c", 50))],
                "total weight needs to be <= 100",
            ),
            (
                "a",
                vec![cluster("x", destination("b", 60)), cluster("y", destination("b", 50))],
                "duplicate entry for \"b\"",
            ),
            (
                "a.$3.*",
                vec![destination("b", 60)],
                "invalid mapping destination: wildcard index out of range in $3: [3]",
            ),
            (
                "a.$3",
                vec![destination("b", 60)],
                "invalid mapping destination: wildcard index out of range in $3",
            ),
        ] {
            assert_eq!(Mapping::new(source, &destinations).expect_err(source).to_string(), error);
        }
        let both = [cluster("x", destination("b", 60)), cluster("y", destination("c", 50))];
        assert!(Mapping::new("a", &both).is_ok());
    }
}
