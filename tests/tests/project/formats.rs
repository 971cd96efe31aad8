//! What a microcontroller's log may be given: everything that is public in the client for them, and in the session under it,
//! has defmt's `Format`.

use std::path::Path;

#[test]
fn every_public_type_has_a_format() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let (mut files, mut types) = (Vec::new(), 0);
    for directory in ["client-nostd/src", "client-nostd/src/outbox", "protocol/src/client"] {
        files.extend(
            std::fs::read_dir(root.join(directory))
                .expect("a directory")
                .map(|entry| entry.expect("a file").path()),
        );
    }
    let files = files
        .into_iter()
        .chain(["header.rs", "subject.rs", "time.rs"].map(|name| root.join("protocol/src").join(name)));
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let text = std::fs::read_to_string(&file).expect("it can be read");
        let mut attributes = Vec::new();
        for line in text.lines() {
            let declared = ["pub struct ", "pub enum "].iter().find_map(|kind| line.strip_prefix(kind));
            if let Some(declared) = declared {
                let name =
                    declared.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
                let derived =
                    attributes.contains(&r#"#[cfg_attr(feature = "defmt", derive(defmt::Format))]"#);
                let written = ["<", " {"]
                    .iter()
                    .any(|after| text.contains(&format!("defmt::Format for {name}{after}")));
                assert!(derived || written, "{}: {name} has no defmt::Format", file.display());
                types += 1;
            }
            if line.starts_with('#') {
                attributes.push(line);
            } else if !line.starts_with("///") {
                attributes.clear();
            }
        }
    }
    assert!(types > 40, "only {types} were looked at");
}
