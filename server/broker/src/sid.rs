//! A subscriber's own name for a subscription.

/// The bytes of a sid in 16 bytes of memory. Clients count upwards, so nearly all fit; longer ones are boxed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sid(Repr);

#[derive(Clone, PartialEq, Eq)]
enum Repr {
    Inline {
        len: u8,
        bytes: [u8; INLINE_MAX],
    },
    // Boxed twice to keep the pointer thin.
    #[allow(clippy::box_collection)]
    Boxed(Box<Vec<u8>>),
}

const INLINE_MAX: usize = 14;

impl Sid {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Boxed(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Sid {
    fn from(sid: &[u8]) -> Self {
        match u8::try_from(sid.len()) {
            Ok(len) if sid.len() <= INLINE_MAX => {
                let mut bytes = [0; INLINE_MAX];
                bytes[..sid.len()].copy_from_slice(sid);
                Self(Repr::Inline { len, bytes })
            }
            _ => Self(Repr::Boxed(Box::new(sid.to_vec()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_every_length() {
        assert_eq!(size_of::<Sid>(), 16);
        for len in 0..40 {
            let bytes = vec![b'7'; len];
            assert_eq!(Sid::from(&bytes[..]).as_bytes(), bytes);
        }
    }
}
