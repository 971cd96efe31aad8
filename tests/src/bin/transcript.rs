//! Works with the transcripts by hand.
//!
//! * `transcript run [--target reference|ours|sim] [FILTER]` plays scripts whose name contains FILTER.
//! * `transcript record FILE [--target …]` plays a file that only sends and prints it with what came back.
//! * `transcript compat` prints `COMPAT.md`.

use std::process::ExitCode;

use midge_tests::target::Target;
use midge_tests::{corpus, run};

const USAGE: &str = "usage: transcript run [FILTER] | record FILE | compat   [--target reference|ours|sim]";

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let target = match arguments.iter().position(|it| it == "--target") {
        Some(at) if at + 1 < arguments.len() => arguments.drain(at..at + 2).nth(1).unwrap_or_default(),
        _ => "reference".into(),
    };
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["run"] => play(&target, ""),
        ["run", filter] => play(&target, filter),
        ["record", file] => record(&target, file),
        ["compat"] => corpus::read("").map(|scripts| print!("{}", corpus::differences(&scripts))),
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn named(target: &str) -> Result<Target, String> {
    match target {
        "reference" => Target::reference(),
        "ours" => Target::ours(),
        "sim" => Ok(Target::Sim),
        other => Err(format!("no target `{other}`")),
    }
}

fn play(target: &str, filter: &str) -> Result<(), String> {
    let report = corpus::play(&corpus::read(filter)?, &named(target)?);
    println!("{}", report.summary(target));
    if report.failures.is_empty() { Ok(()) } else { Err(report.failures.join("\n\n")) }
}

fn record(target: &str, file: &str) -> Result<(), String> {
    let source = std::fs::read_to_string(file).map_err(|err| format!("{file}: {err}"))?;
    print!("{}", run::record(file, &source, &named(target)?)?);
    Ok(())
}
