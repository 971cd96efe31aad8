//! Tokens of strangers: whatever they say, reading them is an answer and never a panic.

use std::time::Duration;

use midge_jwt::{
    Account, Activation, AuthorizationRequest, AuthorizationResponse, Body, Deletion, KeyPair, Kind,
    Operator, Token, User, Utc, fill, sign,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Names that mean something in some token, so that what hangs on them is read.
const NAMES: &[&str] = &[
    "account",
    "account_token_position",
    "allow",
    "allowed_connection_types",
    "aud",
    "auth_users",
    "authorization",
    "bearer_token",
    "conn",
    "default_permissions",
    "deny",
    "disk_storage",
    "end",
    "exp",
    "exports",
    "iat",
    "imports",
    "iss",
    "issuer_account",
    "jwt",
    "key",
    "kind",
    "limits",
    "local_subject",
    "mappings",
    "max",
    "name",
    "nats",
    "nbf",
    "payload",
    "pub",
    "resp",
    "response_type",
    "results",
    "revocations",
    "sampling",
    "service_latency",
    "share",
    "signing_keys",
    "src",
    "start",
    "sub",
    "subject",
    "subs",
    "tags",
    "template",
    "tiered_limits",
    "times",
    "times_location",
    "to",
    "token",
    "token_req",
    "ttl",
    "type",
    "user_nkey",
    "version",
    "weight",
];

const TEXTS: &[&str] = &[
    "",
    "*",
    ">",
    "a.*.b",
    "$1",
    "{{wildcard(2)}}",
    "{{name()}}.{{tag(x)}}",
    "{{tag(",
    "account",
    "user",
    "operator",
    "activation",
    "authorization_request",
    "stream",
    "service",
    "Stream",
    "headers",
    "user_scope",
    "10.0.0.0/8",
    "::/129",
    "24:61:61",
    "23:59:59",
    "Nowhere/Land",
    "STANDARD",
    "x:1",
    "eyJ.e30.e30",
    "ISS",
    "R1",
];

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![3 => proptest::sample::select(TEXTS).prop_map(str::to_owned), 1 => ".{0,8}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![-2i64..3, any::<i64>()].prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        let name = prop_oneof![6 => proptest::sample::select(NAMES).prop_map(str::to_owned), 1 => ".{0,6}"];
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((name, inner), 0..6).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn members() -> impl Strategy<Value = Map<String, Value>> {
    vec((proptest::sample::select(NAMES).prop_map(str::to_owned), value()), 0..12)
        .prop_map(|members| members.into_iter().collect())
}

/// Reads a token in all ways, and does with it what a server does. True if it was one of this kind.
fn read<B: Body>(text: &str) -> bool {
    Token::<B>::decode(text).is_ok_and(|token| token.to_json()["sub"] == token.claims.sub.as_str())
}

fn read_all(text: &str) -> bool {
    let account = Token::<Account>::decode(text).ok();
    if let Some(account) = &account {
        let _ = account.problems(&account.activations());
    }
    let user = Token::<User>::decode(text).ok();
    if let Some(user) = &user {
        let now = Duration::from_secs(1_800_000_000);
        let _ = (user.problems(), user.body.grant.admits("10.1.2.3"), user.body.grant.admits("x"));
        let _ = user.body.grant.hours().map(|hours| hours.open(now, &Utc));
        let of = account.clone().unwrap_or_default();
        let _ = fill(&user.body.grant.permissions, user, &of);
    }
    let operator = Token::<Operator>::decode(text).ok();
    let _ = operator.as_ref().map(|operator| operator.problem("2.15.1"));
    let answer = Token::<AuthorizationResponse>::decode(text).ok();
    let _ = answer.as_ref().map(|answer| answer.problems());
    let others = read::<Activation>(text) | read::<Deletion>(text) | read::<AuthorizationRequest>(text);
    others || account.is_some() || user.is_some() || operator.is_some() || answer.is_some()
}

fn signed(kind: Kind, members: Map<String, Value>) -> String {
    let issuer = KeyPair::new(kind, &[7; 32]);
    let key = issuer.public().to_string();
    let claims = Value::Object(members).to_string().replace("\"ISS\"", &format!("\"{key}\""));
    sign(&claims, &issuer)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Claims of any form, rightly signed.
    #[test]
    fn claims_of_any_form(
        members in members(),
        body in members(),
        kind in proptest::sample::select(&["account", "user", "operator", "activation", "authorization_response"][..]),
        version in 0i64..4,
    ) {
        let (mut members, mut body) = (members, body);
        members.insert("iss".into(), "ISS".into());
        body.insert("type".into(), kind.into());
        body.insert("version".into(), version.into());
        members.insert("nats".into(), body.into());
        for kind in [Kind::Operator, Kind::Account, Kind::Server] {
            read_all(&signed(kind, members.clone()));
        }
    }

    /// Text that is no token, or one that was damaged.
    #[test]
    fn text_of_any_form(text in ".{0,200}", place in any::<proptest::sample::Index>(), byte in 0u8..128) {
        prop_assert!(!read_all(&text));
        let token = signed(Kind::Account, good());
        let mut damaged = token.clone().into_bytes();
        let place = place.index(damaged.len());
        damaged[place] = byte;
        let damaged = String::from_utf8(damaged).expect("ASCII");
        // The last character of a signature has bits that stand for nothing; all else is signed.
        if let Ok(read) = Token::<User>::decode(&damaged) {
            prop_assert_eq!(read, Token::<User>::decode(&token).expect("a token"));
        }
    }
}

fn good() -> Map<String, Value> {
    let claims = json!({ "iss": "ISS", "sub": "ISS", "nats": { "type": "user", "version": 2 } });
    claims.as_object().cloned().unwrap_or_default()
}

#[test]
fn a_token_is_read() {
    assert!(read_all(&signed(Kind::Account, good())));
}

#[test]
fn depth_is_bounded() {
    let deep = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    for claims in [deep("[", "]", 100_000), deep("{\"a\":", "}", 100_000)] {
        assert!(!read_all(&sign(&claims, &KeyPair::new(Kind::Account, &[7; 32]))));
    }
}
