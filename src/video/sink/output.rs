//! Where bytes go: a file that never ends in half a picture, or a pipe.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::Path,
};

/// A destination of whole units: a picture is in it, or it is not.
pub(super) struct Output {
    to: To,
    /// Bytes of whole units so far.
    len: u64,
}

enum To {
    File(File),
    Pipe(Box<dyn Write + Send>),
}

impl Output {
    /// A new file, or an existing one, emptied.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { to: To::File(File::create(path)?), len: 0 })
    }

    pub(super) fn pipe(to: Box<dyn Write + Send>) -> Self {
        Self { to: To::Pipe(to), len: 0 }
    }

    /// Writes one unit, so that it is out of our hands: a kill loses nothing of it.
    ///
    /// If a file takes only some of it (the disk is full), that is taken back.
    pub(super) fn write(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        if let Err(error) = self.try_write(parts) {
            if let To::File(file) = &mut self.to {
                // The first error is the one to tell of.
                let _ = file.set_len(self.len);
                let _ = file.seek(SeekFrom::Start(self.len));
            }
            return Err(error);
        }
        self.len += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        Ok(())
    }

    /// Writes over the beginning of the file. A pipe has none: asking it is a bug.
    pub(super) fn rewrite_start(&mut self, bytes: &[u8]) -> io::Result<()> {
        let To::File(file) = &mut self.to else { panic!("a pipe cannot be rewritten") };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(bytes)?;
        file.seek(SeekFrom::Start(self.len)).map(drop)
    }

    /// Bytes of whole units so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    fn try_write(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        for part in parts {
            match &mut self.to {
                To::File(file) => file.write_all(part)?,
                To::Pipe(pipe) => pipe.write_all(part)?,
            }
        }
        match &mut self.to {
            To::File(_) => Ok(()),
            To::Pipe(pipe) => pipe.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_rewritten_and_writing_goes_on_at_the_end() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x");
        let mut output = Output::create(&path).expect("creates");
        output.write(&[b"head", b"one"]).expect("writes");
        output.rewrite_start(b"HEAD").expect("rewrites");
        output.write(&[b"two"]).expect("writes");
        assert_eq!(output.len(), 10);
        assert_eq!(std::fs::read(&path).expect("reads"), b"HEADonetwo");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let mut output = Output::create(Path::new("/dev/full")).expect("opens");
        let error = output.write(&[b"x"]).expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(output.len(), 0);
    }
}
