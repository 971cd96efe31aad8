//! How the released daemon is linked: as small as what it may be linked with allows.

use std::env::var;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=layout.ld");
    let is = |name: &str, value: &str| var(name).is_ok_and(|found| found == value);
    // Other C libraries' start files hold on to the tables.
    if !(is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu"))
    {
        return;
    }
    let script = format!("{}/layout.ld", var("CARGO_MANIFEST_DIR").unwrap_or_default());
    println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr,-T,{script}");
    // Another linker, zig for one, is for another C library, too.
    let is_usual = var("RUSTC_LINKER").is_err();
    // Functions that came out the same are one. Rust's own linker does it, the default on this architecture.
    if is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("CARGO_ENCODED_RUSTFLAGS", "") && is_usual {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
    // Addresses that the start adjusts take a bit instead of 24 bytes, where the C library is new enough to read that.
    if is_usual && var("HOST") == var("TARGET") && c_library().is_some_and(|version| version >= (2, 36)) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's C library.
fn c_library() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
