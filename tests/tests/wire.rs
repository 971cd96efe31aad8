//! Plays the transcripts on every target. `cargo test -p midge-tests --test wire -- [--target NAME] [FILTER]`.

use std::process::ExitCode;

use midge_tests::corpus;
use midge_tests::target::Target;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut filter, mut only) = (String::new(), None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--target" => only = arguments.next(),
            "--list" => return ExitCode::SUCCESS,
            flag if flag.starts_with('-') => {}
            _ => filter = argument,
        }
    }
    let scripts = match corpus::read(&filter) {
        Ok(scripts) => scripts,
        Err(what) => {
            eprintln!("{what}");
            return ExitCode::FAILURE;
        }
    };
    let mut failures = Vec::new();
    for (name, target) in
        [("sim", Ok(Target::Sim)), ("reference", Target::reference()), ("ours", Target::ours())]
    {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        match target {
            Ok(target) => {
                let report = corpus::play(&scripts, &target);
                println!("{}", report.summary(name));
                failures.extend(report.failures.into_iter().map(|failure| format!("{name}: {failure}")));
            }
            // Without the reference the rest still says something; without our own server nothing does.
            Err(why) if name == "reference" => println!("{name:>9}: SKIPPED, {why}"),
            Err(why) => failures.push(why),
        }
    }
    for failure in &failures {
        eprintln!("\n{failure}");
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
