//! Subjects and filters: the only place that knows what a subject is.
//!
//! A *subject* names a message: tokens separated by `.`, as in `plant.line1.temp`. A *filter* is what a
//! subscription asks for: the token `*` stands for any one token, the token `>` at the end for one or more.
//! Both are bytes; the wire does not ask for UTF-8. A wildcard character counts only as a whole token: `a*` is
//! an ordinary token.
//!
//! Source of the rules: reference 3.1 and 3.2, and nats-server's `sublist.go` (`IsValidSubject`,
//! `IsValidPublishSubject`, `SubjectsCollide`, `isSubsetMatch`).

/// Separates tokens.
pub const SEPARATOR: u8 = b'.';
/// The token that stands for any one token.
pub const STAR: &[u8] = b"*";
/// The last token that stands for one or more tokens.
pub const REST: &[u8] = b">";

/// Why some bytes are not a subject or filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SubjectError {
    /// Nothing at all.
    Empty,
    /// A token without characters: `a..b`, `.a`, `a.`.
    EmptyToken,
    /// Something stands after `>`.
    RestNotLast,
    /// A space, tab, carriage return or line feed.
    Whitespace,
    /// A wildcard token where a literal subject is asked for.
    Wildcard,
}

impl core::fmt::Display for SubjectError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Empty => "the subject is empty",
            Self::EmptyToken => "the subject has an empty token",
            Self::RestNotLast => "'>' is allowed only as the last token",
            Self::Whitespace => "the subject contains white space",
            Self::Wildcard => "the subject contains a wildcard",
        })
    }
}

impl core::error::Error for SubjectError {}

/// A literal subject: valid to publish on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Subject<'a>(&'a [u8]);

impl<'a> Subject<'a> {
    /// Checks `bytes`: non-empty tokens, no white space, no wildcard token. One look at each byte; see [`subject!`](macro@crate::subject)
    /// for subjects that are known when the program is compiled.
    pub const fn new(bytes: &'a [u8]) -> Result<Self, SubjectError> {
        match check(bytes) {
            Ok(Form::Literal) => Ok(Self(bytes)),
            Ok(Form::Wild) => Err(SubjectError::Wildcard),
            Err(error) => Err(error),
        }
    }

    /// Takes bytes that this crate made and knows to be a subject.
    pub(crate) fn trusted(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes that were checked.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The tokens, from left to right.
    pub fn tokens(self) -> Tokens<'a> {
        tokens(self.0)
    }
}

/// What a subscription asks for: a subject that may hold wildcards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Filter<'a>(&'a [u8]);

impl<'a> Filter<'a> {
    /// Checks `bytes`: non-empty tokens, `>` only at the end, no white space.
    pub const fn new(bytes: &'a [u8]) -> Result<Self, SubjectError> {
        match check(bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(error) => Err(error),
        }
    }

    /// Takes bytes that this crate made and knows to be a filter.
    pub(crate) fn trusted(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes that were checked.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The tokens, from left to right.
    pub fn tokens(self) -> Tokens<'a> {
        tokens(self.0)
    }

    /// True if no token is a wildcard.
    pub fn is_literal(self) -> bool {
        is_literal(self.0)
    }

    /// True if a message on `subject` reaches this filter. A subject with an empty token reaches nobody.
    pub fn matches(self, subject: &[u8]) -> bool {
        let mut theirs = tokens(subject);
        for ours in self.tokens() {
            match theirs.next() {
                None | Some(b"") => return false,
                Some(_) if ours == REST => return theirs.all(|token| !token.is_empty()),
                Some(token) if ours == STAR || ours == token => {}
                Some(_) => return false,
            }
        }
        theirs.next().is_none()
    }

    /// True if every subject that reaches `self` reaches `other` too.
    pub fn is_subset_of(self, other: Filter<'_>) -> bool {
        let mut ours = self.tokens();
        for theirs in other.tokens() {
            match ours.next() {
                None => return false,
                Some(_) if theirs == REST => return true,
                Some(token) if token == REST => return false,
                Some(token) if theirs == STAR || theirs == token => {}
                Some(_) => return false,
            }
        }
        ours.next().is_none()
    }

    /// True if some subject reaches both filters.
    pub fn overlaps(self, other: Filter<'_>) -> bool {
        let (mut ours, mut theirs) = (self.tokens(), other.tokens());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (None, Some(_)) | (Some(_), None) => return false,
                (Some(a), Some(b)) if a == REST || b == REST => return true,
                (Some(a), Some(b)) if a == STAR || b == STAR || a == b => {}
                (Some(_), Some(_)) => return false,
            }
        }
    }
}

impl<'a> Filter<'a> {
    /// The tokens of the filter that exactly the subjects reach which reach both: `*.b.>` and `a.>` have `a.b.>` in
    /// common. None if there is no such subject.
    pub fn common(self, other: Filter<'a>) -> Option<Common<'a>> {
        self.overlaps(other).then(|| Common { ours: self.tokens(), theirs: other.tokens() })
    }
}

/// Iterator over tokens; see [`Filter::common`].
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Common<'a> {
    ours: Tokens<'a>,
    theirs: Tokens<'a>,
}

impl<'a> Iterator for Common<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match (self.ours.next()?, self.theirs.next()?) {
            // Whatever follows on the one side, the other allows.
            (token, REST) => {
                self.theirs = self.ours.clone();
                Some(token)
            }
            (REST, token) => {
                self.ours = self.theirs.clone();
                Some(token)
            }
            (STAR, token) | (token, _) => Some(token),
        }
    }
}

impl<'a> TryFrom<&'a str> for Subject<'a> {
    type Error = SubjectError;

    fn try_from(text: &'a str) -> Result<Self, SubjectError> {
        Self::new(text.as_bytes())
    }
}

/// A [`Subject`] that is checked when the program is compiled:
///
/// ```
/// let subject = midge_protocol::subject!("plant.attic.temp");
/// ```
///
/// ```compile_fail
/// let subject = midge_protocol::subject!("plant.*");
/// ```
#[macro_export]
macro_rules! subject {
    ($text:expr) => {
        const {
            match $crate::subject::Subject::new(::core::primitive::str::as_bytes($text)) {
                Ok(subject) => subject,
                Err(_) => panic!("no subject to publish on"),
            }
        }
    };
}

impl<'a> From<Subject<'a>> for Filter<'a> {
    fn from(subject: Subject<'a>) -> Self {
        Self(subject.0)
    }
}

/// What a valid filter is.
enum Form {
    Literal,
    Wild,
}

/// Checks a filter, looking once at each byte.
const fn check(bytes: &[u8]) -> Result<Form, SubjectError> {
    let (mut rest, mut form) = (bytes, Form::Literal);
    // The last byte and the one before it. As if a token had just ended, so that the first one begins like the others.
    let (mut before, mut last) = (SEPARATOR, SEPARATOR);
    while let [byte, tail @ ..] = rest {
        if is_space(*byte) {
            return Err(SubjectError::Whitespace);
        }
        if *byte == SEPARATOR {
            match (before, last) {
                (_, SEPARATOR) => return Err(SubjectError::EmptyToken),
                (SEPARATOR, b'>') => return Err(SubjectError::RestNotLast),
                (SEPARATOR, b'*') => form = Form::Wild,
                _ => {}
            }
        }
        (before, last) = (last, *byte);
        rest = tail;
    }
    match (before, last) {
        (_, SEPARATOR) if bytes.is_empty() => Err(SubjectError::Empty),
        (_, SEPARATOR) => Err(SubjectError::EmptyToken),
        (SEPARATOR, b'>' | b'*') => Ok(Form::Wild),
        _ => Ok(form),
    }
}

/// True if no token of `bytes` is a wildcard. Says nothing about validity.
pub fn is_literal(bytes: &[u8]) -> bool {
    // Wildcards are rare and the hot path asks this of every publish: look for the characters first.
    !bytes.iter().any(|b| matches!(b, b'*' | b'>')) || tokens(bytes).all(|t| t != STAR && t != REST)
}

/// The tokens of `bytes`, from left to right, empty ones included. No bytes are one empty token.
pub fn tokens(bytes: &[u8]) -> Tokens<'_> {
    Tokens { rest: Some(bytes) }
}

/// Iterator over tokens; see [`tokens`].
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Tokens<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        match rest.iter().position(|b| *b == SEPARATOR) {
            Some(at) => {
                let (token, tail) = rest.split_at_checked(at)?;
                self.rest = tail.split_first().map(|(_, tail)| tail);
                Some(token)
            }
            None => {
                self.rest = None;
                Some(rest)
            }
        }
    }
}

/// True if `bytes` can be an argument on the wire: not empty, no white space. All that a queue group's name must be.
pub fn is_word(bytes: &[u8]) -> bool {
    !bytes.is_empty() && !bytes.iter().any(|b| is_space(*b))
}

/// The characters that no subject, queue name or sid can hold, because they separate arguments on the wire.
const fn is_space(byte: u8) -> bool {
    byte <= b' ' && matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter<'_> {
        Filter::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn validity() {
        for good in ["a", "a.b", "*", ">", "a.*.c", "a.>", "a*.b>", "$SYS.x", "**", "a.*>"] {
            assert!(Filter::new(good.as_bytes()).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", SubjectError::Empty),
            (".", SubjectError::EmptyToken),
            ("a..b", SubjectError::EmptyToken),
            (".a", SubjectError::EmptyToken),
            ("a.", SubjectError::EmptyToken),
            (">.a", SubjectError::RestNotLast),
            ("a.>.b", SubjectError::RestNotLast),
            ("a b", SubjectError::Whitespace),
            ("a\r\nb", SubjectError::Whitespace),
        ] {
            assert_eq!(Filter::new(bad.as_bytes()), Err(why), "{bad:?}");
        }
        assert!(Subject::new(b"a.b*").is_ok());
        assert_eq!(Subject::new(b"a.*"), Err(SubjectError::Wildcard));
        assert_eq!(Subject::new(b"a.>"), Err(SubjectError::Wildcard));
    }

    #[test]
    fn in_common() {
        for (one, other, common) in [
            ("a.b", "a.b", Some("a.b")),
            ("a.*", "*.b", Some("a.b")),
            ("a.>", "*.b.>", Some("a.b.>")),
            ("a.>", ">", Some("a.>")),
            ("*", ">", Some("*")),
            ("*.*", "a.>", Some("a.*")),
            (">", "a.*.>", Some("a.*.>")),
            ("a.b", "a.>", Some("a.b")),
            ("a", "a.>", None),
            ("a.b", "a.c", None),
            ("*", "a.b", None),
        ] {
            for (one, other) in [(one, other), (other, one)] {
                let found = filter(one).common(filter(other));
                assert_eq!(found.is_some(), common.is_some(), "{one} and {other}");
                let expected = common.into_iter().flat_map(|common| filter(common).tokens());
                assert!(found.into_iter().flatten().eq(expected), "{one} and {other}");
            }
        }
    }

    #[test]
    fn matching() {
        for (f, s, yes) in [
            ("a.b", "a.b", true),
            ("a.b", "a", false),
            ("a", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.*", "a.b", true),
            (">", "a..b", false),
            ("*", "", false),
            ("a.*", "a.", false),
            ("a*", "ab", false),
        ] {
            assert_eq!(filter(f).matches(s.as_bytes()), yes, "{f} {s}");
        }
    }

    #[test]
    fn subsets_and_overlaps() {
        for (a, b, subset, overlap) in [
            ("a.b", "a.*", true, true),
            ("a.*", "a.b", false, true),
            ("a.*", "a.>", true, true),
            ("a.>", "a.*", false, true),
            ("a.>", ">", true, true),
            ("a.*.c", "a.b.*", false, true),
            ("a.b", "a.c", false, false),
            ("a", "a.>", false, false),
            ("*.b", "a.*", false, true),
        ] {
            assert_eq!(filter(a).is_subset_of(filter(b)), subset, "{a} in {b}");
            assert_eq!(filter(a).overlaps(filter(b)), overlap, "{a} with {b}");
            assert_eq!(filter(b).overlaps(filter(a)), overlap, "{b} with {a}");
        }
    }
}
