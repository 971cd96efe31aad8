//! Exports and imports that don't fit together are refused, in the words of nats-server 2.15.1's `-t`.

use midge_broker::{ServerInfo, Settings};
use midge_config::{MemoryFiles, World, load_text};

fn settings(text: &str) -> Result<Settings, String> {
    let world = World { files: &MemoryFiles::new(), environment: &|_| None };
    let (options, _) = load_text("test.conf", text.as_bytes(), world).map_err(|report| report.to_string())?;
    midge_setup::settings(&options, ServerInfo::default())
        .map_err(|errors| errors.iter().map(|error| error.text.clone()).collect::<Vec<_>>().join("\n"))
}

#[test]
fn refused() {
    for (text, why) in [
        (
            "accounts { A { exports: [ { stream: 'out.>', accounts: [X] } ] } }",
            "\"X\" account not defined for stream export",
        ),
        (
            "accounts { A { exports: [ { service: x, accounts: [X] } ] } }",
            "\"X\" account not defined for service export",
        ),
        (
            "accounts { B { imports: [ { stream: { account: X, subject: x } } ] } }",
            "\"X\" account not defined for stream import",
        ),
        (
            "accounts { B { imports: [ { service: { account: X, subject: x } } ] } }",
            "\"X\" account not defined for service import",
        ),
        (
            "accounts { A { exports: [ { stream: x, accounts: [A] } ] }
                        B { imports: [ { stream: { account: A, subject: x } } ] } }",
            "Error adding stream import \"x\": stream import not authorized",
        ),
        (
            "accounts { A { exports: [ { stream: x } ] }, B { imports: [ { service: { account: A, subject: x } } ] } }",
            "Error adding service import \"x\": service import not authorized",
        ),
        (
            "accounts { A { exports: [ { service: x } ], imports: [ { service: { account: B, subject: x } } ] }
                        B { exports: [ { service: x } ], imports: [ { service: { account: A, subject: x } } ] } }",
            "Error adding service import \"x\": import forms a cycle",
        ),
        (
            "accounts { A { exports: [ { stream: x } ], imports: [ { stream: { account: B, subject: x } } ] }
                        B { exports: [ { stream: x } ], imports: [ { stream: { account: A, subject: x } } ] } }",
            "Error adding stream import \"x\": import forms a cycle",
        ),
        (
            "accounts { A { exports: [ { stream: 'x.*', account_token_position: 1 } ] } }",
            "Error adding stream export \"x.*\": sublist: invalid subject",
        ),
        (
            "accounts { A { exports: [ { stream: 'x.*', account_token_position: 2 } ] }
                        B { imports: [ { stream: { account: A, subject: 'x.*' } } ] } }",
            "Error adding stream import \"x.*\": stream import not authorized",
        ),
        (
            "accounts { A { exports: [ { service: x, response: stream, latency: foo } ] } }",
            "Error adding service latency sampling for \"x\" on subject \"foo\": bad service response type",
        ),
        (
            "accounts { A { exports: [ { service: x, latency: 'foo.*' } ] } }",
            "Error adding service latency sampling for \"x\" on subject \"foo.*\": invalid publish subject",
        ),
        (
            "accounts { A { exports: [ { service: x, latency: x } ] } }",
            "Error adding service latency sampling for \"x\" on subject \"x\": invalid publish subject",
        ),
        (
            "no_system_account: true, accounts { A { exports: [ { service: x, latency: y } ] } }",
            "Error adding service latency sampling for \"x\": system account not setup",
        ),
        (
            "accounts { A { exports: [ { stream: 'x.*' } ] }
                        B { imports: [ { stream: { account: A, subject: 'x.*' }, to: 'y.{{partition(1,1)}}' } ] } }",
            "Error adding stream import \"x.*\": failed to create mapping transform for stream import subject from \
             \"x.*\" to \"y.{{partition(1,1)}}\": invalid mapping destination: the only mapping function allowed for \
             import transforms is {{Wildcard()}} in {{partition(1,1)}}",
        ),
        (
            "accounts { A { exports: [ { service: 'x.*.*' } ] }
                        B { imports: [ { service: { account: A, subject: 'x.*.*' }, to: 'y.$1' } ] } }",
            "Error adding service import \"x.*.*\": failed to create mapping transform for service import subject from \
             \"y.$1\" to \"x.*.*\": invalid mapping destination: not using all of the token wildcard(s) in y.$1",
        ),
        (
            "accounts { A { exports: [ { stream: 'x.*' } ] }
                        B { imports: [ { stream: { account: A, subject: 'x.*' } }
                                       { stream: { account: A, subject: 'x.*' }, to: 'foo.*' } ] } }",
            "Error adding stream import \"x.*\": stream import already exists",
        ),
    ] {
        assert_eq!(settings(text).expect_err(text), why, "{text}");
    }
}

#[test]
fn accepted() {
    for text in [
        "accounts { A { exports: [ { stream: 'x.*', account_token_position: 2 } ] }
                    C { imports: [ { stream: { account: A, subject: 'x.C' } } ] } }",
        "accounts { A { exports: [ { service: 'x.*' } ] }
                    B { imports: [ { service: { account: A, subject: 'x.*' } }
                                   { service: { account: A, subject: 'x.a' }, to: 'x.a' } ] } }",
        "accounts { A { exports: [ { service: 'x.*' } ] }
                    B { imports: [ { service: { account: A, subject: 'x.a' }, to: 'y.*' } ] } }",
        "accounts { A { exports: [ { service: x, accounts: [] } ] }
                    B { imports: [ { service: { account: A, subject: x } } ] } }",
    ] {
        assert!(settings(text).is_ok(), "{text}: {:?}", settings(text).err());
    }
}

/// Users of the server's own account alone shut nobody else out.
#[test]
fn system_users_alone() {
    for (text, anonymous) in [
        ("accounts { $SYS { users: [ { user: s, password: p } ] } }", true),
        ("system_account: S, accounts { S { users: [ { user: s, password: p } ] } }", true),
        ("accounts { $SYS { users: [ { user: s, password: p } ] } }, authorization {}", false),
        ("accounts { $SYS { users: [ { user: s, password: p } ] }, A {} }", false),
        ("accounts { A { users: [ { user: s, password: p } ] } }", false),
    ] {
        let settings = settings(text).expect(text);
        assert_eq!(settings.directory.no_auth_user.is_some(), anonymous, "{text}");
    }
}
