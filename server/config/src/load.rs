//! From a file, or its text, to options.

use std::path::Path;

use crate::block::Block;
use crate::check::{Unserved, check};
use crate::digest::config_digest;
use crate::keys::ROOT;
use crate::options::Options;
use crate::parse::{World, parse, parse_file};
use crate::report::{Problem, Report};
use crate::validate::validate;
use crate::value::Map;

/// Options and what is to be said about them; or why there are none.
pub type Loaded = Result<(Options, Report), Report>;

/// Reads and checks the configuration file at `path`.
///
/// The report of the good case holds warnings only, that of the bad case at least one error.
pub fn load_file(path: &Path, world: World<'_>) -> Loaded {
    finish(read_file(path, world, &[])?)
}

/// Reads and checks a configuration text, called `name` in messages. Any bytes are a fit input.
pub fn load_text(name: &str, text: &[u8], world: World<'_>) -> Loaded {
    finish(read(name, parse(name, Path::new(""), text, world), world, &[])?)
}

/// The keys that were set and have no effect in midge, in the order of the text. The daemon warns of each, and
/// refuses to start for one that is [`Unserved::refused`].
pub fn unserved(options: &Options) -> &[Unserved] {
    &options.unserved
}

/// Reads the file; what fits together is still to be checked. The command line has said `elsewhere` already, so that the file
/// must not.
pub(crate) fn read_file(path: &Path, world: World<'_>, elsewhere: &[&str]) -> Loaded {
    let (mut options, report) = read(&path.display().to_string(), parse_file(path, world), world, elsewhere)?;
    options.config_file = Some(path.to_owned());
    Ok((options, report))
}

/// Checks what was read, perhaps with the command line applied.
pub(crate) fn finish((options, mut report): (Options, Report)) -> Loaded {
    validate(&options, &mut report);
    if report.errors.is_empty() { Ok((options, report)) } else { Err(report) }
}

fn read(name: &str, parsed: Result<Map, Problem>, world: World<'_>, elsewhere: &[&str]) -> Loaded {
    let map = match parsed {
        Ok(map) => map,
        Err(mut problem) => {
            // Said of the language, not of a key, and in words that programs look for in nats-server's output.
            if problem.at.is_some() {
                problem.text.insert_str(0, "Parse error: ");
            }
            return Err(Report { errors: vec![problem], warnings: Vec::new() });
        }
    };
    let mut report = Report::default();
    if map.is_empty() {
        report.warnings.push(Problem::general(format!("{name}: config has no values or is empty")));
    }
    let unserved = check(ROOT, &map, &mut report);
    let root = Block::new(ROOT, &map, None);
    let jetstream = root.block("jetstream");
    for key in elsewhere {
        for value in
            [Some(&root), jetstream.as_ref()].into_iter().flatten().filter_map(|block| block.get(key))
        {
            report.error(&value.at, format!("Duplicate '{key}' configuration"));
        }
    }
    let mut options = Options::read(&root, &mut report);
    options.trust.read_operators(world.files, &mut report);
    options.unserved = unserved;
    options.config_digest = Some(config_digest(&map));
    if report.errors.is_empty() { Ok((options, report)) } else { Err(report) }
}
