//! Who shows which certificate to whom, and who is believed.

use rustls::HandshakeKind;

use crate::peer::{Peer, config, config_of, greeting, socket};
use crate::pki::{Names, Pair, Pki, Subject};
use crate::{both, ours};
use midge_tests::daemon::{Daemon, PATIENCE};

/// Whether the server lets this client in. With TLS 1.3 a client learns of that only when it reads.
fn let_in(daemon: &Daemon, pki: &Pki, shown: Option<&Pair>) -> bool {
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12].map(|version| {
        let config = config_of(pki, shown, &[version]);
        let peer = Peer::upgrade(daemon.address(), &config);
        peer.and_then(|mut peer| peer.connect("")).is_ok_and(|line| line.as_deref() == Some("PONG"))
    });
    assert_eq!(versions[0], versions[1], "both versions are alike");
    versions[0]
}

fn logged(daemon: &Daemon, text: &str) {
    daemon.stderr().find(0, PATIENCE, |line| line.contains(text)).expect("a line");
}

#[test]
fn clients_show_a_certificate() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let server = pki.server("server");
    let text = format!("debug: true, tls {{ {}, {}, verify: true }}", server.keys(), pki.ca_key());
    both(&text, |daemon, name| {
        let mut stream = socket(daemon.address());
        assert_eq!(greeting(&mut stream)["tls_verify"], true, "{name}");
        assert!(let_in(&daemon, &pki, Some(&pki.client("sensor"))), "{name}");
        assert!(!let_in(&daemon, &pki, None), "{name}");
        logged(&daemon, "[ERR]");
        logged(&daemon, "TLS handshake error: tls: client didn't provide a certificate");
        assert!(!let_in(&daemon, &pki, Some(&stranger.client("stranger"))), "{name}");
        let refused = "TLS handshake error: tls: failed to verify certificate: x509: ";
        logged(&daemon, &format!("{refused}certificate signed by unknown authority (CN=stranger SHA-256: "));
        assert!(!let_in(&daemon, &pki, Some(&pki.expired_client("old"))), "{name}");
        logged(&daemon, &format!("{refused}certificate has expired or is not yet valid"));
        logged(&daemon, "(CN=old SHA-256: ");
        assert!(!let_in(&daemon, &pki, Some(&server)), "{name}: a server's certificate is none of a client");
        logged(&daemon, &format!("{refused}certificate specifies an incompatible key usage"));
    });
}

#[test]
fn a_client_learns_that_its_authority_is_not_known() {
    let pki = Pki::new();
    let text = format!("tls {{ {}, {}, verify: true }}", pki.server("server").keys(), pki.ca_key());
    let strangers = [Pki::new(), Pki::namesake(&pki)].map(|stranger| (stranger.client("stranger"), stranger));
    both(&text, |daemon, name| {
        for (shown, _) in &strangers {
            for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
                let config = config_of(&pki, Some(shown), &[version]);
                let peer = Peer::upgrade(daemon.address(), &config);
                let error = peer.and_then(|mut peer| peer.connect("")).expect_err("it is refused");
                assert!(error.to_string().contains("UnknownCA"), "{name}: {error}");
            }
        }
    });
}

#[test]
fn keys_are_pinned() {
    let pki = Pki::new();
    let (known, other) = (pki.client("known"), pki.client("other"));
    let text = format!(
        "debug: true, tls {{ {}, {}, verify: true, pinned_certs: ['{}'] }}",
        pki.server("server").keys(),
        pki.ca_key(),
        known.pin.to_uppercase()
    );
    both(&text, |daemon, name| {
        assert!(let_in(&daemon, &pki, Some(&known)), "{name}");
        assert!(!let_in(&daemon, &pki, Some(&other)), "{name}");
        logged(&daemon, "[ERR] ");
        logged(&daemon, "TLS handshake error: certificate not pinned");
    });
    // Without `verify` nobody is asked for a certificate, so nobody has the right one.
    let text = format!("tls {{ {}, pinned_certs: ['{}'] }}", pki.server("server").keys(), known.pin);
    both(&text, |daemon, name| assert!(!let_in(&daemon, &pki, Some(&known)), "{name}"));
}

#[test]
fn the_server_has_several_certificates() {
    let pki = Pki::new();
    let [one, two, wild] = [("one", "one.lan"), ("two", "two.lan"), ("wild", "*.attic.lan")]
        .map(|(file, name)| pki.server_for(file, &[name]));
    let text =
        format!("tls {{ certs: [ {{ {} }}, {{ {} }}, {{ {} }} ] }}", one.keys(), two.keys(), wild.keys());
    both(&text, |daemon, name| {
        let config = config(&pki, None);
        for asked in ["one.lan", "two.lan", "seven.attic.lan"] {
            let mut stream = socket(daemon.address());
            greeting(&mut stream);
            // The client accepts only a certificate for the name.
            let mut peer =
                Peer::over(stream, &config, asked).unwrap_or_else(|err| panic!("{name}: {asked}: {err}"));
            peer.fence();
        }
        let mut stream = socket(daemon.address());
        greeting(&mut stream);
        let error = Peer::over(stream, &config, "three.lan").err().expect("the wrong name").to_string();
        assert!(
            error.contains("one.lan"),
            "{name} shows the first to those who ask for none of them: {error}"
        );
    });
}

/// Who a certificate's owner is, told by what they may do.
fn user_of(daemon: &Daemon, pki: &Pki, shown: &Pair, users: usize) -> Option<usize> {
    let mut peer = Peer::upgrade(daemon.address(), &config(pki, Some(shown))).expect("a handshake");
    if peer.connect("").expect("a line").as_deref() != Some("PONG") {
        return None;
    }
    let may = |peer: &mut Peer, user: usize| {
        peer.send(&format!("PUB user.{user} 0\r\n\r\nPING\r\n")).expect("a write");
        let allowed = peer.line().expect("a line").as_deref() == Some("PONG");
        if !allowed {
            assert_eq!(peer.line().expect("a line").as_deref(), Some("PONG"));
        }
        allowed
    };
    let able: Vec<_> = (0..users).filter(|user| may(&mut peer, *user)).collect();
    assert_eq!(able.len(), 1, "one user's permissions");
    able.first().copied()
}

#[test]
fn certificates_name_users() {
    let pki = Pki::new();
    let users = [
        "ann@attic.lan",
        "cellar.attic.lan",
        "spiffe://attic.lan/roof",
        "CN=sensor-7,OU=Sensors,O=Attic",
        // As RFC 2253 orders them, and as somebody wrote them down.
        "CN=gate,OU=Doors,DC=attic,DC=lan",
        "DC=lan,DC=yard,OU=Doors,CN=gate",
        "CN=plus\\+minus\\, \\\"quoted\\\"",
        "CN=*.wild.lan",
        "CN=Grüße",
        "OU=Twins+CN=pair,O=Both",
        "CN=mail",
    ];
    let listed: Vec<_> = users
        .iter()
        .enumerate()
        .map(|(n, name)| {
            let name = name.replace('\\', "\\\\").replace('"', "\\\"");
            format!("{{ user: \"{name}\", permissions: {{ publish: \"user.{n}\" }} }}")
        })
        .chain([
            "{ user: 'device', allowed_connection_types: [WEBSOCKET] }".to_owned(),
            "{ user: 'secret', password: sesame, permissions: { publish: 'user.0' } }".to_owned(),
        ])
        .collect();
    let text = format!(
        "debug: true, tls {{ {}, {}, verify_and_map: true }}\nauthorization {{ users: [ {} ] }}",
        pki.server("server").keys(),
        pki.ca_key(),
        listed.join("\n")
    );
    let sensor: Subject<'_> = &[&[("O", "Attic")], &[("OU", "Sensors")], &[("CN", "sensor-7")]];
    let of = |subject| Names { subject, ..Names::default() };
    let cases = [
        ("email", Names { email: &["ann@attic.lan"], ..Names::default() }, Some(0)),
        ("second-email", Names { email: &["bob@x", "ann@attic.lan"], ..Names::default() }, Some(0)),
        ("dns", Names { dns: &["cellar.attic.lan"], ..Names::default() }, Some(1)),
        ("uri", Names { uri: &["spiffe://attic.lan/roof"], ..Names::default() }, Some(2)),
        (
            "email-wins",
            Names { email: &["ann@attic.lan"], dns: &["cellar.attic.lan"], ..of(sensor) },
            Some(0),
        ),
        (
            "dns-wins",
            Names {
                subject: sensor,
                email: &["nobody@x"],
                dns: &["cellar.attic.lan"],
                uri: &["spiffe://attic.lan/roof"],
            },
            Some(1),
        ),
        ("subject", of(sensor), Some(3)),
        ("shuffled", of(&[&[("CN", "sensor-7")], &[("O", "Attic")], &[("OU", "Sensors")]]), Some(3)),
        ("behind-dns", Names { dns: &["elsewhere.lan"], ..of(sensor) }, Some(3)),
        (
            "attic",
            of(&[&[("DC", "lan")], &[("DC", "attic")], &[("OU", "Doors")], &[("CN", "gate")]]),
            Some(4),
        ),
        ("yard", of(&[&[("DC", "lan")], &[("DC", "yard")], &[("OU", "Doors")], &[("CN", "gate")]]), Some(5)),
        ("escaped", of(&[&[("CN", "plus+minus, \"quoted\"")]]), Some(6)),
        ("wild", of(&[&[("CN", "*.wild.lan")]]), Some(7)),
        ("umlaut", of(&[&[("CN", "Grüße")]]), Some(8)),
        ("set", of(&[&[("O", "Both")], &[("CN", "pair"), ("OU", "Twins")]]), Some(9)),
        // An address in the subject is in no line and in no comparison.
        ("subject-email", of(&[&[("CN", "mail")], &[("emailAddress", "ann@attic.lan")]]), Some(10)),
        ("less", of(&[&[("DC", "lan")], &[("OU", "Doors")], &[("CN", "gate")]]), None),
        (
            "more",
            of(&[&[("OU", "More")], &[("O", "Attic")], &[("OU", "Sensors")], &[("CN", "sensor-7")]]),
            None,
        ),
        ("case", of(&[&[("O", "attic")], &[("OU", "Sensors")], &[("CN", "sensor-7")]]), None),
        ("nobody", of(&[]), None),
        ("other-type", Names { dns: &["device"], ..of(&[&[("CN", "device")]]) }, None),
        ("password", Names { dns: &["secret"], ..Names::default() }, None),
    ];
    let pairs: Vec<_> =
        cases.iter().map(|(file, names, user)| (*file, pki.client_of(file, names), *user)).collect();
    both(&text, |daemon, name| {
        for (file, pair, user) in &pairs {
            assert_eq!(user_of(&daemon, &pki, pair, users.len()), *user, "{name}: {file}");
        }
        logged(&daemon, "not found");
    });
}

#[test]
fn a_mapped_user_may_need_a_password_too() {
    let pki = Pki::new();
    let text = format!(
        "tls {{ {}, {}, verify_and_map: true }}\nauthorization {{ users: [
            {{ user: 'CN=open' }}, {{ user: 'CN=locked', password: sesame }}
        ] }}",
        pki.server("server").keys(),
        pki.ca_key(),
    );
    let (open, locked) = (pki.client("open"), pki.client("locked"));
    both(&text, |daemon, name| {
        let answer = |shown: &Pair, options: &str| {
            let mut peer = Peer::upgrade(daemon.address(), &config(&pki, Some(shown))).expect("a handshake");
            peer.connect(options).expect("a line")
        };
        let violation = Some("-ERR 'Authorization Violation'");
        assert_eq!(answer(&open, "").as_deref(), Some("PONG"), "{name}");
        assert_eq!(answer(&open, r#","user":"CN=locked""#).as_deref(), Some("PONG"), "{name}");
        assert_eq!(answer(&open, r#","user":"x","pass":"y""#).as_deref(), violation, "{name}");
        assert_eq!(answer(&locked, "").as_deref(), violation, "{name}");
        assert_eq!(answer(&locked, r#","pass":"sesame""#).as_deref(), Some("PONG"), "{name}");
        logged(&daemon, "User \"CN=locked\" found in connect proto, but user required from cert");
    });
}

#[test]
fn who_comes_in_the_clear_has_no_certificate() {
    let pki = Pki::new();
    let text = format!(
        "allow_non_tls: true\ntls {{ {}, {}, verify_and_map: true }}\nauthorization {{ users: [ {{ user: 'CN=sensor' }} ] }}",
        pki.server("server").keys(),
        pki.ca_key(),
    );
    let sensor = pki.client("sensor");
    both(&text, |daemon, name| {
        let mut plain = midge_tests::peer::Peer::greeted(daemon.address(), r#"{"user":"CN=sensor"}"#)
            .expect("a greeting");
        assert_eq!(plain.rest().expect("an end"), ["-ERR 'Authorization Violation'"], "{name}");
        assert!(let_in(&daemon, &pki, Some(&sensor)), "{name}");
    });
}

#[test]
fn a_session_is_resumed_unless_clients_show_certificates() {
    let pki = Pki::new();
    let (server, sensor) = (pki.server("server").keys(), pki.client("sensor"));
    for (more, shown, wanted) in [
        (String::new(), None, HandshakeKind::Resumed),
        (format!("{}, verify: true", pki.ca_key()), Some(&sensor), HandshakeKind::Full),
    ] {
        let daemon = ours(&format!("tls {{ {server}\n{more} }}"));
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let config = config_of(&pki, shown, &[version]);
            let kinds = [(); 2].map(|()| {
                let mut peer = Peer::upgrade(daemon.address(), &config).expect("a handshake");
                peer.connect("").expect("let in");
                peer.session().handshake_kind()
            });
            assert_eq!(kinds, [Some(HandshakeKind::Full), Some(wanted)], "{more:?}");
        }
    }
}
