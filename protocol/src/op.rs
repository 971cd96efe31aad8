//! The operations of the protocol as plain values that borrow the bytes they were read from.

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientOp<'a> {
    /// `CONNECT {json}`; read the argument with [`crate::connect::Connect::parse`].
    Connect(&'a [u8]),
    /// `PUB` or `HPUB`.
    Pub(Message<'a>),
    /// `SUB subject [queue] sid`.
    Sub(Sub<'a>),
    /// `UNSUB sid [max]`.
    Unsub(Unsub<'a>),
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `INFO {json}` from a client means nothing to a server.
    Info(&'a [u8]),
    /// `+OK` from a client means nothing to a server.
    Ok,
    /// `-ERR text`: the peer gives up.
    Err(&'a [u8]),
}

/// What a server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerOp<'a> {
    /// `INFO {json}`; read the argument with [`crate::info::Info::parse`].
    Info(&'a [u8]),
    /// `MSG` or `HMSG`, and the sid of the subscription that it is for.
    Msg {
        /// The subscriber's own name of the subscription.
        sid: &'a [u8],
        /// The message.
        message: Message<'a>,
    },
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR 'text'`, without the quotes.
    Err(&'a [u8]),
}

/// What a server and a leaf node say to each other, either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafOp<'a> {
    /// `INFO {json}`.
    Info(&'a [u8]),
    /// `CONNECT {json}`.
    Connect(&'a [u8]),
    /// `LS+ subject [queue weight]`: somebody there wants messages.
    Sub(LeafSub<'a>),
    /// `LS- subject [queue]`: nobody there does any more.
    Unsub {
        /// As in LS+.
        subject: &'a [u8],
        /// As in LS+.
        queue: Option<&'a [u8]>,
    },
    /// `LMSG` or `HMSG`.
    Msg {
        /// The queue groups of which one member here is to get it, besides those who are in none.
        queues: Queues<'a>,
        /// The message.
        message: Message<'a>,
    },
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR 'text'`, without the quotes.
    Err(&'a [u8]),
}

/// `LS+ subject [queue weight]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafSub<'a> {
    /// What is asked for. Not checked; see [`crate::subject::Filter::new`].
    pub subject: &'a [u8],
    /// The queue group, and how many members it has there.
    pub queue: Option<(&'a [u8], u32)>,
}

/// Names of queue groups as they stand in LMSG.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues<'a>(pub(crate) &'a [u8]);

impl<'a> Queues<'a> {
    /// The names.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.0.split(|byte| matches!(byte, b' ' | b'\t')).filter(|name| !name.is_empty())
    }

    /// True if none is named.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is named.
    pub fn contains(self, queue: &[u8]) -> bool {
        self.iter().any(|name| name == queue)
    }
}

/// A message as it stands on the wire: `subject [reply] [header size] size CR LF body`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Where it goes. Not checked: a subject with an empty token reaches nobody.
    pub subject: &'a [u8],
    /// Where an answer is wanted.
    pub reply: Option<&'a [u8]>,
    /// The header block's length as the peer wrote it; `None` for PUB and MSG.
    pub header_size: Option<Size<'a>>,
    /// The length of header block and payload as the peer wrote it.
    pub size: Size<'a>,
    /// Header block, payload, CR LF. Exactly `size.value + 2` bytes.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The header block, from `NATS/1.0` to its empty line; empty if there is none.
    pub fn header(&self) -> &'a [u8] {
        self.split().0
    }

    /// The payload, without the CR LF behind it.
    pub fn payload(&self) -> &'a [u8] {
        self.payload_crlf().strip_suffix(b"\r\n").unwrap_or_default()
    }

    /// The payload and the CR LF behind it.
    pub fn payload_crlf(&self) -> &'a [u8] {
        self.split().1
    }

    fn split(&self) -> (&'a [u8], &'a [u8]) {
        let at = self.header_size.map_or(0, |size| size.value as usize);
        self.body.split_at_checked(at).unwrap_or((&[], self.body))
    }
}

/// The control line of MSG or HMSG, for a reader that can't hold the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The subscriber's own name of the subscription.
    pub sid: &'a [u8],
    /// Where the message goes.
    pub subject: &'a [u8],
    /// Where an answer is wanted.
    pub reply: Option<&'a [u8]>,
    /// The header block's length; `None` for MSG.
    pub header_size: Option<Size<'a>>,
    /// The length of header block and payload. CR LF follows them.
    pub size: Size<'a>,
}

/// A size, as a number and as the digits that stood for it, so that passing a message on needs no formatting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size<'a> {
    /// Bytes.
    pub value: u32,
    /// The peer's digits; leading zeros are kept.
    pub text: &'a [u8],
}

/// `SUB subject [queue] sid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sub<'a> {
    /// What is asked for. Not checked; see [`crate::subject::Filter::new`].
    pub subject: &'a [u8],
    /// The queue group.
    pub queue: Option<&'a [u8]>,
    /// The subscriber's own name for it.
    pub sid: &'a [u8],
}

/// `UNSUB sid [max]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsub<'a> {
    /// The name given in SUB.
    pub sid: &'a [u8],
    /// Deliveries since SUB after which it ends; `None` or `Some(0)`: now.
    pub max: Option<u32>,
}
