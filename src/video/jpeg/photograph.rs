//! Tells a photograph with secondary images from Motion JPEG: both are concatenated JPEGs.
//!
//! Phones append a gain map, a depth map or a preview to a photograph, and list them in its header,
//! in CIPA's Multi-Picture Format (`MPF` in APP2) or in XMP's container directory (in APP1). Some
//! programs that copy photographs lose that list, but keep the images.
//!
//! Without the list, sizes are compared: the frames of a video have one size, and secondary images
//! are usually smaller than the photograph. There are exceptions: a full-size gain map, or a depth
//! map followed by its confidence map of the same size. Then Exif decides. All frames of a video
//! come from one encoder and have Exif in each or in none. In a photograph, the program that
//! renders the secondary images adds Exif (time, lens, orientation) to the main image.

use super::marker::{DHT, JPG, SOF0, SOF15, SOS, segment_at};

/// Tells a video from a photograph, given the JPEGs of a file in order.
#[derive(Debug, Default)]
pub struct MotionJpegTest {
    /// Whether the first JPEG has Exif, once it is known.
    first_has_exif: Option<bool>,
    /// The size of the last JPEG with a known size.
    before: Option<(u16, u16)>,
}

impl MotionJpegTest {
    /// Takes the next JPEG; `Some(true)` for a video, `Some(false)` for a photograph, `None` while
    /// undecided. A file that ends undecided is a photograph: no two consecutive JPEGs in it had
    /// the same size.
    pub fn push(&mut self, jpeg: &[u8]) -> Option<bool> {
        let Outline { size, has_exif, names_secondary_images } = outline(jpeg);
        let first_has_exif = *self.first_has_exif.get_or_insert(has_exif);
        if names_secondary_images {
            return Some(false);
        }
        let size = size?;
        let is_repeated = self.before.replace(size) == Some(size);
        is_repeated.then_some(has_exif || !first_has_exif)
    }
}

struct Outline {
    size: Option<(u16, u16)>,
    has_exif: bool,
    /// Whether it lists secondary images, or is one of them.
    names_secondary_images: bool,
}

/// Parses only the needed parts of a header, for any JPEG coding.
fn outline(jpeg: &[u8]) -> Outline {
    let mut outline = Outline { size: None, has_exif: false, names_secondary_images: false };
    let mut at = 0;
    while let Ok(segment) = segment_at(jpeg, at) {
        let payload = &jpeg[segment.payload.clone()];
        match segment.marker {
            SOS => break,
            APP1 if payload.starts_with(b"Exif\0") => outline.has_exif = true,
            APP1 if payload.starts_with(XMP) => {
                let lists = |name: &&[u8]| memchr::memmem::find(payload, name).is_some();
                outline.names_secondary_images |= XMP_LISTS.iter().any(lists);
            }
            APP2 => {
                let begins = |name: &&[u8]| payload.starts_with(name);
                outline.names_secondary_images |= APP2_NAMES.iter().any(begins);
            }
            DHT | JPG | DAC => {}
            SOF0..=SOF15 => {
                if let &[_, h1, h0, w1, w0, ..] = payload {
                    let size = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
                    outline.size = Some(size);
                }
            }
            _ => {}
        }
        at = segment.payload.end;
    }
    outline
}

const APP1: u8 = 0xE1;
const APP2: u8 = 0xE2;
/// Defines arithmetic coding; numbered like an SOF, but not one.
const DAC: u8 = 0xCC;

const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// The Multi-Picture Format (CIPA DC-007), present in each of its images, and the gain maps of ISO
/// 21496-1, announced in the photograph and described in the map.
const APP2_NAMES: [&[u8]; 2] = [b"MPF\0", b"urn:iso:std:iso:ts:21496:-1\0"];

/// XMP namespaces of secondary images: Google's container directory, and Adobe's gain maps.
const XMP_LISTS: [&[u8]; 2] =
    [b"http://ns.google.com/photos/1.0/container/", b"http://ns.adobe.com/hdr-gain-map/"];

#[cfg(test)]
mod tests {
    use super::{super::tests::textured, *};
    use crate::video::image::PixelFormat;

    fn jpeg(width: usize) -> Vec<u8> {
        textured(width, 32, PixelFormat::Yuv420)
    }

    /// A JPEG with another segment after its SOI.
    fn with_segment(jpeg: &[u8], marker: u8, payload: &[u8]) -> Vec<u8> {
        let len = ((payload.len() + 2) as u16).to_be_bytes();
        [&jpeg[..2], &[0xFF, marker], &len, payload, &jpeg[2..]].concat()
    }

    fn is_video(jpegs: &[Vec<u8>]) -> Option<bool> {
        let mut test = MotionJpegTest::default();
        jpegs.iter().find_map(|jpeg| test.push(jpeg))
    }

    #[test]
    fn two_consecutive_frames_of_one_size_are_a_video() {
        let sizes = |widths: &[usize]| widths.iter().map(|&w| jpeg(w)).collect::<Vec<_>>();
        assert_eq!(is_video(&sizes(&[64, 64])), Some(true));
        assert_eq!(is_video(&sizes(&[64, 32, 32])), Some(true));
        assert_eq!(is_video(&sizes(&[64])), None);
        assert_eq!(is_video(&sizes(&[64, 32])), None, "a photograph and its gain map");
        assert_eq!(is_video(&sizes(&[64, 32, 16])), None, "and a preview");
    }

    #[test]
    fn a_list_of_secondary_images_marks_a_photograph() {
        let adobe = [XMP, b"<x xmlns:hdrgm=\"http://ns.adobe.com/hdr-gain-map/1.0/\">"].concat();
        let google = [XMP, b"xmlns:C='http://ns.google.com/photos/1.0/container/'"].concat();
        for (marker, payload) in [(APP2, &b"MPF\0MM\0*"[..]), (APP1, &adobe), (APP1, &google)] {
            let photograph = with_segment(&jpeg(64), marker, payload);
            assert_eq!(is_video(&[photograph, jpeg(64)]), Some(false));
        }
        for (marker, payload) in [(APP2, &b"ICC_PROFILE\0"[..]), (APP1, b"Exif\0\0"), (APP1, XMP)] {
            let frame = with_segment(&jpeg(64), marker, payload);
            assert_eq!(is_video(&[frame.clone(), frame]), Some(true));
        }
    }

    #[test]
    fn exif_in_only_the_first_image_rules_out_a_video() {
        let exif = |jpeg: &[u8]| with_segment(jpeg, APP1, b"Exif\0\0MM\0*\0\0\0\x08\0\0");
        let photograph = exif(&jpeg(64));
        for secondary_images in [&[64][..], &[32, 32], &[64, 64, 64]] {
            let secondary_images = secondary_images.iter().map(|&width| jpeg(width));
            let jpegs: Vec<_> = [photograph.clone()].into_iter().chain(secondary_images).collect();
            assert_ne!(is_video(&jpegs), Some(true));
        }
        // Exif in each, or only in a later one, does not make a photograph.
        assert_eq!(is_video(&[photograph.clone(), photograph.clone()]), Some(true));
        assert_eq!(is_video(&[jpeg(64), photograph]), Some(true));
    }

    #[test]
    fn secondary_image_metadata_marks_a_photograph() {
        let attributes = with_segment(&jpeg(64), APP2, b"MPF\0MM\0*");
        assert_eq!(is_video(&[jpeg(64), attributes]), Some(false));
        let hdr = with_segment(&jpeg(64), APP2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0");
        assert_eq!(is_video(&[hdr, jpeg(64)]), Some(false));
    }

    #[test]
    fn an_unreadable_frame_between_two_others_is_ignored() {
        assert_eq!(is_video(&[jpeg(64), vec![0xFF, 0xD8], jpeg(64)]), Some(true));
    }

    #[test]
    fn frames_without_a_size_are_not_a_video() {
        assert_eq!(is_video(&[vec![0xFF, 0xD8], vec![0xFF, 0xD8], Vec::new()]), None);
    }
}
