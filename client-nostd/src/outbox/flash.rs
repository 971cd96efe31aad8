//! Readings in NOR flash: they outlive the power. Feature `flash`.

use super::{Queue, QueueError, Reading};
use embedded_storage::nor_flash::NorFlash;
use midge_protocol::subject::Subject;

/// A queue in a range of flash, as a ring of pages, each of which is erased once for each time around: wear is even.
///
/// ```text
///   page    number, 4 bytes | checksum | record | record | ... | erased
///   record  subject's length, payload's, checksum | mark | subject | payload
/// ```
///
/// Each part begins on a unit, the largest of 8 bytes and what the flash writes and reads at once, and is written once.
/// The mark is written when a record is popped. A record whose checksum is wrong was cut by a loss of power, before its
/// push had returned: what is behind it in its page isn't used. A page is erased when all of it was popped and its room
/// is needed; if that is cut, some of its readings may come again, with the ids they had.
#[derive(Debug)]
pub struct Flash<F> {
    flash: F,
    base: u32,
    pages: u32,
    /// The oldest record, or `write`.
    read: Place,
    /// Where the next one goes.
    write: Place,
    /// Number of the page that is written to.
    number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Place {
    page: u32,
    offset: u32,
}

/// What stands at a place.
enum Found {
    Record(Record),
    /// Nothing yet.
    Erased,
    /// Nothing that can be used, up to the end of the page.
    Useless,
}

#[derive(Clone, Copy)]
struct Record {
    place: Place,
    subject: u16,
    payload: u16,
    is_popped: bool,
    /// Where the next one begins in the page.
    next: u32,
}

/// The largest unit.
const UNIT_MAX: usize = 32;

impl<F: NorFlash> Flash<F> {
    const UNIT: usize = {
        let larger = if F::WRITE_SIZE > F::READ_SIZE { F::WRITE_SIZE } else { F::READ_SIZE };
        let unit = if larger > 8 { larger } else { 8 };
        assert!(
            unit <= UNIT_MAX && unit % F::WRITE_SIZE == 0 && unit % F::READ_SIZE == 0,
            "no flash for a queue"
        );
        assert!(F::ERASE_SIZE >= 8 * unit && F::ERASE_SIZE % unit == 0, "no flash for a queue");
        unit
    };
    const PAGE: u32 = F::ERASE_SIZE as u32;
    const STEP: u32 = Self::UNIT as u32;

    /// The queue that is in a range of `flash`, or a new one. The range begins and ends at a page, and has two at least;
    /// whatever else was in it is lost.
    pub fn mount(flash: F, range: core::ops::Range<u32>) -> Result<Self, QueueError<F::Error>> {
        let pages = range.end.saturating_sub(range.start).checked_div(Self::PAGE).unwrap_or(0);
        let whole =
            range.start.checked_rem(Self::PAGE) == Some(0) && range.end.checked_rem(Self::PAGE) == Some(0);
        if pages < 2 || !whole {
            return Err(QueueError::Large);
        }
        let start = Place { page: 0, offset: Self::PAGE };
        let mut queue = Self { flash, base: range.start, pages, read: start, write: start, number: 0 };
        for page in 0..pages {
            if let Some(number) = queue.page_number(page)?
                && number > queue.number
            {
                (queue.number, queue.write.page) = (number, page);
            }
        }
        if queue.number == 0 {
            queue.open_page(0)?;
            queue.read = queue.write;
            return Ok(queue);
        }
        // The end of the newest page, and the first that wasn't popped from the oldest one on.
        queue.write.offset = Self::STEP;
        loop {
            match queue.found(queue.write)? {
                Found::Record(record) => queue.write.offset = record.next,
                Found::Erased => break,
                Found::Useless => {
                    queue.write.offset = Self::PAGE;
                    break;
                }
            }
        }
        queue.read = Place { page: queue.next_page(queue.write.page), offset: Self::STEP };
        queue.oldest()?;
        Ok(queue)
    }

    /// The flash, back.
    pub fn into_inner(self) -> F {
        self.flash
    }

    fn next_page(&self, page: u32) -> u32 {
        let next = page.wrapping_add(1);
        if next < self.pages { next } else { 0 }
    }

    /// Moves on to the oldest record that wasn't popped.
    fn oldest(&mut self) -> Result<Option<Record>, QueueError<F::Error>> {
        while self.read != self.write {
            let has_number = self.read.offset > Self::STEP || self.page_number(self.read.page)?.is_some();
            match if has_number { self.found(self.read)? } else { Found::Useless } {
                Found::Record(record) if !record.is_popped => return Ok(Some(record)),
                Found::Record(record) => self.read.offset = record.next,
                Found::Erased | Found::Useless if self.read.page == self.write.page => self.read = self.write,
                Found::Erased | Found::Useless => {
                    self.read = Place { page: self.next_page(self.read.page), offset: Self::STEP };
                }
            }
        }
        Ok(None)
    }

    fn found(&mut self, place: Place) -> Result<Found, QueueError<F::Error>> {
        let body = place.offset.saturating_add(Self::STEP).saturating_add(Self::STEP);
        if body > Self::PAGE {
            return Ok(Found::Useless);
        }
        let unit = self.unit(place.page, place.offset)?;
        if is_erased(unit.get(..Self::UNIT).unwrap_or_default()) {
            return Ok(Found::Erased);
        }
        let [a, b, c, d, sum @ ..] = head(&unit);
        let (subject, payload) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        let len = u32::from(subject).saturating_add(u32::from(payload));
        let next = body.saturating_add(len.div_ceil(Self::STEP).saturating_mul(Self::STEP));
        if next > Self::PAGE {
            return Ok(Found::Useless);
        }
        let mut crc = crc32(CRC_BEGIN, &[a, b, c, d]);
        let (mut at, mut left) = (body, len as usize);
        while left > 0 {
            let unit = self.unit(place.page, at)?;
            let part = left.min(Self::UNIT);
            crc = crc32(crc, unit.get(..part).unwrap_or_default());
            (at, left) = (at.wrapping_add(Self::STEP), left.wrapping_sub(part));
        }
        if crc != u32::from_le_bytes(sum) {
            return Ok(Found::Useless);
        }
        let mark = self.unit(place.page, place.offset.wrapping_add(Self::STEP))?;
        let is_popped = !is_erased(mark.get(..Self::UNIT).unwrap_or_default());
        Ok(Found::Record(Record { place, subject, payload, is_popped, next }))
    }

    fn page_number(&mut self, page: u32) -> Result<Option<u32>, QueueError<F::Error>> {
        let [a, b, c, d, sum @ ..] = head(&self.unit(page, 0)?);
        let number = [a, b, c, d];
        let is_right = crc32(CRC_BEGIN, &number) == u32::from_le_bytes(sum);
        Ok(is_right.then(|| u32::from_le_bytes(number)))
    }

    /// Erases a page and writes to it from here on.
    fn open_page(&mut self, page: u32) -> Result<(), QueueError<F::Error>> {
        self.number = self.number.saturating_add(1);
        self.write = Place { page, offset: Self::PAGE };
        let start = self.address(page, 0);
        self.flash.erase(start, start.saturating_add(Self::PAGE)).map_err(QueueError::Storage)?;
        let number = self.number.to_le_bytes();
        self.put(page, 0, &with_sum(number, crc32(CRC_BEGIN, &number)))?;
        self.write.offset = Self::STEP;
        Ok(())
    }

    fn address(&self, page: u32, offset: u32) -> u32 {
        self.base.wrapping_add(page.wrapping_mul(Self::PAGE)).wrapping_add(offset)
    }

    fn unit(&mut self, page: u32, offset: u32) -> Result<[u8; UNIT_MAX], QueueError<F::Error>> {
        let mut unit = [0; UNIT_MAX];
        let address = self.address(page, offset);
        if let Some(unit) = unit.get_mut(..Self::UNIT) {
            self.flash.read(address, unit).map_err(QueueError::Storage)?;
        }
        Ok(unit)
    }

    /// Writes a unit that begins with `bytes`.
    fn put(&mut self, page: u32, offset: u32, bytes: &[u8]) -> Result<(), QueueError<F::Error>> {
        let mut unit = [0xff; UNIT_MAX];
        unit.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        let address = self.address(page, offset);
        self.flash.write(address, unit.get(..Self::UNIT).unwrap_or_default()).map_err(QueueError::Storage)
    }

    fn write_record(
        &mut self,
        place: Place,
        subject: &[u8],
        payload: &[u8],
    ) -> Result<(), QueueError<F::Error>> {
        let (Ok(subject_len), Ok(payload_len)) = (u16::try_from(subject.len()), u16::try_from(payload.len()))
        else {
            return Err(QueueError::Large);
        };
        let ([a, b], [c, d]) = (subject_len.to_le_bytes(), payload_len.to_le_bytes());
        let lengths = [a, b, c, d];
        let crc = crc32(crc32(crc32(CRC_BEGIN, &lengths), subject), payload);
        self.put(place.page, place.offset, &with_sum(lengths, crc))?;
        let mut at = place.offset.wrapping_add(Self::STEP).wrapping_add(Self::STEP);
        let (mut unit, mut filled) = ([0; UNIT_MAX], 0usize);
        for byte in subject.iter().chain(payload) {
            if let Some(place) = unit.get_mut(filled) {
                *place = *byte;
            }
            filled = filled.wrapping_add(1);
            if filled == Self::UNIT {
                self.put(place.page, at, unit.get(..filled).unwrap_or_default())?;
                (at, filled) = (at.wrapping_add(Self::STEP), 0);
            }
        }
        if filled > 0 { self.put(place.page, at, unit.get(..filled).unwrap_or_default()) } else { Ok(()) }
    }
}

impl<F: NorFlash> Queue for Flash<F> {
    type Error = F::Error;

    fn push(&mut self, subject: Subject<'_>, payload: &[u8]) -> Result<(), QueueError<F::Error>> {
        let subject = subject.as_bytes();
        let len = u32::try_from(subject.len().saturating_add(payload.len())).unwrap_or(u32::MAX);
        let body = len.div_ceil(Self::STEP).saturating_mul(Self::STEP);
        let needed = body.saturating_add(Self::STEP).saturating_add(Self::STEP);
        if needed > Self::PAGE.saturating_sub(Self::STEP) || len > u16::MAX.into() {
            return Err(QueueError::Large);
        }
        if self.write.offset.saturating_add(needed) > Self::PAGE {
            let next = self.next_page(self.write.page);
            let waiting = self.oldest()?;
            if waiting.is_some() && self.read.page == next {
                return Err(QueueError::Full);
            }
            self.open_page(next)?;
            if waiting.is_none() {
                self.read = self.write;
            }
        }
        let place = self.write;
        // If a write fails, nothing more goes into this page.
        self.write.offset = Self::PAGE;
        self.write_record(place, subject, payload)?;
        self.write.offset = place.offset.saturating_add(needed);
        Ok(())
    }

    fn front<'r>(&mut self, buffer: &'r mut [u8]) -> Result<Option<Reading<'r>>, QueueError<F::Error>> {
        let Some(record) = self.oldest()? else { return Ok(None) };
        let needed = usize::from(record.subject).saturating_add(usize::from(record.payload));
        let Some(buffer) = buffer.get_mut(..needed) else { return Err(QueueError::Buffer { needed }) };
        let Place { page, offset } = record.place;
        let mut at = offset.wrapping_add(Self::STEP).wrapping_add(Self::STEP);
        for part in buffer.chunks_mut(Self::UNIT) {
            let unit = self.unit(page, at)?;
            part.iter_mut().zip(unit).for_each(|(place, byte)| *place = byte);
            at = at.wrapping_add(Self::STEP);
        }
        let number = self.page_number(page)?.unwrap_or(0);
        let (subject, payload) = buffer.split_at_checked(record.subject.into()).unwrap_or_default();
        Ok(Some(Reading { id: u64::from(number) << 32 | u64::from(offset), subject, payload }))
    }

    fn pop(&mut self) -> Result<(), QueueError<F::Error>> {
        if let Some(record) = self.oldest()? {
            self.put(record.place.page, record.place.offset.wrapping_add(Self::STEP), &[0; UNIT_MAX])?;
            self.read.offset = record.next;
        }
        Ok(())
    }
}

/// Whatever the flash is.
#[cfg(feature = "defmt")]
impl<F> defmt::Format for Flash<F> {
    fn format(&self, f: defmt::Formatter<'_>) {
        let Self { pages, read, write, number, .. } = self;
        defmt::write!(
            f,
            "Flash {{ pages: {}, read: {}, write: {}, number: {} }}",
            pages,
            read,
            write,
            number
        );
    }
}

fn head(unit: &[u8; UNIT_MAX]) -> [u8; 8] {
    unit.first_chunk().copied().unwrap_or_default()
}

fn with_sum([a, b, c, d]: [u8; 4], crc: u32) -> [u8; 8] {
    let [e, f, g, h] = crc.to_le_bytes();
    [a, b, c, d, e, f, g, h]
}

fn is_erased(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0xff)
}

const CRC_BEGIN: u32 = 0xffff_ffff;

/// CRC-32 without its last inversion, so that neither erased nor cleared flash has a right one.
fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0xedb8_8320 },
        )
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use embedded_storage::nor_flash::{ErrorType, NorFlashError, NorFlashErrorKind, ReadNorFlash};
    use std::vec::Vec;

    /// Flash that can lose its power before any write or erase of so many bytes, having done a part of it.
    #[derive(Clone, Debug)]
    struct Sim<const WRITE: usize> {
        bytes: Vec<u8>,
        /// Writes of one unit, and erases, until the power goes.
        left: usize,
        /// Erases of each page.
        erased: Vec<u32>,
        /// An erase that is cut has done the second half of the page, not the first.
        from_behind: bool,
    }

    const ERASE: usize = 256;

    impl<const WRITE: usize> Sim<WRITE> {
        fn new(pages: usize) -> Self {
            Self {
                bytes: std::vec![0x5a; pages * ERASE],
                left: usize::MAX,
                erased: std::vec![0; pages],
                from_behind: false,
            }
        }

        fn lives(&mut self) -> bool {
            self.left = self.left.saturating_sub(1);
            self.left > 0
        }
    }

    #[derive(Debug, PartialEq)]
    struct PowerCut;

    impl NorFlashError for PowerCut {
        fn kind(&self) -> NorFlashErrorKind {
            NorFlashErrorKind::Other
        }
    }

    impl<const WRITE: usize> ErrorType for Sim<WRITE> {
        type Error = PowerCut;
    }

    impl<const WRITE: usize> ReadNorFlash for Sim<WRITE> {
        const READ_SIZE: usize = 1;

        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), PowerCut> {
            bytes.copy_from_slice(&self.bytes[offset as usize..][..bytes.len()]);
            Ok(())
        }

        fn capacity(&self) -> usize {
            self.bytes.len()
        }
    }

    impl<const WRITE: usize> NorFlash for Sim<WRITE> {
        const WRITE_SIZE: usize = WRITE;
        const ERASE_SIZE: usize = ERASE;

        fn erase(&mut self, from: u32, to: u32) -> Result<(), PowerCut> {
            let (from, to) = (from as usize, to as usize);
            assert!(from.is_multiple_of(ERASE) && to == from + ERASE);
            let middle = from + ERASE / 2;
            if self.lives() {
                self.bytes[from..to].fill(0xff);
                self.erased[from / ERASE] += 1;
                Ok(())
            } else {
                self.bytes[if self.from_behind { middle..to } else { from..middle }].fill(0xff);
                Err(PowerCut)
            }
        }

        fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), PowerCut> {
            assert!((offset as usize).is_multiple_of(WRITE) && bytes.len().is_multiple_of(WRITE));
            let lives = self.lives();
            let done = if lives { bytes.len() } else { bytes.len() / 2 };
            for (place, byte) in self.bytes[offset as usize..].iter_mut().zip(&bytes[..done]) {
                assert_eq!(*place, 0xff, "written twice");
                *place = *byte;
            }
            if lives { Ok(()) } else { Err(PowerCut) }
        }
    }

    fn payload(number: usize) -> Vec<u8> {
        (0..number * 13 % 70).map(|at| (at * 7 + number) as u8).collect()
    }

    /// All that is in the queue, by number, which leads each payload.
    fn drain<const WRITE: usize>(queue: &mut Flash<Sim<WRITE>>) -> Vec<usize> {
        let (mut seen, mut buffer) = (Vec::new(), [0; 128]);
        while let Some(reading) = queue.front(&mut buffer).unwrap() {
            assert_eq!(reading.subject, b"a.b");
            let (number, rest) = reading.payload.split_at(2);
            let number = usize::from(u16::from_le_bytes([number[0], number[1]]));
            assert_eq!(rest, payload(number));
            seen.push(number);
            queue.pop().unwrap();
        }
        seen
    }

    /// Pushes and pops until the power goes after `left` operations; then looks what is there.
    fn cut<const WRITE: usize>(left: usize, from_behind: bool, pages: usize) -> bool {
        let range = 0..(pages * ERASE) as u32;
        let mut queue = Flash::mount(Sim::<WRITE>::new(pages), range.clone()).unwrap();
        (queue.flash.left, queue.flash.from_behind) = (left, from_behind);
        let (mut pushed, mut popped, mut number) = (0, 0, 0);
        let cut = loop {
            if number == PUSHES {
                break false;
            }
            number += 1;
            let bytes = [&(pushed as u16).to_le_bytes()[..], &payload(pushed)].concat();
            match queue.push(Subject::new(b"a.b").unwrap(), &bytes) {
                Ok(()) => pushed += 1,
                Err(QueueError::Full) => {}
                Err(QueueError::Storage(PowerCut)) => break true,
                Err(error) => panic!("{error:?}"),
            }
            if number % 7 != 0 || number > 80 {
                match queue.pop() {
                    Ok(()) => popped = pushed.min(popped + 1),
                    Err(QueueError::Storage(PowerCut)) => break true,
                    Err(error) => panic!("{error:?}"),
                }
            }
        };
        let mut flash = queue.into_inner();
        flash.left = usize::MAX;
        let mut queue = Flash::mount(flash, range.clone()).unwrap();
        let seen = drain(&mut queue);
        let first = seen.first().copied().unwrap_or(popped);
        let last = seen.last().map_or(popped, |last| last + 1);
        assert!(seen.iter().copied().eq(first..last), "in order: {seen:?}");
        // Of what was popped some may come again, if an erase was cut; a push that had not returned may have been done.
        assert!(
            first <= popped + 1 && (pushed..=pushed + 1).contains(&last.max(pushed)),
            "{seen:?} {popped} {pushed}"
        );
        assert!(seen.is_empty() || last >= pushed, "{seen:?} {popped} {pushed}");
        assert!(!seen.is_empty() || popped + 1 >= pushed, "{popped} {pushed}");
        // It goes on as before.
        for number in [500, 501] {
            let bytes = [&(number as u16).to_le_bytes()[..], &payload(number)].concat();
            queue.push(Subject::new(b"a.b").unwrap(), &bytes).unwrap();
        }
        let mut queue = Flash::mount(queue.into_inner(), range).unwrap();
        assert_eq!(drain(&mut queue), [500, 501]);
        let (least, most) =
            (queue.flash.erased.iter().min().unwrap(), queue.flash.erased.iter().max().unwrap());
        assert!(most - least <= 2, "wear is even: {:?}", queue.flash.erased);
        cut
    }

    /// What is pushed before all is well, and the moments from one cut to the next. Miri, which is slow, looks at few: what it
    /// judges is the code, not the moments.
    const PUSHES: usize = if cfg!(miri) { 24 } else { 200 };
    const STEP: usize = if cfg!(miri) { 61 } else { 1 };

    #[test]
    fn power_goes_at_any_time() {
        for from_behind in [false, true] {
            for pages in [2, 3, 5] {
                let mut left = 1;
                while cut::<4>(left, from_behind, pages) {
                    left += STEP;
                }
                assert!(left > PUSHES * 5 / 2);
            }
            let mut left = 1;
            while cut::<32>(left, from_behind, 3) {
                left += 3 * STEP;
            }
        }
    }

    #[test]
    fn bounds() {
        let subject = Subject::new(b"a").unwrap();
        assert_eq!(Flash::mount(Sim::<4>::new(2), 0..256).unwrap_err(), QueueError::Large);
        assert_eq!(Flash::mount(Sim::<4>::new(2), 8..512).unwrap_err(), QueueError::Large);
        let mut queue = Flash::mount(Sim::<4>::new(2), 0..512).unwrap();
        assert_eq!(queue.push(subject, &[0; 256]), Err(QueueError::Large));
        let mut count = 0;
        while queue.push(subject, &[7; 100]).is_ok() {
            count += 1;
        }
        assert_eq!((count, queue.push(subject, &[7; 100])), (4, Err(QueueError::Full)));
        assert_eq!(queue.front(&mut [0; 100]), Err(QueueError::Buffer { needed: 101 }));
        let mut ids = Vec::new();
        while let Some(reading) = queue.front(&mut [0; 101]).unwrap() {
            ids.push(reading.id);
            queue.pop().unwrap();
        }
        assert!(ids.is_sorted_by(|one, other| one < other), "{ids:?}");
        queue.push(subject, &[7; 100]).unwrap();
    }
}
