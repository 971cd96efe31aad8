//! Logs on disk: streams of a [`midge_store::Store`].
//!
//! All logs of a shelf are in one store, so that one commit, with one write and one sync, does for all of them. Notes are
//! the store's states.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use midge_store::disk::{Disk, OsDisk};
use midge_store::{Append, Damage, Erase, Error, Health, Message, ReadError, Select, Store, StreamId, Usage};

use super::{Entry, Filters, Loaded, Log, LogError, Shelf, State, Stored};
use crate::sync::Sync;
use crate::time::Nanos;

/// The logs of one store.
pub struct FileShelf<D: Disk> {
    store: Shared<D>,
    /// A log without messages, whose note is what is kept of the clock.
    clock: Option<StreamId>,
}

/// What stands in place of the log's configuration there: no stream's.
const CLOCK: &[u8] = b"clock";
/// The note.
const CLOCK_NOTE: &[u8] = b"now";

/// Bytes that the store needs for a message besides what it consists of, at most.
const RECORD_OVERHEAD: usize = 64;

/// A store that its logs share. One thread uses it, so nobody ever waits for the lock.
struct Shared<D: Disk> {
    store: Arc<Mutex<Store<D>>>,
    /// [`Shelf::is_owed`]: the modes of the logs that it was done to.
    owed: Arc<AtomicU8>,
    /// [`Shelf::holds`]: the same, of all that is not on the disk.
    held: Arc<AtomicU8>,
}

impl<D: Disk> Clone for Shared<D> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), owed: Arc::clone(&self.owed), held: Arc::clone(&self.held) }
    }
}

impl<D: Disk> Shared<D> {
    fn lock(&self) -> MutexGuard<'_, Store<D>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Shared::stage`], and nobody may hear of it before the next commit.
    fn owe<R>(&self, sync: Sync, what: impl FnMut(&mut Store<D>) -> Result<R, Error>) -> Result<R, LogError> {
        note(&self.owed, sync);
        self.stage(sync, what)
    }

    /// Does something that may need what is staged to be committed before it.
    fn stage<R>(
        &self,
        sync: Sync,
        mut what: impl FnMut(&mut Store<D>) -> Result<R, Error>,
    ) -> Result<R, LogError> {
        note(&self.held, sync);
        let mut store = self.lock();
        match what(&mut store) {
            Err(Error::CommitFirst) => {
                store.commit()?;
                Ok(what(&mut store)?)
            }
            done => Ok(done?),
        }
    }
}

/// One thread writes it, so reading it first is enough, and cheaper.
fn note(modes: &AtomicU8, sync: Sync) {
    let known = modes.load(Ordering::Relaxed);
    if known & sync.bit() == 0 {
        modes.store(known | sync.bit(), Ordering::Relaxed);
    }
}

impl From<Error> for LogError {
    fn from(error: Error) -> Self {
        match error {
            Error::Full => Self::Full,
            Error::TooLarge | Error::TooMuchState => Self::TooLarge,
            Error::ReadOnly | Error::Locked | Error::NotAStore(_) => Self::Failed,
            Error::Disk(error) => Self::Io(error),
            // Calls out of order would be mistakes of ours.
            other @ (Error::NoStream | Error::Sequence | Error::CommitFirst) => {
                Self::Io(std::io::Error::other(other))
            }
        }
    }
}

impl From<ReadError> for LogError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Disk(error) => Self::Io(error),
            ReadError::Damaged(_) => Self::Io(std::io::Error::other(error)),
        }
    }
}

impl<D: Disk> FileShelf<D> {
    /// The logs of a store.
    pub fn new(store: Store<D>) -> Self {
        #[allow(
            clippy::arc_with_non_send_sync,
            reason = "a disk may be anything; those of the daemon are Send"
        )]
        let store = Arc::new(Mutex::new(store));
        Self { store: Shared { store, owed: Arc::default(), held: Arc::default() }, clock: None }
    }

    /// A handle for housekeeping.
    pub fn keeper(&self) -> Keeper<D> {
        Keeper(self.store.clone())
    }
}

impl FileShelf<OsDisk> {
    /// For an engine. Generic code is compiled where its types are chosen: here, and so as this crate is, and not as whoever
    /// calls this.
    #[inline(never)]
    pub fn boxed(self) -> Box<dyn Shelf> {
        Box::new(self)
    }
}

/// What is to be done for a store beside its logs.
pub struct Keeper<D: Disk>(Shared<D>);

impl<D: Disk> Keeper<D> {
    /// Does some of what is to be done between commits. Gives when to call again, on the clock of the call.
    pub fn maintain(&self, now: Duration, budget: u64) -> Option<Duration> {
        self.0.lock().maintain(now, budget).next
    }

    /// Grows whenever something was committed: [`maintain`](Self::maintain) has work then.
    pub fn commits(&self) -> u64 {
        self.0.lock().last_frame()
    }

    /// What may be written now.
    pub fn health(&self) -> Health {
        self.0.lock().health()
    }

    /// Looks at the disk.
    pub fn with_disk<R>(&self, look: impl FnOnce(&D) -> R) -> R {
        look(self.0.lock().disk())
    }

    /// Lets a simulated disk behave in another way.
    pub fn with_disk_mut<R>(&self, change: impl FnOnce(&mut D) -> R) -> R {
        change(self.0.lock().disk_mut())
    }

    /// How much it takes.
    pub fn usage(&self) -> Usage {
        self.0.lock().usage()
    }

    /// Damage that was found since the last call.
    pub fn take_damages(&self) -> Vec<Damage> {
        self.0.lock().take_damages()
    }
}

impl<D: Disk + Send + 'static> Shelf for FileShelf<D>
where
    Store<D>: Send,
{
    fn create(&mut self, config: &[u8], first: u64) -> Result<Box<dyn Log>, LogError> {
        let id = self.store.owe(Sync::Always, |store| store.create_stream(config))?;
        if first > 1 {
            self.store.stage(Sync::Always, |store| store.purge(id, first))?;
        }
        let emptied = first == 1;
        Ok(Box::new(FileLog { store: self.store.clone(), id, sync: Sync::Always, emptied }))
    }

    fn load(&mut self) -> Result<Vec<Loaded>, LogError> {
        let store = self.store.lock();
        self.clock = None;
        let ids: Vec<StreamId> = store.streams().collect();
        let mut logs: Vec<Loaded> = Vec::new();
        for id in ids {
            let config = store.config(id)?.to_vec();
            if config == CLOCK {
                self.clock = Some(id);
                continue;
            }
            logs.push((
                config,
                Box::new(FileLog { store: self.store.clone(), id, sync: Sync::Always, emptied: false }),
            ));
        }
        Ok(logs)
    }

    fn keep_clock(&mut self, kept: &[u8]) -> Result<(), LogError> {
        let id = match self.clock {
            Some(id) => id,
            None => *self.clock.insert(self.store.stage(Sync::Os, |store| store.create_stream(CLOCK))?),
        };
        self.store.stage(Sync::Os, |store| store.put_state(id, CLOCK_NOTE, kept))
    }

    fn kept_clock(&mut self) -> Result<Option<Vec<u8>>, LogError> {
        let store = self.store.lock();
        let Some(id) = self.clock else { return Ok(None) };
        let note = store.states(id)?.find(|(key, _)| *key == CLOCK_NOTE).map(|(_, note)| note.whole.clone());
        Ok(note)
    }

    fn is_owed(&self) -> bool {
        self.store.owed.load(Ordering::Relaxed) != 0
    }

    fn is_owed_to_disk(&self) -> bool {
        self.store.owed.load(Ordering::Relaxed) & Sync::Always.bit() != 0
    }

    fn is_staged(&self) -> bool {
        self.holds(Sync::Always) || self.store.lock().staged_bytes() > 0
    }

    fn holds(&self, sync: Sync) -> bool {
        self.store.held.load(Ordering::Relaxed) & sync.bit() != 0
    }

    fn flush(&mut self) -> Result<(), LogError> {
        self.store.owed.store(0, Ordering::Relaxed);
        Ok(self.store.lock().flush()?)
    }

    fn commit(&mut self) -> Result<(), LogError> {
        self.store.owed.store(0, Ordering::Relaxed);
        self.store.held.store(0, Ordering::Relaxed);
        let mut store = self.store.lock();
        store.commit()?;
        // One that came in between may have failed, and nothing was left for this one.
        if store.health() == Health::ReadOnly { Err(LogError::Failed) } else { Ok(()) }
    }
}

/// One of them.
struct FileLog<D: Disk> {
    store: Shared<D>,
    id: StreamId,
    sync: Sync,
    /// What there was was taken out, if there was anything, or number 1 was asked for as the first.
    emptied: bool,
}

impl<D: Disk> FileLog<D> {
    /// With the store's form of filters, which is kept beside them.
    fn select<R>(&self, filters: &Filters, what: impl FnOnce(&mut Store<D>, &mut Select) -> R) -> R {
        filters.with_select(|select| what(&mut self.store.lock(), select))
    }
}

/// What a store read, as a log gives it. What is damaged is reported by the store, and is not there for anybody.
fn stored(read: Result<Option<Message>, ReadError>) -> Result<Option<Stored>, LogError> {
    match read {
        Ok(Some(Message { seq, time, subject, headers, payload, .. })) => {
            Ok(Some(Stored::of_parts(seq, time, subject, headers, payload)))
        }
        Ok(None) | Err(ReadError::Damaged(_)) => Ok(None),
        Err(ReadError::Disk(error)) => Err(LogError::Io(error)),
    }
}

impl<D: Disk + 'static> Log for FileLog<D>
where
    Store<D>: Send,
{
    fn state(&self) -> State {
        let Ok(state) = self.store.lock().state(self.id) else { return State::default() };
        let never = state.last_seq == 0 && state.messages == 0;
        State {
            messages: state.messages,
            bytes: state.bytes,
            first_seq: if never && state.first_seq <= 1 && !self.emptied { 0 } else { state.first_seq },
            last_seq: state.last_seq.max(state.first_seq.saturating_sub(1)),
            last_time: state.last_time,
        }
    }

    fn append(&mut self, entry: &Entry<'_>) -> Result<u64, LogError> {
        let message = Append {
            subject: entry.subject,
            headers: entry.header,
            payload: entry.payload,
            time: entry.time,
            expires: entry.expires,
        };
        self.store.owe(self.sync, |store| store.append(self.id, &message))
    }

    fn skip_to(&mut self, seq: u64, _time: Nanos) -> Result<(), LogError> {
        self.store.owe(self.sync, |store| store.skip(self.id, seq))
    }

    fn get(&self, seq: u64) -> Result<Option<Stored>, LogError> {
        stored(self.store.lock().read(self.id, seq))
    }

    fn get_at_once(&self, seq: u64) -> Option<Stored> {
        let read = self.store.lock().read_at_once(self.id, seq);
        stored(Ok(read)).ok().flatten()
    }

    fn is_damaged(&self, seq: u64) -> bool {
        let mut store = self.store.lock();
        store.is_damaged(self.id, seq) || matches!(store.read(self.id, seq), Err(ReadError::Damaged(_)))
    }

    fn damaged(&self, max: usize) -> (Vec<u64>, u64) {
        let store = self.store.lock();
        let ranges = store.damaged(self.id, max);
        let all: Vec<u64> = ranges.into_iter().flat_map(|(first, last)| first..=last).take(max).collect();
        let bytes = all.iter().filter_map(|seq| store.size_of(self.id, *seq)).map(u64::from).sum();
        (all, bytes)
    }

    fn time_of(&self, seq: u64) -> Result<Option<Nanos>, LogError> {
        match self.store.lock().time_of(self.id, seq) {
            Ok(time) => Ok(time),
            Err(ReadError::Damaged(_)) => Ok(None),
            Err(ReadError::Disk(error)) => Err(LogError::Io(error)),
        }
    }

    fn subject_of(&self, seq: u64) -> Option<Box<[u8]>> {
        let store = self.store.lock();
        let (found, subject, _) = store.entries(self.id, seq).next()?;
        (found == seq).then(|| subject.into())
    }

    fn remove(&mut self, seq: u64, erase: bool) -> Result<bool, LogError> {
        let erase = if erase { Erase::Soon } else { Erase::Lazily };
        self.store.stage(self.sync, |store| store.remove(self.id, seq, erase))
    }

    fn remove_oldest(&mut self, seq: u64) -> Result<bool, LogError> {
        self.store.stage(self.sync, |store| store.remove_oldest(self.id, seq))
    }

    fn truncate_front(&mut self, seq: u64, _now: Nanos) -> Result<u64, LogError> {
        let (messages, _) = self.store.stage(self.sync, |store| store.purge(self.id, seq))?;
        self.emptied |= seq > self.store.lock().state(self.id).map_or(0, |state| state.last_seq);
        Ok(messages)
    }

    fn next(&self, from: u64, filters: &Filters) -> Option<u64> {
        self.select(filters, |store, select| store.next(self.id, from, select))
    }

    fn get_next(&self, from: u64, filters: &Filters) -> Option<(u64, Result<Option<Stored>, LogError>)> {
        let (seq, message) = self.select(filters, |store, select| store.read_next(self.id, from, select))?;
        Some((seq, stored(message)))
    }

    fn count(&self, from: u64, filters: &Filters) -> u64 {
        self.select(filters, |store, select| store.count(self.id, from, select))
    }

    fn last(&self, filters: &Filters, upto: u64) -> Option<u64> {
        self.select(filters, |store, select| store.previous(self.id, upto, select))
    }

    fn count_of(&self, subject: &[u8]) -> u64 {
        self.store.lock().count_of(self.id, subject)
    }

    fn first_of(&self, subject: &[u8]) -> Option<u64> {
        self.store.lock().next(self.id, 0, &mut Select::subject(subject))
    }

    fn last_of(&self, subject: &[u8]) -> Option<u64> {
        self.store.lock().last_of(self.id, subject)
    }

    fn subjects(&self, filters: &Filters, each: &mut dyn FnMut(&[u8], u64)) {
        self.store.lock().subjects(self.id, |subject, count| {
            if filters.matches(subject) {
                each(subject, count);
            }
        });
    }

    fn subject_count(&self) -> u64 {
        self.store.lock().state(self.id).map_or(0, |state| state.subjects)
    }

    fn at_time(&self, time: Nanos) -> u64 {
        let found = self.store.lock().at_time(self.id, time);
        found.ok().flatten().unwrap_or_else(|| self.state().last_seq + 1)
    }

    fn expiring(&self, each: &mut dyn FnMut(u64, Nanos)) {
        let store = self.store.lock();
        for (seq, _, expires) in store.entries(self.id, 0).filter(|(_, _, expires)| *expires != 0) {
            each(seq, expires);
        }
    }

    fn can_take_at_once(&mut self, messages: usize, bytes: usize) -> Result<bool, LogError> {
        let mut store = self.store.lock();
        let (needed, most) = (bytes + messages * RECORD_OVERHEAD, store.message_bytes_max());
        if needed > most {
            return Ok(false);
        }
        if store.staged_bytes() + needed > most {
            store.commit()?;
        }
        Ok(true)
    }

    fn put_note(&mut self, key: &str, value: &[u8]) -> Result<(), LogError> {
        self.store.stage(self.sync, |store| store.put_state(self.id, key.as_bytes(), value))
    }

    fn add_to_note(&mut self, key: &str, value: &[u8]) -> Result<usize, LogError> {
        self.store.stage(self.sync, |store| store.append_state(self.id, key.as_bytes(), value))
    }

    fn drop_note(&mut self, key: &str) -> Result<(), LogError> {
        self.store.stage(self.sync, |store| store.remove_state(self.id, key.as_bytes()))
    }

    fn notes(&self) -> BTreeMap<String, Vec<Vec<u8>>> {
        let store = self.store.lock();
        let Ok(states) = store.states(self.id) else { return BTreeMap::new() };
        let mut notes = BTreeMap::new();
        notes.extend(states.map(|(key, state)| {
            let parts = std::iter::once(&state.whole).chain(&state.deltas).cloned().collect();
            (String::from_utf8_lossy(key).into_owned(), parts)
        }));
        notes
    }

    fn set_config(&mut self, config: &[u8]) -> Result<(), LogError> {
        self.store.owe(Sync::Always, |store| store.set_config(self.id, config))
    }

    fn set_sync(&mut self, sync: Sync) {
        self.sync = sync;
    }

    fn reclaim(&mut self) -> Result<bool, LogError> {
        Ok(self.store.lock().reclaim()?)
    }

    fn reclaimable(&self) -> Option<u64> {
        self.store.lock().reclaimable(self.id)
    }

    fn destroy(self: Box<Self>) -> Result<(), LogError> {
        self.store.owe(Sync::Always, |store| store.delete_stream(self.id))
    }
}
