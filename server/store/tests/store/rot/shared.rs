//! A disk that the test still has while a store has it.

use std::io;
use std::sync::{Arc, Mutex};

use midge_store::disk::Disk;
use midge_store::disk::sim::{Fault, SimDisk};

/// A disk that is there after what was made of it.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<SimDisk>>);

impl Shared {
    pub(super) fn new(disk: SimDisk) -> Self {
        Self(Arc::new(Mutex::new(disk)))
    }

    pub(super) fn take(&mut self) -> SimDisk {
        self.0.lock().unwrap().clone()
    }

    /// The power goes at that call.
    pub(super) fn cut_at(&mut self, call: u64) {
        self.0.lock().unwrap().fail_at = Some((call, Fault::PowerCut));
    }
}

impl Disk for Shared {
    type File = usize;

    fn list(&mut self) -> io::Result<Vec<String>> {
        self.0.lock().unwrap().list()
    }

    fn open(&mut self, name: &str, create: bool) -> io::Result<usize> {
        self.0.lock().unwrap().open(name, create)
    }

    fn size(&self, file: &usize) -> io::Result<u64> {
        self.0.lock().unwrap().size(file)
    }

    fn read_at(&self, file: &usize, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.lock().unwrap().read_at(file, buffer, offset)
    }

    fn write_at(&mut self, file: &usize, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.lock().unwrap().write_at(file, bytes, offset)
    }

    fn sync(&mut self, file: &usize) -> io::Result<()> {
        self.0.lock().unwrap().sync(file)
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().sync_dir()
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().remove(name)
    }

    fn make_dir(&mut self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().make_dir(name)
    }

    fn replace(&mut self, name: &str, with: &str, directory: &str) -> io::Result<()> {
        self.0.lock().unwrap().replace(name, with, directory)
    }
}
