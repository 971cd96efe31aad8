//! The commands that need no server.

use crate::support::Midge;

#[test]
fn the_version_is_told_both_ways() {
    let version = format!("midge {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(Midge::new(&["version"]).run().ok(), version);
    assert_eq!(Midge::new(&["--version"]).run().ok(), version);
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Midge::new(&["completions", shell]).run().ok();
        assert!(script.contains("midge") && script.contains("request"), "{shell}");
    }
    Midge::new(&["completions", "cmd"]).run().failed(2);
}

/// A URL can hold a password, and help is what people paste into issues.
#[test]
fn help_shows_no_settings_of_the_user() {
    let help =
        Midge::new(&["--help"]).env("NATS_URL", "nats://u:secret@h").env("NATS_TOKEN", "secret").run().ok();
    assert!(help.contains("NATS_URL") && !help.contains("secret"), "{help}");
}
