//! `midge check-config`

use std::io::Write;

use midge_config::{Options, OsFiles, Position, Problem, Report, World, load_file, unserved};
use midge_tls::ServerTls;

use crate::cli::CheckConfig;
use crate::exit::{Failure, Outcome};

/// Reads the file as midged would and says all that there is to say about it, nothing of it being secret.
pub(crate) fn run(args: &CheckConfig) -> Outcome {
    let environment = |name: &str| std::env::var(name).ok();
    let loaded = load_file(&args.config, World { files: &OsFiles, environment: &environment });
    let findings = match loaded {
        Ok((options, report)) => {
            let mut findings = Findings::of(&report);
            for key in unserved(&options) {
                let name = &key.key;
                match key.refused {
                    true => findings.error(
                        key.at.as_ref(),
                        &format!("midge does not have {name}, and does not run without it"),
                    ),
                    false => findings
                        .warning(key.at.as_ref(), &format!("midge does not have {name}; it has no effect")),
                }
            }
            for Problem { at, text } in &midge_setup::problems(&options) {
                findings.error(at.as_ref(), text);
            }
            findings.certificates(&options);
            findings
        }
        Err(report) => Findings::of(&report),
    };
    findings.conclude(args)
}

/// Says each finding on stderr, as compilers do: `midge.conf:3:5: error: …`.
#[derive(Default)]
struct Findings {
    errors: usize,
    warnings: usize,
}

impl Findings {
    fn of(report: &Report) -> Findings {
        let mut findings = Findings::default();
        for Problem { at, text } in &report.warnings {
            findings.warning(at.as_ref(), text);
        }
        for Problem { at, text } in &report.errors {
            findings.error(at.as_ref(), text);
        }
        findings
    }

    /// Reads the files that a `tls` block names, as midged would at its start.
    fn certificates(&mut self, options: &Options) {
        let Some(tls) = &options.tls else { return };
        match ServerTls::load(tls) {
            Ok(loaded) => loaded.warnings.iter().for_each(|warning| self.warning(None, warning)),
            Err(error) => self.error(None, &error),
        }
    }

    fn error(&mut self, at: Option<&Position>, text: &str) {
        self.errors += 1;
        say("error", at, text);
    }

    fn warning(&mut self, at: Option<&Position>, text: &str) {
        self.warnings += 1;
        say("warning", at, text);
    }

    fn conclude(&self, args: &CheckConfig) -> Outcome {
        let file = args.config.display();
        let warnings = counted(self.warnings, "warning");
        match self.errors {
            0 => Ok(writeln!(std::io::stdout().lock(), "{file} is fine, {warnings}")?),
            errors => {
                Err(Failure::config(format_args!("{file} has {}, {warnings}", counted(errors, "error"))))
            }
        }
    }
}

fn say(kind: &str, at: Option<&Position>, text: &str) {
    match at {
        Some(at) => eprintln!("{at}: {kind}: {text}"),
        None => eprintln!("{kind}: {text}"),
    }
}

fn counted(count: usize, noun: &str) -> String {
    match count {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}
