//! Is the destination of a mapping one that its source can feed?
//!
//! Source: reference 3.2, "Transform functions". Only the form is checked here; whoever maps messages computes.

use midge_protocol::subject::{REST, SEPARATOR, STAR, tokens};

/// Checks a destination: its tokens are words, `$1` or functions such as `{{wildcard(1)}}`, and its functions ask
/// for no more wildcards than `source`, a valid filter, has.
pub(crate) fn check_destination(source: &str, destination: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("invalid mapping destination {destination:?}: {why}"));
    let wildcards = tokens(source.as_bytes()).filter(|token| *token == STAR).count();
    let rest = tokens(source.as_bytes()).last() == Some(REST);
    let mut destination_rest = false;
    for token in destination.split(char::from(SEPARATOR)) {
        if token.is_empty() || destination_rest || token.as_bytes() == STAR {
            return wrong("it is not a valid subject");
        }
        destination_rest = token.as_bytes() == REST;
        match function(token) {
            Ok(None) => {}
            Ok(Some(indexes)) if indexes.iter().all(|index| *index <= wildcards) => {}
            Ok(Some(_)) => return wrong("wildcard index out of range"),
            Err(why) => return wrong(why),
        }
    }
    if rest != destination_rest {
        return wrong("both sides end in '>' or none does");
    }
    Ok(())
}

/// The wildcards that a token asks for, by number; none if it is a word.
fn function(token: &str) -> Result<Option<Vec<usize>>, &'static str> {
    if let Some(digits) = token.strip_prefix('$') {
        return Ok(digits.parse().ok().map(|index| vec![index]));
    }
    let Some(call) = token.strip_prefix("{{").and_then(|token| token.strip_suffix("}}")) else {
        return Ok(None);
    };
    let call = call.trim().strip_suffix(')').and_then(|call| call.split_once('('));
    let Some((name, arguments)) = call else { return Err("unknown function") };
    let arguments: Vec<_> = arguments.split(',').map(str::trim).collect();
    let index =
        |text: &str| text.parse::<usize>().map_err(|_| "function argument is invalid or in the wrong format");
    let (low, high) = match name.trim().to_ascii_lowercase().as_str() {
        "wildcard" | "random" => (1, 1),
        "partition" => (1, usize::MAX),
        "split" | "splitfromleft" | "splitfromright" | "slicefromleft" | "slicefromright" | "left"
        | "right" => (2, 2),
        _ => return Err("unknown function"),
    };
    if arguments.len() < low || arguments.iter().any(|argument| argument.is_empty()) {
        return Err("not enough arguments passed to the function");
    }
    if arguments.len() > high {
        return Err("too many arguments passed to the function");
    }
    let split = name.trim().eq_ignore_ascii_case("split");
    let numbers = if split { arguments.get(..1).unwrap_or_default() } else { &arguments };
    let numbers: Vec<_> = numbers.iter().map(|argument| index(argument)).collect::<Result<_, _>>()?;
    Ok(Some(match name.trim().to_ascii_lowercase().as_str() {
        "random" => Vec::new(),
        "partition" => numbers.get(1..).unwrap_or_default().to_vec(),
        _ => numbers.get(..1).unwrap_or_default().to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        for (source, destination) in [
            ("a", "b.c"),
            ("a.*", "b.$1"),
            ("a.*", "b"),
            ("a.*.*", "{{wildcard(2)}}.{{ Wildcard( 1 ) }}"),
            ("a.>", "b.>"),
            ("a.*", "b.{{partition(10,1)}}"),
            ("a", "b.{{partition(10)}}"),
            ("a", "b.{{random(3)}}"),
            ("a.*", "b.{{split(1,-)}}"),
            ("a.*", "b.{{SliceFromLeft(1,3)}}.{{right(1,2)}}"),
            ("a", "$SYS.b"),
            ("a", "$JS.x"),
        ] {
            assert_eq!(check_destination(source, destination), Ok(()), "{source} -> {destination}");
        }
        for (source, destination) in [
            ("a", ""),
            ("a", "b..c"),
            ("a.*", "b.*"),
            ("a", "b.>"),
            ("a.>", "b"),
            ("a.>", ">.b"),
            ("a.*", "b.$2"),
            ("a", "b.$1"),
            ("a", "b.{{wildcard(1)}}"),
            ("a.*", "b.{{wildcard()}}"),
            ("a.*", "b.{{wildcard(1,2)}}"),
            ("a.*", "b.{{wildcard(x)}}"),
            ("a.*", "b.{{unknown(1)}}"),
            ("a.*", "b.{{wildcard}}"),
            ("a.*", "b.{{split(1)}}"),
            ("a.*", "b.{{left(1)}}"),
            ("a.*", "b.{{partition(10,2)}}"),
        ] {
            assert!(check_destination(source, destination).is_err(), "{source} -> {destination}");
        }
    }
}
