//! Subjects and filters: what the three relations say about random ones must agree with each other and with the rules
//! in their shortest form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use midge_protocol::subject::{Filter, Subject, tokens};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |b| *b == 0);
    let (a, b, subject) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    assert_eq!(tokens(a).collect::<Vec<_>>().join(&b'.'), a);
    let (Ok(a), Ok(b)) = (Filter::new(a), Filter::new(b)) else { return };
    assert!(a.is_subset_of(a) && a.overlaps(a));
    assert_eq!(a.overlaps(b), b.overlaps(a));
    if a.is_subset_of(b) {
        assert!(a.overlaps(b));
        assert!(!b.is_subset_of(a) || a == b);
    }
    if let Ok(literal) = Subject::new(a.as_bytes()) {
        assert_eq!(b.matches(literal.as_bytes()), Filter::from(literal).is_subset_of(b));
        assert_eq!(b.matches(literal.as_bytes()), b.overlaps(a));
    }
    let (in_a, in_b) = (a.matches(subject), b.matches(subject));
    assert_eq!(
        in_a,
        matches(&tokens(a.as_bytes()).collect::<Vec<_>>(), &tokens(subject).collect::<Vec<_>>())
    );
    assert!(!(in_a && in_b) || a.overlaps(b));
    assert!(!(in_a && a.is_subset_of(b)) || in_b);
});

fn matches(filter: &[&[u8]], subject: &[&[u8]]) -> bool {
    match (filter, subject) {
        ([], []) => true,
        (_, [b"", ..]) => false,
        ([b">"], [_, rest @ ..]) => rest.iter().all(|token| !token.is_empty()),
        ([f, fs @ ..], [s, ss @ ..]) => (*f == b"*" || f == s) && matches(fs, ss),
        _ => false,
    }
}
