//! What a node has to tell.

/// What a node has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// It runs, and waits for a broker.
    Started,
    /// The broker let it in.
    Connected,
    /// The connection is gone; it tries again.
    Lost,
    /// The broker complains.
    Complaint,
    /// A reading is stored.
    Stored,
    /// The outbox is full: the oldest reading went.
    Dropped,
    /// A command was carried out.
    Command,
    /// The desired state changed.
    Desired,
}

impl Log {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "waiting for a broker",
            Self::Connected => "connected",
            Self::Lost => "connection lost",
            Self::Complaint => "the broker complains",
            Self::Stored => "a reading is stored",
            Self::Dropped => "outbox full: dropped the oldest reading",
            Self::Command => "carried out a command",
            Self::Desired => "took over the desired state",
        }
    }

    /// To defmt's log, each a text of its own: two bytes on the wire.
    #[cfg(feature = "defmt")]
    pub fn defmt(self) {
        match self {
            Self::Started => defmt::info!("waiting for a broker"),
            Self::Connected => defmt::info!("connected"),
            Self::Lost => defmt::warn!("connection lost"),
            Self::Complaint => defmt::warn!("the broker complains"),
            Self::Stored => defmt::info!("a reading is stored"),
            Self::Dropped => defmt::warn!("outbox full: dropped the oldest reading"),
            Self::Command => defmt::info!("carried out a command"),
            Self::Desired => defmt::info!("took over the desired state"),
        }
    }
}
