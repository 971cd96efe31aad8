//! Accounts come, go, and may have more or less.

use midge_stream::{AccountLimits, Grant, Share};

use crate::world::World;

/// Whoever comes after the account of the world.
const SECOND: u32 = 1;

/// `$G` may do something else from now on.
fn grant(world: &mut World, grant: Grant) {
    world.engine.set_grant(0, grant, world.now).unwrap();
    world.run();
}

fn flat(limits: AccountLimits) -> Grant {
    Grant::Enabled(Share::Flat(limits))
}

fn code(world: &mut World, subject: &str, payload: &str) -> u64 {
    world.api(subject, payload)["error"]["err_code"].as_u64().unwrap_or(0)
}

#[test]
fn what_a_closed_account_has_on_disk_is_there_when_it_opens_again() {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#);
    world.good("STREAM.CREATE.M", r#"{"name":"M","subjects":["m"],"storage":"memory"}"#);
    let durable = r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}"#;
    world.good("CONSUMER.CREATE.S.C", durable);
    for payload in ["one", "two", "three"] {
        world.text("s", payload);
    }
    let (_, reply) = world.fetch("S", "C", 1).remove(0);
    world.stage(&reply, None, "", "+ACK");
    world.run();

    world.engine.close_account(0, world.now);
    world.run();
    assert!(!world.stage("s", None, "", "four"), "nobody is left to hear it");
    assert!(!world.stage("$JS.API.INFO", None, "", ""));

    world.engine.open(SECOND, "$G", flat(AccountLimits::default()), world.now).unwrap();
    world.run();
    assert_eq!(world.sums("S"), (3, 1, 3));
    assert_eq!(world.fetch("S", "C", 9).iter().map(|it| it.0.as_str()).collect::<Vec<_>>(), ["two", "three"]);
    assert_eq!(code(&mut world, "STREAM.INFO.M", ""), 10059);
    world.text("s", "four");
    world.power_cut(7);
    assert_eq!(world.sums("S"), (4, 1, 4));
}

/// From now on nobody but `account` is there.
fn only(world: &mut World, account: u32, name: &str, grant: Grant) {
    world.engine.close_account(account - 1, world.now);
    world.run();
    world.engine.open(account, name, grant, world.now).unwrap();
    world.run();
}

#[test]
fn what_a_closed_account_has_on_disk_can_be_purged() {
    let mut world = World::new();
    let (create, all) = (r#"{"name":"S","subjects":["s"]}"#, || flat(AccountLimits::default()));
    world.good("STREAM.CREATE.S", create);
    only(&mut world, 1, "other", all());
    world.good("STREAM.CREATE.S", create);
    only(&mut world, 2, "SYS", Grant::System);
    assert_eq!(world.good("ACCOUNT.PURGE.$G", "")["initiated"], true);
    only(&mut world, 3, "other", all());
    assert_eq!(world.sums("S"), (0, 0, 0));
    only(&mut world, 4, "$G", all());
    assert_eq!(code(&mut world, "STREAM.INFO.S", ""), 10059);
    world.power_cut(7);
    assert_eq!(code(&mut world, "STREAM.INFO.S", ""), 10059);
}

#[test]
fn an_account_without_streams_says_so() {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#);
    grant(&mut world, Grant::Disabled);
    for subject in ["INFO", "STREAM.NAMES", "STREAM.CREATE.T", "STREAM.INFO.S", "CONSUMER.LIST.S"] {
        assert_eq!(code(&mut world, subject, ""), 10039, "{subject}");
    }
    assert_eq!(code(&mut world, "CONSUMER.CREATE.S", "no JSON"), 10025);
    assert_eq!(code(&mut world, "STREAM.LEADER.STEPDOWN.S", ""), 10010);
    assert!(!world.stage("s", None, "", "lost"));
    // It may have them again.
    grant(&mut world, flat(AccountLimits::default()));
    assert_eq!(world.sums("S"), (0, 0, 0));
}

#[test]
fn the_servers_own_account_answers_in_one_way() {
    let mut world = World::new();
    grant(&mut world, Grant::System);
    for (subject, kind) in
        [("INFO", "account_info"), ("STREAM.NAMES", "system"), ("CONSUMER.INFO.S.C", "system")]
    {
        let answer = world.api(subject, "");
        assert_eq!(answer["type"], format!("io.nats.jetstream.api.v1.{kind}_response"));
        assert_eq!(answer["error"]["err_code"], 10039);
    }
}

#[test]
fn a_share_by_tier_counts_for_streams_of_one_copy() {
    let mut world = World::new();
    let limits =
        AccountLimits { file_bytes_max: Some(1000), streams_max: Some(1), ..AccountLimits::default() };
    let tiers = [("R1".into(), limits), ("R3".into(), AccountLimits::default())].into();
    grant(&mut world, Grant::Enabled(Share::Tiers(tiers)));
    assert_eq!(code(&mut world, "STREAM.CREATE.S", r#"{"name":"S","max_bytes":1001}"#), 10047);
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["s"],"max_bytes":400}"#);
    assert_eq!(code(&mut world, "STREAM.CREATE.T", r#"{"name":"T"}"#), 10027);
    let info = world.good("INFO", "");
    assert_eq!((&info["streams"], &info["limits"]["max_storage"]), (&1.into(), &0.into()));
    let tier = &info["tiers"]["R1"];
    let figures = ["streams", "reserved_storage", "consumers"].map(|name| tier[name].as_u64());
    assert_eq!(figures, [Some(1), Some(400), Some(0)]);
    assert_eq!((&tier["limits"]["max_storage"], &tier["limits"]["max_streams"]), (&1000.into(), &1.into()));
    assert_eq!(info["tiers"]["R3"]["streams"], 0);

    // Where no tier is for them, there are no new ones, and nothing is stored.
    let tiers = [("R3".into(), AccountLimits::default())].into();
    grant(&mut world, Grant::Enabled(Share::Tiers(tiers)));
    assert_eq!(code(&mut world, "STREAM.CREATE.T", r#"{"name":"T"}"#), 10120);
    assert!(world.text("s", "x").contains("10120"));
}

#[test]
fn another_share_counts_from_then_on() {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["s"],"max_bytes":400}"#);
    let limits = AccountLimits {
        streams_max: Some(1),
        consumers_max: Some(1),
        file_bytes_max: Some(500),
        memory_bytes_max: Some(0),
        max_bytes_required: true,
        ..AccountLimits::default()
    };
    grant(&mut world, Grant::Enabled(Share::Flat(limits)));
    assert_eq!(code(&mut world, "STREAM.CREATE.T", r#"{"name":"T","max_bytes":1}"#), 10027);
    assert_eq!(code(&mut world, "STREAM.UPDATE.S", r#"{"name":"S","subjects":["s"]}"#), 10113);
    assert_eq!(
        code(&mut world, "STREAM.UPDATE.S", r#"{"name":"S","subjects":["s"],"max_bytes":501}"#),
        10047
    );
    let consumers = r#"{"name":"S","subjects":["s"],"max_bytes":400,"max_consumers":2}"#;
    assert_eq!(code(&mut world, "STREAM.UPDATE.S", consumers), 10026);
    world.good("STREAM.UPDATE.S", r#"{"name":"S","subjects":["s"],"max_bytes":500}"#);
    let create = |name: &str| {
        format!(r#"{{"stream_name":"S","config":{{"durable_name":"{name}","ack_policy":"explicit"}}}}"#)
    };
    world.good("CONSUMER.CREATE.S.A", &create("A"));
    assert_eq!(code(&mut world, "CONSUMER.CREATE.S.B", &create("B")), 10026);
    // Where there is no room at all, not even one without a ceiling fits.
    grant(
        &mut world,
        Grant::Enabled(Share::Flat(AccountLimits {
            max_bytes_required: false,
            streams_max: Some(0),
            ..limits
        })),
    );
    assert_eq!(code(&mut world, "STREAM.CREATE.M", r#"{"name":"M","storage":"memory"}"#), 10028);
}
