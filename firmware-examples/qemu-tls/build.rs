//! Tells the linker where memory.x is, and what to use it with; and whom the node trusts.
fn main() {
    println!("cargo:rustc-link-search={}", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rerun-if-changed=memory.x");
    println!("cargo:rerun-if-env-changed=CA");
    let authority = std::env::var("CA").expect("CA names the authority's certificate, DER");
    println!("cargo:rerun-if-changed={authority}");
    println!("cargo:rustc-env=CA={authority}");
}
