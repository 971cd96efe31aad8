//! Figures of several rounds, and times of many messages.

use std::time::Duration;

/// What the rounds showed of one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) lowest: f64,
    pub(crate) median: f64,
    pub(crate) highest: f64,
}

impl Spread {
    /// Of `values`, unless there are none. The median of an even number of them is the mean of the middle two.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (lowest, highest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Some(Self { lowest, median, highest })
    }
}

/// Times that a part of the messages stayed below. Exact: every time was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Percentiles {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
}

impl Percentiles {
    /// Of `times`, unless there are none.
    pub(crate) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        let at =
            |per_mille: usize| times[(times.len() * per_mille).div_ceil(1000).saturating_sub(1).min(last)];
        Some(Self { p50: at(500), p99: at(990), p999: at(999) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread() {
        let odd = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(odd, Spread { lowest: 1.0, median: 2.0, highest: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn percentiles() {
        let times = (1..=1000).rev().map(Duration::from_micros).collect();
        let of = Percentiles::of(times).unwrap();
        assert_eq!([of.p50, of.p99, of.p999], [500, 990, 999].map(Duration::from_micros));
        let one = Percentiles::of(vec![Duration::from_micros(7)]).unwrap();
        assert_eq!([one.p50, one.p999], [7, 7].map(Duration::from_micros));
        assert_eq!(Percentiles::of(Vec::new()), None);
    }
}
