//! Subscribers and publishers inside the daemon.

use midge_broker::{AccountLimits, AccountSettings, Heard, Post};

use super::world::{World, settings};

fn world() -> World {
    let account = |name: &str| AccountSettings { name: name.into(), ..AccountSettings::default() };
    World::new(settings(vec![account("A"), account("B")]))
}

#[test]
fn letters_carry_the_whole_message() {
    let mut world = world();
    let mailbox = world.broker.open_mailbox(1 << 16).unwrap();
    let account = world.broker.account_named("A").unwrap();
    let sub = world.broker.subscribe_inside(account, b"in.*", mailbox, 42).unwrap();
    let mut a = world.connect("A");
    a.say(&mut world, "HPUB in.x reply 20 23\r\nNATS/1.0\r\nKey: v\r\n\r\nabc");
    assert_eq!(world.broker.take_rings().collect::<Vec<_>>(), [mailbox]);
    assert_eq!(world.broker.take_rings().count(), 0, "said once");
    let letters = world.broker.take_letters(mailbox);
    let letter = letters.front().unwrap();
    assert_eq!((letters.len(), letter.tag, letter.account), (1, 42, account));
    assert_eq!(letter.from.unwrap().0, a.id);
    assert_eq!((letter.subject(), letter.reply()), (&b"in.x"[..], Some(&b"reply"[..])));
    assert_eq!((letter.header(), letter.payload()), (&b"NATS/1.0\r\nKey: v\r\n\r\n"[..], &b"abc"[..]));

    let mut b = world.connect("B");
    b.publish(&mut world, "in.x", "", "not here");
    assert!(world.broker.unsubscribe_inside(sub) && !world.broker.unsubscribe_inside(sub));
    a.publish(&mut world, "in.x", "", "not any more");
    assert!(world.broker.take_letters(mailbox).is_empty());
}

#[test]
fn letters_may_say_whose_they_are() {
    let mut world = world();
    let mailbox = world.broker.open_mailbox(1 << 16).unwrap();
    let account = world.broker.account_named("A").unwrap();
    world.broker.subscribe_inside_told(account, b"in", mailbox, 0).unwrap();
    let mut a = world.connect("A");
    let forged = "NATS/1.0\r\nKey: v\r\nNats-Request-Info: {}\r\n\r\n";
    let head = forged.len();
    a.say(&mut world, &format!("HPUB in {head} {}\r\n{forged}abc", head + 3));
    a.publish(&mut world, "in", "", "abc");
    for (letter, begins) in world.broker.take_letters(mailbox).iter().zip(["Key: v\r\n", ""]) {
        let header = std::str::from_utf8(letter.header()).unwrap();
        let info = header.strip_prefix(&format!("NATS/1.0\r\n{begins}Nats-Request-Info: ")).unwrap();
        let info: serde_json::Value = serde_json::from_str(info).unwrap();
        assert_eq!((&info["acc"], &info["id"], &info["kind"]), (&"A".into(), &1.into(), &"Client".into()));
        assert_eq!(letter.payload(), b"abc");
    }
}

#[test]
fn what_does_not_fit_was_not_delivered() {
    let mut world = world();
    let mailbox = world.broker.open_mailbox(2048).unwrap();
    let account = world.broker.account_named("A").unwrap();
    world.broker.subscribe_inside(account, b"in", mailbox, 0).unwrap();
    let mut a = world.connect("A");
    a.say(&mut world, "SUB r 1");
    let payload = "x".repeat(500);
    for _ in 0..10 {
        a.publish(&mut world, "in", "r", &payload);
    }
    let refused = a.read();
    assert!(!refused.is_empty() && refused.iter().all(|got| got.header.starts_with("NATS/1.0 503")));
    let letters = world.broker.take_letters(mailbox);
    assert_eq!(letters.len() + refused.len(), 10);
    assert_eq!(world.broker.letters_refused(mailbox), refused.len() as u64);
    assert!(letters.iter().map(|letter| letter.bytes()).sum::<usize>() <= 2048);
    a.publish(&mut world, "in", "r", &payload);
    assert_eq!((a.read().len(), world.broker.take_letters(mailbox).len()), (0, 1), "there is room again");
}

#[test]
fn messages_from_inside_reach_whom_their_subject_reaches() {
    let mut world = world();
    let account = world.broker.account_named("A").unwrap();
    let (mut a, mut b) = (world.connect("A"), world.connect("B"));
    for client in [&mut a, &mut b] {
        client.say(&mut world, "SUB out.> 1\r\nSUB deliver 2");
    }
    let now = world.now;
    let post = Post { subject: b"out.x", reply: Some(b"r"), payload: b"abc", ..Post::default() };
    assert!(world.broker.inject(account, &post, now));
    let shown = Post { subject: b"deliver", shown: Some(b"out.stored"), header: b"NATS/1.0\r\n\r\n", ..post };
    assert!(world.broker.inject(account, &shown, now));
    assert!(!world.broker.inject(account, &Post { subject: b"nobody", ..post }, now));
    world.broker.flush(now, |_, _| {});
    let got = a.read();
    assert_eq!(got.len(), 2);
    assert_eq!((&*got[0].subject, &*got[0].sid, got[0].reply.as_deref()), ("out.x", "1", Some("r")));
    assert_eq!((&*got[1].subject, &*got[1].sid, &*got[1].header), ("out.stored", "2", "NATS/1.0\r\n\r\n"));
    assert!(b.read().is_empty());
}

#[test]
fn a_subscription_ends_with_its_account() {
    let mut world = world();
    let mailbox = world.broker.open_mailbox(2048).unwrap();
    let gone = world.broker.account_named("B").unwrap();
    let sub = world.broker.subscribe_inside(gone, b"in", mailbox, 1).unwrap();
    let b = world.connect("B");
    let a = AccountSettings { name: "A".into(), ..AccountSettings::default() };
    let now = world.now;
    world.broker.reconfigure(settings(vec![a.clone()]), now);
    assert!(world.broker.accounts().any(|account| account.name() == "B"), "a connection is still leaving");
    b.leave(&mut world);
    assert!(world.broker.accounts().all(|account| account.name() != "B"));
    let new = AccountSettings { name: "C".into(), ..AccountSettings::default() };
    world.broker.reconfigure(settings(vec![a, new]), now);
    let taken = world.broker.account_named("C").unwrap();
    assert!(!world.broker.unsubscribe_inside(sub));
    assert!(world.broker.subscribe_inside(taken, b"in", mailbox, 2).is_some());
    assert!(!world.broker.unsubscribe_inside(sub), "the place is another's now");
}

#[test]
fn an_account_that_may_have_fewer_connections_keeps_the_oldest() {
    let mut world = world();
    let clients = ["A", "B", "A", "A", "B"].map(|account| world.connect(account));
    let limited = |most| AccountSettings {
        name: "A".into(),
        limits: AccountLimits { connections: Some(most), ..AccountLimits::default() },
        ..AccountSettings::default()
    };
    let other = AccountSettings { name: "B".into(), ..AccountSettings::default() };
    for (most, stay) in [(3, vec![0, 1, 2, 3, 4]), (1, vec![0, 1, 4])] {
        world.broker.reconfigure(settings(vec![limited(most), other.clone()]), world.now);
        let open: Vec<_> = world.broker.connections().map(|(id, _)| id).collect();
        let found: Vec<_> = (0..clients.len()).filter(|at| open.contains(&clients[*at].id)).collect();
        assert_eq!(found, stay, "{most}");
    }
}

#[test]
fn there_are_only_so_many_mailboxes() {
    let mut world = world();
    assert_eq!(std::iter::from_fn(|| world.broker.open_mailbox(1)).count(), 31);
}

#[test]
fn interest_in_watched_subjects_is_told() {
    let mut world = world();
    let mailbox = world.broker.open_mailbox(2048).unwrap();
    let account = world.broker.account_named("A").unwrap();
    assert!(world.broker.watch(account, b"in.x", Heard::Anyhow, mailbox, 1));
    assert!(!world.broker.watch(account, b"in.x", Heard::Anyhow, mailbox, 1), "twice");
    assert!(world.broker.watch(account, b"out.>", Heard::Anyhow, mailbox, 2));
    assert!(!world.broker.watch(account, b"in..x", Heard::Anyhow, mailbox, 3), "no subject");
    let told = move |world: &mut World| -> Vec<(u64, bool)> {
        world.broker.take_interest(mailbox).into_iter().map(|it| (it.tag, it.exists)).collect()
    };
    assert_eq!(world.broker.take_rings().collect::<Vec<_>>(), [mailbox]);
    assert_eq!(told(&mut world), [(1, false), (2, false)]);

    let mut a = world.connect("A");
    a.say(&mut world, "SUB in.* 1");
    assert_eq!(told(&mut world), [(1, true)]);
    a.say(&mut world, "SUB in.x 2\r\nSUB *.y 3\r\nSUB out.z 4\r\nUNSUB 1");
    assert_eq!(told(&mut world), [(2, true)], "there was one before, and there is one still");
    a.say(&mut world, "UNSUB 3\r\nUNSUB 2\r\nSUB in.x 5\r\nUNSUB 5");
    assert_eq!(told(&mut world), [(1, false)], "however often it changed");
    let mut b = world.connect("B");
    b.say(&mut world, "SUB > 1");
    assert_eq!(told(&mut world), []);
    a.say(&mut world, "UNSUB 4");
    assert_eq!(told(&mut world), [(2, false)]);

    let sub = world.broker.subscribe_inside(account, b">", mailbox, 9).unwrap();
    assert_eq!(told(&mut world).len(), 2);
    world.broker.unwatch(account, b"in.x", mailbox, 1);
    world.broker.unsubscribe_inside(sub);
    assert_eq!(told(&mut world), [(2, false)]);
}

#[test]
fn interest_may_be_that_of_one_queue_group_in_one_very_subject() {
    let mut world = world();
    let mailbox = world.broker.open_mailbox(2048).unwrap();
    let account = world.broker.account_named("A").unwrap();
    for (tag, group) in [(1, b"".as_slice()), (2, b"q")] {
        assert!(world.broker.watch(account, b"in.x", Heard::Literally(group), mailbox, tag));
    }
    let told = move |world: &mut World| -> Vec<(u64, bool)> {
        world.broker.take_interest(mailbox).into_iter().map(|it| (it.tag, it.exists)).collect()
    };
    assert_eq!(told(&mut world), [(1, false), (2, false)]);
    let mut a = world.connect("A");
    a.say(&mut world, "SUB in.* 1\r\nSUB in.* q 2\r\nSUB in.x other 3");
    assert_eq!(told(&mut world), []);
    a.say(&mut world, "SUB in.x q 4");
    assert_eq!(told(&mut world), [(2, true)]);
    a.say(&mut world, "SUB in.x 5\r\nUNSUB 4");
    assert_eq!(told(&mut world), [(1, true), (2, false)]);
    a.say(&mut world, "UNSUB 1\r\nUNSUB 5");
    assert_eq!(told(&mut world), [(1, false)]);
}
