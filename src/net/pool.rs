//! Reusable buffers for frames: a running stream allocates none.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A pool of spare buffers. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct FramePool {
    spares: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// The bytes of a frame. Dropping it returns the buffer to its pool, if it has one.
pub struct FrameBuf {
    buffer: Vec<u8>,
    len: usize,
    home: Option<FramePool>,
}

impl FramePool {
    /// Creates an empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a buffer of `len` bytes with unspecified contents.
    pub fn take(&self, len: usize) -> FrameBuf {
        let buffer = self.lock().pop().filter(|spare| spare.len() <= len.max(SMALL) * 4);
        let mut frame =
            FrameBuf { buffer: buffer.unwrap_or_default(), len: 0, home: Some(self.clone()) };
        frame.resize(len);
        frame
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut spares = self.lock();
        if spares.capacity() == 0 {
            spares.reserve_exact(MAX_SPARES);
        }
        if spares.len() < MAX_SPARES {
            spares.push(buffer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        // No code panics under the lock.
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FrameBuf {
    /// Sets the length to `len` bytes; added bytes have unspecified contents.
    pub fn resize(&mut self, len: usize) {
        if self.buffer.len() < len {
            self.buffer.reserve_exact(len - self.buffer.len());
            self.buffer.resize(len, 0);
        }
        self.len = len;
    }

    /// The bytes, for writing.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.len]
    }

    /// Allocated bytes.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

impl Deref for FrameBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for FrameBuf {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.give_back(std::mem::take(&mut self.buffer));
        }
    }
}

impl From<Vec<u8>> for FrameBuf {
    fn from(buffer: Vec<u8>) -> Self {
        let len = buffer.len();
        Self { buffer, len, home: None }
    }
}

impl From<FrameBuf> for Arc<[u8]> {
    fn from(frame: FrameBuf) -> Self {
        Self::from(&frame[..])
    }
}

impl Clone for FrameBuf {
    fn clone(&self) -> Self {
        self.to_vec().into()
    }
}

impl PartialEq for FrameBuf {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for FrameBuf {}

impl fmt::Debug for FrameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameBuf({} bytes)", self.len)
    }
}

/// Maximum number of spare buffers. While one frame is being filled, at most two others return: the
/// one that waits to be taken and the one shown. A sender of huge frames cannot make the pool keep
/// more than two large buffers.
const MAX_SPARES: usize = 2;

/// A spare buffer of more than four times the requested size is freed, so that one huge frame does
/// not hold memory forever. Requests below this size count as this size.
const SMALL: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_reused() {
        let pool = FramePool::new();
        let first = pool.take(1000);
        let address = first.as_ptr();
        drop(first);
        let second = pool.take(500);
        assert_eq!((second.as_ptr(), second.len()), (address, 500));
    }

    #[test]
    fn few_spare_buffers_and_no_huge_ones_are_kept() {
        let pool = FramePool::new();
        drop([(); 5].map(|()| pool.take(100)));
        assert_eq!(pool.lock().len(), MAX_SPARES);
        let pool = FramePool::new();
        drop(pool.take(8 << 20));
        assert!(pool.take(100).capacity() < 1 << 20);
    }

    #[test]
    fn a_buffer_may_outlive_its_pool_and_change_threads() {
        let frame = FramePool::new().take(10);
        std::thread::spawn(move || drop(frame)).join().expect("no panic");
    }
}
