//! Where configuration text comes from.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest configuration file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads configuration files: from the operating system, or from memory in tests and fuzzing.
pub trait Loader {
    /// The bytes of the file at `path`.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The operating system's files, up to [`FILE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFiles;

impl Loader for OsFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if read as u64 > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 16 MiB"));
        }
        Ok(bytes)
    }
}

/// Files in memory, by path.
pub type MemoryFiles = BTreeMap<PathBuf, Vec<u8>>;

impl Loader for MemoryFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
