//! Amounts of data and their rates, so that bits and bytes cannot be confused.
//!
//! Estimators compute with floating-point numbers, since the rounding of each step would add up.
//! They take and return these types, and convert by the methods here or by `BITS_PER_BYTE`.

use std::{
    fmt,
    ops::{Add, AddAssign, Div, Mul},
    time::Duration,
};

/// A rate in whole bits a second.
///
/// It is shown as people write it, with at most two decimals, rounded down: `5 Mbit/s`,
/// `1.5 Mbit/s`, `300 kbit/s`.
///
/// ```
/// use udpchat::Bitrate;
///
/// assert_eq!(Bitrate::from_mbps(5), Bitrate::from_bps(5_000_000));
/// assert_eq!(Bitrate::from_bps(1_500_000).to_string(), "1.5 Mbit/s");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bitrate(u64);

/// An amount of data, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataSize(u64);

impl Bitrate {
    /// More than any link carries.
    pub const MAX: Self = Self(u64::MAX);

    /// `bps` bits a second.
    pub const fn from_bps(bps: u64) -> Self {
        Self(bps)
    }

    /// `kbps` kilobits a second: thousands of bits. Saturates.
    pub const fn from_kbps(kbps: u64) -> Self {
        Self(kbps.saturating_mul(1000))
    }

    /// `mbps` megabits a second: millions of bits. Saturates.
    pub const fn from_mbps(mbps: u64) -> Self {
        Self(mbps.saturating_mul(1_000_000))
    }

    /// In bits a second.
    pub const fn bps(self) -> u64 {
        self.0
    }

    /// In megabits a second.
    pub fn mbps(self) -> f64 {
        self.as_f64() / 1e6
    }

    /// `bps` bits a second, rounded down. Saturates; a negative value or NaN becomes zero.
    pub(crate) fn from_f64(bps: f64) -> Self {
        Self(bps as u64)
    }

    /// In bits a second, for estimators.
    pub(crate) fn as_f64(self) -> f64 {
        self.0 as f64
    }

    /// `bytes` bytes a second, rounded down to bits. Saturates as [`from_f64`](Self::from_f64)
    /// does.
    pub(crate) fn from_bytes_per_second(bytes: f64) -> Self {
        Self::from_f64(bytes * BITS_PER_BYTE)
    }

    /// In bytes a second.
    pub(crate) fn bytes_per_second(self) -> f64 {
        self.as_f64() / BITS_PER_BYTE
    }
}

impl DataSize {
    /// `bytes` bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size of a buffer or datagram of `len` bytes.
    pub const fn from_len(len: usize) -> Self {
        Self(len as u64)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// In bits, for estimators.
    pub(crate) fn bits(self) -> f64 {
        self.0 as f64 * BITS_PER_BYTE
    }

    /// `self` minus `other`; zero if `other` is larger.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// A multiple of a rate, rounded down.
impl Mul<f64> for Bitrate {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self::from_f64(self.as_f64() * factor)
    }
}

/// A fraction of a rate, rounded down.
impl Div<f64> for Bitrate {
    type Output = Self;

    fn div(self, divisor: f64) -> Self {
        Self::from_f64(self.as_f64() / divisor)
    }
}

/// What a rate carries in a time, rounded down to whole bytes.
impl Mul<Duration> for Bitrate {
    type Output = DataSize;

    fn mul(self, time: Duration) -> DataSize {
        DataSize((self.bytes_per_second() * time.as_secs_f64()) as u64)
    }
}

/// The rate that carries an amount in a time, rounded down. For a time of zero it is
/// [`Bitrate::MAX`], or zero if the amount is zero too.
impl Div<Duration> for DataSize {
    type Output = Bitrate;

    fn div(self, time: Duration) -> Bitrate {
        Bitrate::from_f64(self.bits() / time.as_secs_f64())
    }
}

/// The time that a rate takes for an amount; [`Duration::MAX`] if it would take longer, or if the
/// rate is zero.
impl Div<Bitrate> for DataSize {
    type Output = Duration;

    fn div(self, rate: Bitrate) -> Duration {
        Duration::try_from_secs_f64(self.bits() / rate.as_f64()).unwrap_or(Duration::MAX)
    }
}

impl Add for DataSize {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for DataSize {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            ..1_000 => (1, "bit/s"),
            1_000..1_000_000 => (1_000, "kbit/s"),
            1_000_000..1_000_000_000 => (1_000_000, "Mbit/s"),
            1_000_000_000.. => (1_000_000_000, "Gbit/s"),
        };
        let (whole, hundredths) = (self.0 / unit, self.0 % unit * 100 / unit);
        match (hundredths / 10, hundredths % 10) {
            (0, 0) => write!(f, "{whole} {name}"),
            (tenths, 0) => write!(f, "{whole}.{tenths} {name}"),
            _ => write!(f, "{whole}.{hundredths:02} {name}"),
        }
    }
}

/// For estimators whose amounts are not whole bytes.
pub(crate) const BITS_PER_BYTE: f64 = 8.0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn bitrates_are_shown_as_people_write_them() {
        for (bps, text) in [
            (0, "0 bit/s"),
            (999, "999 bit/s"),
            (1000, "1 kbit/s"),
            (99_999, "99.99 kbit/s"),
            (300_000, "300 kbit/s"),
            (999_999, "999.99 kbit/s"),
            (1_500_000, "1.5 Mbit/s"),
            (5_000_000, "5 Mbit/s"),
            (27_034_567, "27.03 Mbit/s"),
            (1_000_000_000, "1 Gbit/s"),
            (u64::MAX, "18446744073.7 Gbit/s"),
        ] {
            assert_eq!(Bitrate::from_bps(bps).to_string(), text);
        }
    }

    #[test]
    fn rate_time_and_size_determine_each_other() {
        let (rate, size) = (Bitrate::from_kbps(9600), DataSize::from_len(1_200_000));
        assert_eq!(rate * SECOND, size);
        assert_eq!(size / SECOND, rate);
        assert_eq!(size / rate, SECOND);
        assert_eq!(
            (rate * 0.5, rate / 0.5),
            (Bitrate::from_kbps(4800), Bitrate::from_kbps(19_200))
        );
    }

    #[test]
    fn results_are_rounded_down() {
        let (three, second) = (DataSize::from_bytes(3), SECOND);
        assert_eq!(three / (7 * second), Bitrate::from_bps(3), "24 bits in 7 s");
        assert_eq!(Bitrate::from_bps(23) * second, DataSize::from_bytes(2));
        assert_eq!(Bitrate::from_bps(105) / 1.06, Bitrate::from_bps(99));
    }

    #[test]
    fn out_of_range_results_saturate() {
        let (nothing, size) = (DataSize::default(), DataSize::from_bytes(1));
        assert_eq!(size / Duration::ZERO, Bitrate::MAX);
        assert_eq!(nothing / Duration::ZERO, Bitrate::default());
        assert_eq!(size / Bitrate::default(), Duration::MAX);
        assert_eq!(Bitrate::MAX * Duration::MAX, DataSize::from_bytes(u64::MAX));
        assert_eq!(Bitrate::from_mbps(u64::MAX), Bitrate::MAX);
        assert_eq!((Bitrate::MAX * -1.0, Bitrate::MAX * f64::NAN), Default::default());
        assert_eq!(DataSize::from_bytes(u64::MAX) + size, DataSize::from_bytes(u64::MAX));
        assert_eq!(nothing.saturating_sub(size), nothing);
    }

    proptest! {
        #[test]
        fn multiplication_by_time_inverts_division_by_rate(
            bytes in 1_u64..1 << 40, bps in 1_u64..1 << 40,
        ) {
            let (size, rate) = (DataSize::from_bytes(bytes), Bitrate::from_bps(bps));
            let carried = (rate * (size / rate)).bytes();
            // Rounding: a byte, and what the rate carries in a nanosecond.
            let error = carried.abs_diff(bytes);
            prop_assert!(error <= 1 + bps / 8_000_000_000, "{} of {}", carried, bytes);
        }
    }
}
