//! A directory of account tokens, a file for each: `AB….jwt`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use midge_broker::AccountClaims;
use midge_config::{Deletion, ResolverDirectory};
use midge_jwt::{Account, Kind, TOKEN_BYTES_MAX, Token, nkey};
use sha2::{Digest, Sha256};

/// The directory. A token that was saved is on the disk; a power cut leaves the old one or the new one.
#[derive(Debug)]
pub(crate) struct Store {
    options: ResolverDirectory,
    /// The tokens there are, by their accounts' keys. Whoever reads or writes a file holds this.
    known: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// SHA-256 of the token.
    hash: [u8; 32],
    /// When it was last asked for, or written.
    used: SystemTime,
}

const ENDING: &str = ".jwt";

impl Store {
    /// Opens the directory, or makes it.
    pub(crate) fn open(options: &ResolverDirectory) -> io::Result<Self> {
        fs::create_dir_all(&options.dir)?;
        let mut known = BTreeMap::new();
        for entry in fs::read_dir(&options.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(key) = name.to_str().and_then(|name| name.strip_suffix(ENDING)) else { continue };
            if !nkey::is(key, Kind::Account) {
                continue;
            }
            let text = read(&entry.path())?;
            if !text.is_empty() {
                let used = entry.metadata()?.modified()?;
                known.insert(key.to_owned(), Entry { hash: Sha256::digest(&text).into(), used });
            }
        }
        Ok(Self { options: options.clone(), known: Mutex::new(known) })
    }

    /// All accounts are to be found here, and new ones are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.options.full
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// An account's token. One that a cache has kept for too long is gone.
    pub(crate) fn load(&self, key: &str, now: SystemTime) -> io::Result<Option<String>> {
        let mut known = self.lock();
        if !nkey::is(key, Kind::Account) {
            return Ok(None);
        }
        let path = self.path(key);
        if let (Some(ttl), Some(entry)) = (self.options.ttl, known.get(key))
            && now.duration_since(entry.used).unwrap_or(Duration::ZERO) > ttl
        {
            known.remove(key);
            fs::remove_file(path)?;
            return Ok(None);
        }
        match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                known.remove(key);
                Ok(None)
            }
            Ok(text) if text.is_empty() => Ok(None),
            Ok(text) => {
                known.insert(key.to_owned(), Entry { hash: Sha256::digest(&text).into(), used: now });
                Ok(Some(text))
            }
            Err(error) => Err(error),
        }
    }

    /// An account's token, for those who only look: that is no use that keeps it in a cache.
    pub(crate) fn peek(&self, key: &str) -> Option<String> {
        let _held = self.lock();
        nkey::is(key, Kind::Account).then(|| read(&self.path(key)).ok()).flatten()
    }

    /// Saves an account's token, whatever was there. It is on the disk afterwards.
    pub(crate) fn save(&self, key: &str, text: &str, now: SystemTime) -> Result<(), String> {
        let mut known = self.lock();
        let entry = Entry { hash: Sha256::digest(text).into(), used: now };
        if known.get(key).is_some_and(|known| known.hash == entry.hash) {
            known.insert(key.to_owned(), entry);
            return Ok(());
        }
        let count = u64::try_from(known.len()).unwrap_or(u64::MAX);
        if !known.contains_key(key) && self.options.limit.is_some_and(|limit| count >= limit) {
            if self.options.full {
                return Err("jwt store is full".into());
            }
            // The one that nobody has asked for the longest makes room.
            if let Some(oldest) = known.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone())
            {
                fs::remove_file(self.path(&oldest)).map_err(|error| error.to_string())?;
                known.remove(&oldest);
            }
        }
        self.write(key, text).map_err(|error| error.to_string())?;
        known.insert(key.to_owned(), entry);
        Ok(())
    }

    /// Saves a token of the configuration, unless the one that is there was issued later. Says which of both counts now.
    pub(crate) fn save_if_newer(
        &self,
        claims: &AccountClaims,
        text: &str,
        now: SystemTime,
    ) -> Result<(), String> {
        let issued = |text: &str| Token::<Account>::decode(text).ok().map(|token| token.claims.iat);
        let there = self.load(claims.key(), now).map_err(|error| error.to_string())?;
        if there.as_deref().and_then(issued).is_some_and(|there| there > claims.token.claims.iat) {
            return Ok(());
        }
        self.save(claims.key(), text, now)
    }

    /// Deletes an account's token, if that is allowed.
    pub(crate) fn delete(&self, key: &str) -> Result<(), String> {
        let mut known = self.lock();
        let path = self.path(key);
        let done = match self.options.deletion {
            Deletion::Refused => return Err("store is not set up to for delete".into()),
            Deletion::Renamed => fs::rename(&path, self.options.dir.join(format!("{key}{ENDING}.deleted"))),
            Deletion::Gone => fs::remove_file(&path),
        };
        match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
            _ => {
                known.remove(key);
                Ok(())
            }
        }
    }

    /// Whether accounts may be deleted.
    pub(crate) fn deletes(&self) -> bool {
        self.options.deletion != Deletion::Refused
    }

    /// The keys of all accounts.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// What two directories with the same tokens have in common.
    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        for entry in self.lock().values() {
            hash.iter_mut().zip(entry.hash).for_each(|(byte, other)| *byte ^= other);
        }
        hash
    }

    fn path(&self, key: &str) -> PathBuf {
        self.options.dir.join(format!("{key}{ENDING}"))
    }

    fn write(&self, key: &str, text: &str) -> io::Result<()> {
        let new = self.options.dir.join(format!(".{key}.new"));
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.path(key))?;
        File::open(&self.options.dir)?.sync_all()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(TOKEN_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use midge_jwt::{Claims, KeyPair};

    fn key(seed: u8) -> String {
        KeyPair::new(Kind::Account, &[seed; 32]).public().to_string()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn options(dir: &Path) -> ResolverDirectory {
        ResolverDirectory {
            dir: dir.to_owned(),
            full: true,
            deletion: Deletion::Renamed,
            limit: Some(2),
            ttl: None,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn what_is_saved_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&options(dir.path())).unwrap();
        assert_eq!(store.load(&key(1), at(0)).unwrap(), None);
        store.save(&key(1), "one", at(0)).unwrap();
        store.save(&key(2), "two", at(0)).unwrap();
        assert_eq!(store.save(&key(3), "three", at(0)), Err("jwt store is full".into()));
        store.save(&key(2), "deux", at(0)).unwrap();
        let again = Store::open(&options(dir.path())).unwrap();
        assert_eq!(again.load(&key(2), at(0)).unwrap().as_deref(), Some("deux"));
        assert_eq!((again.hash(), again.keys().len()), (store.hash(), 2));
        store.delete(&key(1)).unwrap();
        store.delete(&key(1)).unwrap();
        assert!(dir.path().join(format!("{}.jwt.deleted", key(1))).exists());
        assert_eq!(Store::open(&options(dir.path())).unwrap().keys(), [key(2)]);
        assert_eq!(store.load("../etc/passwd", at(0)).unwrap(), None);
        let kept =
            Store::open(&ResolverDirectory { deletion: Deletion::Refused, ..options(dir.path()) }).unwrap();
        assert!(kept.delete(&key(2)).is_err() && kept.load(&key(2), at(0)).unwrap().is_some());
    }

    #[test]
    fn a_cache_forgets() {
        let dir = tempfile::tempdir().unwrap();
        let cache =
            ResolverDirectory { full: false, ttl: Some(Duration::from_secs(60)), ..options(dir.path()) };
        let store = Store::open(&cache).unwrap();
        store.save(&key(1), "one", at(0)).unwrap();
        store.save(&key(2), "two", at(10)).unwrap();
        assert!(store.load(&key(1), at(20)).unwrap().is_some());
        store.save(&key(3), "three", at(30)).unwrap();
        assert_eq!(store.load(&key(2), at(30)).unwrap(), None, "made room");
        assert!(store.load(&key(1), at(70)).unwrap().is_some(), "it was used");
        assert_eq!(store.load(&key(1), at(140)).unwrap(), None);
        assert_eq!(store.load(&key(3), at(140)).unwrap(), None);
    }

    #[test]
    fn the_token_that_was_issued_last_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&options(dir.path())).unwrap();
        let operator = KeyPair::new(Kind::Operator, &[1; 32]);
        let token =
            |now| Token { claims: Claims::about(key(1)), body: Account::default() }.encode(&operator, now);
        let offer =
            |text: &str| store.save_if_newer(&AccountClaims::read(text).unwrap(), text, at(0)).unwrap();
        for (issued, stays) in [(10, 10), (5, 10), (11, 11)] {
            offer(&token(issued));
            assert_eq!(store.load(&key(1), at(0)).unwrap(), Some(token(stays)));
        }
    }
}
