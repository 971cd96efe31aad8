//! A sensor that wants to know what others are told.

use midge_tests::peer::Peer;

use crate::Siege;

/// A user that may listen to everything but other users' inboxes, in each way that a configuration can say so; and one
/// that may do as it likes.
const RULES: [&str; 4] = [
    r#"subscribe: {deny: "_INBOX.>"}"#,
    r#"subscribe: {deny: ["_INBOX.*", "_INBOX.*.>"]}"#,
    r#"subscribe: {allow: [">", "> *"], deny: ["_INBOX.>", "_INBOX.> *"]}"#,
    r#"subscribe: {allow: ["plant.>", "_INBOX_sensor.>"]}"#,
];

/// Filters that ask for more than is allowed, or come close.
const FILTERS: [&str; 10] = [
    ">",
    "*.>",
    "*.*.>",
    "*.*",
    "_INBOX.>",
    "_INBOX.*",
    "_INBOX.*.*",
    "*.other.*",
    "_INBOX.other.1",
    "_INBOX.other.>",
];

#[test]
fn nobody_reads_other_peoples_answers() {
    for rule in RULES {
        let siege = Siege::lay(&format!(
            "authorization {{ users: [
                {{user: sensor, password: s, permissions: {{ {rule} }} }}
                {{user: other, password: o}}
            ] }}"
        ));
        let mut sensor = siege.client(r#""user":"sensor","pass":"s""#);
        for (number, filter) in FILTERS.iter().enumerate() {
            sensor.send(&format!(
                "SUB {filter} {number}\r\nSUB {filter} q 1{number}\r\nSUB {filter} _INBOX 2{number}\r\n"
            ));
        }
        sensor.send("SUB plant.heater 99\r\nPING\r\n");
        let heard = lines_until_pong(&mut sensor);
        assert!(
            heard.iter().all(|line| line.starts_with("-ERR 'Permissions Violation for Subscription")),
            "{rule}: {heard:?}"
        );
        let mut other = siege.client(r#""user":"other","pass":"o""#);
        let mut service = siege.client(r#""user":"other","pass":"o""#);
        other.send("SUB _INBOX.other.* 1\r\n");
        service.send("SUB secret.code 1\r\n");
        other.fence().expect("subscribed");
        service.fence().expect("subscribed");
        other.send("PUB secret.code _INBOX.other.1 0\r\n\r\n");
        let request = service.line().expect("a line").expect("a request");
        assert_eq!(request, "MSG secret.code 1 _INBOX.other.1 0");
        service.send("PUB _INBOX.other.1 4\r\n1234\r\nPUB _INBOX.other.1 0\r\n\r\nPUB plant.heater 2\r\non\r\nPING\r\n");
        lines_until_pong(&mut service);
        assert_eq!(other.line().expect("a line").as_deref(), Some("MSG _INBOX.other.1 1 4"));
        sensor.send("PING\r\n");
        let heard = lines_until_pong(&mut sensor);
        // What it hears it may hear; the request, too, where only inboxes are denied.
        assert!(heard.iter().any(|line| line.starts_with("MSG plant.heater 99 ")), "{rule}: {heard:?}");
        assert!(
            !heard.iter().any(|line| line.starts_with("MSG _INBOX.") || line.contains("1234")),
            "{rule}: {heard:?}"
        );
    }
}

fn lines_until_pong(peer: &mut Peer) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        match peer.line().expect("a line in time").expect("still connected") {
            pong if pong == "PONG" => return lines,
            line => lines.push(line),
        }
    }
}
