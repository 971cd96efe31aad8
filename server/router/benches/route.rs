//! Times of the router's operations, in ns each. Run with `cargo bench -p midge-router`; an argument selects the
//! figures whose name contains it.
#![allow(clippy::disallowed_methods)] // a bench measures time

use std::hint::black_box;
use std::time::{Duration, Instant};

use midge_protocol::subject::Filter;
use midge_router::{Router, SubId};

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, run) in FIGURES {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            println!("{name:<44} {}", run());
        }
    }
}

type Figure = (&'static str, fn() -> String);

const FIGURES: &[Figure] = &[
    ("cached match, 16-byte subject", cached),
    ("cached match, 1,000 subjects in turn", cached_many),
    ("uncached match, 3 literal tokens", || uncached(0)),
    ("the same, each subject new to the cache", || uncached(1024)),
    ("uncached match, literal and 4 wildcards", uncached_wild),
    ("uncached match, no interest", uncached_nobody),
    ("uncached match, fan-out 1,000", fanout),
    ("insert and remove an inbox", inbox),
    ("churn under the published first token", || churn("dev")),
    ("churn under another first token", || churn("_INBOX")),
    ("a million inserts", grow),
];

/// 100,000 subscriptions `dev.<i>.temp`.
fn hundred_thousand(router: &mut Router) -> Vec<SubId> {
    (0..100_000).map(|i| insert(router, &format!("dev.{i}.temp"))).collect()
}

fn insert(router: &mut Router, filter: &str) -> SubId {
    router.insert(Filter::new(filter.as_bytes()).expect("a valid filter"), None).expect("there is room")
}

fn cached() -> String {
    let mut router = Router::new();
    hundred_thousand(&mut router);
    per_op(1_000_000, |_| router.matches(black_box(b"dev.012345.temps")).fanout())
}

fn cached_many() -> String {
    let mut router = Router::new();
    hundred_thousand(&mut router);
    let subjects: Vec<String> = (0..1_000).map(|i| format!("dev.{}.temp", i * 97)).collect();
    per_op(1_000_000, |i| router.matches(subjects[i % 1_000].as_bytes()).fanout())
}

fn uncached(cache: usize) -> String {
    let mut router = Router::with_cache(cache);
    hundred_thousand(&mut router);
    let subjects: Vec<String> = (0..100_000).map(|i| format!("dev.{}.temp", i * 7_919 % 100_000)).collect();
    per_op(1_000_000, |i| router.matches(subjects[i % 100_000].as_bytes()).fanout())
}

fn uncached_wild() -> String {
    let mut router = Router::with_cache(0);
    hundred_thousand(&mut router);
    for filter in ["dev.>", "*.*.temp", "dev.*.*", ">"] {
        insert(&mut router, filter);
    }
    let subjects: Vec<String> = (0..100_000).map(|i| format!("dev.{}.temp", i * 7_919 % 100_000)).collect();
    per_op(1_000_000, |i| router.matches(subjects[i % 100_000].as_bytes()).fanout())
}

fn uncached_nobody() -> String {
    let mut router = Router::with_cache(0);
    hundred_thousand(&mut router);
    let subjects: Vec<String> = (0..100_000).map(|i| format!("dev.x{i}.temp")).collect();
    per_op(1_000_000, |i| router.matches(subjects[i % 100_000].as_bytes()).fanout())
}

fn fanout() -> String {
    let mut router = Router::with_cache(0);
    for _ in 0..1_000 {
        insert(&mut router, "news.all");
    }
    per_op(100_000, |_| router.matches(black_box(b"news.all")).fanout())
}

fn inbox() -> String {
    let mut router = Router::new();
    hundred_thousand(&mut router);
    let filters: Vec<String> = (0..1_000u64).map(|i| format!("_INBOX.{:022}.*", i * 7_919_777)).collect();
    per_op(1_000_000, |i| {
        let id = insert(&mut router, &filters[i % 1_000]);
        router.remove(id)
    })
}

/// One second of a busy gateway: 10,000 changes among 100,000 subscriptions, 10 publishes on 1,000 subjects
/// between every two. The cost of the changes is what a core spends more than with publishes alone.
fn churn(first: &str) -> String {
    const CHANGES: usize = 10_000;
    let mut router = Router::new();
    hundred_thousand(&mut router);
    let subjects: Vec<String> = (0..1_000).map(|i| format!("dev.{}.temp", i * 97)).collect();
    let filters: Vec<String> =
        (0..CHANGES as u64 / 2).map(|i| format!("{first}.{:022}.*", i * 7_919_777)).collect();
    let mut second = |changes: bool| {
        let start = Instant::now();
        for (i, filter) in filters.iter().enumerate() {
            let id = changes.then(|| insert(&mut router, filter));
            for j in 0..10 {
                black_box(router.matches(subjects[(i * 20 + j) % 1_000].as_bytes()).fanout());
            }
            id.map(|id| router.remove(id));
            for j in 10..20 {
                black_box(router.matches(subjects[(i * 20 + j) % 1_000].as_bytes()).fanout());
            }
        }
        start.elapsed()
    };
    second(false);
    let (without, with) = (second(false), second(true));
    let more = with.saturating_sub(without);
    format!(
        "{:>8.1} ns per change, {:.2} % of a core at 10,000 changes and 100,000 publishes a second",
        more.as_nanos() as f64 / CHANGES as f64,
        more.as_secs_f64() * 100.0
    )
}

fn grow() -> String {
    let mut router = Router::new();
    let mut filter = String::new();
    let (mut longest, start) = (Duration::ZERO, Instant::now());
    for i in 0..1_000_000 {
        filter.clear();
        filter.push_str("sensors.");
        filter.push_str(&i.to_string());
        let before = Instant::now();
        insert(&mut router, &filter);
        longest = longest.max(before.elapsed());
    }
    format!(
        "{:>8.1} ns each, the longest {:.2} ms, {:.1} bytes each",
        start.elapsed().as_nanos() as f64 / 1e6,
        longest.as_secs_f64() * 1e3,
        router.stats().heap_bytes as f64 / 1e6
    )
}

/// The best of five rounds, because whatever else runs on the machine only adds.
fn per_op<T>(count: usize, mut op: impl FnMut(usize) -> T) -> String {
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            for i in 0..count {
                black_box(op(i));
            }
            start.elapsed()
        })
        .min()
        .unwrap_or_default();
    format!("{:>8.1} ns", best.as_nanos() as f64 / count as f64)
}
