//! The file of known keys, similar to that of `ssh`: hosts that we have called, and callers that we
//! have admitted.
//!
//! ```text
//! host desk:7722 KEY
//! caller KEY ann@desk
//! ```
//!
//! One entry a line. Comments and lines that cannot be parsed are kept. A host with a damaged line
//! is an error, not an unknown host.
//!
//! A `host` entry does not admit a caller; only `caller` entries do.
//!
//! An entry is added by one write at the end of the file (`O_APPEND`), as `ssh` does. Programs that
//! add entries at the same time neither overwrite each other nor need a lock. A line that a full
//! disk has cut short within its key is damaged, like any other.

use std::{
    cell::Cell,
    fmt, fs,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{
    bounded_file::{self, Kinds},
    secret_file::create_folder_of,
};
use crate::net::{crypto::keys::PublicKey, wire::text::Name};

/// The keys in one file.
#[derive(Debug)]
pub(super) struct KnownPeers {
    path: PathBuf,
    /// The number of damaged lines when last read.
    damaged_reported: Cell<usize>,
}

/// A parsed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A host that we call, in lower case with its port, and its key.
    Host(String, PublicKey),
    /// A caller that may call us.
    Caller(PublicKey, Name),
}

/// A key in the file, and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pin {
    pub(super) key: PublicKey,
    /// Line number, from 1.
    pub(super) line: usize,
}

/// Another known caller with the same or a confusingly similar name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Namesake {
    pub(super) name: Name,
    pub(super) pin: Pin,
}

impl KnownPeers {
    /// The keys in `path`, which need not exist.
    pub(super) fn in_file(path: PathBuf) -> Self {
        Self { path, damaged_reported: Cell::new(0) }
    }

    /// Fails if the file cannot be read.
    pub(super) fn check(&self) -> Result<()> {
        self.lines().map(drop)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The key pinned for `host`, if any. An error if its line is damaged.
    pub(super) fn host(&self, host: &str) -> Result<Option<Pin>> {
        let host = host.to_lowercase();
        for (line, entry) in self.lines()? {
            match entry {
                Line::Entry(Entry::Host(name, key)) if name == host => {
                    return Ok(Some(Pin { key, line }));
                }
                Line::DamagedHost(name) if name == host => bail!(
                    "line {line} of {} has no valid key for {host}: correct or delete the line",
                    self.path.display()
                ),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The name of the known caller with `key`.
    pub(super) fn caller(&self, key: &PublicKey) -> Result<Option<String>> {
        Ok(self.lines()?.into_iter().find_map(|(_, entry)| match entry {
            Line::Entry(Entry::Caller(known, name)) if known == *key => Some(name.to_string()),
            _ => None,
        }))
    }

    /// A caller known by `name` or a similar name, with a key other than `key`.
    pub(super) fn namesake(&self, name: &Name, key: &PublicKey) -> Result<Option<Namesake>> {
        Ok(self.lines()?.into_iter().find_map(|(line, entry)| match entry {
            Line::Entry(Entry::Caller(other, known)) if alike(&known, name) && other != *key => {
                Some(Namesake { name: known, pin: Pin { key: other, line } })
            }
            _ => None,
        }))
    }

    /// Pins `key` for `host`.
    pub(super) fn pin_host(&self, host: &str, key: PublicKey) -> Result<()> {
        self.add(&Entry::Host(host.to_lowercase(), key))
    }

    /// Admits the caller with `key` from now on, under `name`.
    pub(super) fn pin_caller(&self, name: Name, key: PublicKey) -> Result<()> {
        self.add(&Entry::Caller(key, name))
    }

    /// Every line with its number.
    fn lines(&self) -> Result<Vec<(usize, Line)>> {
        let text = self.read()?;
        let lines: Vec<_> =
            text.lines().enumerate().map(|(i, line)| (i + 1, parse(line))).collect();
        self.warn_of_damage(&lines);
        Ok(lines)
    }

    /// Warns of damaged lines, whenever their number changes.
    fn warn_of_damage(&self, lines: &[(usize, Line)]) {
        let is_damaged =
            |(_, line): &&(usize, Line)| matches!(line, Line::Malformed | Line::DamagedHost(_));
        let count = lines.iter().filter(is_damaged).count();
        if self.damaged_reported.replace(count) == count {
            return;
        }
        let (path, first) = (self.path.display(), lines.iter().find(is_damaged));
        match (count, first) {
            (1, Some((number, _))) => log::warn!("{path}, line {number}: not understood"),
            (_, Some((number, _))) => {
                log::warn!("{path}: {count} lines are not understood; the first is line {number}");
            }
            (_, None) => {}
        }
    }

    /// The file's text, with U+FFFD in place of bytes that are not UTF-8.
    fn read(&self) -> Result<String> {
        let file = bounded_file::open(&self.path, MAX_FILE_LEN, Kinds::Regular)?;
        let Some(mut file) = file else { return Ok(String::new()) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn add(&self, entry: &Entry) -> Result<()> {
        self.append(&format!("{entry}\n"))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Appends `line` to the file in a single write.
    fn append(&self, line: &str) -> io::Result<()> {
        create_folder_of(&self.path)?;
        let mut options = fs::OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.path)?;
        // If two programs do this at once, the result is an empty line, which is ignored.
        let gap = if is_last_line_open(&mut file)? { "\n" } else { "" };
        file.write_all(format!("{gap}{line}").as_bytes())?;
        file.sync_all()
    }
}

/// Whether the last line of `file` lacks a newline.
fn is_last_line_open(file: &mut fs::File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// The content of a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// An entry.
    Entry(Entry),
    /// Empty, or a comment.
    Nothing,
    /// A `host` line without a valid key.
    DamagedHost(String),
    /// Any other line.
    Malformed,
}

/// Parses one line.
pub(crate) fn parse(line: &str) -> Line {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Line::Nothing;
    }
    let mut words = line.splitn(3, char::is_whitespace);
    match (words.next(), words.next(), words.next()) {
        (Some("host"), Some(host), key) => {
            let host = host.to_lowercase();
            match key.and_then(|key| key.trim().parse().ok()) {
                Some(key) => Line::Entry(Entry::Host(host, key)),
                None => Line::DamagedHost(host),
            }
        }
        (Some("caller"), Some(key), name) => match key.parse() {
            Ok(key) => Line::Entry(Entry::Caller(key, Name::new(name.unwrap_or_default()))),
            Err(_) => Line::Malformed,
        },
        _ => Line::Malformed,
    }
}

/// Whether people may confuse two names: the parts before `@` are equal, ignoring case.
fn alike(a: &Name, b: &Name) -> bool {
    let [a, b] = [a, b].map(|name| {
        let person = name.as_str().split('@').next().unwrap_or_default();
        person.trim().to_lowercase()
    });
    a == b
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host, key) => write!(f, "host {host} {key}"),
            Self::Caller(key, name) => write!(f, "caller {key} {name}"),
        }
    }
}

/// In bytes; enough for about a million lines.
const MAX_FILE_LEN: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::crypto::keys::KEY_LEN;

    fn key(byte: u8) -> PublicKey {
        PublicKey::from_bytes([byte; KEY_LEN])
    }

    fn peers(text: &str) -> (tempfile::TempDir, KnownPeers) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known_peers");
        fs::write(&path, text).unwrap();
        (folder, KnownPeers::in_file(path))
    }

    #[test]
    fn pinned_hosts_and_callers_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownPeers::in_file(folder.path().join("new/known_peers"));
        assert_eq!(known.host("desk:7722").unwrap(), None);
        known.pin_host("Desk:7722", key(1)).unwrap();
        known.pin_caller(Name::new("ann of the desk"), key(2)).unwrap();
        assert_eq!(known.host("desk:7722").unwrap(), Some(Pin { key: key(1), line: 1 }));
        assert_eq!(known.host("desk:7723").unwrap(), None);
        assert_eq!(known.caller(&key(2)).unwrap().as_deref(), Some("ann of the desk"));
        assert_eq!(known.caller(&key(1)).unwrap(), None, "a pinned host is not a known caller");
        assert_eq!(known.caller(&key(3)).unwrap(), None);
    }

    #[test]
    fn a_name_in_use_by_another_key_is_detected() {
        let (_folder, known) = peers(&format!("\ncaller {} ann\n", key(1)));
        for name in ["ann", "Ann@desk", "ANN @ elsewhere"] {
            let namesake = known.namesake(&Name::new(name), &key(2)).unwrap();
            let pin = Pin { key: key(1), line: 2 };
            assert_eq!(namesake, Some(Namesake { name: Name::new("ann"), pin }), "{name}");
        }
        assert_eq!(known.namesake(&Name::new("ann"), &key(1)).unwrap(), None);
        assert_eq!(known.namesake(&Name::new("bob"), &key(2)).unwrap(), None);
    }

    #[test]
    fn damaged_lines_are_kept_and_affect_only_their_host() {
        let text = format!("# mine\nhost desk\nhost desk:1 nokey\nguest x\nhost a:1 {}", key(1));
        let (_folder, known) = peers(&text);
        known.pin_host("b:1", key(2)).unwrap();
        let now = fs::read_to_string(known.path()).unwrap();
        assert_eq!(now, format!("{text}\nhost b:1 {}\n", key(2)));
        assert_eq!(known.host("a:1").unwrap(), Some(Pin { key: key(1), line: 5 }));
        for damaged in ["desk", "Desk:1"] {
            let error = known.host(damaged).unwrap_err().to_string();
            assert!(error.contains("has no valid key"), "{error}");
        }
        assert_eq!(known.host("desk:2").unwrap(), None);
    }

    #[test]
    fn concurrent_pins_lose_no_line() {
        // The last line has no newline at first.
        let (_folder, known) = peers(&format!("host desk:1 {}", key(1)));
        let (writers, each) = (8, 50);
        std::thread::scope(|scope| {
            for writer in 0..writers {
                // Each with its own handle, like another program.
                let known = KnownPeers::in_file(known.path().to_owned());
                scope.spawn(move || {
                    for port in 0..each {
                        known.pin_host(&format!("desk-{writer}:{port}"), key(writer)).unwrap();
                    }
                });
            }
        });
        assert_eq!(known.host("desk:1").unwrap(), Some(Pin { key: key(1), line: 1 }));
        for (writer, port) in (0..writers).flat_map(|w| (0..each).map(move |port| (w, port))) {
            let pin = known.host(&format!("desk-{writer}:{port}")).unwrap();
            assert_eq!(pin.map(|pin| pin.key), Some(key(writer)), "desk-{writer}:{port}");
        }
        let is_understood =
            |(_, line): (usize, Line)| matches!(line, Line::Entry(_) | Line::Nothing);
        assert!(known.lines().unwrap().into_iter().all(is_understood));
    }

    #[cfg(unix)]
    #[test]
    fn known_peers_is_private_and_a_symlink_to_it_is_kept() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("deep/known_peers"), folder.path().join("link"));
        KnownPeers::in_file(path.clone()).pin_host("desk:1", key(1)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        KnownPeers::in_file(link.clone()).pin_host("desk:2", key(2)).unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_name_cannot_add_a_line() {
        let (_folder, known) = peers("");
        known.pin_caller(Name::new("x\nhost desk:7722 y"), key(1)).unwrap();
        assert_eq!(fs::read_to_string(known.path()).unwrap().lines().count(), 1);
        assert_eq!(known.host("desk:7722").unwrap(), None);
    }
}
