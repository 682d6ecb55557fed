//! Failures of `udpchat-opencv`, in one line each.

use std::{io, path::PathBuf};

/// Why OpenCV cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenCvError {
    /// The program is not installed.
    #[error(
        "this needs OpenCV, and the program udpchat-opencv is not in {}: install udpchat with OpenCV, \
         as its README says",
        folder.display()
    )]
    Missing {
        /// Where it should be.
        folder: PathBuf,
    },
    /// The program cannot be started.
    #[error("cannot start {}: {error}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// A shared library is missing.
    #[error("cannot load OpenCV: {0}; install OpenCV's libraries, as the README says")]
    Library(String),
    /// The program has ended unexpectedly, or was ended because it did not answer in time.
    #[error("OpenCV failed: {0}")]
    Ended(String),
    /// OpenCV reported an error.
    #[error("OpenCV failed to {what}: {error}")]
    Failed {
        /// The failed operation.
        what: &'static str,
        /// OpenCV's message.
        error: String,
    },
}

impl OpenCvError {
    /// The cause, from what the program wrote to standard error before it ended.
    pub(super) fn from_output(output: &str) -> Self {
        let library = output.lines().find_map(|line| {
            MISSING_LIBRARY.iter().find_map(|start| Some(line.split_once(start)?.1.trim()))
        });
        match library {
            Some(library) => Self::Library(shortened(library)),
            None => {
                Self::Ended(cause(output).unwrap_or_else(|| "it ended without a message".into()))
            }
        }
    }
}

/// The line of a library's output that names the cause, or else the last line.
fn cause(output: &str) -> Option<String> {
    let names_cause =
        |line: &&str| line.to_lowercase().contains("could not") || line.contains("cannot");
    let mut lines = output.lines().map(str::trim).filter(|line| !line.is_empty());
    let cause = lines.clone().find(names_cause).or_else(|| lines.next_back())?;
    Some(shortened(cause.strip_prefix("qt.qpa.plugin: ").unwrap_or(cause)))
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_CAUSE_LEN).collect()
}

/// How the dynamic loaders of Linux (glibc, musl) and macOS report a missing library.
const MISSING_LIBRARY: [&str; 3] = [
    "error while loading shared libraries: ",
    "Error loading shared library ",
    "Library not loaded: ",
];

const MAX_CAUSE_LEN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_taken_from_the_output() {
        let said = |output| OpenCvError::from_output(output).to_string();
        let qt = "QStandardPaths: XDG_RUNTIME_DIR not set\n\
            qt.qpa.plugin: Could not find the Qt platform plugin \"x\" in \"\"\n\
            This application failed to start because no Qt platform plugin could be initialized.\n\n";
        assert_eq!(said(qt), "OpenCV failed: Could not find the Qt platform plugin \"x\" in \"\"");
        assert_eq!(said("one\ntwo\n\n"), "OpenCV failed: two");
        assert_eq!(said("\n"), "OpenCV failed: it ended without a message");
        let glibc = "/usr/bin/udpchat-opencv: error while loading shared libraries: \
            libopencv_core.so.406: cannot open shared object file: No such file or directory\n";
        assert!(said(glibc).starts_with("cannot load OpenCV: libopencv_core.so.406: "));
    }
}
