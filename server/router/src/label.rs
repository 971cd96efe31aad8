//! Bytes of a node or queue group: short ones inline, long ones in cells.

use core::cmp::Ordering;

use midge_protocol::subject::{self, REST, SEPARATOR, STAR};

use crate::slab::Slab;

/// Where the tails of long labels live.
pub(crate) type Cells = Slab<Cell>;

/// One piece of a long label: 24 bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cell {
    next: u32,
    bytes: [u8; CELL],
}

/// Up to 15 bytes in 16; a longer label keeps its first 7 bytes here and the tail in a chain of cells.
///
/// ```text
/// short  | tag: wild, length | text ......................... |
/// long   | tag: wild, LONG   | first cell | length | text ... |
/// ```
#[derive(Clone, Copy, Default)]
pub(crate) struct Label {
    tag: u8,
    bytes: [u8; SHORT],
}

impl Label {
    /// Stores `text`, whose length the caller keeps within a `u32`.
    pub(crate) fn new(text: &[u8], cells: &mut Cells) -> Self {
        let mut bytes = [0; SHORT];
        let wild = if subject::is_literal(text) { 0 } else { WILD };
        if text.len() <= SHORT {
            bytes[..text.len()].copy_from_slice(text);
            return Self { tag: wild | text.len() as u8, bytes };
        }
        let (head, tail) = text.split_at(SHORT - HEAD);
        let mut next = u32::MAX;
        for piece in tail.chunks(CELL).rev() {
            let mut cell = Cell { next, bytes: [0; CELL] };
            cell.bytes[..piece.len()].copy_from_slice(piece);
            next = cells.insert(cell);
        }
        bytes[..4].copy_from_slice(&next.to_ne_bytes());
        bytes[4..HEAD].copy_from_slice(&(text.len() as u32).to_ne_bytes());
        bytes[HEAD..].copy_from_slice(head);
        Self { tag: wild | LONG, bytes }
    }

    /// Cells that [`Label::new`] takes for a text of this length.
    pub(crate) fn cells_for(len: usize) -> usize {
        if len <= SHORT { 0 } else { (len - (SHORT - HEAD)).div_ceil(CELL) }
    }

    /// Gives the cells back.
    pub(crate) fn free(self, cells: &mut Cells) {
        let Some((mut cell, len)) = self.long() else { return };
        for _ in 0..Self::cells_for(len) {
            cell = cells.remove(cell).next;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.long().map_or(self.tag as usize & LEN, |(_, len)| len)
    }

    /// What is left of `subject` behind the tokens that this label stands for.
    pub(crate) fn advance<'s>(&self, subject: &'s [u8], cells: &Cells) -> Option<&'s [u8]> {
        if self.tag & WILD != 0 {
            return advance_wild(self.bytes(cells), subject);
        }
        self.strip_from(subject, cells).filter(|rest| matches!(rest, [] | [SEPARATOR, ..]))
    }

    /// What is left of `text` behind this label.
    pub(crate) fn strip_from<'t>(&self, text: &'t [u8], cells: &Cells) -> Option<&'t [u8]> {
        self.pieces(cells).try_fold(text, |text, piece| text.strip_prefix(piece))
    }

    /// True if this label is `token` or starts with `token` and a separator.
    pub(crate) fn starts_with_token(&self, mut token: &[u8], cells: &Cells) -> bool {
        for piece in self.pieces(cells) {
            let len = piece.len().min(token.len());
            if piece[..len] != token[..len] {
                return false;
            }
            token = &token[len..];
            if let Some(byte) = piece.get(len) {
                return token.is_empty() && *byte == SEPARATOR;
            }
        }
        token.is_empty()
    }

    pub(crate) fn is(&self, text: &[u8], cells: &Cells) -> bool {
        self.strip_from(text, cells).is_some_and(<[u8]>::is_empty)
    }

    pub(crate) fn cmp(&self, other: &Self, cells: &Cells) -> Ordering {
        self.bytes(cells).cmp(other.bytes(cells))
    }

    pub(crate) fn bytes<'a>(&'a self, cells: &'a Cells) -> impl Iterator<Item = u8> + 'a {
        self.pieces(cells).flatten().copied()
    }

    /// The text, unless it is cut over several cells.
    pub(crate) fn as_short(&self) -> Option<&[u8]> {
        self.long().is_none().then(|| &self.bytes[..self.tag as usize & LEN])
    }

    /// The text or, of a long one, its start: enough to tell whether the first token is a wildcard.
    pub(crate) fn head(&self) -> &[u8] {
        self.as_short().unwrap_or(&self.bytes[HEAD..])
    }

    pub(crate) fn append_to(&self, out: &mut Vec<u8>, cells: &Cells) {
        self.pieces(cells).for_each(|piece| out.extend_from_slice(piece));
    }

    pub(crate) fn to_vec(self, cells: &Cells) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.len());
        self.append_to(&mut text, cells);
        text
    }

    fn pieces<'a>(&'a self, cells: &'a Cells) -> Pieces<'a> {
        let (cell, left) = self.long().map_or((0, 0), |(cell, len)| (cell, len - (SHORT - HEAD)));
        Pieces { head: Some(self.head()), cell, left, cells }
    }

    /// First cell and length, if the label is a long one.
    fn long(&self) -> Option<(u32, usize)> {
        let [c0, c1, c2, c3, l0, l1, l2, l3, ..] = self.bytes;
        (self.tag & LONG != 0)
            .then(|| (u32::from_ne_bytes([c0, c1, c2, c3]), u32::from_ne_bytes([l0, l1, l2, l3]) as usize))
    }
}

/// The text of a label, piece by piece.
struct Pieces<'a> {
    head: Option<&'a [u8]>,
    cell: u32,
    left: usize,
    cells: &'a Cells,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        if self.left == 0 {
            return None;
        }
        let cell = &self.cells[self.cell];
        let piece = &cell.bytes[..self.left.min(CELL)];
        self.cell = cell.next;
        self.left -= piece.len();
        Some(piece)
    }
}

/// [`Label::advance`] for a label with wildcards.
fn advance_wild(label: impl Iterator<Item = u8>, mut subject: &[u8]) -> Option<&[u8]> {
    let mut label = label.peekable();
    loop {
        let len = subject.iter().position(|b| *b == SEPARATOR).unwrap_or(subject.len());
        let (token, rest) = subject.split_at(len);
        let (mut ours, mut first) = (0, 0);
        let mut equal = true;
        while let Some(byte) = label.next_if(|b| *b != SEPARATOR) {
            equal &= token.get(ours) == Some(&byte);
            (ours, first) = (ours + 1, if ours == 0 { byte } else { 0 });
        }
        match [first].as_slice() {
            REST => return Some(&[]),
            STAR => {}
            _ if equal && ours == len => {}
            _ => return None,
        }
        match (label.next(), rest) {
            (None, _) => return Some(rest),
            (Some(_), [_, rest @ ..]) => subject = rest,
            (Some(_), []) => return None,
        }
    }
}

/// Bytes of a label beside its tag: the longest text that needs no cell.
const SHORT: usize = 15;
/// Bytes of a long label that are not text: first cell and length.
const HEAD: usize = 8;
/// Text bytes in a cell: with a unique inbox (22 characters) and a wildcard behind it, one cell is enough.
const CELL: usize = 20;
const LONG: u8 = 0x80;
const WILD: u8 = 0x40;
/// The tag bits that hold the length of a short label.
const LEN: usize = 0x0f;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_texts_of_every_length() {
        let mut cells = Cells::new();
        for len in 0..200usize {
            let text: Vec<u8> = (0..len).map(|i| b'a' + (i % 26) as u8).collect();
            let before = cells.len();
            let label = Label::new(&text, &mut cells);
            assert_eq!(cells.len() - before, Label::cells_for(len));
            assert_eq!(label.bytes(&cells).collect::<Vec<_>>(), text);
            assert!(label.is(&text, &cells) && label.starts_with_token(&text, &cells));
            let longer = [&text[..], b".x"].concat();
            assert_eq!(label.strip_from(&longer, &cells), Some(&b".x"[..]));
            assert!(!label.is(&longer, &cells) && !label.starts_with_token(&longer, &cells));
            let dotted = Label::new(&longer, &mut cells);
            assert!(dotted.starts_with_token(&text, &cells));
            assert!(len == 0 || !dotted.starts_with_token(&text[1..], &cells));
            assert_eq!(label.cmp(&dotted, &cells), Ordering::Less);
            dotted.free(&mut cells);
            label.free(&mut cells);
            assert_eq!(cells.len(), 0);
        }
    }

    #[test]
    fn advances_as_filters_match() {
        for (label, subject, rest) in [
            ("a.b", "a.b", Some("")),
            ("a.b", "a.b.c", Some(".c")),
            ("a.b", "a.bc", None),
            ("a.b", "a", None),
            ("a.*", "a.b.c", Some(".c")),
            ("a.*", "a", None),
            ("*.b", "*.b", Some("")),
            ("*.b", "a.*", None),
            ("a.>", "a.b.c", Some("")),
            ("a.>", "a", None),
            ("a.*.cc", "a.b.c", None),
            ("a.*.c", "a.b.cc", None),
            ("a.**.c", "a.b.c", None),
            ("0123456789.*.0123456789.>", "0123456789.x.0123456789.y.z", Some("")),
            ("0123456789.*.0123456789", "0123456789.x.0123456789.y.z", Some(".y.z")),
        ] {
            let mut cells = Cells::new();
            let made = Label::new(label.as_bytes(), &mut cells);
            let found = made.advance(subject.as_bytes(), &cells);
            assert_eq!(found, rest.map(str::as_bytes), "{label} {subject}");
        }
    }
}
