//! A control group with little memory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// Gone when it is dropped, once nothing runs in it.
pub(crate) struct Cage {
    group: PathBuf,
    version: Version,
    script: TempDir,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Cage {
    /// Makes one where this process may.
    pub(crate) fn new(bytes: u64) -> Result<Self, String> {
        let name =
            format!("midge-adversary-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut why = Vec::new();
        for (version, root) in places() {
            let group = root.join(&name);
            match make(version, &group, bytes) {
                Ok(()) => {
                    let script = tempfile::tempdir().map_err(|error| error.to_string())?;
                    return Ok(Self { group, version, script });
                }
                Err(error) => {
                    let _ = fs::remove_dir(&group);
                    why.push(format!("{}: {error}", group.display()));
                }
            }
        }
        Err(if why.is_empty() { "no memory controller is mounted".to_owned() } else { why.join("; ") })
    }

    /// A program that is `program`, in here.
    pub(crate) fn wrap(&self, program: &Path) -> PathBuf {
        let path = self.script.path().join("midged");
        let procs = self.group.join("cgroup.procs");
        let text =
            format!("#!/bin/sh\necho $$ >'{}' && exec '{}' \"$@\"\n", procs.display(), program.display());
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        path
    }

    /// How often the system ended something in here for want of memory.
    pub(crate) fn kills(&self) -> u64 {
        let file = if self.version == Version::Two { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.group.join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        count.unwrap_or(0)
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.group);
    }
}

/// Where groups for memory may be made.
fn places() -> Vec<(Version, PathBuf)> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut places = Vec::new();
    for line in mounts.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let [_, path, kind, options, ..] = fields[..] else { continue };
        let path = PathBuf::from(path);
        if kind == "cgroup" && options.split(',').any(|option| option == "memory") {
            places.push((Version::One, path));
        } else if kind == "cgroup2" {
            places.push((Version::Two, path));
        }
    }
    places
}

fn make(version: Version, group: &Path, bytes: u64) -> std::io::Result<()> {
    fs::create_dir(group)?;
    match version {
        Version::One => {
            fs::write(group.join("memory.limit_in_bytes"), bytes.to_string())?;
            // Without accounting of swap there is no such file.
            let _ = fs::write(group.join("memory.memsw.limit_in_bytes"), bytes.to_string());
            fs::OpenOptions::new().write(true).open(group.join("cgroup.procs")).map(drop)
        }
        Version::Two => {
            fs::write(group.join("memory.max"), bytes.to_string())?;
            let _ = fs::write(group.join("memory.swap.max"), "0");
            fs::OpenOptions::new().write(true).open(group.join("cgroup.procs")).map(drop)
        }
    }
}
