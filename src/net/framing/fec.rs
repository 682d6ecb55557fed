//! Parity: Reed-Solomon over the chunks of one frame, to recover any that are missing.
//!
//! A frame's source chunks are distributed over *blocks*, and each block has its own parity; any
//! parity chunk can replace any missing chunk of its block. The contents of a parity chunk depend
//! only on the frame and the chunk's index, not on how many were made before, so a sender can make
//! fresh ones for each NACK.
//!
//! ```text
//! source chunk i  ─► block i mod B         B = source chunks / 192, rounded up
//! parity chunk j  ─► block j mod B, its parity j / B
//! ```
//!
//! The code is that of Lin, Chung and Han, "Novel polynomial basis and its application to
//! Reed-Solomon erasure codes" (FOCS 2014), over GF(2¹⁶), as implemented by `reed-solomon-simd`;
//! `docs/PROTOCOL.md` §3.5 defines it by one sum, which a test here checks.

use std::ops::Range;

use reed_solomon_simd::{
    engine::{DefaultEngine, Engine, GF_MODULUS, GF_ORDER, GfElement, ShardsRefMut, tables},
    rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder},
};

/// The assignment of one frame's chunks to blocks. It depends only on the number of source chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    source_chunks: u16,
    count: u16,
    capacity: u16,
}

impl Blocks {
    /// The blocks of a frame of `source_chunks`, at least 1.
    pub fn of(source_chunks: u16) -> Self {
        let source_chunks = source_chunks.max(1);
        let count = source_chunks.div_ceil(MAX_BLOCK_SOURCE);
        let largest = source_chunks.div_ceil(count);
        let capacity = largest.div_ceil(3).max(MIN_CAPACITY).next_power_of_two();
        Self { source_chunks, count, capacity }
    }

    /// The number of blocks, B.
    pub fn count(self) -> u16 {
        self.count
    }

    /// The maximum number of parity chunks per block, C: a power of two, at least 16 and at least a
    /// third of the block's source chunks.
    pub fn capacity(self) -> u16 {
        self.capacity
    }

    /// The maximum number of parity chunks of the frame, within the range of chunk indices.
    pub fn parity_capacity(self) -> u16 {
        let all = u32::from(self.count) * u32::from(self.capacity);
        all.min(u32::from(u16::MAX - self.source_chunks) + 1).min(u32::from(u16::MAX)) as u16
    }

    /// The number of source chunks in `block`.
    pub fn source_in(self, block: u16) -> u16 {
        (self.source_chunks - block).div_ceil(self.count)
    }

    /// The block of a chunk, and the chunk's place among the block's chunks of its kind. `index`
    /// counts source chunks, or parity chunks from their own zero.
    pub fn place(self, index: u16) -> (u16, u16) {
        (index % self.count, index / self.count)
    }

    /// The inverse of [`place`](Self::place).
    pub fn index(self, block: u16, nth: u16) -> u16 {
        nth * self.count + block
    }
}

/// Makes parity chunks. Its working memory is reused from frame to frame.
pub struct ParityEncoder {
    code: HighRateEncoder<BlockEngine>,
    /// One source chunk, zero-padded.
    chunk: Vec<u8>,
}

impl ParityEncoder {
    /// Creates an encoder. The first one of a process fills the tables, as [`warm`] does.
    pub fn new() -> Self {
        let (source, parity, len) = SMALLEST;
        let code = HighRateEncoder::new(source, parity, len, BlockEngine::new(), None);
        Self { code: code.expect("the smallest code is valid"), chunk: Vec::new() }
    }

    /// Writes the parity chunks `wanted` of a frame to `out`, concatenated, each of `chunk_len`
    /// bytes, which is even and not zero. `wanted` lies within [`Blocks::parity_capacity`].
    ///
    /// `source(i, bytes)` writes source chunk `i` to the front of `bytes`, which are `chunk_len`
    /// zeros. The working memory grows to 192 × `chunk_len` bytes, at most 12 MiB, and is
    /// kept.
    pub fn encode(
        &mut self,
        blocks: Blocks,
        chunk_len: u16,
        wanted: Range<u16>,
        mut source: impl FnMut(u16, &mut [u8]),
        out: &mut Vec<u8>,
    ) {
        let len = usize::from(chunk_len);
        out.clear();
        out.resize(wanted.len() * len, 0);
        for block in 0..blocks.count {
            let first = wanted.clone().find(|&j| j % blocks.count == block);
            let Some(first) = first else { continue };
            let nths = first / blocks.count..(wanted.end - 1 - block) / blocks.count + 1;
            let parity = self.encode_block(blocks, block, chunk_len, nths.end, &mut source);
            for nth in nths {
                let at = usize::from(blocks.index(block, nth) - wanted.start) * len;
                let bytes = parity.recovery(usize::from(nth)).expect("below the requested count");
                out[at..at + len].copy_from_slice(bytes);
            }
        }
    }

    /// The first `count` parity chunks of one block, and possibly more.
    fn encode_block(
        &mut self,
        blocks: Blocks,
        block: u16,
        chunk_len: u16,
        count: u16,
        source: &mut impl FnMut(u16, &mut [u8]),
    ) -> reed_solomon_simd::EncoderResult<'_> {
        let sources = blocks.source_in(block);
        // The code depends on the count only through its next power of two, which must be C.
        let count = count.max(blocks.capacity / 2 + 1);
        let len = usize::from(chunk_len);
        self.code
            .reset(usize::from(sources), usize::from(count), len)
            .expect("a block is far smaller than the field");
        for nth in 0..sources {
            self.chunk.clear();
            self.chunk.resize(len, 0);
            source(blocks.index(block, nth), &mut self.chunk);
            self.code.add_original_shard(&self.chunk).expect("as many as were announced");
        }
        self.code.encode().expect("all source chunks were added")
    }
}

/// Recovers missing source chunks from parity chunks. Its working memory is reused from frame to
/// frame.
pub struct ParityDecoder {
    code: HighRateDecoder<BlockEngine>,
    chunk: Vec<u8>,
}

/// A frame with missing chunks, which are written into its body.
pub struct Incomplete<'a> {
    /// The assignment of its chunks to blocks.
    pub blocks: Blocks,
    /// Bytes of each chunk; even.
    pub chunk_len: u16,
    /// The frame body. Source chunk i begins at i × `chunk_len`; the last may be short.
    pub body: &'a mut [u8],
}

impl ParityDecoder {
    /// Creates a decoder. The first one of a process fills the tables, as [`warm`] does.
    pub fn new() -> Self {
        let (source, parity, len) = SMALLEST;
        let code = HighRateDecoder::new(source, parity, len, BlockEngine::new(), None);
        Self { code: code.expect("the smallest code is valid"), chunk: Vec::new() }
    }

    /// Writes the missing source chunks of one block into the body and returns their number.
    /// Returns `None`, with the body unchanged, if `parity` yields fewer chunks than are missing.
    ///
    /// `has(i)` tells whether source chunk `i` of the frame is present. `parity` yields the block's
    /// parity chunks with their place in the block, each once, below [`Blocks::capacity`], and of
    /// `chunk_len` bytes; no more are used than needed. The working memory grows to 256 ×
    /// `chunk_len` bytes, at most 16 MiB, and is kept.
    ///
    /// Only the frame's CRC shows whether the result is correct.
    pub fn recover<'p>(
        &mut self,
        incomplete: &mut Incomplete<'_>,
        block: u16,
        has: impl Fn(u16) -> bool,
        parity: impl Iterator<Item = (u16, &'p [u8])>,
    ) -> Option<usize> {
        let (blocks, len) = (incomplete.blocks, usize::from(incomplete.chunk_len));
        let sources = blocks.source_in(block);
        let is_missing = |&nth: &u16| !has(blocks.index(block, nth));
        let missing = (0..sources).filter(is_missing).count();
        if missing == 0 {
            return Some(0);
        }
        self.code
            .reset(usize::from(sources), usize::from(blocks.capacity), len)
            .expect("a block is far smaller than the field");
        let mut given = 0;
        for (nth, bytes) in parity.take(missing) {
            self.code
                .add_recovery_shard(usize::from(nth), bytes)
                .expect("each once, of one length");
            given += 1;
        }
        if given < missing {
            return None;
        }
        for nth in (0..sources).filter(|nth| !is_missing(nth)) {
            let range = range_of(blocks.index(block, nth), len, incomplete.body.len());
            let bytes = padded(&incomplete.body[range], len, &mut self.chunk);
            self.code
                .add_original_shard(usize::from(nth), bytes)
                .expect("each once, of one length");
        }
        let result = self.code.decode().expect("as many chunks as there are sources");
        for (nth, bytes) in result.restored_original_iter() {
            let range = range_of(blocks.index(block, nth as u16), len, incomplete.body.len());
            let room = &mut incomplete.body[range];
            room.copy_from_slice(&bytes[..room.len()]);
        }
        Some(missing)
    }
}

/// Fills the tables shared by all encoders and decoders: 8 MiB, in about 20 ms. The first encoder
/// or decoder does this otherwise, so call it before a stream starts.
pub fn warm() {
    BlockEngine::new();
}

impl Default for ParityEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for ParityDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for ParityEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ParityEncoder")
    }
}

impl std::fmt::Debug for ParityDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ParityDecoder")
    }
}

fn range_of(chunk: u16, len: usize, body_len: usize) -> Range<usize> {
    let start = usize::from(chunk) * len;
    start..(start + len).min(body_len)
}

/// `bytes`, or a copy zero-padded to `len` in `scratch` if they are shorter.
fn padded<'a>(bytes: &'a [u8], len: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if bytes.len() == len {
        return bytes;
    }
    scratch.clear();
    scratch.extend_from_slice(bytes);
    scratch.resize(len, 0);
    scratch
}

/// The crate's default engine, except for one step of decoding.
///
/// The crate evaluates the polynomial whose zeros are the erasures at all 65,536 points with a
/// Walsh-Hadamard transform, which takes 0.2 ms for any block. A block has at most 256 points, for
/// which a plain sum over the erasures takes 2 to 40 µs. Measured for 98 source chunks, recovering
/// two of them takes 0.12 instead of 0.32 ms.
struct BlockEngine(DefaultEngine);

impl BlockEngine {
    fn new() -> Self {
        tables::get_exp_log();
        Self(DefaultEngine::new())
    }
}

impl Engine for BlockEngine {
    fn fft(
        &self,
        data: &mut ShardsRefMut,
        pos: usize,
        size: usize,
        truncated_size: usize,
        skew_delta: usize,
    ) {
        self.0.fft(data, pos, size, truncated_size, skew_delta);
    }

    fn ifft(
        &self,
        data: &mut ShardsRefMut,
        pos: usize,
        size: usize,
        truncated_size: usize,
        skew_delta: usize,
    ) {
        self.0.ifft(data, pos, size, truncated_size, skew_delta);
    }

    fn mul(&self, x: &mut [[u8; 64]], log_m: GfElement) {
        self.0.mul(x, log_m);
    }

    /// Replaces the erasure marks (1 or 0) by the logarithm of the product of the distances to all
    /// other erasures, for the points below `truncated_size`.
    fn eval_poly(erasures: &mut [GfElement; GF_ORDER], truncated_size: usize) {
        let log = &tables::get_exp_log().log;
        let mut points = [0; MAX_POINTS];
        let mut count = 0;
        for (point, _) in erasures[..truncated_size].iter().enumerate().filter(|(_, e)| **e != 0) {
            points[count] = point;
            count += 1;
        }
        for (at, erasure) in erasures[..truncated_size].iter_mut().enumerate() {
            let others = points[..count].iter().filter(|&&point| point != at);
            let sum: u32 = others.map(|point| u32::from(log[at ^ point])).sum();
            *erasure = (sum % u32::from(GF_MODULUS)) as GfElement;
        }
    }
}

/// Maximum source chunks per block: 720p and 1080p at quality 80 are one block, 2160p three.
/// Repairing three blocks of 134 takes as long as one of 400 with as much parity, but a frame that
/// lacks one or two chunks needs only one of the three. The value is three times a power of two, so
/// that source and parity fill a transform of 256 points.
const MAX_BLOCK_SOURCE: u16 = 192;

/// Minimum parity capacity of a block, for the smallest frames.
const MIN_CAPACITY: u16 = 16;

/// Points of a block: at most 192 source chunks and 64 parity chunks.
const MAX_POINTS: usize = 256;

/// The size of a code before its first frame: source chunks, parity chunks, bytes.
const SMALLEST: (usize, usize, usize) = (1, 1, 64);

#[cfg(test)]
mod tests;
