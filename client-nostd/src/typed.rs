//! Payloads that are values, in postcard's format. Feature `postcard`.
//!
//! ```
//! use midge_client::{Client, Subject, subject, typed};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Debug, PartialEq)]
//! struct Reading {
//!     celsius: f32,
//!     battery_mv: u16,
//! }
//!
//! const ATTIC: Subject = subject!("plant.attic");
//!
//! fn publish(client: &mut Client<'_, 1>, reading: &Reading) -> Result<(), typed::Error> {
//!     // As large as the largest reading gets.
//!     let mut space = [0; 16];
//!     Ok(client.publish(ATTIC, typed::encode(reading, &mut space)?)?)
//! }
//!
//! let reading = Reading { celsius: 21.5, battery_mv: 3300 };
//! let mut space = [0; 16];
//! let payload = typed::encode(&reading, &mut space).unwrap();
//! assert_eq!(typed::decode::<Reading>(payload), Ok(reading));
//! ```

use midge_protocol::client;
use serde_core::{Deserialize, Serialize};

/// Why a value wasn't sent or read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Error {
    /// The value doesn't fit the space, or the payload is no such value.
    Format(postcard::Error),
    /// The client did not take it.
    Refused(client::Error),
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        Self::Refused(error)
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Format(error) => error.fmt(f),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

/// Writes a value into `space`, and gives the part of it that is the payload.
pub fn encode<'s>(value: &impl Serialize, space: &'s mut [u8]) -> Result<&'s [u8], Error> {
    match postcard::to_slice(value, space) {
        Ok(payload) => Ok(payload),
        Err(error) => Err(Error::Format(error)),
    }
}

/// Reads a payload, all of it. Text and bytes of the value borrow it.
pub fn decode<'m, T: Deserialize<'m>>(payload: &'m [u8]) -> Result<T, Error> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        // More than the value: it is something else.
        Ok(_) => Err(Error::Format(postcard::Error::DeserializeBadEncoding)),
        Err(error) => Err(Error::Format(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_and_others_are_refused() {
        let mut space = [0; 8];
        let payload = encode(&(7u32, "on"), &mut space).unwrap();
        assert_eq!(payload, b"\x07\x02on");
        assert_eq!(decode::<(u32, &str)>(payload), Ok((7, "on")));
        for bad in [&b""[..], b"\x07\x02o", b"\x07\x02on!", b"\x07\x02\xff\xff", b"\xff\xff\xff\xff\xff\xff"]
        {
            assert!(decode::<(u32, &str)>(bad).is_err(), "{bad:?}");
        }
        assert!(encode(&[7u64; 4], &mut [0; 3]).is_err());
    }
}
