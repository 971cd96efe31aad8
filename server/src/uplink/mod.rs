//! Hubs that this server hangs below, as a leaf node: a task for each, which connects, and connects again.
//!
//! ```text
//!   address ── connect ── INFO ── TLS ──> a connection as any other (net/conn.rs) ── ends ──┐
//!      ▲                                                                                     │
//!      └───────────────────── a wait that grows with each failure ◄──────────────────────────┘
//! ```
//!
//! What is said to a hub is `midge-leaf`'s to know, and what crosses the broker's. Encrypted links run over a socket pair:
//! one end is the connection, at the other a task encrypts.

mod dial;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use midge_broker::{Parting, Uplink};
use midge_config::{LeafNodes, Options, Remote};
use midge_leaf::{Credentials, Dialler, HubUrl, Identity, Key};
use midge_tls::ClientTls;
use smol_str::SmolStr;
use tokio::sync::watch;

use crate::clock::entropy;
use crate::hub::Hub;
use crate::workers::{Seat, Workers};

/// The tasks that look after the hubs.
pub(crate) struct Uplinks {
    hub: Arc<Hub>,
    workers: Workers,
    running: Vec<Running>,
}

struct Running {
    plan: Plan,
    /// The task ends when this is dropped.
    _leave: watch::Sender<()>,
}

/// How a hub is reached: all that the task knows of the configuration.
#[derive(Clone, PartialEq)]
struct Plan {
    remote: Remote,
    reconnect: Duration,
    dial_timeout: Duration,
    domain: Option<String>,
    jetstream: bool,
}

impl Uplinks {
    /// Connects to all hubs of the configuration, from now on. An error is a line for the operator.
    pub(crate) fn start(hub: &Arc<Hub>, workers: &Workers, options: &Options) -> Result<Self, String> {
        let mut uplinks = Self { hub: Arc::clone(hub), workers: workers.clone(), running: Vec::new() };
        if let Some(problem) = problems(options).into_iter().next() {
            return Err(problem);
        }
        uplinks.follow(options);
        Ok(uplinks)
    }

    /// Leaves the hubs that the configuration doesn't name any more, and connects to those that it names newly.
    pub(crate) fn follow(&mut self, options: &Options) {
        let plans = plans(options);
        self.running.retain(|running| plans.contains(&running.plan));
        for plan in plans {
            if self.running.iter().any(|running| running.plan == plan) {
                continue;
            }
            let (leave, left) = watch::channel(());
            let (hub, task) = (Arc::clone(&self.hub), plan.clone());
            self.workers.spawn(move |seat| run(task, hub, seat, left));
            self.running.push(Running { plan, _leave: leave });
        }
    }

    /// Leaves all hubs, at the end of the daemon.
    pub(crate) fn leave(&mut self) {
        self.running.clear();
    }
}

/// What is wrong with the hubs of a configuration, a line each.
pub(crate) fn problems(options: &Options) -> Vec<String> {
    let mut found = Vec::new();
    for plan in plans(options) {
        let remote = &plan.remote;
        if remote.urls.is_empty() {
            found.push("a leafnode remote has no url".to_owned());
        }
        for url in &remote.urls {
            if let Err(error) = HubUrl::parse(url.expose()) {
                found.push(format!("the url of a leafnode remote is no good: {error}"));
            }
        }
        if let Some(tls) = &remote.tls
            && let Err(error) = ClientTls::load(Some(tls))
        {
            found.push(format!("leafnode remote: {error}"));
        }
    }
    found
}

fn plans(options: &Options) -> Vec<Plan> {
    let plan = |leafnodes: &LeafNodes, remote: &Remote| Plan {
        remote: remote.clone(),
        reconnect: leafnodes.reconnect,
        dial_timeout: remote.dial_timeout.unwrap_or(leafnodes.dial_timeout),
        domain: options.jetstream.domain.clone(),
        jetstream: options.jetstream.enabled,
    };
    let leafnodes = options.leafnodes.iter();
    leafnodes
        .flat_map(|leafnodes| leafnodes.remotes.iter().map(move |remote| plan(leafnodes, remote)))
        .filter(|plan| !plan.remote.disabled)
        .collect()
}

/// Looks after one hub until it is to be left.
async fn run(plan: Plan, hub: Arc<Hub>, seat: Seat, mut left: watch::Receiver<()>) {
    let random = (!plan.remote.no_randomize).then(|| u32::from_le_bytes(entropy()));
    let urls = plan.remote.urls.iter().filter_map(|url| HubUrl::parse(url.expose()).ok()).collect();
    let mut dialler = Dialler::new(urls, plan.reconnect, random);
    let mut tls = None;
    let mut said = String::new();
    while let Some(url) = dialler.pick() {
        let attempt = Box::pin(dial::attempt(&plan, &url, &hub, &mut tls, &seat, left.clone())).await;
        let mut wait = None;
        match attempt {
            Ok(Parting { was_up, wait: longer, urls }) => {
                if was_up {
                    dialler.succeeded();
                    said.clear();
                }
                if !plan.remote.ignore_discovered_servers {
                    dialler.learn(&urls, &url);
                }
                wait = longer;
            }
            Err(error) => {
                let (place, number) = (url.place(), dialler.failures() + 1);
                let text = format!(
                    "Error trying to connect as leafnode to remote server {place:?} (attempt {number}): {error}"
                );
                // Once, however often it is tried.
                if said == error {
                    hub.log.debug(text);
                } else {
                    hub.log.error(text);
                    said = error;
                }
            }
        }
        let again = dialler.failed(u32::from_le_bytes(entropy()));
        let wait = wait.map_or(again, |wait| wait.max(again));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = left.changed() => return,
        }
        if left.has_changed().is_err() {
            return;
        }
    }
}

/// What the broker is told of a hub.
fn uplink(plan: &Plan, url: &HubUrl, hub: &Hub) -> Result<Uplink, String> {
    let remote = &plan.remote;
    let key = match (&remote.credentials, &remote.nkey_seed) {
        (Some(path), _) => {
            let path = at_home(path);
            let text =
                std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Some(Key::from_file(&text).map_err(|error| error.to_string())?)
        }
        (None, Some(seed)) => {
            Some(Key::from_seed(seed.expose()).map_err(|_| "Remote nkey has malformed seed".to_owned())?)
        }
        (None, None) => None,
    };
    let (info, headers) = hub.look(|broker, _| (broker.settings().info.clone(), broker.settings().headers));
    Ok(Uplink {
        account: SmolStr::from(&remote.account),
        identity: Identity {
            id: info.id,
            name: info.name,
            version: info.version,
            domain: plan.domain.clone().unwrap_or_default(),
            jetstream: plan.jetstream,
            headers,
        },
        credentials: Credentials { key, user: url.user.clone(), password: url.password.clone() },
        deny_imports: remote.deny_imports.clone(),
        deny_exports: remote.deny_exports.clone(),
    })
}

/// A path that begins with `~/` is in the home directory.
fn at_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_owned(),
    }
}
