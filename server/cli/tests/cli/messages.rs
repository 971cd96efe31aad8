//! `midge pub`, `sub`, `request`, `reply` and `rtt` as processes against a server.

use crate::support::Server;
use serde_json::Value;

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn a_published_message_is_shown_with_its_headers() {
    let server = Server::start();
    let sub = server.midge(&["sub", "a.>", "--count", "1"]).start_listening();
    let said =
        server.midge(&["pub", "a.b", "21.5", "-H", "Unit: C", "-H", "Unit:K", "--reply", "back"]).run().ok();
    assert!(said.starts_with("Published 4 B in "), "{said}");
    assert_eq!(sub.end().ok(), "[#1] a.b  4 B  reply to back\nUnit: C\nUnit: K\n\n21.5\n\n");
}

#[test]
fn json_has_every_part_of_a_message() {
    let server = Server::start();
    let sub = server.midge(&["sub", "a", "b", "--json"]).start_listening();
    server.midge(&["pub", "a", "text"]).run().ok();
    assert_eq!(json(&sub.stdout.next())["data"], "text");
    server.midge(&["pub", "b", "--reply", "r", "-H", "K:1", "-H", "K:2"]).run_with(b"\xff\x00").ok();
    let record = json(&sub.stdout.next());
    assert_eq!(record["reply"], "r");
    assert_eq!(record["headers"]["K"], serde_json::json!(["1", "2"]));
    assert_eq!(record["data_base64"], "/wA=");
    assert_eq!(record["size"], 2);
    assert!(record.get("data").is_none() && record["time"].as_str().unwrap().ends_with('Z'), "{record}");
    sub.signal("TERM");
    sub.end().ok();
}

/// Whoever looks for what goes on shall not see the tool itself.
#[test]
fn nothing_but_what_was_published_is_seen() {
    let server = Server::start();
    let sub = server.midge(&["sub", ">"]).start_listening();
    server.midge(&["rtt"]).run().ok();
    server.midge(&["pub", "a", "once", "-q"]).run().ok();
    assert_eq!(sub.stdout.next(), "[#1] a  4 B\n");
    sub.signal("INT");
    assert_eq!(sub.end().ok(), "once\n\n");
}

#[test]
fn headers_only_leaves_the_body_out() {
    let server = Server::start();
    let sub = server.midge(&["sub", "a", "--headers-only", "--timestamp", "--count", "1"]).start_listening();
    server.midge(&["pub", "a", "secret", "-H", "K:v"]).run().ok();
    let shown = sub.end().ok();
    assert!(shown.ends_with(" a  6 B\nK: v\n\n"), "{shown}");
}

#[test]
fn templates_number_the_messages_and_keep_subjects_whole() {
    let server = Server::start();
    let sub = server.midge(&["sub", "n.*", "--count", "3"]).start_listening();
    let said = server.midge(&["pub", "n.{{Count}}", "{{Count}} of 3", "--count", "3", "--json"]).run().ok();
    assert_eq!(json(&said)["count"], 3);
    assert_eq!(json(&said)["bytes"], 18);
    let shown = sub.end().ok();
    assert_eq!(shown, "[#1] n.1  6 B\n1 of 3\n\n[#2] n.2  6 B\n2 of 3\n\n[#3] n.3  6 B\n3 of 3\n\n");
}

#[test]
fn stdin_is_published_to_the_byte() {
    let server = Server::start();
    let sub = server.midge(&["sub", "a", "--count", "1", "--timestamp"]).start_listening();
    server.midge(&["pub", "a", "-q"]).run_with(b"{{Count}}\nx").ok();
    assert!(sub.end().ok().ends_with("  11 B\n{{Count}}\nx\n\n"));
}

/// A sensor's log that is piped in shall not wait for the next reading.
#[test]
fn lines_are_published_as_they_arrive() {
    let server = Server::start();
    let sub = server.midge(&["sub", "log"]).start_listening();
    let mut publisher = server.midge(&["pub", "log", "--lines"]).start_with_stdin();
    for line in ["one", "two"] {
        publisher.write(&format!("{line}\r\n"));
        assert_eq!(sub.stdout.wait_for(line), format!("{line}\n"));
    }
    publisher.write("no end");
    assert!(publisher.end().ok().starts_with("Published 3 messages, 12 B, in "));
    sub.stdout.wait_for("no end");
}

#[test]
fn many_messages_arrive_in_order_and_whole() {
    let server = Server::start();
    let sub = server.midge(&["sub", "a", "--count", "5000"]).start_listening();
    server.midge(&["pub", "a", "{{Count}}", "--count", "5000", "--quiet"]).run().ok();
    let shown = sub.end().ok();
    let bodies: Vec<u32> = shown.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(bodies, Vec::from_iter(1..=5000));
}

#[test]
fn a_queue_group_shares_its_messages() {
    let server = Server::start();
    let members =
        [(); 2].map(|()| server.midge(&["sub", "q", "--queue", "g", "--wait", "5s"]).start_listening());
    server.midge(&["pub", "q", "x", "--count", "200"]).run().ok();
    let seen = members.map(|member| member.end().ok().lines().filter(|line| *line == "x").count());
    assert_eq!(seen.iter().sum::<usize>(), 200, "{seen:?}");
    assert!(seen.iter().all(|seen| *seen > 0), "{seen:?}");
}

#[test]
fn waiting_in_vain_is_an_error_only_if_messages_were_counted_on() {
    let server = Server::start();
    server.midge(&["sub", "a", "--wait", "50ms"]).run().ok();
    let said = server.midge(&["sub", "a", "--wait", "50ms", "--count", "1"]).run().failed(69);
    assert!(said.ends_with("midge: 0 of 1 messages came in time\n"), "{said}");
}

#[test]
fn signals_and_a_closed_output_end_it_well() {
    let server = Server::start();
    for signal in ["INT", "TERM"] {
        let sub = server.midge(&["sub", "a"]).start_listening();
        sub.signal(signal);
        sub.end().ok();
    }
    let mut sub = server.midge(&["sub", "a"]).start_listening();
    sub.stop_reading();
    let mut publisher = server.midge(&["pub", "a", "--lines", "-q", "--sleep", "5ms"]).start_with_stdin();
    // The pipe's reader notices with the first line, and the writer with one of the next.
    publisher.write(&"x\n".repeat(2000));
    sub.end().ok();
}

#[test]
fn requests_are_answered_from_a_template() {
    let server = Server::start();
    let responder = server
        .midge(&["reply", "svc.>", "{{Request}} on {{Subject}}", "-H", "N:{{Count}}", "--count", "2"])
        .start_listening();
    assert_eq!(server.midge(&["request", "svc.a", "hi", "--raw"]).run().ok(), "hi on svc.a\n");
    let reply = json(&server.midge(&["request", "svc.b", "--json"]).run_with(b"yo").ok());
    assert_eq!(reply["data"], "yo on svc.b");
    assert_eq!(reply["headers"]["N"][0], "2");
    assert!(reply["rtt_us"].as_u64().is_some());
    let log = responder.end().ok();
    assert!(log.starts_with("[#1] svc.a  2 B, answered 11 B in "), "{log}");
}

#[test]
fn an_echo_returns_body_and_headers() {
    let server = Server::start();
    let _responder = server.midge(&["reply", "echo", "--echo", "-H", "By:midge"]).start_listening();
    let shown = server.midge(&["request", "echo", "hi", "-H", "A:1"]).run().ok();
    assert!(shown.ends_with("\nA: 1\nBy: midge\n\nhi\n\n"), "{shown}");
}

#[test]
fn a_command_answers_and_its_failure_is_told() {
    let server = Server::start();
    let command = r#"read body; echo "$NATS_SUBJECT $NATS_REQUEST_SUBJECT $body $NATS_REQUEST_BODY"; test "$body" != bad"#;
    let responder = server.midge(&["reply", "run.*", "--command", command]).start_listening();
    assert_eq!(server.midge(&["request", "run.a", "go", "--raw"]).run().ok(), "run.a run.a go go\n\n");
    let reply = json(&server.midge(&["request", "run.a", "bad", "--json"]).run().ok());
    assert_eq!(reply["headers"]["Nats-Service-Error"][0], "the command failed: exit status: 1");
    assert_eq!(reply["headers"]["Nats-Service-Error-Code"][0], "500");
    assert_eq!(reply["size"], 0);
    responder.signal("INT");
    assert!(responder.end().ok().contains("answered with an error: the command failed"));
}

#[test]
fn a_command_that_hangs_or_floods_is_given_up() {
    let server = Server::start();
    for (subject, command, timeout, error) in [
        ("hang", "exec sleep 60", "2s", "did not end within 2s"),
        ("flood", "yes", "1m", "printed more than 1048576 bytes"),
    ] {
        let arguments = ["reply", subject, "--timeout", timeout, "--command", command];
        let _responder = server.midge(&arguments).start_listening();
        let reply = json(&server.midge(&["request", subject, "", "--timeout", "1m", "--json"]).run().ok());
        let text = reply["headers"]["Nats-Service-Error"][0].as_str().unwrap();
        assert!(text.ends_with(error), "{text}");
    }
}

/// One slow request shall not hold up the others, nor shall a crowd start a crowd of processes.
#[test]
fn commands_run_side_by_side_up_to_a_bound() {
    let server = Server::start();
    let command = "read body; echo started $body >&2; test $body = wait && exec sleep 60; echo now";
    for (bound, time, code) in [("2", "1m", 0), ("1", "2s", 69)] {
        let arguments = ["reply", "run", "--concurrency", bound, "--timeout", "1m", "--command", command];
        let responder = server.midge(&arguments).start_listening();
        let _waiting = server.midge(&["request", "run", "wait"]).start();
        responder.stderr.wait_for("started wait");
        let quick = server.midge(&["request", "run", "quick", "--timeout", time]).run();
        assert_eq!(quick.status.code(), Some(code), "{quick:?}");
    }
}

#[test]
fn several_replies_are_collected() {
    let server = Server::start();
    let _responders =
        ["one", "two"].map(|body| server.midge(&["reply", "all", body, "--queue", body]).start_listening());
    let shown = server.midge(&["request", "all", "", "--replies", "2", "--raw"]).run().ok();
    assert!(shown == "one\ntwo\n" || shown == "two\none\n", "{shown}");
    let said = server.midge(&["request", "all", "", "--replies", "3", "--timeout", "2s", "--raw"]).run();
    assert_eq!(said.failed(69), "midge: 2 of 3 replies from all within 2s\n");
    server.midge(&["request", "all", "", "--replies", "0", "--timeout", "2s"]).run().ok();
}

#[test]
fn a_request_that_nobody_answers_fails_at_once() {
    let server = Server::start();
    // With more time than there is for it to end.
    let said = server.midge(&["request", "nobody", "hi", "--timeout", "1h"]).run().failed(69);
    assert_eq!(said, "midge: nobody answers on nobody (no responders)\n");
}

#[test]
fn a_request_that_is_not_answered_in_time_fails() {
    let server = Server::start();
    let _silent = server.midge(&["sub", "deaf"]).start_listening();
    let said = server.midge(&["request", "deaf", "hi", "--timeout", "2s"]).run().failed(69);
    assert_eq!(said, "midge: no reply from deaf within 2s\n");
}

#[test]
fn round_trips_are_timed() {
    let server = Server::start();
    let said = server.midge(&["rtt", "--count", "3"]).run().ok();
    assert!(
        said.starts_with(&format!("{}: min ", server.url())) && said.ends_with("(3 round trips)\n"),
        "{said}"
    );
    let report = json(&server.midge(&["rtt", "--json"]).run().ok());
    assert_eq!(report["count"], 5);
    assert!(report["min_us"].as_u64() <= report["max_us"].as_u64());
}

/// What firmware-examples send: as its nodes write it, and something else.
#[test]
fn values_of_postcard_are_shown_as_text() {
    const READING: &str = "number: u32, uptime_ms: u32, celsius_x100: i16, heater: bool";
    let server = Server::start();
    let sub = server.midge(&["sub", "r", "--count", "2", "--postcard", READING]).start_listening();
    let other =
        server.midge(&["sub", "r", "--count", "2", "--json", "--postcard", READING]).start_listening();
    server.midge(&["pub", "r", "-q"]).run_with(b"\x04\xba\x17\xb4\x21\x01").ok();
    server.midge(&["pub", "r", "21.5", "-q"]).run().ok();
    let reading = "number: 4, uptime_ms: 3002, celsius_x100: 2138, heater: true";
    let none = "heater: 53 is neither true nor false";
    assert_eq!(
        sub.end().ok(),
        format!("[#1] r  6 B\n{reading}\n\n[#2] r  4 B\nno such value: {none}\n21.5\n\n")
    );
    let shown = other.end().ok();
    let records: Vec<Value> = shown.lines().map(json).collect();
    assert_eq!(records[0]["value"]["celsius_x100"], 2138);
    assert!(records[0].get("data").is_none() && records[0].get("data_base64").is_none(), "{shown}");
    assert_eq!(
        (&records[1]["data"], &records[1]["value_error"]),
        (&json("\"21.5\""), &json(&format!("{none:?}")))
    );

    let said = server.midge(&["sub", "r", "--postcard", "a: u9"]).run().failed(2);
    assert!(said.contains("there is no type `u9`"), "{said}");
}
