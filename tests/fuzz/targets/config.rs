//! Configuration files: any bytes give options or problems, and the problems name a place.
//!
//! What follows a NUL is a file that the first one may include as `x`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use midge_config::{MemoryFiles, World, config_digest, diff, load_text, parse, to_json};
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |b| *b == 0);
    let (text, included) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let files = MemoryFiles::from([("x".into(), included.to_vec())]);
    let environment = |name: &str| (name.len() == 1).then(|| format!("[{name}]"));
    let world = World { files: &files, environment: &environment };
    if let Ok(map) = parse("fuzz", Path::new(""), text, world) {
        let _ = (to_json(&map), config_digest(&map));
    }
    match load_text("fuzz", text, world) {
        Ok((options, _)) => {
            let again = load_text("fuzz", text, world).expect("the same text, the same options").0;
            assert!(diff(&options, &again).is_empty(), "a text differs from itself");
        }
        Err(report) => assert!(!report.to_string().is_empty()),
    }
});
