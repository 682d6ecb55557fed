//! Finds a JPEG's thumbnail, which is a JPEG itself.

use std::ops::Range;

use super::marker::APP0;

/// The range of a thumbnail in this segment's payload, which may be truncated: in Exif (CIPA
/// DC-008, 4.5.5 and 4.6.5) or in a JFIF extension (ITU-T T.871, 10.3). In Exif that cannot be
/// parsed, it is the first data that begins like a JPEG. A thumbnail of unknown length extends to
/// the end.
pub(super) fn thumbnail_in(marker: u8, payload: &[u8]) -> Option<Range<usize>> {
    match marker {
        APP0 => payload.starts_with(b"JFXX\0\x10").then_some(6..payload.len()),
        APP1 => {
            let tiff = payload.strip_prefix(EXIF)?;
            let found = match Tiff::parse(tiff) {
                Some(tiff) => tiff.thumbnail(),
                // A JPEG at the very start is the next frame, which follows a truncated one.
                None => memchr::memmem::find(tiff, &[0xFF, 0xD8, 0xFF])
                    .filter(|&at| at >= 4)
                    .map(|at| at..tiff.len()),
            };
            found.map(|at| EXIF.len() + at.start..EXIF.len() + at.end)
        }
        _ => None,
    }
}

/// The TIFF structure within Exif.
struct Tiff<'a> {
    bytes: &'a [u8],
    is_big_endian: bool,
}

impl<'a> Tiff<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let is_big_endian = match bytes.get(..4)? {
            b"MM\0*" => true,
            b"II*\0" => false,
            _ => return None,
        };
        Some(Self { bytes, is_big_endian })
    }

    /// The second directory describes the thumbnail.
    fn thumbnail(&self) -> Option<Range<usize>> {
        let first = self.offset_at(4)?;
        let second = self.offset_at(first + 2 + ENTRY_LEN * self.u16_at(first)?)?;
        let value = |tag| {
            let numbers = 0..self.u16_at(second)?.min(MAX_ENTRIES);
            let mut entries = numbers.map(|number| second + 2 + ENTRY_LEN * number);
            entries.find(|&at| self.u16_at(at) == Some(tag)).and_then(|at| self.offset_at(at + 8))
        };
        let start = value(JPEG_OFFSET)?;
        Some(start..start + value(JPEG_LEN)?)
    }

    fn u16_at(&self, at: usize) -> Option<usize> {
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        let value = if self.is_big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
        Some(usize::from(value(*bytes)))
    }

    fn offset_at(&self, at: usize) -> Option<usize> {
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        let value = if self.is_big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        // Offsets are less than a segment's length, 64 KiB.
        u16::try_from(value(*bytes)).ok().map(usize::from)
    }
}

const APP1: u8 = 0xE1;
const EXIF: &[u8] = b"Exif\0\0";

/// A tag, a type, a count, and the value or its offset.
const ENTRY_LEN: usize = 12;

/// The tags `JPEGInterchangeFormat` and `JPEGInterchangeFormatLength`.
const JPEG_OFFSET: usize = 0x0201;
const JPEG_LEN: usize = 0x0202;

/// A thumbnail's directory has about ten.
const MAX_ENTRIES: usize = 64;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An Exif payload with this thumbnail, or without one.
    pub(in crate::video::jpeg) fn exif(thumbnail: Option<&[u8]>, is_big_endian: bool) -> Vec<u8> {
        let Some(thumbnail) = thumbnail else {
            return b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0".to_vec();
        };
        let short = |value: u16| {
            if is_big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
        };
        let long = |value: u32| {
            if is_big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
        };
        let magic = if is_big_endian { b"MM\0*" } else { b"II*\0" };
        let entry = |tag, value| [&short(tag)[..], &short(4), &long(1), &long(value)].concat();
        let orientation = entry(0x0112, 1);
        let first = [&short(1)[..], &orientation, &long(26)].concat();
        let [offset, len] = [entry(0x0201, 26 + 30), entry(0x0202, thumbnail.len() as u32)];
        let second = [&short(2)[..], &offset, &len, &long(0)].concat();
        [EXIF, magic, &long(8), &first, &second, thumbnail].concat()
    }

    #[test]
    fn a_thumbnail_is_found_in_exif_and_jfif() {
        let jpeg = [0xFF, 0xD8, 0xFF, 0xD9];
        for is_big_endian in [false, true] {
            let payload = exif(Some(&jpeg), is_big_endian);
            let at = thumbnail_in(APP1, &payload).expect("it has one");
            assert_eq!(&payload[at.clone()], jpeg);
            let cut = &payload[..at.start];
            assert_eq!(thumbnail_in(APP1, cut), Some(at), "cut in front of it");
        }
        assert_eq!(thumbnail_in(APP1, &[EXIF, b"odd.", &jpeg].concat()), Some(10..14));
        assert_eq!(thumbnail_in(APP0, &[b"JFXX\0\x10", &jpeg[..]].concat()), Some(6..10));
    }

    #[test]
    fn a_jpeg_after_the_metadata_is_not_a_thumbnail() {
        let jpeg = [0xFF, 0xD8, 0xFF, 0xD9];
        assert_eq!(thumbnail_in(APP1, &[&exif(None, true)[..], &jpeg].concat()), None);
        for payload in [
            &b"Exif\0\0MM\0*\xFF\xFF\xFF\xFF"[..],
            b"Exif\0\0II*\0\x08",
            b"http:",
            b"JFIF\0",
            &jpeg,
        ] {
            assert_eq!((thumbnail_in(APP1, payload), thumbnail_in(APP0, payload)), (None, None));
        }
    }
}
