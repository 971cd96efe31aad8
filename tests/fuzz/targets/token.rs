//! Tokens of strangers: any bytes are claims of the kind that is wanted, or a reason why not.
//!
//! The claims are signed here, since no fuzzer guesses a signature: what is behind it is read as often as what is before.
#![no_main]

use libfuzzer_sys::fuzz_target;
use midge_jwt::{
    Account, Activation, AuthorizationRequest, AuthorizationResponse, Body, Deletion, KeyPair, Kind, Operator, Token,
    User, fill, sign, undecorated,
};

fn read<B: Body>(text: &str) -> Option<Token<B>> {
    let token = Token::<B>::decode(text).ok()?;
    // What was read can be written, and says the same.
    let _ = token.to_json();
    Some(token)
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = (midge_jwt::signature(text), midge_jwt::PublicKey::parse(text));
    let text = undecorated(text);
    for kind in [Kind::Operator, Kind::Account, Kind::User, Kind::Server] {
        let issuer = KeyPair::new(kind, &[7; 32]);
        let named = text.replace("ISS", &issuer.public().to_string());
        for text in [text, &sign(&named, &issuer)] {
            let account = read::<Account>(text);
            if let Some(account) = &account {
                let _ = account.problems(&account.activations());
            }
            if let Some(user) = read::<User>(text) {
                let _ = (user.problems(), user.account().len());
                let hours = user.body.grant.hours();
                let _ = hours.map(|hours| hours.open(std::time::Duration::from_secs(1_800_000_000), &midge_jwt::Utc));
                let _ = user.body.grant.admits("127.0.0.1");
                let _ = fill(&user.body.grant.permissions, &user, &account.unwrap_or_default());
            }
            let _ = read::<Operator>(text).map(|operator| operator.problem("2.15.1"));
            let _ = (read::<Activation>(text), read::<Deletion>(text));
            let _ = read::<AuthorizationRequest>(text);
            let _ = read::<AuthorizationResponse>(text).map(|answer| answer.problems());
        }
    }
});
