//! What stands behind the `?` of a request.

use std::num::IntErrorKind;
use std::str::FromStr;

/// A request that makes no sense, in the words of nats-server and, for numbers, of Go's `strconv`.
pub(super) struct BadRequest(pub(super) String);

/// Names and values. Of a name given twice the first counts; an empty value is none.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `name=value&…`.
    pub(super) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The same from names and values.
    pub(super) fn of<const N: usize>(pairs: [(&str, String); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(given, _)| given == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// False if it isn't given.
    pub(super) fn flag(&self, name: &str) -> Result<bool, BadRequest> {
        match self.text(name) {
            None | Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
            Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
            Some(value) => Err(BadRequest(format!(
                "Error decoding boolean for '{name}': strconv.ParseBool: parsing {value:?}: {SYNTAX}"
            ))),
        }
    }

    /// 0 if it isn't given.
    pub(super) fn int(&self, name: &str) -> Result<i64, BadRequest> {
        self.number(name, "int", "Atoi", true)
    }

    /// 0 if it isn't given.
    pub(super) fn uint64(&self, name: &str) -> Result<u64, BadRequest> {
        self.number(name, "uint64", "ParseUint", false)
    }

    fn number<T>(&self, name: &str, kind: &str, function: &str, signed: bool) -> Result<T, BadRequest>
    where
        T: FromStr<Err = std::num::ParseIntError> + Default,
    {
        let Some(value) = self.text(name) else { return Ok(T::default()) };
        let why = match value.parse() {
            Ok(_) if !signed && value.starts_with('+') => SYNTAX,
            Ok(number) => return Ok(number),
            Err(error) => match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => SYNTAX,
            },
        };
        Err(BadRequest(format!(
            "Error decoding {kind} for '{name}': strconv.{function}: parsing {value:?}: {why}"
        )))
    }

    /// `offset` and `limit`; without a limit, or with one below 1, it is `default`, and never more than `most`.
    pub(super) fn page(&self, default: usize, most: usize) -> Result<Page, BadRequest> {
        let (offset, limit) = (self.int("offset")?, self.int("limit")?);
        let clamp = |number: i64| usize::try_from(number.max(0)).unwrap_or(usize::MAX);
        let limit = if limit > 0 { clamp(limit) } else { default };
        Ok(Page { offset: clamp(offset), limit: limit.min(most) })
    }
}

/// Which rows of an answer are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) offset: usize,
    pub(super) limit: usize,
}

const SYNTAX: &str = "invalid syntax";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_name_counts_and_nothing_is_nothing() {
        let query = Query::parse("user=a%20b+c&user=d&acc=&x");
        assert_eq!(query.text("user"), Some("a b c"));
        assert_eq!((query.text("acc"), query.text("x"), query.text("y")), (None, None, None));
    }

    #[test]
    fn values_that_are_none_are_refused_in_gos_words() {
        let error = |text: &str| {
            let query = Query::parse(text);
            let errors = [query.flag("b").err(), query.int("i").err(), query.uint64("u").err()];
            errors.into_iter().flatten().map(|error| error.0).collect::<String>()
        };
        assert_eq!(
            error("b=yes"),
            "Error decoding boolean for 'b': strconv.ParseBool: parsing \"yes\": invalid syntax"
        );
        assert_eq!(error("i=x"), "Error decoding int for 'i': strconv.Atoi: parsing \"x\": invalid syntax");
        assert_eq!(
            error("i=9223372036854775808"),
            "Error decoding int for 'i': strconv.Atoi: parsing \"9223372036854775808\": value out of range"
        );
        for sign in ["-1", "%2B1"] {
            assert!(error(&format!("u={sign}")).contains("strconv.ParseUint"));
            assert_eq!(error(&format!("i={sign}&b=T")), "");
        }
    }

    #[test]
    fn pages_are_bounded() {
        let page = |text: &str| Query::parse(text).page(10, 20).ok().map(|page| (page.offset, page.limit));
        assert_eq!(page(""), Some((0, 10)));
        assert_eq!(page("offset=-3&limit=-3"), Some((0, 10)));
        assert_eq!(page("offset=3&limit=99"), Some((3, 20)));
        assert_eq!(page("limit=x"), None);
    }
}
