//! How much the server and an account have left.

use super::Engine;
use crate::config::Storage;
use crate::error::{self, ApiError};
use crate::seam::Account;
use crate::space::{AccountLimits, Grant, Share};

impl Engine {
    /// Whether there is room on the server for an account of that name with that share, besides what the others may have.
    /// Source: nats-server's `sufficientResources`.
    ///
    /// # Errors
    /// What there is not enough of, in nats-server's words.
    pub fn check_share_fits(&self, name: &str, share: &Share) -> Result<(), ApiError> {
        if self.settings.memory_bytes_max.is_none() && self.settings.file_bytes_max.is_none() {
            return Ok(());
        }
        let mut sums = share.bytes();
        for space in self.spaces.values().filter(|space| *space.name != *name) {
            if let Grant::Enabled(share) = &space.grant {
                sums.iter_mut().zip(share.bytes()).for_each(|(sum, bytes)| *sum = sum.saturating_add(bytes));
            }
        }
        let [memory, file] = sums;
        if self.settings.memory_bytes_max.is_some_and(|max| memory > max) {
            return Err(error::MEMORY_RESOURCES_EXCEEDED.error());
        }
        if self.settings.file_bytes_max.is_some_and(|max| file > max) {
            return Err(error::STORAGE_RESOURCES_EXCEEDED.error());
        }
        Ok(())
    }

    /// The ceilings of an account's streams.
    pub(crate) fn limits_of(&self, account: Account) -> Result<AccountLimits, ApiError> {
        let space = self.spaces.get(&account).ok_or_else(|| error::NO_ACCOUNT.error())?;
        space.limits().copied()
    }

    /// Whether the server has room for one more message.
    pub(super) fn check_room(&self, storage: Storage, account: Account, bytes: u64) -> Result<(), ApiError> {
        let space = self.spaces.get(&account).ok_or_else(|| error::NO_ACCOUNT.error())?;
        let limits = space.limits()?;
        let mine = match storage {
            Storage::Memory => limits.memory_bytes_max,
            Storage::File => limits.file_bytes_max,
        };
        if mine.is_some_and(|max| self.account_bytes(account, storage) + bytes > max) {
            return Err(error::ACCOUNT_RESOURCES_EXCEEDED.error());
        }
        let max = match storage {
            Storage::Memory => self.settings.memory_bytes_max,
            Storage::File => self.settings.file_bytes_max,
        };
        match max {
            Some(max) if self.used[storage as usize] >= max => Err(error::INSUFFICIENT_RESOURCES.error()),
            _ => Ok(()),
        }
    }

    /// Bytes that all streams of a kind count for.
    pub(crate) fn bytes(&self, storage: Storage) -> u64 {
        let streams = self.streams.values().filter(|stream| stream.config.storage == storage);
        streams.map(|stream| stream.log.state().bytes).sum()
    }
}
