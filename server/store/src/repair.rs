//! Repair: a store that is damaged becomes one that isn't, and that knows what it lost.
//!
//! Nothing is destroyed that can be read: of each file with damage a copy is made, which takes its place, and the file itself
//! is kept in a directory of its own, `aside-1`, `aside-2`, …. What can't be read is zeros in the copy. Then the store is
//! opened as always, which finds the damage once more, what is lost is written down, and what is alive in the copies is
//! moved to new segments.
//!
//! At any moment each name is that of the file or of its copy, so a repair that is interrupted is done again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use crate::disk::{Disk, read_full, write_full};
use crate::error::{Damage, Damaged, Error, ReadError};
use crate::op::{self, Op};
use crate::record;
use crate::recover::candidates;
use crate::segment::file_name;
use crate::store::{Options, Store, StreamId, weight};
use crate::stream::{Lost, Place};

/// What [`repair`] found, and did or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// What wasn't as it was written, at most 1,000 of it.
    pub damages: Vec<Damage>,
    /// The files that are kept aside: those with damage, and the one in which the log ends in a frame that isn't whole.
    pub aside: Vec<String>,
    /// Where they are kept, below the store's directory; `None` if nothing was changed.
    pub directory: Option<String>,
    /// Messages that are lost: stream, first and last sequence. Known to be from before, or found now.
    pub lost: Vec<(StreamId, u64, u64)>,
    /// Messages that are as they were written.
    pub messages: u64,
    /// What is still damaged, once it was repaired: what costs no message, in a segment that there is no room to rewrite.
    pub left: Vec<Damage>,
}

/// Makes a store right that no process has, or only says what it would do. `seed` is [`Options::seed`]; the store keeps the
/// sizes that it has. Needs room for a copy of each damaged file and for what is moved.
///
/// # Errors
/// [`NotAStore`](Error::NotAStore) if there is no store to be made of the files: nothing was changed. [`Full`](Error::Full)
/// and [`Disk`](Error::Disk): try again once there is room, or with another disk.
pub fn repair<D: Disk>(disk: D, seed: u64, dry_run: bool) -> Result<Repaired, Error> {
    let (survey, mut disk) = Survey::of(disk)?;
    let Survey { damages, aside, strange, lost, messages, options } = survey;
    let mut repaired = Repaired { damages, aside, lost, messages, ..Repaired::default() };
    if dry_run || repaired.aside.is_empty() {
        return Ok(repaired);
    }
    let directory = (1_u32..)
        .map(|number| format!("aside-{number}"))
        .find_map(|name| match disk.make_dir(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
            made => Some(made.map(|()| name)),
        })
        .ok_or(Error::Full)??;
    for name in &repaired.aside {
        replace_by_copy(&mut disk, name, &directory, strange.contains(name))?;
    }
    let (mut store, _) = Store::open(disk, Options { seed, read_only: false, ..options })?;
    store.write_losses_down()?;
    store.rewrite(&repaired.aside)?;
    let (after, _) = Survey::of(store.close()?)?;
    repaired.directory = Some(directory);
    repaired.left = after.damages;
    repaired.lost = after.lost;
    repaired.messages = after.messages;
    Ok(repaired)
}

/// Of each file, a piece at a time.
const COPY_BYTES: usize = 256 << 10;

/// With `blank`, the copy is one of its length only.
fn replace_by_copy<D: Disk>(disk: &mut D, name: &str, directory: &str, blank: bool) -> io::Result<()> {
    let copy_name = format!("copy-{name}");
    match disk.remove(&copy_name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.open(name, false)?;
    let copy = disk.open(&copy_name, true)?;
    let (size, mut at) = (disk.size(&file)?, 0);
    let mut piece = vec![0; COPY_BYTES];
    while at < size {
        let piece = &mut piece[..COPY_BYTES.min(usize::try_from(size - at).unwrap_or(COPY_BYTES))];
        if !blank && read_full(disk, &file, piece, at, false).is_err() {
            for (sector, bytes) in piece.chunks_mut(SECTOR_BYTES).enumerate() {
                if read_full(disk, &file, bytes, at + (sector * SECTOR_BYTES) as u64, false).is_err() {
                    bytes.fill(0);
                }
            }
        }
        write_full(disk, &copy, piece, at)?;
        at += piece.len() as u64;
    }
    disk.sync(&copy)?;
    drop((file, copy));
    disk.replace(name, &copy_name, directory)
}

/// What looking at everything finds.
struct Survey {
    damages: Vec<Damage>,
    aside: Vec<String>,
    /// Of those, files that aren't segments of the log and aren't empty either: the copy is.
    strange: BTreeSet<String>,
    lost: Vec<(StreamId, u64, u64)>,
    messages: u64,
    /// With the sizes that the store has.
    options: Options,
}

impl Survey {
    /// Opens the store without changing anything, and reads all of it.
    fn of<D: Disk>(disk: D) -> Result<(Self, D), Error> {
        let mut disk = Forgiving { disk, unreadable: RefCell::default() };
        let mut options = Options { read_only: true, scrub_bytes_per_second: 0, ..Options::default() };
        let mut aside = BTreeSet::new();
        let slots = candidates(&mut disk)?;
        let newest = slots.iter().filter_map(|slot| slot.header).max_by_key(|header| header.segment);
        if let Some(header) = newest {
            options.page_bytes = header.page_bytes;
            options.segment_bytes = header.page_bytes.saturating_mul(header.pages);
        }
        let mut strange = BTreeSet::new();
        for slot in slots.into_iter().filter(|slot| slot.header.is_none()) {
            if !is_blank(&disk, &slot.file, slot.size)? {
                strange.insert(file_name(slot.number));
            }
        }
        let (mut store, report) = Store::open(disk, options)?;
        // The headers of a segment may be gone, and a free file may hold something that was one.
        for segment in store.segments.values() {
            strange.remove(&file_name(segment.slot));
        }
        aside.extend(strange.iter().cloned());
        let mut damages = report.damages;
        aside.extend(report.cut.map(|(file, _)| file));
        let passes = store.scrubs();
        while store.scrubs() == passes {
            store.scrub_step()?;
        }
        let mut messages = 0;
        for stream in store.streams().collect::<Vec<_>>() {
            let seqs: Vec<u64> = store.entries(stream, 0).map(|(seq, ..)| seq).collect();
            for seq in seqs {
                match store.read(stream, seq) {
                    Ok(_) => messages += 1,
                    Err(ReadError::Damaged(_)) => {}
                    Err(ReadError::Disk(error)) => return Err(error.into()),
                }
            }
        }
        damages.append(&mut store.take_damages());
        let lost = store.streams().flat_map(|stream| {
            let ranges = store.damaged(stream, usize::MAX);
            ranges.into_iter().map(move |(first, last)| (stream, first, last))
        });
        let lost = lost.collect();
        let damaged_files = std::mem::take(&mut store.damaged_files);
        let mut disk = store.into_disk();
        for (file, offset) in disk.unreadable.take() {
            damages.push(Damage {
                stream: None,
                first_seq: 0,
                last_seq: 0,
                file: file.clone(),
                offset,
                what: Damaged::Segment,
            });
            aside.insert(file);
        }
        let there = disk.list()?;
        aside.extend(damaged_files);
        aside.retain(|name| there.contains(name));
        let aside = aside.into_iter().collect();
        Ok((Self { damages, aside, strange, lost, messages, options }, disk.disk))
    }
}

fn is_blank<D: Disk>(disk: &D, file: &D::File, size: u64) -> io::Result<bool> {
    let (mut piece, mut at) = (vec![0; COPY_BYTES], 0);
    while at < size {
        read_full(disk, file, &mut piece, at, false)?;
        if piece.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += piece.len() as u64;
    }
    Ok(true)
}

impl<D: Disk> Store<D> {
    /// Whatever the index has and the disk hasn't is lost from now on, and named as such.
    fn write_losses_down(&mut self) -> Result<(), Error> {
        for stream in self.streams().collect::<Vec<_>>() {
            let seqs: Vec<u64> = self.entries(stream, 0).map(|(seq, ..)| seq).collect();
            for seq in seqs {
                match self.read(stream, seq) {
                    Ok(_) => {}
                    Err(ReadError::Damaged(_)) => self.lose(stream, seq),
                    Err(ReadError::Disk(error)) => return Err(error.into()),
                }
                if self.staged_bytes() > self.options.frame_bytes_max as usize / 4 {
                    self.commit()?;
                }
            }
        }
        self.commit()
    }

    /// A message that the index has can't be read: it is lost, and stays named.
    pub(crate) fn lose(&mut self, id: StreamId, seq: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some((entry, Place::Segment(number))) = stream.find(seq) else { return };
        let offset = u64::from(entry.place) * record::ALIGN as u64;
        let lost = Lost { first_seq: seq, last_seq: seq, segment: number, offset };
        let op = Op::Lost { stream: id, first_seq: seq, last_seq: seq, segment: number, offset };
        op::push(&mut self.open.ops, &op);
        // What is lost before the first message stays named, too.
        stream.kill(seq);
        stream.settle_first();
        if stream.add_lost(lost) {
            self.state_bytes += crate::room::LOST_OVERHEAD;
        }
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.live_bytes = segment.live_bytes.saturating_sub(weight(entry.size));
        }
    }

    /// Moves what is alive in these files to new segments.
    fn rewrite(&mut self, files: &[String]) -> Result<(), Error> {
        if self.roll(true).is_err() {
            return Err(Error::ReadOnly);
        }
        for segment in self.segments.values_mut() {
            let number = segment.header.segment;
            segment.erase |= number != self.active.number && files.contains(&file_name(segment.slot));
        }
        let (mut now, mut written) = (Duration::ZERO, u64::MAX);
        // Until nothing is left to do, or to be done about it.
        while written != self.usage.written_bytes {
            written = self.usage.written_bytes;
            now += Duration::from_secs(1);
            self.maintain(now, u64::from(self.options.segment_bytes));
            self.commit()?;
        }
        Ok(())
    }
}

/// What can't be read of a file is as good as zeros, so that the rest can be. Nothing can be written.
struct Forgiving<D> {
    disk: D,
    /// Files, and where in them that was first.
    unreadable: RefCell<std::collections::BTreeMap<String, u64>>,
}

/// What is read at once where more can't be.
const SECTOR_BYTES: usize = 512;

impl<D: Disk> Disk for Forgiving<D> {
    type File = (String, D::File);

    fn list(&mut self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&mut self, name: &str, create: bool) -> io::Result<Self::File> {
        if create {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok((name.to_owned(), self.disk.open(name, false)?))
    }

    fn size(&self, file: &Self::File) -> io::Result<u64> {
        self.disk.size(&file.1)
    }

    fn read_at(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Ok(read) = self.disk.read_at(&file.1, buffer, offset) {
            return Ok(read);
        }
        // As little as possible, so that only what fails is left out.
        let sector = SECTOR_BYTES - (offset % SECTOR_BYTES as u64) as usize;
        let length = sector.min(buffer.len());
        let buffer = &mut buffer[..length];
        self.disk.read_at(&file.1, buffer, offset).or_else(|_| {
            self.unreadable.borrow_mut().entry(file.0.clone()).or_insert(offset);
            buffer.fill(0);
            Ok(buffer.len())
        })
    }

    fn write_at(&mut self, _: &Self::File, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&mut self, _: &Self::File) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&mut self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn make_dir(&mut self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn replace(&mut self, _: &str, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}
