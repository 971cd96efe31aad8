//! Which time of day is believed; midge's own block.

use std::path::PathBuf;

use crate::block::Block;
use crate::report::Report;
use crate::value::Data;

/// The `clock` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// When the machine's clock is believed. Default [`ClockTrust::Auto`].
    pub trust: ClockTrust,
    /// A file that is there once something has set the clock, for [`ClockTrust::Synchronised`]. Default: the one that
    /// systemd-timesyncd makes.
    pub synchronised_file: PathBuf,
}

/// When the machine's clock is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockTrust {
    /// If it isn't before 2026, nor before what was stored last.
    Auto,
    /// If it isn't before what was stored last.
    Always,
    /// As [`ClockTrust::Auto`], and only while [`Clock::synchronised_file`] is there.
    Synchronised,
    /// If it isn't before this many seconds since 1970, nor before what was stored last.
    NotBefore(u64),
}

impl Clock {
    pub(crate) fn read(root: &Block<'_>, report: &mut Report) -> Self {
        let mut this = Self::default();
        let Some(block) = root.block("clock") else { return this };
        if let Some(value) = block.get("trust") {
            let text = match &value.data {
                Data::Text(text) | Data::Time(text) => text.as_str(),
                _ => "",
            };
            match ClockTrust::of(text) {
                Some(trust) => this.trust = trust,
                None => report.error(
                    &value.at,
                    "clock trust is auto, always, synchronised, or a date such as \"2026-11-27\", from 1970 on",
                ),
            }
        }
        if let Some(value) = block.get("synchronised_file") {
            match block.path("synchronised_file").filter(|path| path.is_absolute()) {
                Some(path) => this.synchronised_file = path,
                None => report.error(&value.at, "clock synchronised_file takes an absolute path"),
            }
        }
        this
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self { trust: ClockTrust::Auto, synchronised_file: "/run/systemd/timesync/synchronized".into() }
    }
}

impl ClockTrust {
    fn of(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Some(Self::Auto),
            "always" => Some(Self::Always),
            "synchronised" | "synchronized" => Some(Self::Synchronised),
            _ => seconds(text).map(Self::NotBefore),
        }
    }
}

/// Seconds from 1970 to a day, or to `2006-01-02T15:04:05Z`.
fn seconds(text: &str) -> Option<u64> {
    let (day, time) = match text.split_once('T') {
        Some((day, time)) => (day, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let number = |text: &str, digits: usize| {
        let all = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| all)
    };
    let mut parts = day.split('-');
    let (year, month, of_month) =
        (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let mut clock = time.split(':');
    let (hour, minute, second) =
        (number(clock.next()?, 2)?, number(clock.next()?, 2)?, number(clock.next()?, 2)?);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month).ok()?.checked_sub(1)?;
    let fits = (1..=*lengths.get(before)?).contains(&of_month) && hour < 24 && minute < 60 && second < 60;
    if year < 1970 || !fits || parts.next().is_some() || clock.next().is_some() {
        return None;
    }
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    let days = years + lengths.iter().take(before).sum::<u64>() + of_month - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryFiles, World, load_text};

    fn load(text: &str) -> Result<Clock, String> {
        let loaded = load_text(
            "test.conf",
            text.as_bytes(),
            World { files: &MemoryFiles::new(), environment: &|_| None },
        );
        loaded.map(|(options, _)| options.clock.clone()).map_err(|errors| format!("{errors:?}"))
    }

    #[test]
    fn what_it_takes() {
        assert_eq!(load("").unwrap(), Clock::default());
        for (text, trust) in [
            ("auto", ClockTrust::Auto),
            ("Always", ClockTrust::Always),
            ("synchronised", ClockTrust::Synchronised),
            ("synchronized", ClockTrust::Synchronised),
            ("'1970-01-01'", ClockTrust::NotBefore(0)),
            ("\"2026-11-27\"", ClockTrust::NotBefore(1_795_737_600)),
            ("2024-02-29T12:00:01Z", ClockTrust::NotBefore(1_709_208_001)),
        ] {
            assert_eq!(load(&format!("clock {{ trust: {text} }}")).unwrap().trust, trust, "{text}");
        }
        let other = load("clock { trust: synchronised, synchronised_file: '/run/chrony/set' }").unwrap();
        assert_eq!(other.synchronised_file, PathBuf::from("/run/chrony/set"));
        for (wrong, told) in [
            ("trust: sometimes", "auto, always, synchronised"),
            ("trust: '2026-02-30'", "auto, always, synchronised"),
            ("trust: '1969-12-31'", "auto, always, synchronised"),
            ("trust: '2026-13-01'", "auto, always, synchronised"),
            ("trust: 5", "auto, always, synchronised"),
            ("synchronised_file: x", "absolute path"),
            ("faith: x", "faith"),
        ] {
            let errors = load(&format!("clock {{ {wrong} }}")).unwrap_err();
            assert!(errors.contains(told), "{wrong}: {errors}");
        }
    }
}
