//! The files of a recording. An existing file is overwritten only on request.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions},
    io,
    path::{Path, PathBuf},
};

/// Opens one file after another: `a.avi`, `a-2.avi`, `a-3.avi`, …
#[derive(Debug)]
pub(super) struct Destination {
    path: PathBuf,
    kind: Kind,
    overwrite: bool,
    /// The number of the next file, from 1.
    next: u32,
}

/// The kind of file at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing yet, or a regular file.
    File,
    /// A FIFO, which cannot be rewound.
    Fifo,
    /// A device, such as `/dev/null`.
    Device,
}

/// The result of opening.
#[derive(Debug)]
pub(super) enum Opened {
    /// The open file and its name.
    Yes(File, PathBuf),
    /// It is a FIFO without a reader.
    NoReader,
}

impl Destination {
    /// Checks as much as possible before anything is written. Creates nothing.
    pub(super) fn check(path: &Path, overwrite: bool) -> io::Result<Self> {
        let kind = match fs::metadata(path) {
            Ok(metadata) => {
                let kind = kind_of(&metadata)?;
                if kind != Kind::File || overwrite {
                    may_write(path)?;
                }
                kind
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kind::File,
            Err(error) => return Err(error),
        };
        if kind == Kind::File {
            may_write(folder_of(path))?;
        }
        Ok(Self { path: path.to_owned(), kind, overwrite, next: 1 })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Opens the next file, under the first name that is free or may be overwritten. A FIFO or a
    /// device is opened under its own name each time.
    pub(super) fn open_next(&mut self) -> io::Result<Opened> {
        if self.kind != Kind::File {
            return self.open_existing();
        }
        for number in self.next..=MAX_NUMBER {
            let path = numbered(&self.path, number);
            let mut options = OpenOptions::new();
            options.write(true);
            if self.overwrite {
                options.create(true).truncate(true);
            } else {
                options.create_new(true);
            }
            match open_at_once(&mut options, &path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => {
                    self.next = number + 1;
                    return result.map(|file| Opened::Yes(file, path));
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn open_existing(&self) -> io::Result<Opened> {
        match open_at_once(OpenOptions::new().write(true), &self.path) {
            #[cfg(unix)]
            Err(error) if is_unread(&error) => Ok(Opened::NoReader),
            Err(error) => Err(error),
            Ok(file) => {
                // From here on writes block.
                #[cfg(unix)]
                rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::empty())?;
                Ok(Opened::Yes(file, self.path.clone()))
            }
        }
    }
}

fn kind_of(metadata: &Metadata) -> io::Result<Kind> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;

        let kind = metadata.file_type();
        if kind.is_fifo() {
            return Ok(Kind::Fifo);
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Ok(Kind::Device);
        }
    }
    match (metadata.is_file(), metadata.is_dir()) {
        (true, _) => Ok(Kind::File),
        (_, true) => Err(io::Error::other("it is a folder")),
        (_, false) => Err(io::Error::other("it is not a file")),
    }
}

/// Opens without waiting for a FIFO's reader.
fn open_at_once(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    let options = {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
    };
    options.open(path)
}

/// Whether `error` says that a FIFO has no reader (`ENXIO`).
#[cfg(unix)]
fn is_unread(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
}

#[cfg(unix)]
fn may_write(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(path, rustix::fs::Access::WRITE_OK)?)
}

#[cfg(not(unix))]
fn may_write(path: &Path) -> io::Result<()> {
    fs::metadata(path).map(drop)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return path.into();
    }
    let mut name = OsString::from(path.file_stem().unwrap_or_default());
    name.push(format!("-{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// The search for a free name ends here.
const MAX_NUMBER: u32 = 9999;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(opened: io::Result<Opened>) -> String {
        match opened.expect("opens") {
            Opened::Yes(_, path) => path.file_name().expect("a name").to_string_lossy().into(),
            Opened::NoReader => "no reader".into(),
        }
    }

    #[cfg(target_os = "linux")]
    fn make_fifo(path: &Path) {
        use rustix::fs::{CWD, FileType, Mode, mknodat};

        mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
    }

    #[test]
    fn checking_a_destination_creates_no_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.avi");
        let mut destination = Destination::check(&path, false).expect("may be written");
        assert!(!path.exists());
        assert_eq!(name(destination.open_next()), "a.avi");
    }

    #[test]
    fn an_existing_file_is_kept_and_the_new_one_is_numbered() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.b.avi");
        for name in ["a.b.avi", "a.b-2.avi", "a.b-4.avi"] {
            fs::write(folder.path().join(name), name).expect("writes");
        }
        let mut destination = Destination::check(&path, false).expect("may be written");
        assert_eq!(name(destination.open_next()), "a.b-3.avi");
        assert_eq!(name(destination.open_next()), "a.b-5.avi");
        assert_eq!(fs::read(&path).expect("reads"), b"a.b.avi");
        let mut destination = Destination::check(&path, true).expect("may be written");
        assert_eq!(name(destination.open_next()), "a.b.avi");
        assert_eq!(fs::read(&path).expect("reads"), b"");
    }

    #[test]
    fn concurrent_writers_of_one_name_get_separate_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.y4m");
        let open = || name(Destination::check(&path, false).expect("may be written").open_next());
        let mut names = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|t| t.join().expect("no panic")).collect::<Vec<_>>()
        });
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 8);
    }

    #[test]
    fn a_path_in_a_missing_folder_and_a_folder_itself_are_refused_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let inside = folder.path().join("none/a.avi");
        let error = Destination::check(&inside, false).expect_err("no folder");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = Destination::check(folder.path(), true).expect_err("a folder");
        assert!(error.to_string().contains("folder"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn opening_a_fifo_without_a_reader_does_not_block() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let fifo = folder.path().join("a.y4m");
        make_fifo(&fifo);
        let mut destination = Destination::check(&fifo, false).expect("may be written");
        assert_eq!(destination.kind(), Kind::Fifo);
        assert_eq!(name(destination.open_next()), "no reader");
        let mut options = OpenOptions::new();
        let _reader = open_at_once(options.read(true), &fifo).expect("opens");
        assert_eq!(name(destination.open_next()), "a.y4m");
    }
}
