//! From what the operator wrote to what the broker is told.
//!
//! Between [`midge_config`], which acts on nothing, and [`midge_broker`], which knows no files: shared by whoever runs
//! a broker by a configuration, the daemon and the simulator of its tests.

mod crossings;
mod info;
mod settings;
mod trust;

pub use info::{NATS_VERSION, VERSION, connect_urls, server_info, tls_offer};
pub use settings::{problems, settings};
pub use trust::{preloaded, system_account, warnings};
