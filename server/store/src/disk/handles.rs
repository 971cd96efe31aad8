//! Descriptors: files that are open for the store, of which only some are open for the system.

use std::io;
use std::os::fd::OwnedFd;

/// Descriptors that stay open at most, beside those of files that have something to be synced: a store has a file for each
/// 8 MiB, and reads most of them rarely.
pub(super) const OPEN_MAX: usize = 32;

/// The descriptors, those used last at the end.
#[derive(Debug, Default)]
pub(super) struct Handles {
    list: Vec<Handle>,
}

#[derive(Debug)]
struct Handle {
    name: Box<str>,
    fd: OwnedFd,
    /// Something was written and not synced: what the system says of it later, it says to this descriptor.
    dirty: bool,
}

impl Handles {
    /// The file's descriptor, from `open` if it isn't there.
    pub(super) fn get(
        &mut self,
        name: &str,
        open: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> io::Result<&OwnedFd> {
        match self.list.iter().position(|handle| &*handle.name == name) {
            Some(at) if at + 1 == self.list.len() => {}
            Some(at) => {
                let handle = self.list.remove(at);
                self.list.push(handle);
            }
            None => {
                if self.list.len() >= OPEN_MAX
                    && let Some(idle) = self.list.iter().position(|handle| !handle.dirty)
                {
                    self.list.remove(idle);
                }
                self.list.push(Handle { name: name.into(), fd: open()?, dirty: false });
            }
        }
        self.list.last().map(|handle| &handle.fd).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The file's descriptor, if it is there.
    pub(super) fn opened(&self, name: &str) -> Option<&OwnedFd> {
        self.list.iter().rev().find(|handle| &*handle.name == name).map(|handle| &handle.fd)
    }

    /// Whether the file has something to be synced.
    pub(super) fn set_dirty(&mut self, name: &str, dirty: bool) {
        if let Some(handle) = self.list.iter_mut().rev().find(|handle| &*handle.name == name) {
            handle.dirty = dirty;
        }
    }

    /// The name means another file from now on, or none.
    pub(super) fn forget(&mut self, name: &str) {
        self.list.retain(|handle| &*handle.name != name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_files_are_closed_and_dirty_ones_are_kept() {
        let mut handles = Handles::default();
        let mut opened = Vec::new();
        let mut get = |handles: &mut Handles, name: &str| {
            let open = || {
                opened.push(name.to_owned());
                tempfile::tempfile().map(OwnedFd::from)
            };
            handles.get(name, open).unwrap();
            std::mem::take(&mut opened).len()
        };
        assert_eq!(get(&mut handles, "written"), 1);
        handles.set_dirty("written", true);
        for file in 0..OPEN_MAX * 2 {
            assert_eq!(get(&mut handles, &format!("{file}")), 1);
        }
        assert_eq!(handles.list.len(), OPEN_MAX);
        assert_eq!(get(&mut handles, "written"), 0, "what isn't synced stays open");
        assert_eq!(get(&mut handles, "63"), 0, "and what was used last");
        assert_eq!(get(&mut handles, "1"), 1);
        handles.set_dirty("written", false);
        for file in 0..OPEN_MAX {
            get(&mut handles, &format!("more {file}"));
        }
        assert_eq!(get(&mut handles, "written"), 1);
        handles.forget("written");
        assert_eq!(get(&mut handles, "written"), 1);
    }
}
