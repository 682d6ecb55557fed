//! The bitrates that paths leave for pictures.

use crate::net::units::Bitrate;

/// Bitrates of the encoded pictures, without parity and headers; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureBitrates {
    /// What every receiver's path carries, as far as is known.
    pub path: Option<Bitrate>,
    /// The same over the paths for which it is a hard limit: those that have been overrun, where
    /// anything beyond it is lost, and those in a test of heavy loss.
    pub bound: Option<Bitrate>,
    /// The configured limit per receiver, whatever its path carries.
    pub limit: Option<Bitrate>,
}

impl PictureBitrates {
    /// What must not be exceeded: the smaller of the bound and the configured limit.
    pub fn cap(self) -> Option<Bitrate> {
        self.bound.into_iter().chain(self.limit).min()
    }

    /// The smaller of each bitrate.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        let least = |a: Option<Bitrate>, b: Option<Bitrate>| a.into_iter().chain(b).min();
        Self {
            path: least(self.path, other.path),
            bound: least(self.bound, other.bound),
            limit: least(self.limit, other.limit),
        }
    }
}
