//! Parity recovers lost chunks, and conforms to the specification.

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

    /// Loses `missing`, and recovers every block from the parity chunks `kept`.
    fn lose_and_recover(&self, missing: &[u16], kept: &[u16]) -> (Option<usize>, Vec<u8>) {
        let all = self.parity(0..self.blocks.parity_capacity());
        let mut body = self.body.clone();
        let len = usize::from(self.chunk_len);
        for &chunk in missing {
            let range = range_of(chunk, len, body.len());
            body[range].fill(0xa5);
        }
        let mut incomplete =
            Incomplete { blocks: self.blocks, chunk_len: self.chunk_len, body: &mut body };
        let mut decoder = ParityDecoder::new();
        let mut repaired = Some(0);
        for block in 0..self.blocks.count() {
            let of_block = kept.iter().filter(|&&j| self.blocks.place(j).0 == block);
            let parity =
                of_block.map(|&j| (self.blocks.place(j).1, &all[usize::from(j) * len..][..len]));
            let count = decoder.recover(&mut incomplete, block, |i| !missing.contains(&i), parity);
            repaired = repaired.zip(count).map(|(a, b)| a + b);
        }
        (repaired, body)
    }
}

#[test]
fn blocks_cover_all_chunks_with_at_least_a_third_parity() {
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
fn parity_matches_the_protocol_definition() {
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
fn parity_is_the_same_in_any_batch() {
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
fn as_many_losses_as_parity_chunks_are_recovered_and_no_more() {
    let frame = Frame::new(98, 1160, 700, 5);
    let missing = [0, 1, 40, 41, 97];
    let (repaired, body) = frame.lose_and_recover(&missing, &[9, 2, 63, 0, 31]);
    assert_eq!(repaired, Some(5));
    assert!(body == frame.body);
    let (repaired, body) = frame.lose_and_recover(&missing, &[9, 2, 63, 0]);
    assert_eq!(repaired, None);
    assert!(body[..2320].iter().all(|&b| b == 0xa5), "nothing was written");
}

#[test]
fn a_burst_is_spread_over_the_blocks() {
    let frame = Frame::new(400, 20, 20, 5);
    let missing: Vec<u16> = (100..160).collect();
    let (repaired, body) = frame.lose_and_recover(&missing, &(0..60).collect::<Vec<_>>());
    assert_eq!(repaired, Some(60));
    assert!(body == frame.body);
    assert_eq!(frame.lose_and_recover(&missing, &(0..59).collect::<Vec<_>>()).0, None);
}

#[test]
fn reused_encoder_and_decoder_do_not_allocate() {
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
            let mut incomplete = Incomplete { blocks, chunk_len: *chunk_len, body };
            let repair = std::iter::once((0, &parity[..len]));
            assert_eq!(decoder.recover(&mut incomplete, 0, |i| i != 0, repair), Some(1));
        }
    };
    round();
    assert_eq!(allocation_counter::measure(round).count_total, 0);
}

proptest! {
    #[test]
    fn any_erasures_up_to_the_parity_are_recovered(
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
            // Any run of consecutive places, in reverse order.
            let start = (kept_seed >> (block * 7)) as u16 % (blocks.capacity() - lost + 1);
            kept.extend((start..start + lost).rev().map(|nth| blocks.index(block, nth)));
        }
        let (repaired, body) = frame.lose_and_recover(&missing, &kept);
        prop_assert_eq!(repaired, Some(missing.len()));
        prop_assert_eq!(&body, &frame.body);
        if let Some((_, fewer)) = kept.split_last() {
            prop_assert_eq!(frame.lose_and_recover(&missing, fewer).0, None);
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

    /// The product of point + e(v) over v in 0..c, without the factor that is zero.
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
                    let byte = |b: usize| u16::from(frame.body.get(at + b).copied().unwrap_or(0));
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
