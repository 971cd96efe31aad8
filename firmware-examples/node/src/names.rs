//! What a node and its subjects are called.

use midge_client::Subject;

/// The names of one node.
#[derive(Clone, Copy)]
pub struct Names {
    /// Its own: the consumer of its commands, and how its `Nats-Msg-Id`s begin.
    pub name: &'static str,
    /// Where it says hello.
    pub hello: Subject<'static>,
    /// Where its readings go.
    pub readings: Subject<'static>,
    /// Where it answers.
    pub status: &'static str,
    /// What it is to be, in the bucket `shadow`.
    pub desired: &'static str,
    /// What it is, there too.
    pub reported: &'static str,
    /// Where changes of the first come; a subject of its own.
    pub changes: &'static str,
    /// What the headers of its hello say.
    pub board: &'static str,
}

/// The names that belong to a name: `names!("attic", "qemu-cortex-m3")`.
#[macro_export]
macro_rules! names {
    ($name:literal, $board:literal) => {
        $crate::Names {
            name: $name,
            hello: $crate::__subject!(concat!("plant.", $name, ".hello")),
            readings: $crate::__subject!(concat!("plant.", $name, ".reading")),
            status: concat!("plant.", $name, ".status"),
            desired: concat!($name, ".desired"),
            reported: concat!($name, ".reported"),
            changes: concat!("plant.", $name, ".changes"),
            board: $board,
        }
    };
}
