//! Finds where one frame of a stream ends and another begins, without parsing headers.

use crate::video::jpeg::marker::{EOI, SOI};

/// Finds where one frame ends and another begins.
#[derive(Debug, Default)]
pub(super) struct FrameBoundaries {
    found: Option<usize>,
    /// No boundary begins before this position.
    searched: usize,
}

impl FrameBoundaries {
    /// The position of the first boundary in `bytes`: an end marker followed by a start marker,
    /// with only padding or text between them. Later calls skip the bytes in which none can begin.
    pub(super) fn first(&mut self, bytes: &[u8]) -> Option<usize> {
        while self.found.is_none() && self.searched < bytes.len() {
            let end = memchr::memmem::find(&bytes[self.searched..], &[0xFF, EOI]);
            let Some(end) = end.map(|at| self.searched + at) else {
                self.searched = bytes.len() - 1;
                break;
            };
            let rest = &bytes[end + 2..];
            let is_between = |byte: &&u8| byte.is_ascii() && (**byte == 0 || **byte >= b'\t');
            let gap = rest.iter().take(MAX_GAP).take_while(is_between).count();
            match &rest[gap..] {
                [0xFF, SOI, 0xFF, ..] => self.found = Some(end),
                // More bytes may follow.
                [] | [0xFF] | [0xFF, SOI] => break,
                _ => self.searched = end + 2,
            }
        }
        self.found.filter(|&at| at < bytes.len())
    }

    /// Adjusts to the removal of the first `len` bytes.
    pub(super) fn consume(&mut self, len: usize) {
        self.found = self.found.and_then(|at| at.checked_sub(len));
        self.searched = self.searched.saturating_sub(len);
    }
}

/// The longest text between two frames: an HTTP server sends a few hundred bytes.
const MAX_GAP: usize = 1024;
