//! A private file with a 32-byte secret, created when first needed.

use std::{
    fs, io,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use data_encoding::BASE64_NOPAD;
use zeroize::Zeroizing;

use super::bounded_file::{self, Kinds};
use crate::net::crypto::keys::KEY_LEN;

/// A secret read from its file.
pub(super) struct Secret {
    pub(super) bytes: Zeroizing<[u8; KEY_LEN]>,
    /// Whether the file was just created.
    pub(super) is_new: bool,
}

/// Reads the secret in `path`. If there is no such file, calls `make` for a secret and a comment,
/// and creates the file with the comment as its first line.
///
/// If several programs create it at the same time, one succeeds and all use its secret, provided
/// that the file system supports hard links.
pub(super) fn read_or_make(
    path: &Path,
    make: impl FnOnce() -> (Zeroizing<[u8; KEY_LEN]>, String),
) -> Result<Secret> {
    if let Some(bytes) = read(path)? {
        return Ok(Secret { bytes, is_new: false });
    }
    let (bytes, comment) = make();
    let encoded = Zeroizing::new(BASE64_NOPAD.encode(&bytes[..]));
    let text = Zeroizing::new(format!("# {comment}\n{}\n", &*encoded));
    let is_new = create(path, text.as_bytes())
        .with_context(|| format!("cannot create {}", path.display()))?;
    let bytes = read(path)?.ok_or_else(|| anyhow!("{} was deleted again", path.display()))?;
    Ok(Secret { bytes, is_new })
}

fn read(path: &Path) -> Result<Option<Zeroizing<[u8; KEY_LEN]>>> {
    let file = bounded_file::open(path, MAX_FILE_LEN, Kinds::RegularOrPipe)?;
    let Some(mut file) = file else { return Ok(None) };
    // Preallocated for the longest file: the buffer never moves and leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_LEN as usize + 64));
    file.read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    check_mode(path)?;
    match parse(&text) {
        Some(bytes) => Ok(Some(bytes)),
        None => bail!(
            "{} contains no key (43 characters of base64): move it away to have a new one created",
            path.display()
        ),
    }
}

/// The secret in a file's `text`: the first line that is neither empty nor a comment.
pub(crate) fn parse(text: &str) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let decoded = BASE64_NOPAD.decode(line?.as_bytes()).ok().map(Zeroizing::new)?;
    decoded[..].try_into().ok().map(Zeroizing::new)
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let mode = fs::metadata(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        bail!("others can read {0}: chmod 600 {0}", path.display());
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_mode(_: &Path) -> Result<()> {
    Ok(())
}

/// Creates `path` with `contents`, unless it exists; returns whether it was created.
fn create(path: &Path, contents: &[u8]) -> io::Result<bool> {
    create_folder_of(path)?;
    let temporary = temporary(path);
    if let Err(error) = write_private(&temporary, contents) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // Unlike a rename, a link does not replace an existing file. Where links are not supported,
    // rename: concurrent creators may then overwrite each other.
    let made = match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(_) => fs::rename(&temporary, path).map(|()| true),
        Ok(()) => Ok(true),
    };
    let _ = fs::remove_file(&temporary);
    made
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.{:08x}", std::process::id(), rand::random::<u32>()));
    path.with_file_name(name)
}

/// Creates the parent folder of `path`, accessible to this user only, if missing.
pub(super) fn create_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => create_folder(folder),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn create_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn create_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

/// A key of 43 characters and a comment line take less.
const MAX_FILE_LEN: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn make() -> (Zeroizing<[u8; KEY_LEN]>, String) {
        (Zeroizing::new(rand::random()), "a test's".into())
    }

    #[test]
    fn a_secret_file_is_created_once_and_then_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/down/secret");
        let first = read_or_make(&path, make).unwrap();
        let again = read_or_make(&path, make).unwrap();
        assert_eq!((first.is_new, again.is_new), (true, false));
        assert_eq!(first.bytes, again.bytes);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file");
    }

    #[test]
    fn concurrent_creators_get_the_same_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let made = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| read_or_make(&path, make).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(made.iter().all(|secret| secret.bytes == made[0].bytes));
        assert_eq!(made.iter().filter(|secret| secret.is_new).count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn secret_files_are_private_and_public_ones_are_refused() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/secret");
        read_or_make(&path, make).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = read_or_make(&path, make).err().unwrap().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_file_without_a_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for text in ["", "# only this\n", "hello\n", "AAAA\n"] {
            let _ = fs::remove_file(&path);
            write_private(&path, text.as_bytes()).unwrap();
            let error = read_or_make(&path, make).err().unwrap().to_string();
            assert!(error.contains("contains no key"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
