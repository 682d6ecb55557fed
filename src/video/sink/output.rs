//! Byte outputs: a file, in which a failed write leaves no partial picture, or a pipe.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::PathBuf,
};

use super::destination::{Destination, Kind, Opened};

/// An output of complete units, such as pictures. A unit that cannot be written entirely is removed
/// from a file, but not from a pipe.
pub(super) struct Output {
    to: To,
    /// Bytes of complete units written so far.
    len: u64,
    /// The file's name, until [`take_opened`](Self::take_opened).
    opened: Option<PathBuf>,
}

enum To {
    Unopened(Destination),
    File(File),
    Pipe(Box<dyn Write + Send>),
}

impl Output {
    /// The next file of `destination`. It is [opened](Self::open) when there is something to write.
    pub(super) fn file(destination: Destination) -> Self {
        Self { to: To::Unopened(destination), len: 0, opened: None }
    }

    /// An open, empty file.
    pub(super) fn opened(file: File) -> Self {
        Self { to: To::File(file), len: 0, opened: None }
    }

    pub(super) fn pipe(to: Box<dyn Write + Send>) -> Self {
        Self { to: To::Pipe(to), len: 0, opened: None }
    }

    /// Opens the file, unless it is open. Returns false if it is a FIFO without a reader.
    pub(super) fn open(&mut self) -> io::Result<bool> {
        let To::Unopened(destination) = &mut self.to else { return Ok(true) };
        let kind = destination.kind();
        match destination.open_next()? {
            Opened::NoReader => return Ok(false),
            Opened::Yes(file, path) => {
                self.opened = Some(path);
                self.to = match kind {
                    Kind::Fifo => To::Pipe(Box::new(file)),
                    Kind::File | Kind::Device => To::File(file),
                };
            }
        }
        Ok(true)
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.to, To::Unopened(_))
    }

    /// The name of the file opened since the last call.
    pub(super) fn take_opened(&mut self) -> Option<PathBuf> {
        self.opened.take()
    }

    /// Writes one unit to the open output without buffering, so that killing the process later
    /// loses nothing of it.
    ///
    /// If a file takes only part of it (the disk is full), that part is removed again.
    pub(super) fn write(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        if let Err(error) = self.try_write(parts) {
            if let To::File(file) = &mut self.to {
                // The write's error is the one to report.
                let _ = file.set_len(self.len);
                let _ = file.seek(SeekFrom::Start(self.len));
            }
            return Err(error);
        }
        self.len += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        Ok(())
    }

    /// Overwrites the start of the file. Panics unless it is an open file.
    pub(super) fn rewrite_start(&mut self, bytes: &[u8]) -> io::Result<()> {
        let To::File(file) = &mut self.to else { panic!("only an open file can be rewritten") };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(bytes)?;
        file.seek(SeekFrom::Start(self.len)).map(drop)
    }

    /// Truncates the file to `len` bytes. Panics unless it is an open file.
    pub(super) fn truncate(&mut self, len: u64) -> io::Result<()> {
        let To::File(file) = &mut self.to else { panic!("only an open file can be truncated") };
        file.set_len(len)?;
        self.len = len;
        file.seek(SeekFrom::Start(len)).map(drop)
    }

    /// Bytes of complete units so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    fn try_write(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        for part in parts {
            match &mut self.to {
                To::File(file) => file.write_all(part)?,
                To::Pipe(pipe) => pipe.write_all(part)?,
                To::Unopened(_) => panic!("nothing is written before it is open"),
            }
        }
        match &mut self.to {
            To::Pipe(pipe) => pipe.flush(),
            To::File(_) | To::Unopened(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn open(path: &Path) -> Output {
        let mut output = Output::file(Destination::check(path, false).expect("may be written"));
        assert!(output.open().expect("opens"));
        output
    }

    #[test]
    fn rewriting_the_start_does_not_move_the_write_position() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x");
        let mut output = open(&path);
        output.write(&[b"head", b"one"]).expect("writes");
        output.rewrite_start(b"HEAD").expect("rewrites");
        output.write(&[b"two"]).expect("writes");
        assert_eq!(output.len(), 10);
        assert_eq!(std::fs::read(&path).expect("reads"), b"HEADonetwo");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_reported_as_an_error() {
        let mut output = open(Path::new("/dev/full"));
        let error = output.write(&[b"x"]).expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(output.len(), 0);
    }
}
