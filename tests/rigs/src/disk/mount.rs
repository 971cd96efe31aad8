//! File systems on disks: made, mounted through a loop device, and always unmounted again.

use std::io::{self, Error};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::Disk;
use super::files::Files;

/// A kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Debian's and Raspberry Pi OS's.
    Ext4,
    /// Another with its own ideas of order.
    Xfs,
}

impl Kind {
    /// The smallest disk it is made on here.
    pub fn size(self) -> u64 {
        match self {
            Self::Ext4 => 192 << 20,
            Self::Xfs => 320 << 20,
        }
    }

    /// True if it can be made on this machine.
    pub fn is_here(self) -> bool {
        let (tool, version) = match self {
            Self::Ext4 => ("mkfs.ext4", "-V"),
            Self::Xfs => ("mkfs.xfs", "-V"),
        };
        Command::new(tool).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    }

    /// Makes it on a disk.
    pub fn make(self, file: &Path) -> io::Result<()> {
        let mut command = match self {
            Self::Ext4 => {
                let mut command = Command::new("mkfs.ext4");
                command.args(["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"]);
                command
            }
            Self::Xfs => {
                let mut command = Command::new("mkfs.xfs");
                command.args(["-q", "-f", "-K"]);
                command
            }
        };
        run(command.arg(file))
    }
}

/// A mounted file system. It is unmounted when this is dropped.
pub struct Mounted<'a> {
    files: &'a Files,
    file: PathBuf,
    at: Option<tempfile::TempDir>,
}

impl<'a> Mounted<'a> {
    /// Mounts the file system on a disk.
    pub fn new(files: &'a Files, disk: &Arc<Disk>, kind: Kind) -> io::Result<Self> {
        let file = files.show(disk);
        Self::at(files, file, kind)
    }

    /// Makes a file system on a disk and mounts it.
    pub fn fresh(files: &'a Files, disk: &Arc<Disk>, kind: Kind) -> io::Result<Self> {
        let file = files.show(disk);
        kind.make(&file)?;
        Self::at(files, file, kind)
    }

    fn at(files: &'a Files, file: PathBuf, kind: Kind) -> io::Result<Self> {
        let at = tempfile::Builder::new().prefix("rigs-mount.").tempdir()?;
        let options = match kind {
            Kind::Ext4 => "loop,noatime",
            Kind::Xfs => "loop,noatime,nouuid",
        };
        run(Command::new("mount").args(["-o", options]).arg(&file).arg(at.path()))?;
        Ok(Self { files, file, at: Some(at) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.at.as_ref().map_or(Path::new(""), tempfile::TempDir::path)
    }

    /// Unmounts it, and says so if that fails.
    pub fn unmount(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(at) = self.at.take() else { return Ok(()) };
        // The loop device goes with it: mount set it up.
        let done = run(Command::new("umount").arg(at.path()));
        if done.is_err() {
            // Its files stay for whoever looks; nothing of it is used again, names are new each time.
            run(Command::new("umount").arg("--lazy").arg(at.path())).ok();
        }
        self.files.hide(&self.file);
        done
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("rigs: {error}");
        }
    }
}

/// A file system in memory of a fixed size, unmounted when this is dropped.
pub struct Small {
    at: Option<tempfile::TempDir>,
}

impl Small {
    /// Mounts one of so many bytes.
    pub fn new(bytes: u64) -> io::Result<Self> {
        let at = tempfile::Builder::new().prefix("rigs-small.").tempdir()?;
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "rigs"])
            .arg(at.path()))?;
        Ok(Self { at: Some(at) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.at.as_ref().map_or(Path::new(""), tempfile::TempDir::path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        if let Some(at) = self.at.take()
            && let Err(error) = run(Command::new("umount").arg(at.path()))
        {
            run(Command::new("umount").arg("--lazy").arg(at.path())).ok();
            eprintln!("rigs: {error}");
        }
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::other(format!("{command:?}: {}: {words}", output.status)))
}
