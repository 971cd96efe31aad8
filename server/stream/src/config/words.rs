//! The words of configurations that are chosen from a few.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        words! { $(#[$doc])* $name {
            $($(#[$variant_doc])* $variant = $text,)*
        // Go shows the JSON text, as a string.
        } |text| format!("can not unmarshal {:?}", format!("{text:?}")) }
    };
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* } $wrong:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// As configurations write it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                match text.as_str() {
                    $($text => Ok(Self::$variant),)*
                    other => {
                        let wrong: fn(&str) -> String = $wrong;
                        Err(D::Error::custom(wrong(other)))
                    }
                }
            }
        }
    };
}

words! {
    /// When messages may go.
    Retention {
        /// When a limit is reached.
        #[default]
        Limits = "limits",
        /// When all consumers that want them have acknowledged them.
        Interest = "interest",
        /// When one consumer has acknowledged them.
        WorkQueue = "workqueue",
    }
}

words! {
    /// What goes when a stream is full.
    Discard {
        /// The oldest messages.
        #[default]
        Old = "old",
        /// The new one.
        New = "new",
    }
}

words! {
    /// Where messages are.
    Storage {
        /// On disk.
        #[default]
        File = "file",
        /// In memory; they go with the process.
        Memory = "memory",
    }
}

words! {
    /// How messages are packed on disk. Accepted; midge doesn't pack.
    Compression {
        /// Not at all.
        #[default]
        None = "none",
        /// Like Snappy.
        S2 = "s2",
    } |_| "unknown compression algorithm".to_owned()
}

words! {
    /// When a message counts as stored.
    PersistMode {
        /// When it is on disk.
        #[default]
        Default = "default",
        /// At once.
        Async = "async",
    }
}

words! {
    /// Where a consumer begins.
    DeliverPolicy {
        /// With the first message.
        #[default]
        All = "all",
        /// With the last message.
        Last = "last",
        /// With the next message that comes.
        New = "new",
        /// At a sequence number.
        ByStartSequence = "by_start_sequence",
        /// At a point in time.
        ByStartTime = "by_start_time",
        /// With the last message of each subject.
        LastPerSubject = "last_per_subject",
    }
}

words! {
    /// What an acknowledgement means.
    AckPolicy {
        /// Nothing: there are none.
        #[default]
        None = "none",
        /// This message and those before it.
        All = "all",
        /// This message.
        Explicit = "explicit",
        /// As `all`, given by answering flow control. For streams that copy others.
        FlowControl = "flow_control",
    }
}

words! {
    /// How fast messages come.
    ReplayPolicy {
        /// As fast as they can.
        #[default]
        Instant = "instant",
        /// As they were published.
        Original = "original",
    }
}

words! {
    /// Who of those that ask gets a message.
    PriorityPolicy {
        /// Everybody in turn.
        #[default]
        None = "none",
        /// Those whose threshold is reached.
        Overflow = "overflow",
        /// One, as long as it asks.
        PinnedClient = "pinned_client",
        /// Those with the lowest number.
        Prioritized = "prioritized",
    } |text| format!("unknown priority policy: {text:?}")
}

words! {
    /// Whether a consumer may be there.
    Action {
        /// It may.
        #[default]
        CreateOrUpdate = "",
        /// It may not, unless it is the same.
        Create = "create",
        /// It must.
        Update = "update",
    } |text| format!("unknown consumer action: {text:?}")
}
