//! A directory of the operating system. The only file of this crate that touches files.
#![expect(clippy::disallowed_methods, reason = "this is the one place")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::Disk;

/// A directory, held by one process at a time.
///
/// The directory is created if it is missing, its parent isn't. A lock on the file `LOCK` in it keeps a second daemon,
/// and `midge store`, out for as long as this value lives; the kernel drops the lock with the process.
#[derive(Debug)]
pub struct OsDisk {
    directory: OwnedFd,
    path: PathBuf,
    read_only: bool,
    _lock: Option<OwnedFd>,
}

impl OsDisk {
    /// Opens the directory for a daemon.
    ///
    /// # Errors
    /// `WouldBlock` if another process has it; else those of the system.
    pub fn open(path: &Path) -> io::Result<Self> {
        match rustix::fs::mkdir(path, Mode::from_raw_mode(0o750)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let mut disk = Self::directory(path, false)?;
        let lock = rustix::fs::openat(
            &disk.directory,
            "LOCK",
            OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o640),
        )?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        disk._lock = Some(lock);
        Ok(disk)
    }

    /// Opens the directory to look only: nothing in it changes, and every write fails. Takes the lock if it is there.
    ///
    /// # Errors
    /// `WouldBlock` if a daemon has it; else those of the system.
    pub fn open_read_only(path: &Path) -> io::Result<Self> {
        let mut disk = Self::directory(path, true)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(&disk.directory, "LOCK", flags, Mode::empty()) {
            Ok(lock) => {
                rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
                disk._lock = Some(lock);
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(disk)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn directory(path: &Path, read_only: bool) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Self { directory, path: path.to_owned(), read_only, _lock: None })
    }
}

impl Disk for OsDisk {
    type File = OwnedFd;

    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            if matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown)
                && let Ok(name) = entry.file_name().to_str()
                && name != "LOCK"
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn open(&mut self, name: &str, create: bool) -> io::Result<OwnedFd> {
        let mut flags = OFlags::CLOEXEC | OFlags::NOFOLLOW;
        flags |= if self.read_only { OFlags::RDONLY } else { OFlags::RDWR };
        if create && !self.read_only {
            flags |= OFlags::CREATE;
        }
        Ok(rustix::fs::openat(&self.directory, name, flags, Mode::from_raw_mode(0o640))?)
    }

    fn size(&self, file: &OwnedFd) -> io::Result<u64> {
        Ok(rustix::fs::fstat(file)?.st_size.unsigned_abs())
    }

    fn read_at(&self, file: &OwnedFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *buffer, offset))?)
    }

    fn read_medium(&self, file: &OwnedFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        // Clean pages leave the cache, so what is read next comes from the medium.
        let length = std::num::NonZeroU64::new(buffer.len() as u64);
        let _ = rustix::fs::fadvise(file.as_fd(), offset, length, Advice::DontNeed);
        let read = self.read_at(file, buffer, offset);
        let _ = rustix::fs::fadvise(file.as_fd(), offset, length, Advice::DontNeed);
        read
    }

    fn write_at(&mut self, file: &OwnedFd, bytes: &[u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::pwrite(file, bytes, offset))?)
    }

    fn sync(&mut self, file: &OwnedFd) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(file)?)
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.directory)?)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.directory, name, AtFlags::empty())?)
    }

    fn make_dir(&mut self, name: &str) -> io::Result<()> {
        rustix::fs::mkdirat(&self.directory, name, Mode::from_raw_mode(0o750))?;
        self.sync_dir()
    }

    fn replace(&mut self, name: &str, with: &str, directory: &str) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let aside = rustix::fs::openat(&self.directory, directory, flags, Mode::empty())?;
        match rustix::fs::linkat(&self.directory, name, &aside, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {
                rustix::fs::renameat(&self.directory, name, &aside, name)?;
            }
            Err(error) => return Err(error.into()),
        }
        rustix::fs::fsync(&aside)?;
        rustix::fs::renameat(&self.directory, with, &self.directory, name)?;
        self.sync_dir()
    }
}
