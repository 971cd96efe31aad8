//! The arrows between our crates are those that ARCHITECTURE.md draws, and no others.

use std::collections::BTreeSet;

/// crate -> the crates of ours that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("midge-protocol", &[]),
    ("midge-client", &["midge-protocol"]),
    ("midge-router", &["midge-protocol"]),
    ("midge-jwt", &["midge-protocol"]),
    ("midge-leaf", &["midge-jwt", "midge-protocol"]),
    ("midge-broker", &["midge-jwt", "midge-leaf", "midge-protocol", "midge-router"]),
    ("midge-config", &["midge-protocol"]),
    ("midge-setup", &["midge-broker", "midge-config", "midge-jwt"]),
    ("midge-heap", &[]),
    ("midge-inquiry", &[]),
    ("midge-store", &[]),
    ("midge-stream", &["midge-inquiry", "midge-protocol", "midge-router", "midge-store"]),
    ("midge-attach", &["midge-broker", "midge-config", "midge-protocol", "midge-stream"]),
    ("midge-tls", &["midge-config"]),
    ("midge-websocket", &[]),
    ("midge-wire", &["midge-broker", "midge-tls", "midge-websocket"]),
    (
        "midged",
        &[
            "midge-attach",
            "midge-broker",
            "midge-config",
            "midge-heap",
            "midge-inquiry",
            "midge-jwt",
            "midge-leaf",
            "midge-protocol",
            "midge-router",
            "midge-setup",
            "midge-store",
            "midge-stream",
            "midge-tls",
            "midge-websocket",
            "midge-wire",
        ],
    ),
    ("midge-cli", &["midge-config", "midge-protocol", "midge-setup", "midge-store", "midge-tls"]),
];

/// Crates that know nothing of an operating system's sockets, and so must not see its runtime either.
const NO_TOKIO: &[&str] = &[
    "midge-protocol",
    "midge-client",
    "midge-router",
    "midge-jwt",
    "midge-leaf",
    "midge-broker",
    "midge-config",
    "midge-heap",
    "midge-inquiry",
    "midge-setup",
    "midge-store",
    "midge-stream",
    "midge-attach",
    "midge-tls",
    "midge-websocket",
];

#[test]
fn dependencies_point_downwards() {
    let packages = crate::packages();
    let mut seen = BTreeSet::new();
    for package in &packages {
        let name = package["name"].as_str().expect("a package has a name");
        if name == "midge-tests" {
            continue;
        }
        let allowed = ARROWS.iter().find(|(from, _)| *from == name).map(|(_, to)| *to);
        let allowed =
            allowed.unwrap_or_else(|| panic!("{name} is new: draw its arrows here and in ARCHITECTURE.md"));
        let dependencies = package["dependencies"].as_array().expect("a package has dependencies");
        for dependency in dependencies.iter().filter(|dependency| dependency["kind"].is_null()) {
            let to = dependency["name"].as_str().expect("a dependency has a name");
            if to.starts_with("midge") {
                assert!(allowed.contains(&to), "{name} must not use {to}");
            }
            assert!(to != "tokio" || !NO_TOKIO.contains(&name), "{name} must not know tokio");
        }
        seen.insert(name);
    }
    for (name, _) in ARROWS {
        assert!(seen.contains(name), "{name} is gone: take it out of here and of ARCHITECTURE.md");
    }
}
