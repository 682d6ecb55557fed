//! Stand-ins for encoded pictures, in which any damage or mixture shows.

use std::{sync::OnceLock, time::Instant};

use udpchat::net::session::Delivered;

/// A stand-in for an encoded picture: its number, then noise that differs from one picture to the
/// next.
pub(crate) fn picture(number: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0; len.max(8)];
    for (i, bytes) in data.chunks_mut(PIECE).enumerate() {
        let from = (number as usize * 4099 + i * 61) % SHIFTS;
        bytes.copy_from_slice(&noise()[from..][..bytes.len()]);
    }
    data[..8].copy_from_slice(&number.to_be_bytes());
    data
}

/// The number of a received picture. Panics if the picture is damaged.
pub(crate) fn number_of(data: &[u8]) -> u64 {
    let number = u64::from_be_bytes(data[..8].try_into().expect("eight bytes"));
    assert!(data == &picture(number, data.len())[..], "picture {number} is damaged");
    number
}

/// The numbers of received pictures.
pub(crate) fn numbers(frames: &[(Instant, Delivered)]) -> Vec<u64> {
    frames.iter().map(|(_, d)| number_of(&d.frame.data)).collect()
}

/// Random bytes. A picture is an excerpt of them, shifted by its number.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut word = 1_u64;
        let words = std::iter::repeat_with(|| {
            word = word.wrapping_mul(0xd129_42f5_af5c_4b8d).rotate_left(29) ^ 7;
            word.to_be_bytes()
        });
        words.take((PIECE + SHIFTS) / 8).flatten().collect()
    })
}

const PIECE: usize = 1 << 17;
const SHIFTS: usize = 1 << 16;

#[test]
fn consecutive_pictures_differ_in_most_bytes() {
    for len in [8, 1000, PIECE + 1000] {
        assert_eq!(number_of(&picture(7, len)), 7);
    }
    let (one, other) = (picture(7, 1000), picture(8, 1000));
    let alike = one.iter().zip(&other).filter(|(a, b)| a == b).count();
    assert!(alike < 50, "{alike} of 1000 bytes are alike");
}

#[test]
#[should_panic(expected = "picture 7 is damaged")]
fn a_damaged_picture_is_noticed() {
    let mut data = picture(7, 1000);
    data[500] ^= 1;
    number_of(&data);
}
