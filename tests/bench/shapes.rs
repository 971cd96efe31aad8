//! The kinds of traffic that servers are measured with.

/// One kind of traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// Bytes of payload.
    pub(crate) payload: usize,
    /// Messages that all publishers send together, or requests of all requesters.
    pub(crate) count: u64,
    pub(crate) work: Work,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Publishers send as fast as the server takes it.
    Stream { publishers: usize, audience: Audience, tls: bool, churn: bool },
    /// One publisher sends so many messages a second to one subscriber, and the way of each is timed.
    Paced { per_second: u32 },
    /// Requesters ask one responder, each the next time when it was answered.
    Requests { requesters: usize },
}

/// Who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    Nobody,
    /// So many, on the subject that is published to.
    Each(usize),
    /// One queue group of so many.
    Group(usize),
    /// Each publisher has ten subjects, `plant.<publisher>.<kind>`; one subscriber on `plant.>`, ten on
    /// `plant.*.<kind>`. So each message is delivered twice.
    Wildcards,
}

/// The last tokens of the subjects of [`Audience::Wildcards`]; of one length.
pub(crate) const KINDS: [&str; 10] =
    ["temp", "flow", "load", "volt", "amps", "mass", "dust", "tilt", "rain", "wind"];

const fn stream(publishers: usize, audience: Audience) -> Work {
    Work::Stream { publishers, audience, tls: false, churn: false }
}

const TLS: Work = Work::Stream { publishers: 1, audience: Audience::Each(1), tls: true, churn: false };
const CHURN: Work = Work::Stream { publishers: 1, audience: Audience::Each(1), tls: false, churn: true };

/// All of them, in the order of the report.
pub(crate) const SHAPES: &[Shape] = &[
    Shape { name: "publish only", payload: 16, count: 5_000_000, work: stream(1, Audience::Nobody) },
    Shape { name: "publish only", payload: 128, count: 3_000_000, work: stream(1, Audience::Nobody) },
    Shape { name: "1:1", payload: 16, count: 3_000_000, work: stream(1, Audience::Each(1)) },
    Shape { name: "1:1", payload: 128, count: 2_000_000, work: stream(1, Audience::Each(1)) },
    Shape { name: "1:1", payload: 1024, count: 400_000, work: stream(1, Audience::Each(1)) },
    Shape { name: "1:1", payload: 65_536, count: 10_000, work: stream(1, Audience::Each(1)) },
    Shape { name: "1:10", payload: 16, count: 600_000, work: stream(1, Audience::Each(10)) },
    Shape { name: "1:10", payload: 128, count: 300_000, work: stream(1, Audience::Each(10)) },
    Shape { name: "1:10", payload: 1024, count: 60_000, work: stream(1, Audience::Each(10)) },
    Shape { name: "1:10", payload: 65_536, count: 1_500, work: stream(1, Audience::Each(10)) },
    Shape { name: "10:1", payload: 128, count: 1_200_000, work: stream(10, Audience::Each(1)) },
    Shape {
        name: "100 publishers, 1,000 subjects, wildcards",
        payload: 128,
        count: 600_000,
        work: stream(100, Audience::Wildcards),
    },
    Shape { name: "queue group of 8", payload: 128, count: 1_500_000, work: stream(1, Audience::Group(8)) },
    Shape { name: "1:1, TLS", payload: 128, count: 600_000, work: TLS },
    Shape { name: "1:1, TLS", payload: 1024, count: 200_000, work: TLS },
    Shape { name: "1:1, subscriptions come and go", payload: 128, count: 1_000_000, work: CHURN },
    Shape {
        name: "request-reply, 1 requester",
        payload: 16,
        count: 10_000,
        work: Work::Requests { requesters: 1 },
    },
    Shape {
        name: "request-reply, 16 requesters",
        payload: 16,
        count: 48_000,
        work: Work::Requests { requesters: 16 },
    },
    Shape {
        name: "1:1, 1,000 a second",
        payload: 128,
        count: 3_000,
        work: Work::Paced { per_second: 1_000 },
    },
];

impl Shape {
    /// The name with the payload's size.
    pub(crate) fn title(&self) -> String {
        match self.payload {
            65_536 => format!("{}, 64 KiB", self.name),
            bytes => format!("{}, {bytes} B", self.name),
        }
    }

    /// Whether an MQTT broker can do it.
    pub(crate) fn fits_mqtt(&self) -> bool {
        match self.work {
            Work::Stream { audience, tls, churn, .. } => {
                !matches!(audience, Audience::Group(_)) && !tls && !churn
            }
            Work::Paced { .. } => true,
            Work::Requests { .. } => false,
        }
    }

    /// The part of the work that an MQTT broker gets: it is slower with small messages, and says the same sooner.
    pub(crate) fn mqtt_share(&self) -> f64 {
        match (self.work, self.payload) {
            (Work::Paced { .. }, _) => 1.0,
            (_, 65_536) => 0.5,
            _ => 0.05,
        }
    }

    /// Deliveries of one message; a message that nobody gets counts itself, a request counts with its reply as one.
    pub(crate) fn deliveries(&self) -> u64 {
        match self.work {
            Work::Stream { audience: Audience::Each(subscribers), .. } => subscribers as u64,
            Work::Stream { audience: Audience::Wildcards, .. } => 2,
            _ => 1,
        }
    }

    /// The count, made so small as `share` says, but even: each publisher sends as many, on each of its subjects.
    pub(crate) fn scaled(&self, share: f64) -> u64 {
        let unit = match self.work {
            Work::Stream { publishers, audience: Audience::Wildcards, .. } => publishers * KINDS.len(),
            Work::Stream { publishers, .. } => publishers,
            Work::Requests { requesters } => requesters,
            Work::Paced { .. } => 1,
        } as u64;
        let wanted = (self.count as f64 * share) as u64;
        (wanted / unit).max(1) * unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_unique() {
        let titles: std::collections::BTreeSet<_> = SHAPES.iter().map(Shape::title).collect();
        assert_eq!(titles.len(), SHAPES.len());
    }

    #[test]
    fn counts_divide_among_those_who_send() {
        for shape in SHAPES {
            assert_eq!(shape.scaled(1.0), shape.count, "{}", shape.title());
            assert!(shape.scaled(0.0) > 0);
        }
    }
}
