//! The disk as a seam: one trait, two disks. [`OsDisk`] is a directory; `SimDisk` (feature `sim`) is a disk in memory
//! that fails as a seed tells.

mod handles;
mod os;
#[cfg(feature = "sim")]
pub mod sim;

use std::io;

pub use os::{OsDisk, OsFile};

/// A flat directory of files, all of them ours.
///
/// Calls block. A failed [`sync`](Disk::sync) says nothing about what of the file is on the medium, and the store never
/// asks the same file again. Reads and writes may be short, as the system's are; the store goes on where they stopped.
pub trait Disk {
    /// A file, as long as it has its name.
    type File;

    /// Names of all files, in any order.
    ///
    /// # Errors
    /// Those of the system.
    fn list(&mut self) -> io::Result<Vec<String>>;

    /// Opens a file for reading and, unless the disk was opened read-only, for writing. With `create` it may be new;
    /// its name is durable only after [`sync_dir`](Disk::sync_dir).
    ///
    /// # Errors
    /// Those of the system; `NotFound` if it isn't there and `create` isn't set.
    fn open(&mut self, name: &str, create: bool) -> io::Result<Self::File>;

    /// Bytes in the file.
    ///
    /// # Errors
    /// Those of the system.
    fn size(&self, file: &Self::File) -> io::Result<u64>;

    /// Reads from `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// Those of the system.
    fn read_at(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Reads as [`read_at`](Disk::read_at) does, from the medium rather than from a cache where the system lets us.
    ///
    /// # Errors
    /// Those of the system.
    fn read_medium(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(file, buffer, offset)
    }

    /// Reads as [`read_at`](Disk::read_at) does, if that doesn't wait for the medium; `None` if it would, or if nobody knows.
    ///
    /// # Errors
    /// Those of the system.
    fn read_at_once(
        &self,
        _file: &Self::File,
        _buffer: &mut [u8],
        _offset: u64,
    ) -> io::Result<Option<usize>> {
        Ok(None)
    }

    /// Writes at `offset`; the file grows if it must.
    ///
    /// # Errors
    /// Those of the system; `StorageFull` if there is no room.
    fn write_at(&mut self, file: &Self::File, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Says that what was written there may go to the medium now, without waiting for it and without a promise.
    fn start_writing(&self, _file: &Self::File, _offset: u64, _bytes: u64) {}

    /// Returns once everything written to the file is on the medium, with what is needed to find it in the file.
    ///
    /// # Errors
    /// Those of the system. What was written since the last success may be lost then, whatever a later call says.
    fn sync(&mut self, file: &Self::File) -> io::Result<()>;

    /// Returns once names that were made or removed are so on the medium.
    ///
    /// # Errors
    /// Those of the system.
    fn sync_dir(&mut self) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the system.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Makes a directory for files that are kept aside. Its files aren't listed.
    ///
    /// # Errors
    /// Those of the system; `AlreadyExists` if there is something of that name.
    fn make_dir(&mut self, name: &str) -> io::Result<()>;

    /// Puts the file `with` in the place of the file `name`, which keeps its name in the directory. Returns once that is so
    /// on the medium. `name` is there all the time, as the one or the other, unless the file system knows no links.
    ///
    /// # Errors
    /// Those of the system.
    fn replace(&mut self, name: &str, with: &str, directory: &str) -> io::Result<()>;
}

/// Fills the buffer from `offset`; what lies beyond the end of the file reads as zeros.
pub(crate) fn read_full<D: Disk>(
    disk: &D,
    file: &D::File,
    buffer: &mut [u8],
    offset: u64,
    medium: bool,
) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        let at = offset + done as u64;
        let rest = &mut buffer[done..];
        let read = if medium { disk.read_medium(file, rest, at) } else { disk.read_at(file, rest, at) };
        match read? {
            0 => {
                rest.fill(0);
                break;
            }
            read => done += read.min(rest.len()),
        }
    }
    Ok(())
}

/// Writes all of it.
pub(crate) fn write_full<D: Disk>(disk: &mut D, file: &D::File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match disk.write_at(file, &bytes[done..], offset + done as u64)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => done += written.min(bytes.len() - done),
        }
    }
    Ok(())
}
