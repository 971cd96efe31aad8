//! Scanning: the frames of a segment, whole or not, and where the log ends.

use std::borrow::Cow;
use std::io;

use crate::checksum::Seed;
use crate::disk::{Disk, read_full};
use crate::frame::{self, Frame};
use crate::header::{self, Header};
use crate::record::Found;
use crate::store::Store;

/// A frame that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) head: frame::Head,
    pub(crate) sum: u32,
    pub(crate) page: u32,
    /// Everything in it is as it was written.
    pub(crate) complete: bool,
    /// Head and foot are.
    pub(crate) both: bool,
    /// It comes after bytes that should have been a frame.
    pub(crate) after_gap: bool,
}

/// No frame is larger: it would not be ours.
const FRAME_BYTES_MAX: u64 = 48 << 20;

impl<D: Disk> Store<D> {
    /// Finds the frames of a segment, whole or not. With `until`, nothing is looked for from that page on.
    pub(crate) fn frames(
        &self,
        file: &D::File,
        header: &Header,
        size: u64,
        until: Option<u32>,
    ) -> io::Result<Vec<At>> {
        let (page_bytes, seed) = (header.page_bytes, header.seed());
        let in_file = u32::try_from(size / u64::from(page_bytes)).unwrap_or(u32::MAX);
        let limit = header.pages.min(in_file).min(until.unwrap_or(u32::MAX));
        let mut frames = Vec::new();
        let (mut page, mut after_gap) = (header::PAGES, false);
        let mut first = vec![0; page_bytes as usize];
        while page < limit {
            let offset = u64::from(page) * u64::from(page_bytes);
            read_full(&self.disk, file, &mut first, offset, false)?;
            let at_start = frame::Head::at_start(&first, seed, offset);
            let fits = |head: &frame::Head| {
                head.pages <= limit - page && u64::from(head.pages) * u64::from(page_bytes) <= FRAME_BYTES_MAX
            };
            let (head, sum) = match at_start.filter(|(head, _)| fits(head)) {
                Some(found) => found,
                None => match self.look_further(file, header, page, limit)? {
                    Next::Foot(head, sum) if fits(&head) => (head, sum),
                    Next::Foot(..) | Next::Nothing => break,
                    Next::Head(next) => {
                        after_gap = true;
                        page = next;
                        continue;
                    }
                },
            };
            let mut bytes = std::mem::take(&mut first);
            let length = head.pages as usize * page_bytes as usize;
            if bytes.len() < length {
                let have = bytes.len();
                bytes.resize(length, 0);
                read_full(&self.disk, file, &mut bytes[have..], offset + have as u64, false)?;
            }
            let both = has_both(&head, &bytes, seed, offset, page_bytes);
            let complete =
                both && Frame::new(head, &bytes, seed, offset).is_some_and(|frame| is_complete(&frame));
            frames.push(At { head, sum, page, complete, both, after_gap });
            after_gap = false;
            page += head.pages;
            bytes.truncate(page_bytes as usize);
            first = bytes;
        }
        Ok(frames)
    }

    /// The frames of a segment in force.
    pub(crate) fn frames_of(&self, number: u64) -> io::Result<Vec<At>> {
        let Some(segment) = self.segments.get(&number) else { return Ok(Vec::new()) };
        self.frames(&segment.file, &segment.header, u64::MAX, Some(segment.end_page))
    }

    /// There is no head on `page`: looks for the foot of its frame, or the next head.
    fn look_further(&self, file: &D::File, header: &Header, page: u32, limit: u32) -> io::Result<Next> {
        let page_bytes = header.page_bytes as usize;
        let at_once = (64 << 10) / page_bytes.min(64 << 10);
        let mut buffer = vec![0; at_once.min((limit - page) as usize) * page_bytes];
        let mut next = page;
        while next < limit {
            let pages = buffer.len() / page_bytes;
            let pages = pages.min((limit - next) as usize);
            let bytes = &mut buffer[..pages * page_bytes];
            read_full(&self.disk, file, bytes, u64::from(next) * page_bytes as u64, false)?;
            for bytes in bytes.chunks_exact(page_bytes) {
                let offset = u64::from(next) * page_bytes as u64;
                if next > page && frame::Head::at_start(bytes, header.seed(), offset).is_some() {
                    return Ok(Next::Head(next));
                }
                let end = offset + page_bytes as u64;
                if let Some((head, sum, start)) =
                    frame::Head::at_end(bytes, header.seed(), end, header.page_bytes)
                    && start == u64::from(page) * page_bytes as u64
                {
                    return Ok(Next::Foot(head, sum));
                }
                next += 1;
            }
        }
        Ok(Next::Nothing)
    }

    /// Reads a frame's pages.
    pub(crate) fn frame_bytes(&self, file: &D::File, header: &Header, frame: &At) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; frame.head.pages as usize * header.page_bytes as usize];
        read_full(&self.disk, file, &mut bytes, u64::from(frame.page) * u64::from(header.page_bytes), false)?;
        Ok(bytes)
    }

    /// A frame's ops, if a copy is right.
    pub(crate) fn ops_of(&self, file: &D::File, header: &Header, at: &At) -> io::Result<Option<Vec<u8>>> {
        let bytes = self.frame_bytes(file, header, at)?;
        let offset = u64::from(at.page) * u64::from(header.page_bytes);
        let Some(frame) = Frame::new(at.head, &bytes, header.seed(), offset) else { return Ok(None) };
        Ok(frame.any_ops().map(Cow::into_owned))
    }
}

enum Next {
    /// The foot of the frame was found.
    Foot(frame::Head, u32),
    /// The next frame starts on this page.
    Head(u32),
    Nothing,
}

/// The frames that count.
pub(crate) struct Scan {
    pub(crate) frames: Vec<At>,
    /// Where they end.
    pub(crate) end_page: u32,
    /// Where there is room for an index.
    pub(crate) index_page: u32,
    /// The page from which on nothing counts although something is there, and what it is.
    pub(crate) cut: Option<(u32, Vec<At>)>,
}

/// Decides where the log ends. `until`: the first frame of the next segment; everything before it was durable.
pub(crate) fn accept(frames: Vec<At>, until: Option<u64>) -> Scan {
    // A frame says up to where everything was synced when it was written: whatever is wrong there is rot. What comes after
    // was under way, and counts as far as it is whole and in order.
    let durable = match until {
        Some(until) => until - 1,
        None => frames.iter().map(|frame| frame.head.durable).max().unwrap_or(0),
    };
    let mut accepted: Vec<At> = Vec::new();
    let mut rest = frames.into_iter().peekable();
    while let Some(frame) = rest.peek() {
        let number = frame.head.number;
        let previous = accepted.last().map(|last| (last.head.number, last.sum));
        let in_order =
            previous.is_none_or(|(before, _)| number > before) && until.is_none_or(|until| number < until);
        let follows = match previous {
            Some((before, sum)) if number == before + 1 => frame.head.previous == sum,
            // Those between were synced, and are gone.
            Some(_) => number <= durable.saturating_add(1),
            None => true,
        };
        if !in_order || (number > durable && !(follows && frame.complete)) {
            break;
        }
        accepted.extend(rest.next());
    }
    let end_page = accepted.last().map_or(header::PAGES, |last| last.page + last.head.pages);
    let cut: Vec<At> = rest.collect();
    let index_page = cut.last().map_or(end_page, |last| last.page + last.head.pages);
    Scan {
        frames: accepted,
        end_page,
        index_page,
        cut: cut.first().map(|first| first.page).map(|page| (page, cut)),
    }
}

fn has_both(head: &frame::Head, bytes: &[u8], seed: Seed, offset: u64, page_bytes: u32) -> bool {
    let end = offset + bytes.len() as u64;
    let last = bytes.get(bytes.len() - page_bytes as usize..).unwrap_or_default();
    let at_start = frame::Head::at_start(bytes, seed, offset).map(|(head, _)| head);
    let at_end = frame::Head::at_end(last, seed, end, page_bytes).map(|(head, ..)| head);
    at_start == Some(*head) && at_end == Some(*head)
}

fn is_complete(frame: &Frame<'_>) -> bool {
    let (one, two) = frame.ops();
    if one.is_none() || two.is_none() {
        return false;
    }
    let (records, _) = frame.records();
    let (mut count, mut sums) = (0, 0);
    for at in frame.walk() {
        if !matches!(at.found, Found::Whole { repaired: false, .. }) {
            return false;
        }
        count += 1;
        sums = crc32c::crc32c_append(sums, records.get(at.at..at.at + 8).unwrap_or_default());
    }
    count == frame.head.records && sums == frame.head.records_sum
}
