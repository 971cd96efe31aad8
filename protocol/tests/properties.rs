//! What must hold for any input, tried on random ones.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use midge_protocol::connect::Connect;
use midge_protocol::emit::{self, Digits, Slice};
use midge_protocol::header::{Block, Field, Header};
use midge_protocol::info::Info;
use midge_protocol::limits::Limits;
use midge_protocol::op::{ClientOp, LeafOp, ServerOp};
use midge_protocol::parse::{Step, client_op, leaf_op, server_op};
use midge_protocol::subject::{Filter, Subject};
use proptest::prelude::*;
use std::fmt::Debug;

const LIMITS: Limits = Limits { max_control_line: 64, max_payload: 100, headers: true };

/// Reads `input` as it arrives, cut at `cuts`, and notes what it was.
fn read_cut<'a, Op: Debug>(
    input: &'a [u8],
    cuts: &[usize],
    parse: impl Fn(&'a [u8], &Limits) -> Step<Op>,
) -> Vec<String> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).chain([input.len()]).collect();
    ends.sort_unstable();
    let (mut used, mut seen) = (0, Vec::new());
    for end in ends {
        loop {
            match parse(&input[used..end], &LIMITS) {
                Step::Need(total) => {
                    assert!(total > end - used, "asks for no more than it has");
                    break;
                }
                Step::Op(op, n) => {
                    assert!(n > 0 && n <= end - used);
                    seen.push(format!("{op:?}"));
                    used += n;
                }
                Step::Bad(rule) => {
                    seen.push(format!("{rule:?}"));
                    return seen;
                }
            }
        }
    }
    seen
}

/// Text that is close enough to the protocol to get far into a parser.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("PUB "),
        Just("hpub "),
        Just("SUB "),
        Just("UNSUB "),
        Just("CONNECT {}"),
        Just("PING"),
        Just("PONG"),
        Just("MSG "),
        Just("HMSG "),
        Just("LS+ "),
        Just("LS- "),
        Just("LMSG "),
        Just(" | "),
        Just(" + "),
        Just("INFO {}"),
        Just("-ERR 'x'"),
        Just("+OK"),
        Just("a.b"),
        Just(" "),
        Just("\t"),
        Just(" 0"),
        Just(" 5"),
        Just(" 12 14"),
        Just("\r\n"),
        Just("\n"),
        Just("\r"),
        Just("hello\r\n"),
        Just("NATS/1.0\r\n\r\nhi\r\n"),
        Just("PUB a 2\r\nhi\r\n"),
        Just("MSG a 1 2\r\nhi\r\n"),
        Just("LMSG a + r q 2\r\nhi\r\n"),
        Just("\u{1}"),
    ];
    let noise = prop::collection::vec(any::<u8>(), 0..4);
    prop::collection::vec(prop_oneof![9 => word.prop_map(|w| w.as_bytes().to_vec()), 1 => noise], 0..24)
        .prop_map(|words| words.concat())
}

/// A subject of few, short tokens, so that two of them often have to do with each other.
fn subject() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc]", 1..5).prop_map(|tokens| tokens.join("."))
}

fn filter() -> impl Strategy<Value = String> {
    let token = prop_oneof![3 => Just("a"), 2 => Just("b"), 1 => Just("c"), 2 => Just("*")];
    (prop::collection::vec(token, 0..4), any::<bool>()).prop_map(|(mut tokens, rest)| {
        if rest || tokens.is_empty() {
            tokens.push(">");
        }
        tokens.join(".")
    })
}

/// The rules of matching in their shortest form.
fn naive_matches(filter: &[&str], subject: &[&str]) -> bool {
    match (filter, subject) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        ([f, fs @ ..], [s, ss @ ..]) => (*f == "*" || f == s) && naive_matches(fs, ss),
        _ => false,
    }
}

fn split(text: &str) -> Vec<&str> {
    text.split('.').collect()
}

/// Every subject over `a`, `b`, `c` and `d` of up to five tokens. The filters above have four tokens at most and know
/// no `d`, so these are enough to tell any two of them apart.
fn all_subjects() -> impl Iterator<Item = String> {
    (1..=5u32).flat_map(|len| {
        (0..4u32.pow(len)).map(move |number| {
            (0..len)
                .map(|at| ["a", "b", "c", "d"][(number / 4u32.pow(at) % 4) as usize])
                .collect::<Vec<_>>()
                .join(".")
        })
    })
}

fn written(write: impl FnOnce(&mut Slice<'_>)) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let mut out = Slice::new(&mut buffer);
    write(&mut out);
    out.written().unwrap().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn cuts_make_no_difference(input in wire(), cuts in prop::collection::vec(any::<usize>(), 0..8)) {
        prop_assert_eq!(read_cut(&input, &cuts, client_op), read_cut(&input, &[], client_op));
        prop_assert_eq!(read_cut(&input, &cuts, server_op), read_cut(&input, &[], server_op));
        prop_assert_eq!(read_cut(&input, &cuts, leaf_op), read_cut(&input, &[], leaf_op));
    }

    #[test]
    fn what_leaf_nodes_say_survives(
        filter in filter(), reply in prop::option::of(subject()), weight in 1..1_000_000_000u32,
        queues in prop::collection::vec("[a-z]{1,5}", 0..4), payload in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let (subject, reply) = (filter.as_bytes(), reply.as_ref().map(String::as_bytes));
        let names: Vec<_> = queues.iter().map(String::as_bytes).collect();
        let size = Digits::new(payload.len() as u64);
        let mut wire =
            written(|out| emit::leaf_msg(out, subject, reply, names.iter().copied(), None, size.as_bytes()));
        wire.extend_from_slice(&payload);
        wire.extend_from_slice(b"\r\n");
        let Step::Op(LeafOp::Msg { queues, message }, used) = leaf_op(&wire, &Limits::default()) else {
            panic!()
        };
        prop_assert_eq!((message.subject, message.reply, used), (subject, reply, wire.len()));
        prop_assert_eq!((queues.iter().collect::<Vec<_>>(), message.payload()), (names.clone(), &payload[..]));

        let queue = names.first().map(|name| (*name, weight));
        let wire = written(|out| emit::leaf_sub(out, subject, queue));
        let Step::Op(LeafOp::Sub(sub), _) = leaf_op(&wire, &Limits::default()) else { panic!() };
        prop_assert_eq!((sub.subject, sub.queue), (subject, queue));
        let wire = written(|out| emit::leaf_unsub(out, subject, names.first().copied()));
        let gone = LeafOp::Unsub { subject, queue: names.first().copied() };
        prop_assert_eq!(leaf_op(&wire, &Limits::default()), Step::Op(gone, wire.len()));
    }

    #[test]
    fn messages_survive(
        subject in subject(), reply in prop::option::of(subject()), sid in any::<u32>(),
        header in prop::collection::vec(any::<u8>(), 0..40), payload in prop::collection::vec(any::<u8>(), 0..60),
        with_header: bool,
    ) {
        let header = if with_header { &header[..] } else { &[] };
        let (header_size, size) = (Digits::new(header.len() as u64), Digits::new((header.len() + payload.len()) as u64));
        let reply = reply.as_ref().map(String::as_bytes);
        let body = [header, &payload, b"\r\n"].concat();

        let mut wire = written(|out| {
            let header_size = with_header.then_some(header_size.as_bytes());
            emit::publish(out, subject.as_bytes(), reply, header_size, size.as_bytes());
        });
        wire.extend_from_slice(&body);
        let Step::Op(ClientOp::Pub(read), used) = client_op(&wire, &Limits::default()) else { panic!() };
        prop_assert_eq!((read.subject, read.reply, used), (subject.as_bytes(), reply, wire.len()));
        prop_assert_eq!((read.header(), read.payload(), read.body), (header, &payload[..], &body[..]));

        let sid = Digits::new(sid);
        let mut wire = written(|out| {
            let header_size = with_header.then_some(header_size.as_bytes());
            emit::msg(out, subject.as_bytes(), sid.as_bytes(), reply, header_size, size.as_bytes());
        });
        wire.extend_from_slice(&body);
        let Step::Op(ServerOp::Msg { sid: read_sid, message }, used) = server_op(&wire, &Limits::default()) else {
            panic!()
        };
        prop_assert_eq!((read_sid, used, message), (sid.as_bytes(), wire.len(), read));
    }

    #[test]
    fn subscriptions_survive(filter in filter(), queue in prop::option::of("[a-z]{1,5}"), sid in "[a-z0-9]{1,9}",
        max in prop::option::of(0..1_000_000_000u32)) {
        let queue = queue.as_ref().map(String::as_bytes);
        let wire = written(|out| emit::sub(out, filter.as_bytes(), queue, sid.as_bytes()));
        let Step::Op(ClientOp::Sub(sub), used) = client_op(&wire, &Limits::default()) else { panic!() };
        prop_assert_eq!((sub.subject, sub.queue, sub.sid), (filter.as_bytes(), queue, sid.as_bytes()));
        prop_assert_eq!(used, wire.len());
        let wire = written(|out| emit::unsub(out, sid.as_bytes(), max));
        let Step::Op(ClientOp::Unsub(unsub), _) = client_op(&wire, &Limits::default()) else { panic!() };
        prop_assert_eq!((unsub.sid, unsub.max), (sid.as_bytes(), max));
    }

    #[test]
    fn headers_survive(fields in prop::collection::vec(("[!-9;-~]{1,8}", "([!-~é]([ -~é]{0,8}[!-~])?)?"), 0..5)) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| Field::new(name, value)).collect();
        let block = Block::new(&fields).unwrap();
        let wire = written(|out| block.put(out));
        prop_assert_eq!(wire.len(), block.size());
        prop_assert_eq!(Header::parse(&wire).unwrap().fields().collect::<Vec<_>>(), fields);
    }

    #[test]
    fn whatever_is_in_a_header_it_is_read(block in prop::collection::vec(any::<u8>(), 0..60)) {
        let block = [b"NATS/1.0", &block[..]].concat();
        if let Ok(header) = Header::parse(&block) {
            header.status();
            for field in header.fields() {
                prop_assert!(header.get(field.name).is_some());
            }
        }
    }

    #[test]
    fn texts_survive_json(name in any::<String>(), user in any::<String>()) {
        let connect = Connect { name: Some(name[..].into()), user: Some(user[..].into()), ..Connect::default() };
        let mut json = String::new();
        connect.write(&mut json).unwrap();
        let read = Connect::parse(json.as_bytes()).unwrap();
        prop_assert!(read.name.unwrap().eq_str(&name) && read.user.unwrap().eq_str(&user));

        let info = Info { server_name: name[..].into(), max_payload: 7, ..Info::default() };
        let mut json = String::new();
        info.write(&mut json).unwrap();
        let read = Info::parse(json.as_bytes()).unwrap();
        prop_assert!(read.server_name.eq_str(&name) && read.max_payload == 7);
    }

    #[test]
    fn matching_is_the_naive_one(filter in filter(), subject in subject()) {
        let matches = Filter::new(filter.as_bytes()).unwrap().matches(subject.as_bytes());
        prop_assert_eq!(matches, naive_matches(&split(&filter), &split(&subject)));
        prop_assert!(Subject::new(subject.as_bytes()).is_ok());
    }

    #[test]
    fn validity_is_the_naive_one(text in "[a.*> \r]{0,6}") {
        let tokens = split(&text);
        let valid = tokens.iter().all(|t| !t.is_empty() && !t.contains([' ', '\r']))
            && !tokens[..tokens.len() - 1].contains(&">");
        prop_assert_eq!(Filter::new(text.as_bytes()).is_ok(), valid);
        let literal = valid && !tokens.contains(&"*") && !tokens.contains(&">");
        prop_assert_eq!(Subject::new(text.as_bytes()).is_ok(), literal);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn sets_are_what_their_members_say(a in filter(), b in filter()) {
        let (first, second) = (Filter::new(a.as_bytes()).unwrap(), Filter::new(b.as_bytes()).unwrap());
        let (mut subset, mut overlap) = (true, false);
        for subject in all_subjects() {
            let (in_a, in_b) = (first.matches(subject.as_bytes()), second.matches(subject.as_bytes()));
            subset &= !in_a || in_b;
            overlap |= in_a && in_b;
        }
        prop_assert_eq!(first.is_subset_of(second), subset, "{} within {}", a, b);
        prop_assert_eq!(first.overlaps(second), overlap, "{} with {}", a, b);
    }
}
