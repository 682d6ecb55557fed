//! Detects the kind of a file by its first bytes, not by its name.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::Path,
};

use super::{
    SourceError,
    padding::{is_padding, read_beginning},
    pushback::Pushback,
    y4m::{self, HEADER_MAGIC, HEADER_START},
};
use crate::video::jpeg::{Header, JpegStream, MotionJpegTest, StreamItem, begins_jpegs};

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A single picture of the named format.
    Image(&'static str),
    /// A video without a container: JPEGs, YUV4MPEG2, or both.
    Raw,
    /// Anything else, left to `FFmpeg`.
    Video,
    /// Not a regular file: a FIFO, a process substitution, a terminal.
    Pipe,
}

/// Detects the kind of the file.
pub(super) fn sniff(path: &Path) -> Result<Content, SourceError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => SourceError::Missing { path: path.into() },
        _ => SourceError::Unreadable { path: path.into(), error },
    };
    let kind = path.metadata().map_err(unreadable)?.file_type();
    if kind.is_dir() {
        return Err(SourceError::Folder { path: path.into() });
    }
    if !kind.is_file() {
        return Ok(Content::Pipe);
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let first = read_first(&mut file).map_err(unreadable)?;
    if first.is_empty() {
        return Err(SourceError::Empty { path: path.into() });
    }
    match image_format(&first) {
        Some(format) if format != "JPEG" => Ok(Content::Image(format)),
        _ if first.starts_with(HEADER_MAGIC) => classify_y4m(file).map_err(unreadable),
        _ if begins_jpegs(&first) => classify_jpegs(file, &first).map_err(unreadable),
        _ => Ok(Content::Video),
    }
}

/// The bytes that identify the file: more of them if it begins with padding.
fn read_first(file: &mut File) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    file.take(16).read_to_end(&mut first)?;
    if is_padding(&first) {
        first.extend(read_beginning(file)?);
    }
    Ok(first)
}

fn image_format(first: &[u8]) -> Option<&'static str> {
    let magic = |bytes: &[u8]| first.starts_with(bytes);
    match first {
        _ if magic(b"\x89PNG\r\n\x1a\n") => Some("PNG"),
        _ if magic(&[0xFF, 0xD8, 0xFF]) => Some("JPEG"),
        _ if magic(b"BM") => Some("BMP"),
        _ if magic(b"RIFF") && first.get(8..12) == Some(b"WEBP") => Some("WebP"),
        _ if magic(b"II*\0") || magic(b"MM\0*") => Some("TIFF"),
        _ => None,
    }
}

/// Tells Motion JPEG from a photograph. Unlike a photograph, Motion JPEG continues with similar
/// frames, has other data before its first JPEG, or has YUV4MPEG2 after it.
fn classify_jpegs(mut file: File, first: &[u8]) -> io::Result<Content> {
    file.rewind()?;
    let mut stream = JpegStream::ending_at(&[HEADER_START], BufReader::new(file));
    let mut test = MotionJpegTest::default();
    let (mut is_video, mut has_unsupported) = (false, false);
    for nth in 0..MAX_JPEGS_READ {
        let jpeg = match stream.next_item()? {
            Some(StreamItem::Frame(jpeg) | StreamItem::Unended(jpeg)) => jpeg,
            Some(_) => continue,
            None if stream.is_at_mark() => return Ok(Content::Raw),
            None => break,
        };
        is_video |= nth == 0 && !jpeg.starts_with(first);
        if !is_video {
            match test.push(&jpeg) {
                Some(true) => is_video = true,
                Some(false) => return Ok(Content::Image("JPEG")),
                None => {}
            }
        }
        // `FFmpeg` plays videos of JPEGs that we do not accept as frames, such as progressive ones.
        // A single invalid one may only be damaged, so the next one is tried.
        let header = Header::parse(&jpeg);
        has_unsupported |= header.is_err_and(|error| error.is_unsupported());
        if is_video && header.is_ok() {
            return Ok(Content::Raw);
        }
    }
    let is_image = image_format(first).is_some();
    Ok(match is_video {
        true if !has_unsupported => Content::Raw,
        false if is_image => Content::Image("JPEG"),
        _ => Content::Video,
    })
}

/// Leaves layouts that we do not support to `FFmpeg`, such as those of more than 8 bits.
fn classify_y4m(mut file: File) -> io::Result<Content> {
    file.rewind()?;
    let mut reader = Pushback::new(Box::new(BufReader::new(file)));
    match y4m::Header::read(&mut reader) {
        Ok(_) => Ok(Content::Raw),
        Err(error) if error.is_damage() => Ok(Content::Raw),
        Err(_) => Ok(Content::Video),
    }
}

/// A photograph has no more secondary images than this, and a video is recognized by its first
/// frames.
const MAX_JPEGS_READ: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_formats_are_recognized_by_their_first_bytes() {
        assert_eq!(image_format(b"\x89PNG\r\n\x1a\n...."), Some("PNG"));
        assert_eq!(image_format(b"RIFF....WEBPVP8 "), Some("WebP"));
        assert_eq!(image_format(b"RIFF....AVI LIST"), None);
        assert_eq!(image_format(b"B"), None);
    }

    #[test]
    fn motion_jpeg_is_a_video_and_one_jpeg_an_image() {
        use crate::video::{image::PixelFormat, jpeg::tests::textured};
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.avi");
        let frame = textured(32, 32, PixelFormat::Gray);
        std::fs::write(&path, &frame).expect("writes");
        assert_eq!(sniff(&path).expect("reads"), Content::Image("JPEG"));
        std::fs::write(&path, frame.repeat(2)).expect("writes");
        assert_eq!(sniff(&path).expect("reads"), Content::Raw);
        let gain_map = textured(16, 16, PixelFormat::Gray);
        std::fs::write(&path, [&frame[..], &gain_map].concat()).expect("writes");
        assert_eq!(sniff(&path).expect("reads"), Content::Image("JPEG"));
        let damaged = [&[0xFF, 0xD8, 0xFF, 0xE0, 0, 2, 7][..], &frame];
        std::fs::write(&path, damaged.concat()).expect("writes");
        assert_eq!(
            sniff(&path).expect("reads"),
            Content::Image("JPEG"),
            "damaged, with a thumbnail"
        );
        std::fs::write(&path, [&damaged.concat()[..], &frame].concat()).expect("writes");
        assert_eq!(sniff(&path).expect("reads"), Content::Raw);
        std::fs::write(&path, b"--a text, and no JPEG follows\n").expect("writes");
        assert_eq!(sniff(&path).expect("reads"), Content::Video);
    }
}
