//! A buffered reader: bytes can be inspected before they are consumed.

use std::io::{self, BufRead};

/// The bytes read but not consumed. Positions count from the first of them.
#[derive(Debug)]
pub(super) struct Lookahead<R> {
    reader: R,
    bytes: Vec<u8>,
    /// How many of `bytes` are consumed.
    consumed: usize,
    /// The byte strings that end the stream, besides the reader's end.
    marks: &'static [&'static [u8]],
    mark_at: Option<usize>,
    /// The end of the part that contains neither a mark nor its possible beginning.
    searched: usize,
    has_ended: bool,
}

impl<R: BufRead> Lookahead<R> {
    /// The stream also ends where one of `marks` begins.
    pub(super) fn new(reader: R, marks: &'static [&'static [u8]]) -> Self {
        Self {
            reader,
            bytes: Vec::new(),
            consumed: 0,
            marks,
            mark_at: None,
            searched: 0,
            has_ended: false,
        }
    }

    /// The bytes read, up to a mark or its possible beginning.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.consumed..][..self.searched]
    }

    /// The byte at this position; `None`: the stream ends before it.
    pub(super) fn byte(&mut self, at: usize) -> io::Result<Option<u8>> {
        self.reaches(at + 1).map(|reaches| reaches.then(|| self.bytes()[at]))
    }

    /// Reads until `len` bytes are available; false if the stream is shorter.
    pub(super) fn reaches(&mut self, len: usize) -> io::Result<bool> {
        while self.bytes().len() < len {
            if !self.grow()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads more bytes, and waits only if none are available. Returns false after the stream's
    /// end. The call that finds the reader's end returns true, since what may have begun a mark
    /// then belongs to [`bytes`](Self::bytes).
    pub(super) fn grow(&mut self) -> io::Result<bool> {
        if self.has_ended || self.mark_at.is_some() {
            return Ok(false);
        }
        let most = (self.bytes.len() - self.consumed).clamp(MIN_READ, MAX_READ);
        let read = fill(&mut self.reader)?;
        let read = &read[..read.len().min(most)];
        let len = read.len();
        self.bytes.extend_from_slice(read);
        self.reader.consume(len);
        self.has_ended = len == 0;
        self.find_mark();
        Ok(true)
    }

    fn find_mark(&mut self) {
        let unconsumed = &self.bytes[self.consumed..];
        let new = &unconsumed[self.searched..];
        let found = self.marks.iter().filter_map(|mark| memchr::memmem::find(new, mark)).min();
        self.mark_at = found.map(|at| self.searched + at);
        let beginning = |mark: &&[u8]| {
            let mut lens = (1..mark.len().min(new.len() + 1)).rev();
            lens.find(|&len| !self.has_ended && new.ends_with(&mark[..len]))
        };
        let beginning = self.marks.iter().filter_map(beginning).max();
        self.searched = self.mark_at.unwrap_or(unconsumed.len() - beginning.unwrap_or(0));
    }

    pub(super) fn is_at_mark(&self) -> bool {
        self.mark_at == Some(0)
    }

    /// Drops the first `len` bytes, which must have been read.
    pub(super) fn consume(&mut self, len: usize) {
        assert!(len <= self.bytes().len(), "{len} bytes of {}", self.bytes().len());
        self.consumed += len;
        self.mark_at = self.mark_at.map(|at| at - len);
        self.searched -= len;
        // Moves no more bytes than were consumed, so the cost is linear.
        if self.consumed * 2 >= self.bytes.len() {
            self.bytes.drain(..self.consumed);
            self.consumed = 0;
        }
    }

    /// The bytes read but not consumed, and the reader.
    pub(super) fn into_parts(mut self) -> (Vec<u8>, R) {
        self.bytes.drain(..self.consumed);
        (self.bytes, self.reader)
    }
}

/// [`BufRead::fill_buf`], retried when a signal interrupts it.
fn fill(reader: &mut impl BufRead) -> io::Result<&[u8]> {
    loop {
        match reader.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
            Ok(_) => break,
        }
    }
    reader.fill_buf()
}

/// The bounds of one read, in bytes. Within them it is at most as long as what is buffered already,
/// since bytes read beyond a mark must be handed back.
const MIN_READ: usize = 1 << 12;
const MAX_READ: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    #[test]
    fn the_stream_ends_at_the_mark_at_any_buffer_size() {
        for buffer in [1, 2, 3, 100] {
            let reader = BufReader::with_capacity(buffer, &b"oneMMARKtwo"[..]);
            let mut ahead = Lookahead::new(reader, &[b"TWO", b"MARK", b"two"]);
            assert_eq!(ahead.byte(3).expect("memory"), Some(b'M'));
            assert!(!ahead.reaches(5).expect("memory") && ahead.reaches(4).expect("memory"));
            assert_eq!((ahead.bytes(), ahead.is_at_mark()), (&b"oneM"[..], false));
            ahead.consume(4);
            assert!(ahead.is_at_mark() && ahead.bytes().is_empty());
            let (front, rest) = ahead.into_parts();
            let rest = io::read_to_string(io::Read::chain(&front[..], rest)).expect("text");
            assert_eq!(rest, "MARKtwo");
        }
    }
}
