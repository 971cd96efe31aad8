//! A build without leaf nodes: a configuration that names hubs is refused.

use std::sync::Arc;

use midge_config::Options;

use crate::hub::Hub;
use crate::workers::Workers;

/// No hubs.
pub(crate) struct Uplinks {}

impl Uplinks {
    pub(crate) fn start(_: &Arc<Hub>, _: &Workers, options: &Options) -> Result<Self, String> {
        problems(options).pop().map_or(Ok(Self {}), Err)
    }

    #[expect(clippy::unused_self, reason = "as with hubs")]
    pub(crate) fn follow(&mut self, _: &Options) {}

    #[expect(clippy::unused_self, reason = "as with hubs")]
    pub(crate) fn leave(&mut self) {}
}

pub(crate) fn problems(options: &Options) -> Vec<String> {
    let named = options.leafnodes.as_ref().is_some_and(|leafnodes| !leafnodes.remotes.is_empty());
    named.then(|| "this build connects to no hubs".to_owned()).into_iter().collect()
}
