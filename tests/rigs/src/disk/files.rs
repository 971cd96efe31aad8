//! Disks as files: a file system of FUSE whose files are [`Disk`]s. The kernel's loop driver makes block devices of
//! them, and turns the flushes of a file system on such a device into calls of `fsync` on the file.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, WriteFlags,
};

use super::Disk;

/// The mounted file system. It is unmounted when this is dropped.
pub struct Files {
    session: Option<BackgroundSession>,
    at: tempfile::TempDir,
    disks: Arc<Mutex<HashMap<u64, Arc<Disk>>>>,
    next: AtomicU64,
}

impl Files {
    /// Mounts an empty one.
    pub fn mount() -> io::Result<Self> {
        let at = tempfile::Builder::new().prefix("rigs-disks.").tempdir()?;
        let disks = Arc::new(Mutex::new(HashMap::new()));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("rigs".into())];
        let session = fuser::spawn_mount(Served { disks: Arc::clone(&disks) }, at.path(), &config)?;
        Ok(Self { session: Some(session), at, disks, next: AtomicU64::new(2) })
    }

    /// Shows a disk as a file with a name that no other disk had.
    pub fn show(&self, disk: &Arc<Disk>) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.disks.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::clone(disk));
        self.at.path().join(number.to_string())
    }

    /// Takes a disk away, and its memory.
    pub fn hide(&self, path: &Path) {
        if let Some(number) = path.file_name().and_then(number_of) {
            self.disks.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.session.take().map(BackgroundSession::umount_and_join) {
            eprintln!("rigs: {} stays mounted: {error}", self.at.path().display());
        }
    }
}

struct Served {
    disks: Arc<Mutex<HashMap<u64, Arc<Disk>>>>,
}

impl Served {
    fn disk(&self, ino: INodeNo) -> Option<Arc<Disk>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner).get(&u64::from(ino)).cloned()
    }

    fn attributes(&self, ino: INodeNo) -> Option<FileAttr> {
        let (kind, size) = match self.disk(ino) {
            _ if ino == INodeNo::ROOT => (FileType::Directory, 0),
            Some(disk) => (FileType::RegularFile, disk.size),
            None => return None,
        };
        Some(FileAttr {
            ino,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

const KEPT: Duration = Duration::ZERO;

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match number_of(name).and_then(|number| self.attributes(INodeNo(number))) {
            Some(attributes) => reply.entry(&KEPT, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(ino) {
            Some(attributes) => reply.attr(&KEPT, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Nothing is cached below the device: what is written is here at once.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(disk) = self.disk(ino) else { return reply.error(Errno::EIO) };
        let mut bytes = vec![0; u64::from(size).min(disk.size.saturating_sub(offset)) as usize];
        disk.read(offset, &mut bytes);
        reply.data(&bytes);
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some(disk) = self.disk(ino) else { return reply.error(Errno::EIO) };
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > disk.size) {
            return reply.error(Errno::EIO);
        }
        match disk.write(offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let Some(disk) = self.disk(ino) else { return reply.error(Errno::EIO) };
        match disk.flush() {
            Ok(()) => reply.ok(),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok(); // of a descriptor that is closed, which says nothing about the disk
    }
}

fn number_of(name: &OsStr) -> Option<u64> {
    name.to_str()?.parse().ok()
}
