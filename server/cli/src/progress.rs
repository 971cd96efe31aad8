//! How far long work has come, on stderr if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for bytes. It is drawn on a terminal only.
pub(crate) fn bytes(len: u64, hidden: bool) -> ProgressBar {
    bar(len, hidden, "{bar:32} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left")
}

/// A bar for things that are counted.
pub(crate) fn items(len: u64, hidden: bool) -> ProgressBar {
    bar(len, hidden, "{bar:32} {human_pos}/{human_len}  {eta} left")
}

fn bar(len: u64, hidden: bool, template: &str) -> ProgressBar {
    match hidden {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(len).with_style(
            ProgressStyle::with_template(template).expect("the template is a constant and well-formed"),
        ),
    }
}
