//! A directory of the operating system. The only file of this crate that touches files.
#![expect(clippy::disallowed_methods, reason = "this is the one place")]

use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::Disk;
use super::handles::Handles;

/// A directory, held by one process at a time.
///
/// The directory is created if it is missing, its parent isn't. A lock on the file `LOCK` in it keeps a second daemon,
/// and `midge store`, out for as long as this value lives; the kernel drops the lock with the process.
///
/// Files are opened and closed as they are used, so that a large store doesn't need a descriptor for each of them.
#[derive(Debug)]
pub struct OsDisk {
    directory: OwnedFd,
    path: PathBuf,
    read_only: bool,
    handles: RefCell<Handles>,
    _lock: Option<OwnedFd>,
}

/// A file of an [`OsDisk`].
#[derive(Debug)]
pub struct OsFile(Box<str>);

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
        Ok(Self { directory, path: path.to_owned(), read_only, handles: RefCell::default(), _lock: None })
    }
}

impl OsDisk {
    fn open_file(&self, name: &str, create: bool) -> io::Result<OwnedFd> {
        let mut flags = OFlags::CLOEXEC | OFlags::NOFOLLOW;
        flags |= if self.read_only { OFlags::RDONLY } else { OFlags::RDWR };
        if create {
            flags |= OFlags::CREATE;
        }
        Ok(rustix::fs::openat(&self.directory, name, flags, Mode::from_raw_mode(0o640))?)
    }

    fn with<R>(&self, file: &OsFile, what: impl FnOnce(&OwnedFd) -> io::Result<R>) -> io::Result<R> {
        what(self.handles.borrow_mut().get(&file.0, || self.open_file(&file.0, false))?)
    }
}

impl Disk for OsDisk {
    type File = OsFile;

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

    fn open(&mut self, name: &str, create: bool) -> io::Result<OsFile> {
        let open = || self.open_file(name, create && !self.read_only);
        self.handles.borrow_mut().get(name, open)?;
        Ok(OsFile(name.into()))
    }

    fn size(&self, file: &OsFile) -> io::Result<u64> {
        self.with(file, |file| Ok(rustix::fs::fstat(file)?.st_size.unsigned_abs()))
    }

    fn read_at(&self, file: &OsFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(file, |file| {
            Ok(rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *buffer, offset))?)
        })
    }

    fn read_medium(&self, file: &OsFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        // Clean pages leave the cache, so what is read next comes from the medium.
        let bytes = buffer.len() as u64;
        self.start_writing(file, offset, bytes);
        let read = self.read_at(file, buffer, offset);
        self.start_writing(file, offset, bytes);
        read
    }

    fn read_at_once(&self, file: &OsFile, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        // Opening may wait, too.
        let handles = self.handles.borrow();
        let Some(file) = handles.opened(&file.0) else { return Ok(None) };
        match rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(Some(read)),
            // Or the kernel, or the file system, doesn't know how.
            Err(Errno::AGAIN | Errno::INTR | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&mut self, file: &OsFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let written = self
            .with(file, |file| Ok(rustix::io::retry_on_intr(|| rustix::io::pwrite(file, bytes, offset))?));
        self.handles.borrow_mut().set_dirty(&file.0, true);
        written
    }

    fn start_writing(&self, file: &OsFile, offset: u64, bytes: u64) {
        // What is dirty is on its way then, and what isn't leaves the cache. It promises nothing, so it can't fail.
        let _ = self.with(file, |file| {
            let bytes = std::num::NonZeroU64::new(bytes);
            Ok(rustix::fs::fadvise(file.as_fd(), offset, bytes, Advice::DontNeed)?)
        });
    }

    fn sync(&mut self, file: &OsFile) -> io::Result<()> {
        self.with(file, |file| Ok(rustix::fs::fdatasync(file)?))?;
        self.handles.borrow_mut().set_dirty(&file.0, false);
        Ok(())
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.directory)?)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.handles.borrow_mut().forget(name);
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
        for name in [name, with] {
            self.handles.borrow_mut().forget(name);
        }
        self.sync_dir()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_open_is_not_read_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = OsDisk::open(directory.path()).unwrap();
        let file = disk.open("a", true).unwrap();
        disk.write_at(&file, b"0123456789", 0).unwrap();
        let mut buffer = [0; 4];
        // Some file systems can't tell whether it would wait.
        if let Some(read) = disk.read_at_once(&file, &mut buffer, 3).unwrap() {
            assert_eq!((read, &buffer), (4, b"3456"));
        }
        disk.handles.borrow_mut().forget("a");
        assert_eq!(disk.read_at_once(&file, &mut buffer, 3).unwrap(), None);
    }
}
