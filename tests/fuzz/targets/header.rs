//! Header blocks: any bytes can be read, and what can be written reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use midge_protocol::header::{Block, Header};

fuzz_target!(|data: &[u8]| {
    let Ok(header) = Header::parse(data) else { return };
    let fields: Vec<_> = header.fields().collect();
    for field in &fields {
        assert!(header.get(field.name).is_some() && header.get_ignoring_case(field.name).is_some());
        assert!(header.get_all(field.name).any(|value| value == field.value));
    }
    let Ok(mut block) = Block::new(&fields) else { return };
    if let Some(status) = header.status() {
        let Ok(with_status) = block.with_status(status) else { return };
        block = with_status;
    }
    let mut written = Vec::new();
    block.put(&mut written);
    assert_eq!(written.len(), block.size());
    let again = Header::parse(&written).expect("what was written can be read");
    assert!(again.fields().eq(fields.iter().copied()));
    assert_eq!(again.status(), header.status());
});
