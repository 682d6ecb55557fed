//! Padding before the first JPEG of a stream.

use std::io::{self, Read};

/// Reads any padding at the start of a stream, and the first bytes after it, which identify the
/// format. Returns all of them.
pub(super) fn read_beginning(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    while is_padding(&first) && first.len() < MAX_PADDING_LEN {
        if reader.take(10).read_to_end(&mut first)? == 0 {
            break;
        }
    }
    Ok(first)
}

/// Whether `bytes` are only padding that may precede a JPEG.
pub(super) fn is_padding(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0)
}

/// In bytes. With more padding, as from `/dev/zero`, no picture is expected.
const MAX_PADDING_LEN: usize = 1 << 16;
