//! What a file is, told by its first bytes and not by its name.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::Path,
};

use super::SourceError;
use crate::video::jpeg::{FilmTest, JpegStream, StreamItem};

/// What to open a file as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// One picture, of the format named.
    Image(&'static str),
    /// Anything else: `FFmpeg` will know.
    Film,
    /// No file that could be looked at: a FIFO, a process substitution, a terminal.
    Pipe,
}

/// Looks at the beginning of the file.
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
    let mut first = Vec::new();
    (&mut file).take(16).read_to_end(&mut first).map_err(unreadable)?;
    if first.is_empty() {
        return Err(SourceError::Empty { path: path.into() });
    }
    match image_format(&first) {
        Some("JPEG") if is_motion_jpeg(file).map_err(unreadable)? => Ok(Content::Film),
        Some(format) => Ok(Content::Image(format)),
        None => Ok(Content::Film),
    }
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

/// Recorded Motion JPEG begins as a photograph does, but goes on as it began.
fn is_motion_jpeg(mut file: File) -> io::Result<bool> {
    file.rewind()?;
    let mut stream = JpegStream::new(BufReader::new(file));
    let mut test = FilmTest::default();
    for _ in 0..MOST_JPEGS_READ {
        let Some(StreamItem::Frame(jpeg) | StreamItem::Unended(jpeg)) = stream.next_item()? else {
            break;
        };
        if let Some(is_film) = test.push(&jpeg) {
            return Ok(is_film);
        }
    }
    Ok(false)
}

/// A photograph has no more secondary images, and a film is known by its first frames.
const MOST_JPEGS_READ: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        assert_eq!(image_format(b"\x89PNG\r\n\x1a\n...."), Some("PNG"));
        assert_eq!(image_format(b"RIFF....WEBPVP8 "), Some("WebP"));
        assert_eq!(image_format(b"RIFF....AVI LIST"), None);
        assert_eq!(image_format(b"B"), None);
    }

    #[test]
    fn motion_jpeg_is_a_film_and_one_jpeg_an_image() {
        use crate::video::{image::PixelFormat, jpeg::tests::textured};
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.avi");
        let frame = textured(32, 32, PixelFormat::Gray);
        std::fs::write(&path, &frame).expect("writes");
        assert_eq!(sniff(&path).expect("reads"), Content::Image("JPEG"));
        std::fs::write(&path, frame.repeat(2)).expect("writes");
        assert_eq!(sniff(&path).expect("reads"), Content::Film);
        let gain_map = textured(16, 16, PixelFormat::Gray);
        std::fs::write(&path, [frame, gain_map].concat()).expect("writes");
        assert_eq!(sniff(&path).expect("reads"), Content::Image("JPEG"));
    }
}
