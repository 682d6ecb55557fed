//! Standard output, which carries at most one machine-readable stream.

use std::{io::Write, path::Path};

use anyhow::{Context, Result};

use crate::{app::usage::UsageError, video::sink::OutputSpec};

/// What standard output carries. At most one machine-readable stream may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdout {
    /// Text for people only.
    Free,
    /// The video, the JSON statistics or the JSON report.
    Taken,
}

/// Determines what uses standard output. A usage error if more than one option claims it.
pub(crate) fn stdout_use(
    output: Option<&OutputSpec>,
    stats_json: Option<&Path>,
    json_report: bool,
) -> Result<Stdout> {
    let wanted = [
        (output.is_some_and(OutputSpec::is_stdout), "--output -"),
        (stats_json.is_some_and(|path| path == Path::new("-")), "--stats-json -"),
        (json_report, "--json"),
    ];
    let owners: Vec<&str> = wanted.iter().filter(|(wants, _)| *wants).map(|(_, o)| *o).collect();
    match owners[..] {
        [] => Ok(Stdout::Free),
        [_] => Ok(Stdout::Taken),
        _ => Err(UsageError::new(format!(
            "only one of {} can use standard output: give a file instead of -",
            owners.join(", ")
        ))
        .into()),
    }
}

/// Writes `bytes` to standard output. A broken pipe is not an error.
pub(crate) fn print_all(bytes: &[u8]) -> Result<()> {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}
