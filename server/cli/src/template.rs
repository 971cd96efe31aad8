//! Texts with `{{…}}` in them: what a message says about its number, its time, or nothing in particular.

use std::str::FromStr;

use jiff::{Timestamp, Zoned};
use rand::RngExt;
use rand::distr::{Alphanumeric, SampleString};

/// A text and the places in it that are filled in per message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Count,
    Time,
    TimeStamp,
    Unix,
    UnixNano,
    Id,
    Random { min: usize, max: usize },
    Request,
    Subject,
}

/// What the places are filled with. Outside `reply` there is no request, and its parts stay empty.
#[derive(Clone, Copy, Default)]
pub(crate) struct Values<'a> {
    /// Number of the message, from 1.
    pub(crate) count: u64,
    /// Body of the request that is answered.
    pub(crate) request: &'a str,
    /// Subject of the request that is answered.
    pub(crate) subject: &'a str,
}

impl Template {
    /// A text that is sent as it is.
    pub(crate) fn verbatim(text: String) -> Template {
        Template(vec![Part::Text(text)])
    }

    /// The text for one message.
    pub(crate) fn fill(&self, values: Values<'_>) -> String {
        self.0.iter().map(|part| part.fill(values)).collect()
    }

    /// The text for one message with nothing filled in that would change a subject's shape or a filter's meaning.
    pub(crate) fn fill_subject(&self, values: Values<'_>) -> String {
        let fill = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            part => part.fill(values).replace(SUBJECT_SYNTAX, "_"),
        };
        self.0.iter().map(fill).collect()
    }
}

/// Refuses an unknown name, since a typo would otherwise be published.
impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, inside)) = rest.split_once("{{") {
            let (name, after) =
                inside.split_once("}}").ok_or("`{{` has no `}}` (--no-templates sends a body as written)")?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(name.parse()?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Template(parts))
    }
}

impl Part {
    fn fill(&self, values: Values<'_>) -> String {
        match self {
            Part::Text(text) => text.clone(),
            Part::Count => values.count.to_string(),
            Part::Time => Zoned::now().strftime("%-I:%M%p").to_string(),
            Part::TimeStamp => Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            Part::Unix => Timestamp::now().as_second().to_string(),
            Part::UnixNano => Timestamp::now().as_nanosecond().to_string(),
            Part::Id => Alphanumeric.sample_string(&mut rand::rng(), ID_LEN),
            Part::Random { min, max } => {
                let mut rng = rand::rng();
                let len = rng.random_range(*min..=*max);
                Alphanumeric.sample_string(&mut rng, len)
            }
            Part::Request => values.request.to_owned(),
            Part::Subject => values.subject.to_owned(),
        }
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Part, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            ["Count"] => Ok(Part::Count),
            ["Time"] => Ok(Part::Time),
            ["TimeStamp"] => Ok(Part::TimeStamp),
            ["Unix"] => Ok(Part::Unix),
            ["UnixNano"] => Ok(Part::UnixNano),
            ["ID"] => Ok(Part::Id),
            ["Request"] => Ok(Part::Request),
            ["Subject"] => Ok(Part::Subject),
            ["Random", min, max] => match (min.parse(), max.parse()) {
                (Ok(min), Ok(max)) if min <= max && max <= RANDOM_LEN_MAX => Ok(Part::Random { min, max }),
                _ => Err(format!("{{{{Random MIN MAX}}}} needs MIN <= MAX <= {RANDOM_LEN_MAX}")),
            },
            _ => Err(format!(
                "unknown template {{{{{text}}}}} (see --help; --no-templates sends a body as written)"
            )),
        }
    }
}

/// What separates or stands for tokens, and what the wire cannot carry.
const SUBJECT_SYNTAX: [char; 7] = ['.', '*', '>', ' ', '\t', '\r', '\n'];

/// As long as a NUID, the identifier that NATS clients make.
const ID_LEN: usize = 22;

/// The most that a server can be told to take in one message is 64 MiB.
const RANDOM_LEN_MAX: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> String {
        let values = Values { count: 7, request: "21 C", subject: "sensors.a" };
        text.parse::<Template>().unwrap().fill(values)
    }

    #[test]
    fn names_are_filled_in_and_the_rest_is_kept() {
        assert_eq!(fill("m-{{Count}}/{{ Count }}."), "m-7/7.");
        assert_eq!(fill("{{Subject}}={{Request}}"), "sensors.a=21 C");
        assert_eq!(fill(r#"{"a":{"b":1}}"#), r#"{"a":{"b":1}}"#);
        assert_eq!(fill(""), "");
    }

    #[test]
    fn times_agree_with_the_clock() {
        let before = Timestamp::now();
        let stamp: Timestamp = fill("{{TimeStamp}}").parse().unwrap();
        let nanos: i128 = fill("{{UnixNano}}").parse().unwrap();
        assert!(stamp.as_second() >= before.as_second());
        assert!(nanos >= before.as_nanosecond());
        assert!(fill("{{Time}}").ends_with('M'));
    }

    #[test]
    fn random_stays_within_its_bounds() {
        for _ in 0..100 {
            assert!((3..=5).contains(&fill("{{Random 3 5}}").len()));
        }
        assert_ne!(fill("{{ID}}"), fill("{{ID}}"));
    }

    #[test]
    fn mistakes_are_refused() {
        for text in ["{{Cuont}}", "{{Count", "{{Random 5 3}}", "{{Random 1 999999999}}", "{{}}"] {
            assert!(text.parse::<Template>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_subject_keeps_its_shape() {
        let template: Template = "a.{{Subject}}.{{Request}}".parse().unwrap();
        let values = Values { count: 1, request: "> *", subject: "x.y" };
        assert_eq!(template.fill_subject(values), "a.x_y.___");
    }

    #[test]
    fn verbatim_is_left_alone() {
        assert_eq!(Template::verbatim("{{Count}}".into()).fill(Values::default()), "{{Count}}");
    }
}
