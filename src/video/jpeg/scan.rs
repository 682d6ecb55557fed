//! Checks whether a scan holds its whole picture, by decoding its Huffman codes without computing
//! pixels.
//!
//! libjpeg warns equally of harmless defects and of damage, and reports only the first warning.
//! This module tells them apart: each restart interval must hold exactly its MCUs, and the markers
//! between them must be in order. Bytes left over before a marker are harmless if they are few or
//! zeros.

use std::ops::Range;

use super::{
    huffman_tables::standard_huffman_tables,
    marker::{DHT, DRI, EOI, RST0, SOF0, SOF1, SOS, Segment, WalkError, segment_at},
};

/// Walks over the scan of a JPEG with an accepted header. Returns where its coded data ends: after
/// the last MCU, before any surplus bytes and the end marker.
pub(super) fn walk_scan(jpeg: &[u8]) -> Result<usize, ScanError> {
    let scan = Scan::read(jpeg)?;
    let mut at = scan.data;
    let mut left = scan.mcus;
    for restart in 0_usize.. {
        let interval =
            if scan.restart_interval == 0 { left } else { left.min(scan.restart_interval) };
        let end = scan.walk_interval(jpeg, at, interval)?;
        left -= interval;
        let next = marker_from(jpeg, end);
        check_surplus(jpeg, at, end..next.map_or(jpeg.len(), |(marker, _)| marker))?;
        if left == 0 {
            return Ok(end);
        }
        match next {
            Some((marker, code)) if code == RST0 + (restart % 8) as u8 => at = marker + 2,
            _ => return Err(ScanError::Truncated),
        }
    }
    unreachable!("each interval holds at least one MCU")
}

/// What is wrong with a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Part of the picture is missing.
    #[error("the JPEG is truncated or has lost a part")]
    Truncated,
    /// An undefined code, or more coefficients than a block has.
    #[error("the JPEG is damaged: bad Huffman code")]
    BadCode,
    /// More surplus bytes than any camera leaves.
    #[error("the JPEG is damaged: {0} surplus bytes after its coded data")]
    Surplus(usize),
    /// The tables or the scan's header are malformed.
    #[error("the JPEG's scan header or its Huffman tables are malformed")]
    Malformed,
}

/// Checks the bytes left over in a restart interval that begins at `start`. Its coded data ends at
/// `surplus.start`.
///
/// A truncated frame may be padded with zeros, which are codes too, so the picture would consume
/// some of them. The last byte of a complete picture may also be zero.
fn check_surplus(jpeg: &[u8], start: usize, surplus: Range<usize>) -> Result<(), ScanError> {
    // Any number of FF may precede a marker.
    let filled = jpeg[surplus.clone()].iter().rev().take_while(|&&byte| byte == 0xFF).count();
    let surplus = surplus.start..surplus.end - filled;
    if surplus.is_empty() {
        return Ok(());
    }
    let data = &jpeg[start..surplus.end];
    let zeros = data.iter().rev().take_while(|&&byte| byte == 0).count();
    if zeros > surplus.len() + 1 {
        return Err(ScanError::Truncated);
    }
    let others = surplus.len().saturating_sub(zeros);
    if others > MAX_SURPLUS { Err(ScanError::Surplus(others)) } else { Ok(()) }
}

/// The position and the second byte of the first marker at or after `from`. Of several FF, the last
/// one counts.
fn marker_from(jpeg: &[u8], from: usize) -> Option<(usize, u8)> {
    let mut at = from;
    loop {
        at += memchr::memchr(0xFF, jpeg.get(at..)?)?;
        match *jpeg.get(at + 1)? {
            0 => at += 2,
            0xFF => at += 1,
            code => return Some((at, code)),
        }
    }
}

/// The coding of a scan, from its header.
struct Scan {
    tables: Tables,
    /// The tables of each block of an MCU: of its DC coefficient and of its AC coefficients.
    blocks: Vec<(usize, usize)>,
    mcus: usize,
    restart_interval: usize,
    /// Where the coded data begins.
    data: usize,
}

impl Scan {
    fn read(jpeg: &[u8]) -> Result<Self, ScanError> {
        let (mut tables, mut frame, mut restart_interval) = (Tables::default(), None, 0);
        // The defaults, since Motion JPEG often omits them.
        tables.define(&standard_huffman_tables()[SEGMENT_HEAD..])?;
        let mut at = 2;
        loop {
            let segment = segment_at(jpeg, at)?;
            let Segment { marker, payload, .. } = segment;
            let content = &jpeg[payload.clone()];
            match marker {
                SOF0 | SOF1 => frame = Some(content),
                DHT => tables.define(content)?,
                DRI => {
                    let interval = content.try_into().map_err(|_| ScanError::Malformed)?;
                    restart_interval = usize::from(u16::from_be_bytes(interval));
                }
                SOS => {
                    let frame = frame.ok_or(ScanError::Malformed)?;
                    let (blocks, mcus) = blocks(frame, content).ok_or(ScanError::Malformed)?;
                    if blocks.iter().any(|&(dc, ac)| !tables.has(dc) || !tables.has(ac)) {
                        return Err(ScanError::Malformed);
                    }
                    return Ok(Self { tables, blocks, mcus, restart_interval, data: payload.end });
                }
                EOI => return Err(ScanError::Malformed),
                _ => {}
            }
            at = payload.end;
        }
    }

    /// Walks over `mcus` MCUs from `at`; returns where the last of them ends.
    fn walk_interval(&self, jpeg: &[u8], at: usize, mcus: usize) -> Result<usize, ScanError> {
        let mut bits = Bits { bytes: jpeg, at, buffer: 0, len: 0, ends: false };
        for _ in 0..mcus {
            for &(dc, ac) in &self.blocks {
                let size = self.tables.decode(dc, &mut bits)?;
                bits.skip(usize::from(size & 15))?;
                let mut coefficient = 1;
                while coefficient < BLOCK {
                    let run_and_size = self.tables.decode(ac, &mut bits)?;
                    let (run, size) =
                        (usize::from(run_and_size >> 4), usize::from(run_and_size & 15));
                    if size == 0 && run != 15 {
                        break;
                    }
                    bits.skip(size)?;
                    coefficient += run + 1;
                }
                if coefficient > BLOCK {
                    return Err(ScanError::BadCode);
                }
            }
        }
        Ok(bits.end())
    }
}

/// The tables of each block of an MCU, and the number of MCUs.
fn blocks(frame: &[u8], scan: &[u8]) -> Option<(Vec<(usize, usize)>, usize)> {
    let &[_, h1, h0, w1, w0, count, ref components @ ..] = frame else { return None };
    let (height, width) = (u16::from_be_bytes([h1, h0]), u16::from_be_bytes([w1, w0]));
    let (&scan_count, selectors) = scan.split_first()?;
    let components: Vec<_> = components.chunks_exact(3).collect();
    if components.len() != usize::from(count) || scan_count != count {
        return None;
    }
    let factors =
        |component: &[u8]| (usize::from(component[1] >> 4), usize::from(component[1] & 15));
    let widest = components.iter().map(|component| factors(component).0).max()?;
    let highest = components.iter().map(|component| factors(component).1).max()?;
    let mut blocks = Vec::new();
    for selector in selectors.chunks_exact(2).take(usize::from(count)) {
        let component = components.iter().find(|component| component[0] == selector[0])?;
        let tables = (usize::from(selector[1] >> 4), AC + usize::from(selector[1] & 15));
        let (across, down) = factors(component);
        // A single component is not interleaved, so its MCU is one block.
        let in_mcu = if count == 1 { 1 } else { across * down };
        blocks.extend(std::iter::repeat_n(tables, in_mcu));
    }
    let (across, down) = if count == 1 { (8, 8) } else { (8 * widest, 8 * highest) };
    if across == 0 || down == 0 || blocks.is_empty() {
        return None;
    }
    Some((blocks, usize::from(width).div_ceil(across) * usize::from(height).div_ceil(down)))
}

impl From<WalkError> for ScanError {
    fn from(_: WalkError) -> Self {
        Self::Malformed
    }
}

/// Huffman tables by number: four for DC, then four for AC.
#[derive(Default)]
struct Tables([Option<Box<Table>>; 2 * AC]);

impl Tables {
    /// Adds the tables of one segment (DHT).
    fn define(&mut self, mut content: &[u8]) -> Result<(), ScanError> {
        while let Some((&kind, rest)) = content.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or(ScanError::Malformed)?;
            let len = counts.iter().map(|&count| usize::from(count)).sum();
            let (values, rest) = rest.split_at_checked(len).ok_or(ScanError::Malformed)?;
            let number = usize::from(kind & 15);
            if number >= AC || kind >> 4 > 1 {
                return Err(ScanError::Malformed);
            }
            let table = Table::new(counts, values).ok_or(ScanError::Malformed)?;
            self.0[AC * usize::from(kind >> 4) + number] = Some(Box::new(table));
            content = rest;
        }
        Ok(())
    }

    fn has(&self, number: usize) -> bool {
        self.0.get(number).is_some_and(Option::is_some)
    }

    #[inline]
    fn decode(&self, number: usize, bits: &mut Bits<'_>) -> Result<u8, ScanError> {
        let table = self.0[number].as_ref().expect("the scan's tables are defined");
        let next = bits.peek16();
        let (len, value) = table.codes[usize::from(next >> (16 - SHORT))];
        let (len, value) = if len == 0 { table.decode_long(next)? } else { (len, value) };
        bits.skip(usize::from(len))?;
        Ok(value)
    }
}

/// One Huffman table.
struct Table {
    /// Indexed by the next bits: the length of the code that they begin with (zero if it is longer)
    /// and its value.
    codes: [(u8, u8); 1 << SHORT],
    /// For each length, the first code that is longer, aligned to 16 bits; and the difference
    /// between the index of a code's value and the code.
    limits: [(u32, i32); 17],
    values: [u8; 256],
}

impl Table {
    fn new(counts: &[u8; 16], from: &[u8]) -> Option<Self> {
        let mut table =
            Self { codes: [(0, 0); 1 << SHORT], limits: [(0, 0); 17], values: [0; 256] };
        table.values.get_mut(..from.len())?.copy_from_slice(from);
        let (mut code, mut place) = (0_u32, 0_usize);
        for len in 1..=16_usize {
            let count = usize::from(counts[len - 1]);
            table.limits[len].1 = place as i32 - code as i32;
            for &value in &from[place..place + count] {
                if code >= 1 << len {
                    return None;
                }
                if len <= SHORT {
                    let first = (code as usize) << (SHORT - len);
                    table.codes[first..][..1 << (SHORT - len)].fill((len as u8, value));
                }
                code += 1;
            }
            place += count;
            table.limits[len].0 = code << (16 - len);
            code <<= 1;
        }
        Some(table)
    }

    /// The length and the value of a code longer than [`SHORT`] bits.
    #[cold]
    fn decode_long(&self, next: u16) -> Result<(u8, u8), ScanError> {
        let next = u32::from(next);
        let lens = SHORT + 1..=16;
        let len =
            lens.into_iter().find(|&len| next < self.limits[len].0).ok_or(ScanError::BadCode)?;
        let place = (next >> (16 - len)) as i32 + self.limits[len].1;
        Ok((len as u8, self.values[place as usize & 255]))
    }
}

/// A bit reader for one interval.
struct Bits<'a> {
    bytes: &'a [u8],
    /// The position of the next byte.
    at: usize,
    /// Unused bits, the next one at the top.
    buffer: u64,
    len: usize,
    /// Whether a marker or the end is next.
    ends: bool,
}

impl Bits<'_> {
    #[inline]
    fn fill(&mut self) {
        while self.len <= 48 && !self.ends {
            match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xFF), Some(0)) => {
                    self.push(0xFF);
                    self.at += 2;
                }
                // Several FF before a zero count as one, as in libjpeg.
                (Some(0xFF), Some(0xFF)) => match marker_or_stuffing(self.bytes, self.at) {
                    Some(next) => self.at = next,
                    None => self.ends = true,
                },
                (Some(0xFF) | None, _) => self.ends = true,
                (Some(&byte), _) => {
                    self.push(byte);
                    self.at += 1;
                }
            }
        }
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        self.buffer |= u64::from(byte) << (56 - self.len);
        self.len += 8;
    }

    /// The next 16 bits, with zeros after the end.
    #[inline]
    fn peek16(&mut self) -> u16 {
        if self.len < 16 {
            self.fill();
        }
        (self.buffer >> 48) as u16
    }

    #[inline]
    fn skip(&mut self, len: usize) -> Result<(), ScanError> {
        if self.len < len {
            self.fill();
            if self.len < len {
                return Err(ScanError::Truncated);
            }
        }
        self.buffer <<= len;
        self.len -= len;
        Ok(())
    }

    /// The position after the byte that contains the last used bit.
    fn end(&self) -> usize {
        let mut at = self.at;
        for _ in 0..self.len / 8 {
            // A stuffing zero belongs to its FF.
            let is_stuffed = at >= 2 && self.bytes[at - 1] == 0 && self.bytes[at - 2] == 0xFF;
            at -= if is_stuffed { 2 } else { 1 };
        }
        at
    }
}

/// In a run of FF from `at`, the position of the last one, if a stuffing zero follows it.
fn marker_or_stuffing(bytes: &[u8], at: usize) -> Option<usize> {
    let run = bytes[at..].iter().take_while(|&&byte| byte == 0xFF).count();
    (bytes.get(at + run) == Some(&0)).then_some(at + run - 1)
}

/// The size of a segment's marker and length field, in bytes.
const SEGMENT_HEAD: usize = 4;

/// Coefficients of a block.
const BLOCK: usize = 64;

/// The number of DC tables, after which those for AC begin.
const AC: usize = 4;

/// Codes up to this number of bits are looked up directly.
const SHORT: usize = 9;

/// In bytes. Webcams leave up to a few dozen before a marker. Damage that desynchronizes the codes
/// leaves hundreds.
const MAX_SURPLUS: usize = 64;

#[cfg(test)]
mod tests {
    use super::{
        super::{Encoder, Header, Strips, tests::textured},
        *,
    };
    use crate::video::image::{Image, PixelFormat};
    use proptest::prelude::*;

    const FORMATS: [PixelFormat; 4] =
        [PixelFormat::Gray, PixelFormat::Yuv420, PixelFormat::Yuv422, PixelFormat::Yuv444];

    fn in_strips(format: PixelFormat) -> Vec<u8> {
        let mut jpeg = Vec::new();
        let image = Image::blank(70, 50, format);
        Encoder::new(50, Strips::Count(16)).encode(&image, &mut jpeg).expect("encodes");
        jpeg
    }

    #[test]
    fn a_complete_scan_ends_at_its_last_data_byte() {
        for format in FORMATS {
            for jpeg in [textured(70, 50, format), textured(16, 16, format), in_strips(format)] {
                assert_eq!(walk_scan(&jpeg), Ok(jpeg.len() - 2), "{format:?}");
                assert_eq!(walk_scan(&jpeg[..jpeg.len() - 2]), Ok(jpeg.len() - 2), "no end marker");
            }
        }
    }

    #[test]
    fn a_scan_cut_anywhere_is_truncated_even_if_padded() {
        for format in FORMATS {
            for jpeg in [textured(70, 50, format), in_strips(format)] {
                let data = Header::parse(&jpeg).expect("ours").scan_data;
                // The last blocks are so plain that a single zero may encode several of them.
                for (least_lost, end) in
                    [(3, &[][..]), (3, &[0xFF, EOI]), (3, &[0xFF, 0xFF]), (30, &[0; 9000])]
                {
                    for cut in data..jpeg.len() - least_lost {
                        let cut = [&jpeg[..cut], end].concat();
                        walk_scan(&cut).expect_err("truncated");
                    }
                }
            }
        }
    }

    #[test]
    fn a_few_surplus_bytes_and_any_padding_are_accepted() {
        let jpeg = textured(70, 50, PixelFormat::Yuv422);
        let (scan, end) = jpeg.split_at(jpeg.len() - 2);
        let with = |more: &[u8]| walk_scan(&[scan, more, end].concat());
        for more in [&[0x55; MAX_SURPLUS][..], &[0; 5000], &[0xFF; 300], &[1, 0xFF, 0, 7, 0xFF]] {
            assert_eq!(with(more), Ok(scan.len()));
        }
        assert_eq!(with(&[0x55; MAX_SURPLUS + 1]), Err(ScanError::Surplus(MAX_SURPLUS + 1)));
    }

    #[test]
    fn restart_markers_must_be_in_order() {
        let jpeg = in_strips(PixelFormat::Yuv420);
        let at = jpeg.windows(2).position(|pair| pair == [0xFF, RST0 + 1]).expect("has several");
        let mut wrong = jpeg.clone();
        wrong[at + 1] = RST0 + 2;
        assert_eq!(walk_scan(&wrong), Err(ScanError::Truncated));
        let stray = [&jpeg[..at], &[0, 9, 0xFF, 0], &jpeg[at..]].concat();
        assert_eq!(walk_scan(&stray), Ok(stray.len() - 2));
    }

    proptest! {
        #[test]
        fn arbitrary_damage_never_panics(
            format in 0_usize..4,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut: prop::sample::Index,
        ) {
            let mut jpeg = in_strips(FORMATS[format]);
            for (at, value) in changes {
                let at = at.index(jpeg.len());
                jpeg[at] = value;
            }
            jpeg.truncate(cut.index(jpeg.len() + 1));
            let _ = walk_scan(&jpeg);
        }
    }
}
