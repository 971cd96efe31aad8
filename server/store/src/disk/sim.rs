//! A disk in memory that behaves as badly as disks do, as a seed tells.
//!
//! # Fault model
//!
//! - **What was written is on the medium after a sync, and may be before.** At a crash ([`SimDisk::crash`]) every sector
//!   of 512 bytes that was written since the last sync of its file is there or not, independently of all others and of the
//!   order of the writes. So writes are lost, reordered and torn.
//! - **A page under write may come back as garbage**, all of it: bytes in it that had been synced are lost, too.
//!   [`SimDisk::page_bytes`] is its size.
//! - **Names**: a file that was made or removed is so after a crash only if the directory was synced, else perhaps.
//!   A file that grew may have kept its old length, or any between.
//! - **Sync fails once, and what was written since the last success is lost** for good, although reads still show it
//!   until the crash; a later sync returns `Ok` and changes nothing about that.
//! - **Calls fail** ([`SimDisk::fail_at`]): the n-th, or all from the n-th on, with EIO, ENOSPC, or by doing a part of what
//!   they were asked for; or the power goes at the n-th, and every later call fails until the crash.
//! - **The medium is full** at [`SimDisk::room`] bytes.
//! - **Pages can't be read** any more ([`SimDisk::make_unreadable`]).
//! - **Bits rot** ([`SimDisk::flip`], [`SimDisk::damage`]), **writes go astray** ([`SimDisk::misdirect_at`]).
//! - **Calls are slow**: each sync takes [`SimDisk::sync_takes`] on a clock that nobody waits for.
//! - **The disk lies** ([`SimDisk::ignore_syncs`], [`SimDisk::ignore_dir_syncs`]): no store survives that. It is here so
//!   that tests can show that they would notice a store that forgot to sync.
//!
//! Not modelled: a medium that loses what it had synced long ago without being asked, other than by rot.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Disk;

/// See the head of the file. Cloning is cheap: a clone is the same disk at the same moment.
#[derive(Clone, Debug)]
pub struct SimDisk {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    directories: BTreeSet<String>,
    /// Inodes, and pages of them.
    unreadable: BTreeSet<(usize, usize)>,
    random: u64,
    /// Calls so far that can fail.
    pub calls: u64,
    /// Which call fails, and how.
    pub fail_at: Option<(u64, Fault)>,
    /// Every call after the failing one fails, too.
    pub fail_forever: bool,
    /// The number of the call, if it is a write, whose bytes go elsewhere.
    pub misdirect_at: Option<u64>,
    /// What a page under write is.
    pub page_bytes: usize,
    /// Bytes that all files may have.
    pub room: u64,
    /// Syncs return at once and do nothing.
    pub ignore_syncs: bool,
    /// Syncs of the directory return at once and do nothing.
    pub ignore_dir_syncs: bool,
    /// How long a sync takes.
    pub sync_takes: Duration,
    /// How much time calls have taken.
    pub clock: Duration,
    /// Syncs of files that were done.
    pub syncs: u64,
    /// Bytes that were written.
    pub written: u64,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The medium failed.
    Eio,
    /// No space.
    Enospc,
    /// A part of it is done, and that is reported.
    Short,
    /// The power goes in the middle of it.
    PowerCut,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// What reads see.
    now: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// Since the last sync: where, and what.
    pending: Vec<(usize, Arc<[u8]>)>,
}

const SECTOR: usize = 512;

impl SimDisk {
    /// An empty disk. The seed decides whatever is left to chance.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            directories: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            random: seed,
            calls: 0,
            fail_at: None,
            fail_forever: false,
            misdirect_at: None,
            page_bytes: 4_096,
            room: u64::MAX,
            ignore_syncs: false,
            ignore_dir_syncs: false,
            sync_takes: Duration::ZERO,
            clock: Duration::ZERO,
            syncs: 0,
            written: 0,
        }
    }

    /// What a start finds after the power went now, for one of the ways in which it may have gone. Faults are off.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let mut disk = Self::new(seed ^ 0x5851_f42d_4c95_7f2d);
        disk.page_bytes = self.page_bytes;
        disk.random();
        let style = disk.random() % 8;
        for inode in &self.inodes {
            let kept = disk.survives(inode, style);
            disk.inodes.push(Inode { now: kept.clone(), durable: kept, pending: Vec::new() });
        }
        disk.directories = self.directories.clone();
        disk.unreadable = self.unreadable.clone();
        disk.names = self.durable_names.clone();
        let all: Vec<_> = self.names.keys().chain(self.durable_names.keys()).cloned().collect();
        for name in all {
            let (now, durable) = (self.names.get(&name), self.durable_names.get(&name));
            if now != durable && disk.random().is_multiple_of(2) {
                match now {
                    Some(inode) => disk.names.insert(name, *inode),
                    None => disk.names.remove(&name),
                };
            }
        }
        disk.durable_names = disk.names.clone();
        disk
    }

    fn survives(&mut self, inode: &Inode, style: u64) -> Arc<Vec<u8>> {
        // Nothing that wasn't synced, or all of it, are common and cheap.
        match style {
            _ if inode.pending.is_empty() => return inode.durable.clone(),
            0 => return inode.durable.clone(),
            1 => return inode.now.clone(),
            _ => {}
        }
        let mut bytes = inode.durable.to_vec();
        let mut garbage = Vec::new();
        for (offset, written) in &inode.pending {
            // Whole writes, sectors, or sectors up to some point.
            let whole = self.random().is_multiple_of(2);
            let sectors = (offset + written.len()).div_ceil(SECTOR) - offset / SECTOR;
            let until = self.random() as usize % (sectors + 1);
            for sector in 0..sectors {
                let keep = match style {
                    2 => whole,
                    3 | 4 => self.random().is_multiple_of(2),
                    5 => !self.random().is_multiple_of(16),
                    _ => sector < until,
                };
                let start = (offset / SECTOR + sector) * SECTOR;
                let (from, to) = (start.max(*offset), (start + SECTOR).min(offset + written.len()));
                if keep {
                    if bytes.len() < to {
                        bytes.resize(to, 0);
                    }
                    bytes[from..to].copy_from_slice(&written[from - offset..to - offset]);
                } else if style >= 4 && self.random().is_multiple_of(4) {
                    garbage.push(from / self.page_bytes);
                }
            }
        }
        for page in garbage {
            let start = page * self.page_bytes;
            let end = (start + self.page_bytes).min(bytes.len());
            for byte in bytes.get_mut(start..end).unwrap_or_default() {
                *byte = self.random() as u8;
            }
        }
        Arc::new(bytes)
    }

    /// The files and their sizes.
    pub fn files(&self) -> impl Iterator<Item = (&str, usize)> {
        self.names.iter().map(|(name, inode)| (name.as_str(), self.inodes[*inode].now.len()))
    }

    /// Flips one bit, on the medium and for every reader. `false` if the file isn't that long.
    pub fn flip(&mut self, name: &str, bit: usize) -> bool {
        self.damage(name, bit / 8, |byte| byte ^ 1 << (bit % 8))
    }

    /// Changes one byte, on the medium and for every reader. `false` if the file isn't that long.
    pub fn damage(&mut self, name: &str, at: usize, change: impl Fn(u8) -> u8) -> bool {
        let Some(inode) = self.names.get(name) else { return false };
        let inode = &mut self.inodes[*inode];
        let Some(byte) = inode.now.get(at).copied() else { return false };
        Arc::make_mut(&mut inode.now)[at] = change(byte);
        if inode.durable.len() > at {
            let byte = inode.durable[at];
            Arc::make_mut(&mut inode.durable)[at] = change(byte);
        }
        true
    }

    /// Reading the page of the file fails from now on. `false` if the file isn't that long.
    pub fn make_unreadable(&mut self, name: &str, page: usize) -> bool {
        let Some(inode) = self.names.get(name) else { return false };
        self.unreadable.insert((*inode, page));
        page * self.page_bytes < self.inodes[*inode].now.len()
    }

    /// A file's bytes as readers see them.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.names.get(name).map(|inode| self.inodes[*inode].now.as_slice())
    }

    /// Puts a file there, durably.
    pub fn put(&mut self, name: &str, bytes: Vec<u8>) {
        let bytes = Arc::new(bytes);
        self.inodes.push(Inode { now: bytes.clone(), durable: bytes, pending: Vec::new() });
        self.names.insert(name.into(), self.inodes.len() - 1);
        self.durable_names.insert(name.into(), self.inodes.len() - 1);
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[*inode].now.len() as u64).sum()
    }

    /// Counts a call, and says how it fails.
    fn call(&mut self) -> Result<Option<Fault>, io::Error> {
        self.calls += 1;
        let Some((at, fault)) = self.fail_at else { return Ok(None) };
        if self.calls > at && fault == Fault::PowerCut {
            return Err(eio());
        }
        if self.calls == at || (self.calls > at && self.fail_forever) {
            return match fault {
                Fault::Eio => Err(eio()),
                Fault::Enospc => Err(enospc()),
                Fault::Short | Fault::PowerCut => Ok(Some(fault)),
            };
        }
        Ok(None)
    }

    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Disk for SimDisk {
    /// An inode.
    type File = usize;

    fn list(&mut self) -> io::Result<Vec<String>> {
        match self.call()? {
            Some(Fault::PowerCut) => Err(eio()),
            _ => Ok(self.names.keys().filter(|name| !name.contains('/')).cloned().collect()),
        }
    }

    fn open(&mut self, name: &str, create: bool) -> io::Result<usize> {
        let fault = self.call()?;
        let known = self.names.get(name).copied();
        if fault == Some(Fault::PowerCut) && (known.is_some() || !create) {
            return Err(eio());
        }
        let inode = match known {
            Some(inode) => inode,
            None if create => {
                self.inodes.push(Inode::default());
                self.names.insert(name.into(), self.inodes.len() - 1);
                self.inodes.len() - 1
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        if fault == Some(Fault::PowerCut) { Err(eio()) } else { Ok(inode) }
    }

    fn size(&self, file: &usize) -> io::Result<u64> {
        Ok(self.inodes[*file].now.len() as u64)
    }

    fn read_at(&self, file: &usize, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Some((at, Fault::PowerCut)) = self.fail_at
            && self.calls >= at
        {
            return Err(eio());
        }
        let (from, until) = (offset as usize, offset as usize + buffer.len());
        let pages = from / self.page_bytes..until.div_ceil(self.page_bytes);
        if !self.unreadable.is_empty()
            && pages.into_iter().any(|page| self.unreadable.contains(&(*file, page)))
        {
            return Err(eio());
        }
        let bytes = usize::try_from(offset).ok().and_then(|offset| self.inodes[*file].now.get(offset..));
        let bytes = bytes.unwrap_or_default();
        let mut length = bytes.len().min(buffer.len());
        if self.fail_forever && matches!(self.fail_at, Some((_, Fault::Short))) {
            length = length.min(1 + length / 2);
        }
        buffer[..length].copy_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn read_at_once(&self, file: &usize, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(file, buffer, offset).map(Some)
    }

    fn write_at(&mut self, file: &usize, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let fault = self.call()?;
        let mut bytes = bytes;
        if matches!(fault, Some(Fault::Short | Fault::PowerCut)) {
            bytes = &bytes[..bytes.len() / 2];
        }
        let mut start = usize::try_from(offset).map_err(|_| enospc())?;
        if self.misdirect_at == Some(self.calls) {
            start = start.saturating_sub(self.page_bytes);
        }
        let end = start + bytes.len();
        let grows = end.saturating_sub(self.inodes[*file].now.len()) as u64;
        if grows > 0 {
            let free = self.room.saturating_sub(self.used());
            if grows > free {
                // As much as there is room for.
                bytes = &bytes[..bytes.len().saturating_sub((grows - free) as usize)];
                if bytes.is_empty() {
                    return Err(enospc());
                }
            }
        }
        let inode = &mut self.inodes[*file];
        let now = Arc::make_mut(&mut inode.now);
        if now.len() < start + bytes.len() {
            now.resize(start + bytes.len(), 0);
        }
        now[start..start + bytes.len()].copy_from_slice(bytes);
        inode.pending.push((start, bytes.into()));
        self.written += bytes.len() as u64;
        if fault == Some(Fault::PowerCut) { Err(eio()) } else { Ok(bytes.len()) }
    }

    fn sync(&mut self, file: &usize) -> io::Result<()> {
        let fault = self.call();
        self.clock += self.sync_takes;
        if self.ignore_syncs && fault.is_ok() {
            return Ok(());
        }
        let inode = &mut self.inodes[*file];
        match fault {
            Ok(Some(Fault::PowerCut)) => return Err(eio()),
            Ok(_) => {}
            Err(error) => {
                // The system forgets what it couldn't write; readers still see it.
                inode.pending.clear();
                return Err(error);
            }
        }
        let durable = Arc::make_mut(&mut inode.durable);
        for (offset, bytes) in inode.pending.drain(..) {
            if durable.len() < offset + bytes.len() {
                durable.resize(offset + bytes.len(), 0);
            }
            durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        self.syncs += 1;
        Ok(())
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        match self.call()? {
            Some(Fault::PowerCut) => return Err(eio()),
            _ if self.ignore_dir_syncs => return Ok(()),
            _ => {}
        }
        self.durable_names = self.names.clone();
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let fault = self.call()?;
        self.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        if fault == Some(Fault::PowerCut) { Err(eio()) } else { Ok(()) }
    }

    fn make_dir(&mut self, name: &str) -> io::Result<()> {
        if self.call()? == Some(Fault::PowerCut) {
            return Err(eio());
        }
        if !self.directories.insert(name.to_owned()) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(())
    }

    fn replace(&mut self, name: &str, with: &str, directory: &str) -> io::Result<()> {
        if self.call()? == Some(Fault::PowerCut) {
            return Err(eio());
        }
        let (old, new) = (self.names.get(name).copied(), self.names.remove(with));
        let (Some(old), Some(new)) = (old, new) else { return Err(io::ErrorKind::NotFound.into()) };
        self.names.insert(format!("{directory}/{name}"), old);
        self.names.insert(name.to_owned(), new);
        self.durable_names = self.names.clone();
        Ok(())
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn enospc() -> io::Error {
    io::Error::from_raw_os_error(28)
}
