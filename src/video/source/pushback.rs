//! A reader to which bytes can be pushed back.

use std::io::{self, BufRead, Cursor, Read};

/// Reads the bytes pushed back first, then `rest`.
pub(crate) struct Pushback {
    front: Cursor<Vec<u8>>,
    rest: Box<dyn BufRead + Send>,
}

impl Pushback {
    pub(crate) fn new(rest: Box<dyn BufRead + Send>) -> Self {
        Self { front: Cursor::default(), rest }
    }

    /// Pushes `bytes` back, to be read next. If they were pushed back before and have just been
    /// read again, they are not copied.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        let (read, left) = self.front.get_ref().split_at(self.front.position() as usize);
        if read.ends_with(bytes) {
            self.front.set_position((read.len() - bytes.len()) as u64);
        } else {
            self.front = Cursor::new([bytes, left].concat());
        }
    }

    fn front_is_read(&self) -> bool {
        self.front.position() as usize >= self.front.get_ref().len()
    }
}

impl Read for Pushback {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.front_is_read() { self.rest.read(buffer) } else { self.front.read(buffer) }
    }
}

impl BufRead for Pushback {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.front_is_read() { self.rest.fill_buf() } else { self.front.fill_buf() }
    }

    fn consume(&mut self, len: usize) {
        if self.front_is_read() { self.rest.consume(len) } else { self.front.consume(len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pushed_back_last_are_read_first() {
        let mut reader = Pushback::new(Box::new(Cursor::new(b"789".to_vec())));
        reader.unread(b"456");
        let mut byte = [0];
        reader.read_exact(&mut byte).expect("memory does not fail");
        assert_eq!(byte, *b"4");
        reader.unread(b"123");
        assert_eq!(reader.fill_buf().expect("memory does not fail"), b"12356");
        reader.consume(2);
        let mut all = String::new();
        reader.read_to_string(&mut all).expect("memory does not fail");
        assert_eq!(all, "356789");
    }
}
