//! What a consumer, or a request, wants of a log.

use std::cell::RefCell;
use std::sync::Arc;

use midge_protocol::subject::{Filter, is_literal};
use midge_store::Select;

/// Filters, of which one must match; none at all want everything.
#[derive(Debug, Default)]
pub struct Filters {
    list: Arc<[Box<str>]>,
    literal: bool,
    /// What a store makes of them, and remembers of its subjects.
    select: RefCell<Option<Select>>,
}

impl Filters {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// Texts that aren't filters match nothing. An empty one, and `>`, match everything.
    pub fn new(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut list: Arc<[Box<str>]> = texts.into_iter().map(|text| text.as_ref().into()).collect();
        if list.iter().any(|text| matches!(&**text, "" | ">")) {
            list = Arc::default();
        }
        let literal = !list.is_empty() && list.iter().all(|text| is_literal(text.as_bytes()));
        Self { list, literal, select: RefCell::default() }
    }

    /// True if they want every message.
    pub fn is_all(&self) -> bool {
        self.list.is_empty()
    }

    /// The subjects, if none has a wildcard.
    pub fn literals(&self) -> Option<impl Iterator<Item = &[u8]>> {
        self.literal.then(|| self.list.iter().map(|text| text.as_bytes()))
    }

    /// True if they want messages on `subject`.
    pub fn matches(&self, subject: &[u8]) -> bool {
        if self.literal {
            return self.list.iter().any(|text| text.as_bytes() == subject);
        }
        self.is_all() || self.filters().any(|filter| filter.matches(subject))
    }

    /// As a store has them. Whoever keeps filters keeps what the store remembers, which is true of one stream only.
    pub(crate) fn with_select<R>(&self, work: impl FnOnce(&mut Select) -> R) -> R {
        let mut select = self.select.borrow_mut();
        work(select.get_or_insert_with(|| match &self.list[..] {
            [] => Select::all(),
            [one] if self.literal => Select::subject(one.as_bytes()),
            _ => {
                let list = Arc::clone(&self.list);
                Select::filter(move |subject| {
                    let filters = list.iter().filter_map(|text| Filter::new(text.as_bytes()).ok());
                    filters.into_iter().any(|filter| filter.matches(subject))
                })
            }
        }))
    }

    /// As the protocol has them.
    pub fn filters(&self) -> impl Iterator<Item = Filter<'_>> {
        self.list.iter().filter_map(|text| Filter::new(text.as_bytes()).ok())
    }

    /// True if there may be a message that they and `filter` want.
    pub fn overlaps(&self, filter: Filter<'_>) -> bool {
        self.is_all() || self.filters().any(|ours| ours.overlaps(filter))
    }

    /// True if they want nothing that `others` don't.
    pub(crate) fn is_within(&self, others: &Self) -> bool {
        let within = |filter: Filter<'_>| others.filters().any(|other| filter.is_subset_of(other));
        others.is_all() || (!self.is_all() && self.filters().all(within))
    }

    /// True if there may be a message that they and `others` want.
    pub(crate) fn overlap(&self, others: &Self) -> bool {
        self.is_all() || others.is_all() || others.filters().any(|filter| self.overlaps(filter))
    }

    /// What each filter's subjects begin with.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = (&[u8], Option<Filter<'_>>)> {
        let everything = self.is_all().then_some((&b""[..], None));
        let each = self.filters().map(|filter| {
            let text = filter.as_bytes();
            let wild = filter.tokens().take_while(|token| !matches!(*token, b"*" | b">"));
            let len: usize = wild.map(|token| token.len() + 1).sum();
            (text.get(..len.min(text.len())).unwrap_or_default(), Some(filter))
        });
        everything.into_iter().chain(each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_they_want() {
        let filters = Filters::new(["a.*", "b"]);
        assert!(filters.matches(b"a.x") && filters.matches(b"b") && !filters.matches(b"a.x.y"));
        assert!(Filters::all().matches(b"anything") && Filters::new([">"]).is_all());
        assert!(!Filters::new(["a..b"]).matches(b"a.b"));
        let literal = Filters::new(["a", "b"]);
        assert_eq!(literal.literals().unwrap().count(), 2);
        assert!(literal.matches(b"a") && !literal.matches(b"c"));
    }

    #[test]
    fn within_others_are_those_that_all_are() {
        let within = |ours: &[&str], others: &str| {
            Filters::new(ours.iter().copied()).is_within(&Filters::new([others]))
        };
        assert!(within(&["a.x", "a.y"], "a.*") && within(&["a"], "a") && within(&["a", "b"], ">"));
        // Else a purge of one of a consumer's subjects would cost it messages of the others.
        assert!(!within(&["a", "b"], "a") && !within(&["a.>"], "a.*") && !within(&[], "a"));
    }

    #[test]
    fn prefixes_are_the_literal_tokens() {
        for (text, prefix) in [("a.b.*", "a.b."), ("a.b", "a.b"), ("*.b", ""), ("a.>", "a.")] {
            let filters = Filters::new([text]);
            assert_eq!(filters.prefixes().next().unwrap().0, prefix.as_bytes(), "{text}");
        }
        assert_eq!(Filters::all().prefixes().next().unwrap().0, b"");
    }
}
