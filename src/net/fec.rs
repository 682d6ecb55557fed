//! Parity: Reed-Solomon over the chunks of one frame, so that any of them can be missing.
//!
//! One shard is one chunk's bytes. A frame's source chunks are dealt out to *blocks*, and
//! each block gets parity of its own; any parity chunk mends any missing chunk of its
//! block. What a parity chunk holds depends on the frame and on the chunk's index alone,
//! not on how many were made before, so a sender can make fresh ones when it is asked.
//!
//! ```text
//! source chunk i  ─► block i mod B         B = source chunks / 192, rounded up
//! parity chunk j  ─► block j mod B, its parity j / B
//! ```
//!
//! The code is that of Lin, Chung and Han, "Novel polynomial basis and its application to
//! Reed-Solomon erasure codes" (FOCS 2014), over GF(2¹⁶), as `reed-solomon-simd` has it;
//! `docs/PROTOCOL.md` §3.4 defines it by one sum, which a test here checks.

use std::ops::Range;

use reed_solomon_simd::{
    engine::{DefaultEngine, Engine, GF_MODULUS, GF_ORDER, GfElement, ShardsRefMut, tables},
    rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder},
};

/// How the chunks of one frame belong to blocks; follows from the number of source chunks alone.
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

    /// How many blocks there are, B.
    pub fn count(self) -> u16 {
        self.count
    }

    /// How many parity chunks each block can have, C: a power of two, and at least a third of
    /// the block's source chunks.
    pub fn capacity(self) -> u16 {
        self.capacity
    }

    /// How many parity chunks the frame can have; none beyond the last index that a chunk can have.
    pub fn parity_capacity(self) -> u16 {
        let all = u32::from(self.count) * u32::from(self.capacity);
        all.min(u32::from(u16::MAX - self.source_chunks) + 1).min(u32::from(u16::MAX)) as u16
    }

    /// How many source chunks `block` has.
    pub fn source_in(self, block: u16) -> u16 {
        (self.source_chunks - block).div_ceil(self.count)
    }

    /// The block that a chunk belongs to, and its place among that block's chunks of its sort.
    /// `index` counts source chunks, or parity chunks from their own zero.
    pub fn place(self, index: u16) -> (u16, u16) {
        (index % self.count, index / self.count)
    }

    /// The reverse of [`place`](Self::place).
    pub fn index(self, block: u16, nth: u16) -> u16 {
        nth * self.count + block
    }
}

/// Makes parity chunks. Keeps its working memory from frame to frame.
pub struct ParityEncoder {
    code: HighRateEncoder<BlockEngine>,
    /// One source chunk, zero-padded.
    chunk: Vec<u8>,
}

impl ParityEncoder {
    /// An encoder; the first one of a process waits for [`warm`].
    pub fn new() -> Self {
        let (source, parity, len) = SMALLEST;
        let code = HighRateEncoder::new(source, parity, len, BlockEngine::new(), None);
        Self { code: code.expect("the smallest code is one"), chunk: Vec::new() }
    }

    /// Writes parity chunks `wanted` of a frame one after another into `out`, each `chunk_len`
    /// bytes, which is even and not zero. `wanted` lies within [`Blocks::parity_capacity`].
    ///
    /// `source(i, bytes)` writes source chunk `i` to the front of `bytes`, which are `chunk_len`
    /// zeros. The working memory grows to 192 × `chunk_len`, [`MAX_WORK`] at most, and stays.
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
                let bytes = parity.recovery(usize::from(nth)).expect("below the count asked for");
                out[at..at + len].copy_from_slice(bytes);
            }
        }
    }

    /// The first `count` parity chunks of one block, and maybe more.
    fn encode_block(
        &mut self,
        blocks: Blocks,
        block: u16,
        chunk_len: u16,
        count: u16,
        source: &mut impl FnMut(u16, &mut [u8]),
    ) -> reed_solomon_simd::EncoderResult<'_> {
        let sources = blocks.source_in(block);
        // The code is told apart by the next power of two of the count alone, and that must be C.
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
        self.code.encode().expect("all source chunks are there")
    }
}

/// Finds missing source chunks from parity chunks. Keeps its working memory from frame to frame.
pub struct ParityDecoder {
    code: HighRateDecoder<BlockEngine>,
    chunk: Vec<u8>,
}

/// What one frame has, and where the missing chunks go.
pub struct Damaged<'a> {
    /// How its chunks belong to blocks.
    pub blocks: Blocks,
    /// Bytes of each chunk; even.
    pub chunk_len: u16,
    /// The frame body: source chunk i stands at i × `chunk_len`, the last may be short.
    pub body: &'a mut [u8],
}

impl ParityDecoder {
    /// A decoder; the first one of a process waits for [`warm`].
    pub fn new() -> Self {
        let (source, parity, len) = SMALLEST;
        let code = HighRateDecoder::new(source, parity, len, BlockEngine::new(), None);
        Self { code: code.expect("the smallest code is one"), chunk: Vec::new() }
    }

    /// Writes the missing source chunks of one block into the body; how many they were, or
    /// `None`, with the body untouched, if there are more than `parity` can mend.
    ///
    /// `has(i)` tells whether source chunk `i` of the frame is there. `parity` are the block's
    /// parity chunks by their place in the block, each once, below [`Blocks::capacity`], and
    /// of `chunk_len` bytes; more than are needed are not looked at. The working memory grows to
    /// 256 × `chunk_len`, [`MAX_WORK`] at most, and stays.
    ///
    /// Whether the result is right is known only from the frame's CRC.
    pub fn repair<'p>(
        &mut self,
        damaged: &mut Damaged<'_>,
        block: u16,
        has: impl Fn(u16) -> bool,
        parity: impl Iterator<Item = (u16, &'p [u8])>,
    ) -> Option<usize> {
        let (blocks, len) = (damaged.blocks, usize::from(damaged.chunk_len));
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
            let range = range_of(blocks.index(block, nth), len, damaged.body.len());
            let bytes = padded(&damaged.body[range], len, &mut self.chunk);
            self.code
                .add_original_shard(usize::from(nth), bytes)
                .expect("each once, of one length");
        }
        let result = self.code.decode().expect("as many chunks as there are sources");
        for (nth, bytes) in result.restored_original_iter() {
            let range = range_of(blocks.index(block, nth as u16), len, damaged.body.len());
            let room = &mut damaged.body[range];
            room.copy_from_slice(&bytes[..room.len()]);
        }
        Some(missing)
    }
}

/// Fills the tables that all encoders and decoders share: 8 MiB, in about 20 ms. Whoever makes the first one
/// waits for it, so call it where nobody waits, before a stream starts.
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

/// `bytes`, or a copy with zeros behind them in `scratch` if they are fewer than `len`.
fn padded<'a>(bytes: &'a [u8], len: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if bytes.len() == len {
        return bytes;
    }
    scratch.clear();
    scratch.extend_from_slice(bytes);
    scratch.resize(len, 0);
    scratch
}

/// The crate's own engine, but for one step of decoding.
///
/// The crate evaluates the polynomial whose zeros are the erasures at all 65,536 points by a
/// Walsh-Hadamard transform, 0.2 ms whatever the block. A block has at most 256 points, and
/// the plain sum over erasures takes 2 to 40 µs. Measured for 98 source chunks: repairing two of
/// them takes 0.12 instead of 0.32 ms.
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

    /// Replaces the marks of erasures (1 or 0) by the logarithm of the product of the
    /// distances to all other erasures, for the points below `truncated_size`.
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

/// Source chunks of a block: 720p and 1080p at quality 80 are one block, 2160p three. Repairing
/// three blocks of 134 takes as long as one of 400 with as much parity, but a frame that
/// misses one or two chunks needs one of them. Three times a power of two, so that source and
/// parity fill a transform of 256 points.
const MAX_BLOCK_SOURCE: u16 = 192;

/// The parity of the smallest frames.
const MIN_CAPACITY: u16 = 16;

/// Points of a block: 192 source chunks and 64 parity chunks at most.
const MAX_POINTS: usize = 256;

/// Working memory of an encoder or a decoder at most, in bytes: all points, with the largest datagrams.
pub const MAX_WORK: usize = MAX_POINTS << 16;

/// What a code is made with before its first frame: source chunks, parity chunks, bytes.
const SMALLEST: (usize, usize, usize) = (1, 1, 64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reed_solomon_simd::engine::{CANTOR_BASIS, GF_POLYNOMIAL};

    /// A frame body in chunks.
    #[derive(Clone)]
    struct Frame {
        body: Vec<u8>,
        chunk_len: u16,
        blocks: Blocks,
    }

    impl Frame {
        fn new(chunks: u16, chunk_len: u16, last: u16, seed: u32) -> Self {
            let len = usize::from(chunks - 1) * usize::from(chunk_len) + usize::from(last);
            let byte = |i: usize| ((i as u32 ^ seed).wrapping_mul(2_654_435_761) >> 13) as u8;
            Self { body: (0..len).map(byte).collect(), chunk_len, blocks: Blocks::of(chunks) }
        }

        fn parity(&self, wanted: Range<u16>) -> Vec<u8> {
            let len = usize::from(self.chunk_len);
            let source = |i, bytes: &mut [u8]| {
                let chunk = &self.body[range_of(i, len, self.body.len())];
                bytes[..chunk.len()].copy_from_slice(chunk);
            };
            let mut out = vec![0xa5; 7];
            ParityEncoder::new().encode(self.blocks, self.chunk_len, wanted, source, &mut out);
            out
        }

        /// Loses `missing`, and repairs every block from the parity chunks `kept`.
        fn lose_and_repair(&self, missing: &[u16], kept: &[u16]) -> (Option<usize>, Vec<u8>) {
            let all = self.parity(0..self.blocks.parity_capacity());
            let mut body = self.body.clone();
            let len = usize::from(self.chunk_len);
            for &chunk in missing {
                let range = range_of(chunk, len, body.len());
                body[range].fill(0xa5);
            }
            let mut damaged =
                Damaged { blocks: self.blocks, chunk_len: self.chunk_len, body: &mut body };
            let mut decoder = ParityDecoder::new();
            let mut repaired = Some(0);
            for block in 0..self.blocks.count() {
                let of_block = kept.iter().filter(|&&j| self.blocks.place(j).0 == block);
                let parity = of_block
                    .map(|&j| (self.blocks.place(j).1, &all[usize::from(j) * len..][..len]));
                let count = decoder.repair(&mut damaged, block, |i| !missing.contains(&i), parity);
                repaired = repaired.zip(count).map(|(a, b)| a + b);
            }
            (repaired, body)
        }
    }

    #[test]
    fn blocks_deal_out_all_chunks_and_have_parity_for_a_third() {
        for source in [1, 2, 48, 98, 180, 192, 193, 400, 7232, 65_000, u16::MAX] {
            let blocks = Blocks::of(source);
            let sum: u32 = (0..blocks.count()).map(|b| u32::from(blocks.source_in(b))).sum();
            assert_eq!(sum, u32::from(source));
            assert!(blocks.capacity().is_power_of_two());
            assert!(blocks.capacity() * 3 >= blocks.source_in(0), "{source}");
            let points = usize::from((blocks.source_in(0) + blocks.capacity()).next_power_of_two());
            assert!(points <= MAX_POINTS);
            assert!(u32::from(source) + u32::from(blocks.parity_capacity()) <= 1 << 16);
            let (block, nth) = blocks.place(source - 1);
            assert_eq!((blocks.index(block, nth), nth + 1), (source - 1, blocks.source_in(block)));
        }
        let shape = |s| (Blocks::of(s).count(), Blocks::of(s).capacity());
        assert_eq!([98, 180, 400].map(shape), [(1, 64), (1, 64), (3, 64)]);
        assert_eq!([1, 48, 49, 96, 97].map(shape), [(1, 16), (1, 16), (1, 32), (1, 32), (1, 64)]);
    }

    #[test]
    fn parity_is_what_the_protocol_defines() {
        let field = SlowField::new();
        for (chunks, chunk_len, last) in [(1, 2, 1), (5, 10, 3), (40, 66, 66), (70, 130, 2)] {
            let frame = Frame::new(chunks, chunk_len, last, 9);
            let parity = frame.parity(0..frame.blocks.capacity());
            for j in 0..frame.blocks.capacity() {
                let bytes = &parity[usize::from(j) * usize::from(chunk_len)..][..chunk_len.into()];
                assert_eq!(bytes, field.parity(&frame, j), "{chunks} chunks, parity {j}");
            }
        }
    }

    #[test]
    fn fresh_parity_is_what_a_larger_first_batch_would_have_had() {
        for chunks in [1, 98, 400] {
            let frame = Frame::new(chunks, 64, 30, 1);
            let all = frame.parity(0..frame.blocks.parity_capacity());
            for range in [0..1, 0..2, 2..5, 7..16, 3..frame.blocks.parity_capacity(), 5..5] {
                let expected = &all[usize::from(range.start) * 64..usize::from(range.end) * 64];
                assert_eq!(frame.parity(range.clone()), expected, "{chunks} chunks, {range:?}");
            }
        }
    }

    #[test]
    fn as_many_as_there_is_parity_are_mended_and_one_more_is_not() {
        let frame = Frame::new(98, 1160, 700, 5);
        let missing = [0, 1, 40, 41, 97];
        let (repaired, body) = frame.lose_and_repair(&missing, &[9, 2, 63, 0, 31]);
        assert_eq!(repaired, Some(5));
        assert!(body == frame.body);
        let (repaired, body) = frame.lose_and_repair(&missing, &[9, 2, 63, 0]);
        assert_eq!(repaired, None);
        assert!(body[..2320].iter().all(|&b| b == 0xa5), "nothing was written");
    }

    #[test]
    fn a_burst_is_spread_over_the_blocks() {
        let frame = Frame::new(400, 20, 20, 5);
        let missing: Vec<u16> = (100..160).collect();
        let (repaired, body) = frame.lose_and_repair(&missing, &(0..60).collect::<Vec<_>>());
        assert_eq!(repaired, Some(60));
        assert!(body == frame.body);
        assert_eq!(frame.lose_and_repair(&missing, &(0..59).collect::<Vec<_>>()).0, None);
    }

    #[test]
    fn one_encoder_and_one_decoder_serve_frames_of_all_sizes_and_then_allocate_nothing() {
        let frames = [(400, 1160), (98, 1160), (3, 8932), (1, 2)];
        let (mut encoder, mut decoder) = (ParityEncoder::new(), ParityDecoder::new());
        let mut parity = Vec::new();
        let mut bodies = frames.map(|(chunks, len)| Frame::new(chunks, len, 2, 3).body);
        let mut round = || {
            for ((chunks, chunk_len), body) in frames.iter().zip(&mut bodies) {
                let (blocks, len) = (Blocks::of(*chunks), usize::from(*chunk_len));
                let source = |i, bytes: &mut [u8]| {
                    let chunk = &body[range_of(i, len, body.len())];
                    bytes[..chunk.len()].copy_from_slice(chunk);
                };
                encoder.encode(blocks, *chunk_len, 0..blocks.count(), source, &mut parity);
                let mut damaged = Damaged { blocks, chunk_len: *chunk_len, body };
                let repair = std::iter::once((0, &parity[..len]));
                assert_eq!(decoder.repair(&mut damaged, 0, |i| i != 0, repair), Some(1));
            }
        };
        round();
        assert_eq!(allocation_counter::measure(round).count_total, 0);
    }

    proptest! {
        #[test]
        fn any_erasures_up_to_the_parity_are_mended(
            chunks in 1_u16..450,
            chunk_len in (1_u16..70).prop_map(|half| half * 2),
            last in 0_u16..1000,
            losses in prop::collection::btree_set(0_u16..450, 1..60),
            kept_seed in any::<u64>(),
        ) {
            let frame = Frame::new(chunks, chunk_len, 1 + last % chunk_len, 7);
            let blocks = frame.blocks;
            let missing: Vec<u16> = losses.into_iter().filter(|&c| c < chunks).collect();
            let mut kept = Vec::new();
            for block in 0..blocks.count() {
                let lost = missing.iter().filter(|&&c| blocks.place(c).0 == block).count() as u16;
                prop_assume!(lost <= blocks.capacity());
                // Any run of consecutive places, in any direction.
                let start = (kept_seed >> (block * 7)) as u16 % (blocks.capacity() - lost + 1);
                kept.extend((start..start + lost).rev().map(|nth| blocks.index(block, nth)));
            }
            let (repaired, body) = frame.lose_and_repair(&missing, &kept);
            prop_assert_eq!(repaired, Some(missing.len()));
            prop_assert_eq!(&body, &frame.body);
            if let Some((_, fewer)) = kept.split_last() {
                prop_assert_eq!(frame.lose_and_repair(&missing, fewer).0, None);
            }
        }
    }

    /// The field and the code by their definitions, bit by bit.
    struct SlowField {
        symbols: Vec<u16>,
    }

    impl SlowField {
        fn new() -> Self {
            let mut symbols = vec![0; 1 << 16];
            for symbol in 0..=u16::MAX {
                symbols[usize::from(Self::element(symbol))] = symbol;
            }
            Self { symbols }
        }

        /// The element that a 16-bit symbol stands for: a sum of basis elements.
        fn element(symbol: u16) -> u16 {
            let bits = (0..16).filter(|b| symbol >> b & 1 == 1);
            bits.fold(0, |sum, b| sum ^ CANTOR_BASIS[b])
        }

        fn times(a: u16, b: u16) -> u16 {
            let mut product = 0_u32;
            for bit in (0..16).rev() {
                product <<= 1;
                if product >> 16 == 1 {
                    product ^= GF_POLYNOMIAL as u32;
                }
                if b >> bit & 1 == 1 {
                    product ^= u32::from(a);
                }
            }
            product as u16
        }

        fn inverse(a: u16) -> u16 {
            // a to the power of 2¹⁶ − 2.
            let mut power = a;
            let mut result = 1;
            for _ in 0..15 {
                power = Self::times(power, power);
                result = Self::times(result, power);
            }
            result
        }

        /// The product of point + e(v) over v in 0..c, leaving out the one that is zero.
        fn product(point: u16, c: u16) -> u16 {
            let factors = (0..c).map(|v| point ^ Self::element(v)).filter(|&f| f != 0);
            factors.fold(1, Self::times)
        }

        /// parity j = Σ x(k) · N(k) / (e(j) + e(C + k))
        fn parity(&self, frame: &Frame, j: u16) -> Vec<u8> {
            let c = frame.blocks.capacity();
            let sources = frame.blocks.source_in(0);
            let factors: Vec<u16> = (0..sources)
                .map(|k| {
                    let group = Self::element(c * (k / c + 1));
                    let scale =
                        Self::times(Self::product(group, c), Self::inverse(Self::product(0, c)));
                    let distance = Self::element(j) ^ Self::element(c + k);
                    Self::times(scale, Self::inverse(distance))
                })
                .collect();
            let len = usize::from(frame.chunk_len);
            let mut out = vec![0; len];
            for (start, size) in (0..len).step_by(64).map(|s| (s, (len - s).min(64))) {
                for i in 0..size / 2 {
                    let (low, high) = (start + i, start + size / 2 + i);
                    let mut sum = 0;
                    for k in 0..sources {
                        let at = usize::from(k) * len;
                        let byte =
                            |b: usize| u16::from(frame.body.get(at + b).copied().unwrap_or(0));
                        let x = Self::element(byte(low) | byte(high) << 8);
                        sum ^= Self::times(x, factors[usize::from(k)]);
                    }
                    let symbol = self.symbols[usize::from(sum)];
                    (out[low], out[high]) = (symbol as u8, (symbol >> 8) as u8);
                }
            }
            out
        }
    }
}
