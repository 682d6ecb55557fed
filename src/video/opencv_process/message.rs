//! The messages between `udpchat` and `udpchat-opencv`.
//!
//! ```text
//!  0        4        8
//! +--------+--------+---------+------+
//! | message|  data  | message | data |   lengths: 32 bits, little-endian
//! | length | length |         |      |   message: postcard
//! +--------+--------+---------+------+
//! ```
//!
//! The data, if any, are a picture's pixels, a JPEG, or the bytes of an image file.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::video::sink::window::{Action, Overlay, Pane, WindowError, WindowSpec};

/// A request from `udpchat` to `udpchat-opencv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Closes the open input, if any, and opens another: [`Reply::Opened`] or [`Reply::Nothing`].
    Open(Input),
    /// Waits for the next picture of the open input: [`Reply::Picture`], [`Reply::Nothing`] at the
    /// end or if none came, or [`Reply::Failed`].
    Read {
        /// The size that pixels are scaled to. JPEGs are not scaled.
        scale_to: Option<(u32, u32)>,
    },
    /// Decodes the image file in the data: [`Reply::Picture`], [`Reply::Nothing`] if it is damaged,
    /// or [`Reply::Failed`].
    DecodeImage {
        /// To luma only.
        gray: bool,
        /// Turns the image upright, as its Exif orientation says. OpenCV does this itself for TIFF.
        turns: bool,
        /// The size that the image is scaled to.
        scale_to: Option<(u32, u32)>,
    },
    /// Finds the cameras by opening each: [`Reply::Cameras`].
    FindCameras,
    /// Checks whether windows can be opened: [`Reply::Done`] or [`Reply::WindowFailed`].
    CheckWindows,
    /// Opens windows: [`Reply::Done`] or [`Reply::WindowFailed`].
    OpenWindows(Vec<WindowSpec>),
    /// Shows the BGR pixels in the data: [`Reply::Done`] or [`Reply::WindowFailed`].
    Show {
        /// The window.
        pane: Pane,
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Text over the picture.
        overlay: Overlay,
    },
    /// Shows lines of text instead of a picture: [`Reply::Done`] or [`Reply::WindowFailed`].
    ShowCard {
        /// The window.
        pane: Pane,
        /// The lines.
        lines: Vec<String>,
    },
    /// Processes window events: [`Reply::Actions`] or [`Reply::WindowFailed`].
    Pump,
}

/// An input to open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// A camera. It may choose another size or rate.
    Camera {
        /// Its number.
        index: u32,
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Frames a second.
        fps: u32,
        /// Whether its JPEGs are returned as they are. Otherwise pictures are converted to BGR.
        as_jpeg: bool,
    },
    /// A video file, by its absolute path.
    File(OsString),
    /// A URL.
    Url {
        /// The URL.
        url: String,
        /// How long to wait for a connection, in ms.
        open_timeout_ms: u32,
        /// How long to wait for a picture, in ms.
        read_timeout_ms: u32,
    },
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The input is open.
    Opened(Properties),
    /// A picture, whose bytes are the data.
    Picture(Picture),
    /// The request was valid, but there is nothing to return.
    Nothing,
    /// The numbers of the cameras.
    Cameras(Vec<u32>),
    /// The request was fulfilled.
    Done,
    /// The user's actions since the last time.
    Actions(Vec<Action>),
    /// OpenCV failed, with its message.
    Failed(String),
    /// A window cannot be opened or shown.
    WindowFailed(WindowError),
}

/// Properties as an open input reports them, unchecked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Properties {
    /// Frames a second.
    pub fps: f64,
    /// Four-character code of the pixel format, in little-endian order.
    pub fourcc: u32,
    /// The number of pictures. Meaningless, usually negative, if the input has no end.
    pub frame_count: f64,
    /// The pixel aspect ratio, as width and height, before rotation.
    pub pixel_aspect: (f64, f64),
    /// The rotation, in degrees, that OpenCV has applied to the stored pictures.
    pub rotation: f64,
}

/// A picture, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// The format of the bytes.
    pub kind: PictureKind,
    /// Pixels in a row; unspecified for a JPEG.
    pub width: u32,
    /// Rows; unspecified for a JPEG.
    pub height: u32,
    /// Width and height before scaling; unspecified for a JPEG.
    pub found: (u32, u32),
    /// The input's timestamp, in ms: for a camera on the monotonic clock, for a video from its
    /// start.
    pub position_ms: f64,
    /// When the picture arrived, on the monotonic clock.
    pub grabbed: Duration,
}

/// The format of a picture's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PictureKind {
    /// An encoded frame.
    Jpeg,
    /// Blue, green and red of each pixel.
    Bgr,
    /// Luma of each pixel.
    Gray,
}

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The pipe is closed or broken.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The bytes are not a valid message.
    #[error("not a message of this version")]
    Invalid,
}

/// Writes a message and its data.
pub fn write_message(
    out: &mut impl Write,
    message: &impl Serialize,
    data: &[u8],
) -> io::Result<()> {
    let message = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let mut header = [0; HEADER_LEN];
    header[..4].copy_from_slice(&(message.len() as u32).to_le_bytes());
    header[4..].copy_from_slice(&(data.len() as u32).to_le_bytes());
    out.write_all(&[&header, &message[..]].concat())?;
    out.write_all(data)?;
    out.flush()
}

/// Waits for a message and its data.
pub fn read_message<M: DeserializeOwned>(
    input: &mut impl Read,
) -> Result<(M, Vec<u8>), MessageError> {
    let mut header = [0; HEADER_LEN];
    input.read_exact(&mut header)?;
    let len = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize
    };
    let (message_len, data_len) = (len(0), len(4));
    if message_len > MAX_MESSAGE_LEN || data_len > MAX_DATA_LEN {
        return Err(MessageError::Invalid);
    }
    let mut message = vec![0; message_len];
    input.read_exact(&mut message)?;
    let message = postcard::from_bytes(&message).map_err(|_| MessageError::Invalid)?;
    let mut data = vec![0; data_len];
    input.read_exact(&mut data)?;
    Ok((message, data))
}

/// The first argument of `udpchat-opencv`. Both programs must be of the same release, since the
/// format of their messages may change with each.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

const HEADER_LEN: usize = 8;

/// Far more than any message needs.
const MAX_MESSAGE_LEN: usize = 1 << 20;

/// More than the largest photograph has: three bytes for each of 2^28 pixels.
const MAX_DATA_LEN: usize = 3 << 28;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let request = Request::Open(Input::File("/films/a b.avi".into()));
        let mut bytes = Vec::new();
        write_message(&mut bytes, &request, b"data").expect("writes");
        write_message(&mut bytes, &Request::Pump, b"").expect("writes");
        let mut input = &bytes[..];
        assert_eq!(read_message(&mut input).expect("valid"), (request, b"data".to_vec()));
        assert_eq!(read_message(&mut input).expect("valid"), (Request::Pump, Vec::new()));
        let end = read_message::<Request>(&mut input);
        assert!(
            matches!(end, Err(MessageError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof)
        );
    }

    #[test]
    #[cfg(unix)]
    fn a_path_that_is_not_utf8_is_kept() {
        use std::os::unix::ffi::OsStringExt;
        let request = Request::Open(Input::File(OsString::from_vec(b"/films/\xff.avi".to_vec())));
        let mut bytes = Vec::new();
        write_message(&mut bytes, &request, b"").expect("writes");
        assert_eq!(read_message(&mut &bytes[..]).expect("valid"), (request, Vec::new()));
    }

    #[test]
    fn impossible_lengths_and_unknown_messages_are_refused() {
        for bytes in
            [&[0xFF; 16][..], &[1, 0, 0, 0, 0, 0, 0, 0xFF, 0], &[1, 0, 0, 0, 0, 0, 0, 0, 99]]
        {
            let read = read_message::<Reply>(&mut &bytes[..]);
            assert!(matches!(read, Err(MessageError::Invalid)), "{bytes:?}: {read:?}");
        }
    }
}
