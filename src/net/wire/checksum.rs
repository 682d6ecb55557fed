//! Combines CRC-32s, so that each byte is hashed only once.
//!
//! CRC-32 is linear over GF(2). The CRC of `a` followed by `b` is that of `b`, xor that of `a`
//! shifted by as many zero bytes as `b` is long; and a shift by a given length is a linear map of
//! 32 bits. So a chunk's bytes are hashed once, for both their datagram and their frame.
//!
//! After Mark Adler's `crc32_combine` in zlib, for the CRC of RFC 1952, section 8. There each use
//! costs a polynomial product; here, since most chunks have the same length, it costs eight
//! look-ups, or eight for each set bit of any other length.

use std::sync::LazyLock;

use crc32fast::Hasher;

/// Combines the CRC-32s of pieces that mostly have the same length.
#[derive(Clone, Debug, Default)]
pub struct CrcCombiner {
    cached: Shift,
    len_before: usize,
}

/// The length and CRC of some bytes. The default is no bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hashed {
    /// Their length.
    pub len: usize,
    /// Their CRC-32: ISO-HDLC, as in Ethernet and zlib.
    pub crc: u32,
}

impl CrcCombiner {
    /// The CRC of bytes with the CRC `head` followed by `tail`.
    #[inline(always)]
    pub fn combine(&mut self, head: u32, tail: Hashed) -> u32 {
        // Building tables pays only for a repeated length, not for that of a last chunk.
        if tail.len == self.len_before && tail.len != self.cached.len {
            self.cached = Shift::past(tail.len);
        }
        self.len_before = tail.len;
        let moved = if tail.len == self.cached.len {
            self.cached.apply(head)
        } else {
            shift(head, tail.len)
        };
        moved ^ tail.crc
    }
}

impl Hashed {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self { len: bytes.len(), crc: crc32fast::hash(bytes) }
    }
}

/// The shift of a CRC by `len` zero bytes: one table for every four bits of the CRC.
#[derive(Clone, Debug)]
struct Shift {
    len: usize,
    tables: [[u32; 16]; 8],
}

impl Shift {
    /// Builds the linear map that takes each single bit to `of(bit)`.
    fn by(len: usize, of: impl Fn(u32) -> u32) -> Self {
        let mut tables = [[0; 16]; 8];
        for (i, table) in tables.iter_mut().enumerate() {
            for bit in 0..4 {
                let image = of(1 << (4 * i + bit));
                for nibble in (0..16).filter(|nibble| nibble >> bit & 1 == 1) {
                    table[nibble] ^= image;
                }
            }
        }
        Self { len, tables }
    }

    fn past(len: usize) -> Self {
        Self::by(len, |crc| shift(crc, len))
    }

    #[inline(always)]
    fn apply(&self, crc: u32) -> u32 {
        let nibble = |i: usize| (crc >> (4 * i) & 0xf) as usize;
        self.tables.iter().enumerate().fold(0, |sum, (i, table)| sum ^ table[nibble(i)])
    }
}

impl Default for Shift {
    fn default() -> Self {
        Self::past(0)
    }
}

/// `crc` shifted by `len` zero bytes, one power of two at a time.
fn shift(crc: u32, len: usize) -> u32 {
    assert!(len >> POWERS.len() == 0, "no frame is that long");
    let powers = POWERS.iter().filter(|power| len & power.len != 0);
    powers.fold(crc, |crc, power| power.apply(crc))
}

/// The shifts by 1, 2, 4, … bytes; together they exceed any frame.
static POWERS: LazyLock<[Shift; 24]> = LazyLock::new(|| {
    std::array::from_fn(|k| {
        Shift::by(1 << k, |crc| {
            let mut moved = Hasher::new_with_initial(crc);
            moved.combine(&Hasher::new_with_initial_len(0, 1 << k));
            moved.finalize()
        })
    })
});

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The result does not depend on the pieces or on the combiner's state.
        #[test]
        fn combined_piece_crcs_equal_the_crc_of_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..3000),
            lens in prop::collection::vec(prop_oneof![Just(0_usize), Just(20), 0..1500_usize], 0..40),
        ) {
            let mut crc_combiner = CrcCombiner::default();
            let (mut crc, mut rest) = (0, &bytes[..]);
            for len in lens.into_iter().chain([bytes.len()]) {
                let (piece, behind) = rest.split_at(len.min(rest.len()));
                crc = crc_combiner.combine(crc, Hashed::of(piece));
                rest = behind;
            }
            prop_assert_eq!(crc, crc32fast::hash(&bytes));
        }
    }

    #[test]
    fn the_crc_matches_the_catalogue_check_value() {
        // CRC-32/ISO-HDLC in Greg Cook's catalogue of parametrised CRC algorithms.
        let mut crc_combiner = CrcCombiner::default();
        assert_eq!(
            crc_combiner.combine(crc32fast::hash(b"12345"), Hashed::of(b"6789")),
            0xcbf4_3926
        );
    }

    #[test]
    fn pieces_may_be_as_long_as_a_frame() {
        let bytes = vec![7; crate::net::frame::MAX_FRAME_LEN + 4];
        for cut in [1, 40_000, bytes.len() - 70_000] {
            let (head, tail) = bytes.split_at(cut);
            let crc = CrcCombiner::default().combine(crc32fast::hash(head), Hashed::of(tail));
            assert_eq!(crc, crc32fast::hash(&bytes), "cut at {cut}");
        }
    }

    #[test]
    fn a_length_seen_twice_in_a_row_is_cached() {
        let mut crc_combiner = CrcCombiner::default();
        let lens = [(1160, 0), (1160, 1160), (44, 1160), (1160, 1160), (44, 1160), (44, 44)];
        for (len, cached) in lens {
            crc_combiner.combine(1, Hashed { len, crc: 2 });
            assert_eq!(crc_combiner.cached.len, cached);
        }
    }
}
