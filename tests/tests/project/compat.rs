//! `COMPAT.md` says what the scripts say.

use std::path::Path;

use midge_tests::corpus;

#[test]
fn the_table_of_differences_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../COMPAT.md");
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let scripts = corpus::read("").expect("the scripts can be read");
    assert!(
        written == corpus::differences(&scripts),
        "run `cargo run -p midge-tests --bin transcript -- compat > COMPAT.md`"
    );
}
