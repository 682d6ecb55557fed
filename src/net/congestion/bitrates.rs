//! The bitrates that paths leave for pictures.

/// Bitrates of the encoded pictures, without parity and headers, in bits per second; `None` is
/// unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureBitrates {
    /// What every receiver's path carries, as far as is known.
    pub path: Option<u64>,
    /// The same over the paths that have been overrun: anything beyond it is lost.
    pub bound: Option<u64>,
    /// The configured limit per receiver, whatever its path carries.
    pub limit: Option<u64>,
}

impl PictureBitrates {
    /// What must not be exceeded: the smaller of the bound and the configured limit.
    pub fn cap(self) -> Option<u64> {
        self.bound.into_iter().chain(self.limit).min()
    }

    /// The smaller of each bitrate.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        Self {
            path: least(self.path, other.path),
            bound: least(self.bound, other.bound),
            limit: least(self.limit, other.limit),
        }
    }
}
