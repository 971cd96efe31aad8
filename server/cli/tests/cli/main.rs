//! Runs `midge` as operators do: as a process, against a server that is one too.
//!
//! The server is what `MIDGE_TEST_SERVER` names, else the `midged` beside the tested `midge`, else the
//! reference server of the workspace's tests. For streams see [`support::Server::with_streams`].

mod failures;
mod guide;
mod messages;
mod offline;
mod streams;
mod support;
