//! File descriptors: whether this process may open more of them, and the remedy if not.

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

use crate::net::session::LocalFault;

/// Fails if the limit on open files leaves no room for `count` more descriptors.
///
/// For libraries that need descriptors but do not report that none are left.
pub(crate) fn ensure_free(count: usize) -> Result<()> {
    // All are open at the same time; dropping the vector closes them.
    let sockets: Result<Vec<_>, _> =
        (0..count).map(|_| Socket::new(Domain::IPV4, Type::DGRAM, None)).collect();
    match sockets {
        Err(error) if is_exhaustion(&error.to_string()) => {
            Err(error).with_context(|| format!("{count} more descriptors are needed"))
        }
        _ => Ok(()),
    }
}

/// Appends a remedy to `message` if the failure is that no file descriptors are left.
pub(crate) fn with_remedy(message: String) -> String {
    if !is_exhaustion(&message) {
        return message;
    }
    format!("{message}: {}", LocalFault::Exhausted.remedy())
}

/// Whether `message` contains the system's message for too many open files, in this process
/// (`EMFILE`) or on this machine (`ENFILE`).
#[cfg(unix)]
fn is_exhaustion(message: &str) -> bool {
    use rustix::io::Errno;

    let words = |errno| std::io::Error::from(errno).to_string();
    [Errno::MFILE, Errno::NFILE].into_iter().any(|errno| message.contains(&words(errno)))
}

#[cfg(not(unix))]
fn is_exhaustion(_: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    #[test]
    fn errors_from_too_few_descriptors_name_the_remedy_once() {
        let error = std::io::Error::from(rustix::io::Errno::MFILE);
        for message in [format!("cannot listen for signals: {error}"), format!("x: {error}: y")] {
            assert_eq!(
                super::with_remedy(message.clone()).matches("ulimit -n").count(),
                1,
                "{message}"
            );
        }
        assert_eq!(super::with_remedy("Permission denied".into()), "Permission denied");
    }
}
