//! The board and the server in memory, without a client: what the others are compared with.
#![no_std]
#![no_main]

use core::hint::black_box;
use embedded_io::{Read, Write};
use midge_device::{Canned, PAYLOAD, SERVER, Wire, exit, instructions, say, ticks};

#[unsafe(no_mangle)]
extern "Rust" fn job() {
    let mut canned = Canned::new(SERVER);
    let (mut receive, mut transmit) = ([0; 256], [0; 256]);
    let mut wire = Wire(&mut canned);
    for _ in 0..2 {
        let before = ticks();
        let n = wire.read(&mut receive).unwrap_or_default();
        if let Some(space) = transmit.get_mut(..PAYLOAD.len()) {
            space.copy_from_slice(PAYLOAD);
        }
        let written = wire.write(black_box(&transmit)).unwrap_or_default();
        say("nothing", instructions(before, ticks()));
        if receive.get(..n) == Some(PAYLOAD) {
            exit(written as u32);
        }
    }
}
