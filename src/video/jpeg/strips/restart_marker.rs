//! Finds and numbers the restart markers of a scan.

use crate::video::jpeg::marker::RST0;

/// The position of the next marker whose two bytes are both available.
pub(super) fn next_marker(frame: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let at = from + memchr::memchr(0xFF, frame.get(from..)?)?;
        match *frame.get(at + 1)? {
            // An 0xFF in the coded data is followed by a zero.
            0 => from = at + 2,
            // Any number of 0xFF may precede a marker. If a zero follows them, the frame is decoded
            // whole: libjpeg reads such a run differently in a strip without restart markers than
            // in the whole frame.
            0xFF => {
                let filled = frame[at..].iter().take_while(|&&byte| byte == 0xFF).count();
                let is_stuffing = *frame.get(at + filled)? == 0;
                return Some(if is_stuffing { at } else { at + filled - 1 });
            }
            _ => return Some(at),
        }
    }
}

/// The second byte of the restart marker that ends interval number `interval`. Markers are numbered
/// modulo eight.
pub(super) fn restart_marker(interval: usize) -> u8 {
    RST0 + (interval % 8) as u8
}
