//! The commands that need no server.

use crate::support::{Midge, TempFile};

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

#[test]
fn a_good_configuration_is_fine_and_what_has_no_effect_is_told() {
    let file = TempFile::new("midge.conf", "port: 4222\ngateway { name: x }\nmax_payload: $LIMIT\n");
    let check = Midge::new(&["check-config", "-c", file.path()]).env("LIMIT", "1000").run();
    assert!(check.stderr.starts_with(&format!("{}:2:1: warning: ", file.path())), "{check:?}");
    assert_eq!(check.ok(), format!("{} is fine, 1 warning\n", file.path()));
}

#[test]
fn every_error_of_a_configuration_is_told_with_its_place_and_no_secret() {
    let config = "prot: 4222\nport: 99999\nauthorization { user: a, password: hunter2, timeut: 1 }\n";
    let file = TempFile::new("midge.conf", config);
    let said = Midge::new(&["check-config", "-c", file.path()]).run().failed(78);
    for place in ["1:1", "2:1", "3:45"] {
        assert!(said.contains(&format!("{}:{place}: error: ", file.path())), "{place}: {said}");
    }
    assert!(said.ends_with(" has 3 errors, no warnings\n") && !said.contains("hunter2"), "{said}");
}

/// The daemon would not start: whoever checks before a restart has to know.
#[test]
fn a_configuration_that_midge_will_not_run_with_is_an_error() {
    let file = TempFile::new("midge.conf", "proxy_protocol: true\n");
    let said = Midge::new(&["check-config", "-c", file.path()]).run().failed(78);
    assert!(said.contains(":1:1: error: midge does not have proxy_protocol"), "{said}");
    Midge::new(&["check-config", "-c", "/nonexistent/midge.conf"]).run().failed(78);
}

#[test]
fn the_files_of_a_tls_block_are_read() {
    let file =
        TempFile::new("midge.conf", "tls { cert_file: /nonexistent/a.pem, key_file: /nonexistent/a.key }\n");
    let said = Midge::new(&["check-config", "-c", file.path()]).run().failed(78);
    assert!(
        said.contains("error: error parsing X509 certificate/key pair: open /nonexistent/a.pem: "),
        "{said}"
    );
}
