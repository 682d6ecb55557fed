//! Opens a file whose path the user gave. The path may be a folder, an endless device, or a FIFO
//! without a writer.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Take},
    path::Path,
};

use anyhow::{Context, Result, bail};

/// The kinds of file that are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kinds {
    /// A regular file, which can be read again and written.
    Regular,
    /// Also a pipe, such as a shell's `<(…)`. A read may block while it has a writer.
    RegularOrPipe,
}

/// Opens `path` to read at most `max_len` bytes; `None` if it does not exist. Does not wait for a
/// FIFO's writer.
pub(super) fn open(path: &Path, max_len: u64, kinds: Kinds) -> Result<Option<Take<File>>> {
    match try_open(path, max_len, kinds) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn try_open(path: &Path, max_len: u64, kinds: Kinds) -> Result<Take<File>> {
    // Checked before opening, since opening a device may have side effects.
    let metadata = fs::metadata(path)?;
    let is_pipe = is_pipe(&metadata);
    if metadata.is_dir() {
        bail!("it is a folder, not a file");
    }
    let is_allowed = metadata.is_file() || is_pipe && kinds == Kinds::RegularOrPipe;
    if !is_allowed {
        bail!("it is not a regular file");
    }
    if metadata.len() > max_len {
        bail!("it is {} bytes long; the limit is {max_len}", metadata.len());
    }
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    let options = {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
    };
    let file = options.open(path)?;
    #[cfg(unix)]
    if is_pipe {
        // With a writer, a read then blocks for data; without one, it returns end of file.
        rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::empty())?;
    }
    Ok(file.take(max_len))
}

#[cfg(unix)]
fn is_pipe(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&metadata.file_type())
}

#[cfg(not(unix))]
fn is_pipe(_: &fs::Metadata) -> bool {
    false
}

fn is_missing(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|io| io.kind() == io::ErrorKind::NotFound)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn refusal(path: &Path, kinds: Kinds) -> String {
        format!("{:#}", open(path, 10, kinds).expect_err("refused"))
    }

    fn make_fifo(path: &Path) {
        use rustix::fs::{CWD, FileType, Mode, mknodat};

        mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
    }

    #[test]
    fn irregular_and_oversized_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let large = folder.path().join("large");
        File::create(&large).unwrap().set_len(1 << 40).unwrap();
        let fifo = folder.path().join("fifo");
        make_fifo(&fifo);
        assert!(refusal(folder.path(), Kinds::Regular).contains("folder"));
        assert!(refusal(Path::new("/dev/zero"), Kinds::RegularOrPipe).contains("not a regular"));
        assert!(refusal(&fifo, Kinds::Regular).contains("not a regular file"));
        assert!(refusal(&large, Kinds::Regular).contains("1099511627776 bytes"));
        assert!(open(&folder.path().join("none"), 10, Kinds::Regular).unwrap().is_none());
    }

    #[test]
    fn a_fifo_is_empty_without_a_writer_and_read_with_one() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        make_fifo(&fifo);
        let mut text = String::new();
        let mut file = open(&fifo, 10, Kinds::RegularOrPipe).unwrap().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "");
        let both = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        let mut file = open(&fifo, 10, Kinds::RegularOrPipe).unwrap().unwrap();
        io::Write::write_all(&mut &both, b"hello, this is long").unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello, thi");
    }
}
