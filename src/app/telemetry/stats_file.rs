//! The output of `--stats-json`. A thread writes the lines, so that neither a full disk nor a
//! stalled reader blocks the call.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{app::terminal::messages::Messages, threads::spawn};

/// A file, a FIFO or standard output, written in lines.
#[derive(Debug)]
pub(crate) struct StatsFile {
    /// `None` while closing.
    lines: Option<SyncSender<String>>,
    /// Disconnected once the thread has ended.
    ended: Receiver<()>,
    /// Whether the reader of standard output has closed it.
    reader_gone: Arc<AtomicBool>,
    messages: Messages,
    /// Whether the user was told that the output is too slow.
    told_slow: bool,
}

impl StatsFile {
    /// Opens `path`, or standard output for `-`. Appends to an existing file.
    pub(crate) fn open(path: &Path, messages: &Messages) -> Result<Self> {
        let name = if path == Path::new("-") { Path::new("standard output") } else { path };
        let failed = || format!("cannot write the statistics to {}", name.display());
        let to = if path == Path::new("-") {
            Output::Stdout(io::stdout())
        } else {
            Output::open(path).with_context(failed)?
        };
        let (lines, queue) = sync_channel::<String>(MAX_QUEUED);
        let (ends, ended) = sync_channel(0);
        let (name, reports) = (name.to_owned(), messages.clone());
        let reader_gone = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&reader_gone);
        let thread = move || {
            write_lines(to, &queue, &name, &gone, &reports);
            drop(ends);
        };
        spawn("statistics", thread).with_context(failed)?;
        let (lines, messages) = (Some(lines), messages.clone());
        Ok(Self { lines, ended, reader_gone, messages, told_slow: false })
    }

    /// Whether the output is standard output and its reader has closed it.
    pub(crate) fn reader_has_gone(&self) -> bool {
        self.reader_gone.load(Ordering::Relaxed)
    }

    /// Queues a line, which includes its newline. Never blocks: a line that does not fit is
    /// dropped.
    pub(crate) fn write(&mut self, line: String) {
        let Some(lines) = &self.lines else { return };
        if let Err(TrySendError::Full(_)) = lines.try_send(line)
            && !self.told_slow
        {
            self.told_slow = true;
            self.messages.info("statistics were dropped: the output is too slow");
        }
    }
}

impl Drop for StatsFile {
    /// Waits up to [`CLOSE_TIMEOUT`] for the queued lines to be written.
    fn drop(&mut self) {
        self.lines = None;
        let _ = self.ended.recv_timeout(CLOSE_TIMEOUT);
    }
}

enum Output {
    Stdout(io::Stdout),
    File(File),
    /// A FIFO without a reader so far.
    Unread(PathBuf),
}

impl Output {
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        let options = {
            use std::os::unix::fs::OpenOptionsExt;
            // Opening a FIFO without a reader then fails instead of blocking.
            options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        };
        match options.open(path) {
            #[cfg(unix)]
            Err(error) if is_unread(&error) && is_fifo(path) => Ok(Self::Unread(path.to_owned())),
            Err(error) => Err(error),
            Ok(file) => {
                // From here on writes block.
                #[cfg(unix)]
                rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::APPEND)?;
                Ok(Self::File(file))
            }
        }
    }

    /// Writes `line`. After an error, a regular file contains none of it.
    fn write(&mut self, line: &str) -> io::Result<()> {
        if let Self::Unread(path) = self {
            *self = Self::open(path)?;
        }
        match self {
            Self::Unread(_) => Ok(()),
            Self::Stdout(stdout) => {
                stdout.write_all(line.as_bytes())?;
                stdout.flush()
            }
            Self::File(file) => {
                let metadata = file.metadata()?;
                let written = file.write_all(line.as_bytes());
                if written.is_err() && metadata.is_file() {
                    // The write's error is the one to report.
                    let _ = file.set_len(metadata.len());
                }
                written
            }
        }
    }
}

/// Whether `error` is `ENXIO`: a FIFO without a reader, or a socket.
#[cfg(unix)]
fn is_unread(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
}

#[cfg(unix)]
fn is_fifo(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;

    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

/// The writer thread.
fn write_lines(
    mut output: Output,
    lines: &Receiver<String>,
    name: &Path,
    reader_gone: &AtomicBool,
    messages: &Messages,
) {
    for line in lines {
        if let Err(error) = output.write(&line) {
            let is_gone = error.kind() == io::ErrorKind::BrokenPipe;
            reader_gone.store(is_gone && matches!(output, Output::Stdout(_)), Ordering::Relaxed);
            let name = name.display();
            let why = match error.kind() {
                io::ErrorKind::BrokenPipe => "the reader has closed the pipe".to_owned(),
                _ => error.to_string(),
            };
            messages.info(&format!("no more statistics are written to {name}: {why}"));
            return;
        }
    }
}

/// The most lines that wait for a slow disk or reader. One is written a second.
const MAX_QUEUED: usize = 16;

/// How long a slow disk or reader may delay the program's end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_appended_to_an_existing_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stats");
        for line in ["one\n", "two\n"] {
            let mut file = StatsFile::open(&path, &Messages::new(true)).unwrap();
            file.write(line.into());
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_full_disk_or_unread_fifo_does_not_block_statistics() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};

        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        for path in [Path::new("/dev/full"), &fifo] {
            let mut file = StatsFile::open(path, &Messages::new(true)).unwrap();
            for _ in 0..2 * MAX_QUEUED {
                file.write("line\n".into());
            }
        }
    }

    #[test]
    fn an_unwritable_statistics_file_is_reported_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [Path::new("/none/stats"), folder.path(), &socket] {
            let error = StatsFile::open(path, &Messages::new(true)).unwrap_err();
            let start = format!("cannot write the statistics to {}: ", path.display());
            assert!(format!("{error:#}").starts_with(&start), "{error:#}");
        }
    }
}
