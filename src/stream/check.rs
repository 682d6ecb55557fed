//! Checks whether a received picture is one that was sent.

use crate::video::{image::Image, source::pattern};

/// What a decoded picture must contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Anything that decodes.
    Decodes,
    /// The test pattern, with the same number at top and bottom, increasing from frame to frame.
    Pattern {
        /// The highest number so far.
        newest: Option<u32>,
    },
}

impl Check {
    pub(crate) fn passes(&mut self, image: &Image) -> bool {
        let Self::Pattern { newest } = self else { return true };
        let number = pattern::read_number(image);
        let passes = number.is_some() && number > *newest;
        *newest = number.max(*newest);
        passes
    }
}
