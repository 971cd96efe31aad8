//! The JSON of CONNECT and INFO: any bytes can be read, and what was understood is understood again after writing it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use midge_protocol::connect::Connect;
use midge_protocol::info::Info;
use midge_protocol::json::{self, Text, Texts};

fuzz_target!(|data: &[u8]| {
    let _ = json::object(data, |key, value| {
        let _ =
            (key.to_string(), value.integer(), value.text().map(|text| text.map(|text| text.to_string())));
        Ok(())
    });
    if let Ok(connect) = Connect::parse(data) {
        let mut text = String::new();
        connect.write(&mut text).expect("a string takes all");
        let again = Connect::parse(text.as_bytes()).expect("what was written can be read");
        assert_eq!(
            (again.verbose, again.headers, again.protocol),
            (connect.verbose, connect.headers, connect.protocol)
        );
        same(again.user.unwrap_or_default(), connect.user.unwrap_or_default());
        same(again.pass.unwrap_or_default(), connect.pass.unwrap_or_default());
    }
    if let Ok(info) = Info::parse(data) {
        if let Some(Texts::Json(urls)) = info.connect_urls {
            let _ = json::texts(urls, |url| drop(url.to_string()));
        }
        let mut text = String::new();
        info.write(&mut text).expect("a string takes all");
        let again = Info::parse(text.as_bytes()).expect("what was written can be read");
        assert_eq!((again.port, again.max_payload, again.ldm), (info.port, info.max_payload, info.ldm));
        same(again.server_name, info.server_name);
    }
});

/// Bytes that are no UTF-8 are not written; the rest stays.
fn same(again: Text<'_>, first: Text<'_>) {
    let known =
        |text: Text<'_>| text.chars().filter(|c| *c != char::REPLACEMENT_CHARACTER).collect::<String>();
    assert_eq!(known(again), known(first));
}
