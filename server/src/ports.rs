//! Files and lines that tell other programs where the daemon listens.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The addresses that are listened on, as URLs. Field names are nats-server's ports file's.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Ports {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) nats: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) monitoring: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) websocket: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) leafnodes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mqtt: Vec<String>,
}

/// URLs of a listener: every local address where it listens on all of them.
pub(crate) fn urls(scheme: &str, host: &str, port: u16) -> Vec<String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let hosts = match bare.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => local_addresses(ip.is_ipv4()),
        _ => vec![bare.to_owned()],
    };
    hosts.into_iter().map(|host| format!("{scheme}://{}", join(&host, port))).collect()
}

/// `host:port`, with brackets around an IPv6 address.
fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// This machine's own addresses, as far as the kernel's tables tell without asking anybody.
fn local_addresses(v4_only: bool) -> Vec<String> {
    let mut found = vec!["127.0.0.1".to_owned()];
    // Local addresses are the leaves of the trie that say "host LOCAL".
    let trie = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut last = "";
    for line in trie.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim();
        } else if line.contains("host LOCAL") && !found.iter().any(|f| f == last) && !last.starts_with("127.")
        {
            found.push(last.to_owned());
        }
    }
    if !v4_only {
        found.push("::1".to_owned());
    }
    found
}

/// The ports files: written when the listeners are open, removed when the daemon ends.
pub(crate) struct PortsFiles(Vec<PathBuf>);

impl PortsFiles {
    /// Writes `<program>_<pid>.ports` into `dir`, and the same as `nats-server_<pid>.ports`: whoever spawns a
    /// `nats-server` that is a script in front of the daemon looks for that one.
    pub(crate) fn write(dir: &Path, ports: &Ports) -> io::Result<Self> {
        let text = serde_json::to_string(ports).unwrap_or_default();
        let program = called_as().unwrap_or_else(|| "midged".to_owned());
        let mut written = Self(Vec::new());
        for name in BTreeSet::from([program.as_str(), "nats-server"]) {
            let path = dir.join(format!("{name}_{}.ports", std::process::id()));
            write_whole(&path, &text)?;
            written.0.push(path);
        }
        Ok(written)
    }
}

/// The name that the daemon was called by: whoever spawns it as `nats-server` looks for a file of that name.
pub(crate) fn called_as() -> Option<String> {
    let name = std::env::args_os().next()?;
    Some(Path::new(&name).file_name()?.to_string_lossy().into_owned())
}

impl Drop for PortsFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// The pid file: removed when the daemon ends.
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    /// Writes the process id to `path`.
    pub(crate) fn write(path: &Path) -> io::Result<Self> {
        fs::write(path, std::process::id().to_string())?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Writes a file so that nobody reads half of it.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}
