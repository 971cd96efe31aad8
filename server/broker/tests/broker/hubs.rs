//! What is said to a hub, line by line, and what becomes of what it says.

use std::sync::Arc;
use std::time::Duration;

use midge_broker::{AccountSettings, GLOBAL_ACCOUNT};
use midge_broker::{
    Broker, CloseReason, Destination, Instant, Mapping, Next, Now, Outbox, Peer, Post, Session, Settings,
    Uplink,
};
use midge_leaf::{Credentials, Identity};

const INFO: &str = "INFO {\"server_id\":\"H\",\"server_name\":\"hub\",\"client_id\":1,\"headers\":true,\"leafnode_urls\":[]}\r\n";

/// A connection of either kind.
struct End {
    session: Session,
    outbox: Arc<Outbox>,
}

struct World {
    broker: Broker<Arc<Outbox>>,
    now: Now,
}

impl World {
    fn new(settings: Settings) -> Self {
        Self { broker: Broker::new(settings, 7), now: Now::default() }
    }

    fn client(&mut self, words: &str) -> End {
        let outbox: Arc<Outbox> = Arc::default();
        let peer = Peer { host: "127.0.0.1".into(), port: 1 };
        let id = self.broker.attach(Arc::clone(&outbox), peer, self.now);
        let mut end = End { session: Session::new(&self.broker, id), outbox };
        let connect = "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n";
        self.say(&mut end, &format!("{connect}{words}"));
        self.heard(&end);
        end
    }

    fn hub(&mut self, info: &str, change: impl FnOnce(&mut Uplink)) -> End {
        let outbox: Arc<Outbox> = Arc::default();
        let identity =
            Identity { name: "edge".into(), version: "2.15.1".into(), headers: true, ..Identity::default() };
        let mut uplink = Uplink {
            account: GLOBAL_ACCOUNT.into(),
            identity,
            credentials: Credentials::default(),
            deny_imports: Vec::new(),
            deny_exports: Vec::new(),
        };
        change(&mut uplink);
        let peer = Peer { host: "127.0.0.1".into(), port: 7422 };
        let session = self.broker.join(Arc::clone(&outbox), peer, uplink, self.now);
        let mut end = End { session, outbox };
        self.say(&mut end, info);
        end
    }

    /// A hub that is up, and has been heard out.
    fn joined(&mut self) -> End {
        let hub = self.hub(INFO, |_| {});
        self.heard(&hub);
        hub
    }

    fn say(&mut self, end: &mut End, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let received = end.session.receive(&mut self.broker, self.now, rest);
            rest = &rest[received.used..];
            if matches!(received.next, Next::Close | Next::Read(2..)) {
                break;
            }
        }
        self.broker.flush(self.now, |_, _| {});
    }

    /// What has been said to it since the last time, without the subject that finds loops.
    fn heard(&mut self, end: &End) -> String {
        self.broker.flush(self.now, |_, _| {});
        let mut text = Vec::new();
        while let Some(mut batch) = end.outbox.take() {
            batch.slices().for_each(|slice| text.extend_from_slice(slice));
            let bytes = batch.slices().map(<[u8]>::len).sum();
            batch.advance(bytes);
            end.outbox.put_back(batch, bytes);
        }
        let text = String::from_utf8(text).unwrap();
        text.split_inclusive("\r\n").filter(|line| !line.starts_with("LS+ $LDS.")).collect()
    }

    /// The same in an order that doesn't depend on hashes.
    fn heard_sorted(&mut self, end: &End) -> Vec<String> {
        let mut lines: Vec<_> = self.heard(end).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

#[test]
fn interest_is_told_once_for_all() {
    let mut world = World::new(Settings { system_account: None, ..Settings::default() });
    let mut client =
        world.client("SUB a.> 1\r\nSUB a.> 2\r\nSUB job w 3\r\nSUB job w 4\r\nSUB $KV.b.> 5\r\n");
    let hub = world.hub(INFO, |_| {});
    let lines = world.heard_sorted(&hub);
    assert!(lines[0].starts_with("CONNECT {\"version\":\"2.15.1\""), "{lines:?}");
    assert_eq!(lines[1..], ["LS+ a.>", "LS+ job w 2"], "streams' subjects stay here");
    world.say(&mut client, "SUB b 6\r\nSUB b 7\r\nUNSUB 1\r\nUNSUB 3\r\n");
    assert_eq!(world.heard(&hub), "LS+ b\r\nLS+ job w 1\r\n");
    world.say(&mut client, "UNSUB 2\r\nUNSUB 4\r\nUNSUB 6\r\n");
    assert_eq!(world.heard(&hub), "LS- a.>\r\nLS- job w\r\n");
    world.broker.detach(client.session.id(), CloseReason::ClientClosed, world.now);
    assert_eq!(world.heard(&hub), "LS- b\r\n");
}

#[test]
fn a_message_goes_to_a_hub_once() {
    let mut world = World::new(Settings::default());
    let mut client = world.client("");
    let mut hub = world.joined();
    world.say(&mut hub, "LS+ a.>\r\nLS+ a.*\r\nLS+ a.b w 2\r\nLS+ a.b v 1\r\nLS+ *.b w 1\r\n");
    world.say(&mut client, "PUB a.b 2\r\nhi\r\nPUB a.b _INBOX.1 2\r\nhi\r\nPUB a.c 0\r\n\r\nPUB x 0\r\n\r\n");
    assert_eq!(
        world.heard(&hub),
        "LMSG a.b | w v 2\r\nhi\r\nLMSG a.b + _INBOX.1 w v 2\r\nhi\r\nLMSG a.c 0\r\n\r\n"
    );
    world.say(&mut hub, "LS- a.>\r\nLS- a.*\r\nLS- a.b v\r\nLS- *.b w\r\n");
    world.say(&mut client, "HPUB a.b 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    assert_eq!(world.heard(&hub), "HMSG a.b | w 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    world.say(&mut hub, "LS- a.b w\r\n");
    world.say(&mut client, "SUB _INBOX.1 1\r\n");
    world.heard(&hub);
    world.say(&mut client, "PUB a.b _INBOX.1 0\r\n\r\n");
    assert!(world.heard(&client).starts_with("HMSG _INBOX.1 1 35 35\r\nNATS/1.0 503\r\n"));
    assert_eq!(world.heard(&hub), "");
}

#[test]
fn members_of_a_queue_group_here_come_first() {
    let mut world = World::new(Settings::default());
    let (mut publisher, mut member) = (world.client(""), world.client("SUB job w 1\r\n"));
    let mut hub = world.joined();
    world.say(&mut hub, "LS+ job w 5\r\nLS+ job v 1\r\n");
    for _ in 0..20 {
        world.say(&mut publisher, "PUB job 0\r\n\r\n");
        assert_eq!(
            (world.heard(&member).as_str(), world.heard(&hub).as_str()),
            ("MSG job 1 0\r\n\r\n", "LMSG job | v 0\r\n\r\n")
        );
    }
    // The last message that one may have is its own, the next is the hub's.
    world.say(&mut member, "UNSUB 1 21\r\n");
    for wanted in ["LMSG job | v 0\r\n\r\n", "LMSG job | w v 0\r\n\r\n"] {
        world.heard(&hub);
        world.say(&mut publisher, "PUB job 0\r\n\r\n");
        let lines = world.heard(&hub);
        let said: String = lines.split_inclusive("\r\n").filter(|line| !line.starts_with("LS")).collect();
        assert_eq!(said, wanted);
    }
}

#[test]
fn what_a_hub_sends_is_for_those_that_it_names() {
    let mut world = World::new(Settings::default());
    let client = world.client("SUB a.* 1\r\nSUB a.b w 2\r\nSUB a.b v 3\r\n");
    let mut hub = world.joined();
    // The hub itself wants it, too, and another hub: neither gets it.
    let mut other = world.joined();
    world.say(&mut hub, "LS+ a.>\r\n");
    world.say(&mut other, "LS+ a.>\r\n");
    world.say(&mut hub, "LMSG a.b 2\r\nhi\r\n");
    assert_eq!(world.heard(&client), "MSG a.b 1 2\r\nhi\r\n");
    world.say(&mut hub, "LMSG a.b | w 2\r\nhi\r\n");
    let mut both: Vec<_> = world.heard(&client).split_inclusive("hi\r\n").map(str::to_owned).collect();
    both.sort();
    assert_eq!(both, ["MSG a.b 1 2\r\nhi\r\n", "MSG a.b 2 2\r\nhi\r\n"]);
    // A stream's message is shown under its own subject.
    world.say(&mut hub, "LMSG a.x $JS.ACK.S.C.1.2.3.4.5@plant.temp 2\r\nhi\r\n");
    assert_eq!(world.heard(&client), "MSG plant.temp 1 $JS.ACK.S.C.1.2.3.4.5 2\r\nhi\r\n");
    assert_eq!((world.heard(&hub), world.heard(&other)), (String::new(), String::new()));
    // And so it goes the other way.
    let post = Post {
        subject: b"a.deliver",
        shown: Some(b"plant.temp"),
        reply: Some(b"$JS.ACK.S.C.1.2.3.4.5"),
        payload: b"hi",
        ..Post::default()
    };
    let account = world.broker.account_named(GLOBAL_ACCOUNT).unwrap();
    assert!(world.broker.inject(account, &post, world.now));
    assert_eq!(world.heard(&hub), "LMSG a.deliver $JS.ACK.S.C.1.2.3.4.5@plant.temp 2\r\nhi\r\n");
}

#[test]
fn what_is_denied_is_neither_said_nor_heard() {
    let mut world = World::new(Settings { system_account: None, ..Settings::default() });
    let mut client = world.client("SUB in.yes 1\r\nSUB in.no 2\r\nSUB local 3\r\nSUB sub.* 4\r\n");
    let info = INFO.replace(
        "\"headers\"",
        "\"import\":{\"allow\":[\"in.>\",\"sub.*\"],\"deny\":[\"sub.no\"]},\"export\":{\"deny\":[\"out.no\"]},\"headers\"",
    );
    let mut hub = world.hub(&info, |uplink| {
        uplink.deny_imports = vec!["in.no".into()];
        uplink.deny_exports = vec!["mine".into()];
    });
    let lines = world.heard_sorted(&hub);
    assert!(lines[0].contains("\"deny_pub\":[\"in.no\"]"), "{lines:?}");
    assert_eq!(lines[1..], ["LS+ in.yes", "LS+ sub.*"]);
    world.say(
        &mut hub,
        "LS+ >\r\nLMSG in.no 0\r\n\r\nLMSG local 0\r\n\r\nLMSG sub.no 0\r\n\r\nLMSG sub.yes 0\r\n\r\n",
    );
    assert_eq!(world.heard(&client), "MSG sub.yes 4 0\r\n\r\n");
    for subject in ["out.no", "mine", "$JS.API.INFO", "$KV.b.k", "yes"] {
        world.say(&mut client, &format!("PUB {subject} 0\r\n\r\n"));
    }
    assert_eq!(world.heard(&hub), "LMSG yes 0\r\n\r\n");
    // The hub lets other things through from now on.
    world.say(&mut hub, "INFO {\"import\":{\"allow\":[\"local\"]}}\r\n");
    assert_eq!(world.heard_sorted(&hub), ["LS+ local", "LS- in.yes", "LS- sub.*"]);
}

#[test]
fn mappings_count_as_interest_and_are_applied() {
    let mapping = |from: &str, to: &str| {
        Mapping::new(from, &[Destination { subject: to.into(), weight: 100, cluster: None }]).unwrap()
    };
    let settings = |mappings| Settings {
        system_account: None,
        accounts: vec![AccountSettings {
            name: GLOBAL_ACCOUNT.into(),
            mappings,
            ..AccountSettings::default()
        }],
        ..Settings::default()
    };
    let mut world = World::new(settings(vec![mapping("old.*", "new.$1")]));
    let client = world.client("SUB new.a 1\r\nSUB new.a w 2\r\n");
    let mut hub = world.hub(INFO, |_| {});
    assert_eq!(world.heard_sorted(&hub)[1..], ["LS+ new.a", "LS+ new.a w 1", "LS+ old.*"]);
    world.say(&mut hub, "LMSG old.a 2\r\nhi\r\n");
    let mut both: Vec<_> = world.heard(&client).split_inclusive("hi\r\n").map(str::to_owned).collect();
    both.sort();
    assert_eq!(both, ["MSG new.a 1 2\r\nhi\r\n", "MSG new.a 2 2\r\nhi\r\n"]);
    world.broker.reconfigure(settings(vec![mapping("older.*", "new.$1")]), world.now);
    let lines = world.heard_sorted(&hub).into_iter().filter(|line| line.contains("old"));
    assert_eq!(lines.collect::<Vec<_>>(), ["LS+ older.*", "LS- old.*"]);
}

#[test]
fn a_full_queue_drops_messages_and_keeps_the_link() {
    let mut world = World::new(Settings { max_pending: 80_000, ..Settings::default() });
    let mut client = world.client("");
    let mut hub = world.joined();
    world.say(&mut hub, "LS+ a\r\n");
    let body = "x".repeat(10_000);
    for _ in 0..20 {
        world.say(&mut client, &format!("PUB a 10000\r\n{body}\r\n"));
    }
    let (_, _, info) = world.broker.uplinks().next().unwrap();
    assert_eq!((info.name, info.subscriptions, info.dropped), ("hub", 1, 14));
    world.say(&mut client, "SUB b 1\r\n");
    let heard = world.heard(&hub);
    assert_eq!((heard.matches("LMSG a 10000").count(), heard.ends_with("LS+ b\r\n")), (6, true));
}

#[test]
fn a_hub_may_take_its_time_to_answer() {
    let mut world = World::new(Settings { system_account: None, ..Settings::default() });
    let client = world.client("SUB a 1\r\n");
    let info = INFO.replace("\"headers\"", "\"info_on_connect\":true,\"headers\"");
    let mut hub = world.hub(&info, |_| {});
    assert!(!world.heard(&hub).contains("LS+"));
    assert_eq!(world.broker.uplinks().count(), 0);
    world.say(&mut hub, "INFO {\"connect_info\":true,\"remote_account\":\"X\"}\r\n");
    assert_eq!(world.heard(&hub), "LS+ a\r\n");
    // One that says nothing is up after two seconds.
    let late = world.hub(&info, |_| {});
    world.heard(&late);
    world.now.mono = Instant::from_micros(2_100_000);
    let now = world.now;
    world.broker.tick(now);
    assert!(world.heard(&late).starts_with("LS+ a\r\n"));
    assert!(world.broker.parting(late.session.id()).was_up);
    // And one that doesn't even say who it is goes.
    let silent = world.hub("", |_| {});
    world.now.mono = Instant::from_micros(60_000_000);
    let now = world.now;
    world.broker.tick(now);
    assert!(!world.broker.conn(silent.session.id()).unwrap().is_open());
    drop(client);
}

#[test]
fn loops_end_the_link() {
    let mut world = World::new(Settings::default());
    let mut hub = world.hub(INFO, |_| {});
    let mut own = String::new();
    while let Some(mut batch) = hub.outbox.take() {
        batch.slices().for_each(|slice| own.push_str(std::str::from_utf8(slice).unwrap()));
        let bytes = batch.slices().map(<[u8]>::len).sum();
        batch.advance(bytes);
        hub.outbox.put_back(batch, bytes);
    }
    let own = own.lines().find(|line| line.starts_with("LS+ $LDS.")).unwrap().to_owned();
    // What another server asks for to find loops is passed on to other hubs.
    let other = world.joined();
    world.say(&mut hub, "LS+ $LDS.theirs\r\n");
    let mut passed = Vec::new();
    while let Some(mut batch) = other.outbox.take() {
        batch.slices().for_each(|slice| passed.extend_from_slice(slice));
        let bytes = batch.slices().map(<[u8]>::len).sum();
        batch.advance(bytes);
        other.outbox.put_back(batch, bytes);
    }
    assert_eq!(passed, b"LS+ $LDS.theirs\r\n");
    world.say(&mut hub, &format!("{own}\r\n"));
    let said = world.heard(&hub);
    assert!(said.contains("-ERR 'Loop detected for leafnode account=\"$G\""), "{said}");
    let parting = world.broker.parting(hub.session.id());
    assert_eq!((parting.was_up, parting.wait), (true, Some(Duration::from_secs(30))));
    world.broker.detach(hub.session.id(), CloseReason::ClientClosed, world.now);
    assert_eq!(world.broker.uplinks().count(), 1);
    assert_eq!(world.broker.accounts().map(|account| account.leafnodes()).sum::<u32>(), 1);
}
