//! Runs a command beside a file system on a disk whose flush takes a while: `slow-disk MS COMMAND...`. The command finds the
//! file system's path in `MIDGE_SLOW_DISK`; both end with it. Needs what the tiers of this rig need.

#[allow(dead_code, reason = "the tiers use all of it")]
#[path = "../disk/mod.rs"]
mod disk;

use std::io;
use std::process::{Command, ExitCode};
use std::time::Duration;

use disk::Disk;
use disk::files::Files;
use disk::mount::{Kind, Mounted};

/// Bytes of the disk, which is in memory.
const SIZE: u64 = 2 << 30;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("slow-disk: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> io::Result<ExitCode> {
    let mut words = std::env::args().skip(1);
    let (Some(millis), Some(program)) = (words.next().and_then(|word| word.parse().ok()), words.next()) else {
        return Err(io::Error::other("usage: slow-disk MS COMMAND..."));
    };
    let files = Files::mount()?;
    let disk = Disk::new(SIZE, Duration::from_millis(millis));
    let mounted = Mounted::fresh(&files, &disk, Kind::Ext4)?;
    let status = Command::new(program).args(words).env("MIDGE_SLOW_DISK", mounted.path()).status()?;
    mounted.unmount()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
