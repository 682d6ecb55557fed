//! Checks that this process may open more files and sockets.

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

/// Fails if the limit of open files leaves no room for `count` more descriptors.
///
/// For libraries that need descriptors and do not report when none are left.
pub(crate) fn ensure_free(count: usize) -> Result<()> {
    // Opened all at the same time, then closed at once.
    let sockets: Result<Vec<_>, _> =
        (0..count).map(|_| Socket::new(Domain::IPV4, Type::DGRAM, None)).collect();
    match sockets {
        Err(error) if crate::app::is_exhaustion(&error.to_string()) => {
            Err(error).with_context(|| format!("{count} more descriptors are needed"))
        }
        _ => Ok(()),
    }
}
