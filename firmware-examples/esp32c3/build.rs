//! Tells the linker what to use.
fn main() {
    println!("cargo:rustc-link-arg-bins=-Tlinkall.x");
}
