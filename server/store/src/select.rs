//! Which messages of a stream somebody wants: by their subjects.

use crate::subjects::Subjects;

/// A choice among the subjects of one stream. Keep it between calls: it remembers what it decided, in two bits a subject.
pub struct Select {
    by: By,
    /// Two bits for each subject's id: 0 not asked yet, 1 no, 2 yes.
    memo: Vec<u8>,
    epoch: u64,
}

type Filter = Box<dyn Fn(&[u8]) -> bool + Send>;

enum By {
    All,
    Subject(Box<[u8]>),
    Filter(Filter),
}

impl Select {
    /// Every message.
    #[must_use]
    pub fn all() -> Self {
        Self { by: By::All, memo: Vec::new(), epoch: 0 }
    }

    /// The messages of one subject, taken literally.
    #[must_use]
    pub fn subject(subject: &[u8]) -> Self {
        Self { by: By::Subject(subject.into()), memo: Vec::new(), epoch: 0 }
    }

    /// The messages whose subject the filter likes. It must always say the same of the same subject.
    #[must_use]
    pub fn filter(filter: impl Fn(&[u8]) -> bool + Send + 'static) -> Self {
        Self { by: By::Filter(Box::new(filter)), memo: Vec::new(), epoch: 0 }
    }

    pub(crate) fn is_all(&self) -> bool {
        matches!(self.by, By::All)
    }

    /// The only subject that can be wanted: `Some(None)` if it has no messages.
    pub(crate) fn only(&self, subjects: &Subjects) -> Option<Option<u32>> {
        match &self.by {
            By::Subject(subject) => Some(subjects.id(subject)),
            _ => None,
        }
    }

    pub(crate) fn wants(&mut self, subjects: &Subjects, id: u32) -> bool {
        match &self.by {
            By::All => true,
            By::Subject(subject) => subjects.text(id) == &**subject,
            By::Filter(filter) => {
                if self.epoch != subjects.epoch {
                    self.memo.clear();
                    self.epoch = subjects.epoch;
                }
                let (byte, shift) = (id as usize / 4, id % 4 * 2);
                if self.memo.len() <= byte {
                    self.memo.resize(byte + 1, 0);
                }
                let known = self.memo[byte] >> shift & 3;
                if known != 0 {
                    return known == 2;
                }
                let wanted = filter(subjects.text(id));
                self.memo[byte] |= (1 + u8::from(wanted)) << shift;
                wanted
            }
        }
    }
}

impl std::fmt::Debug for Select {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.by {
            By::All => f.write_str("Select::all()"),
            By::Subject(subject) => write!(f, "Select::subject({})", subject.escape_ascii()),
            By::Filter(_) => f.write_str("Select::filter(…)"),
        }
    }
}
