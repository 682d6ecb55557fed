//! The control channel: a preface each way, then length-prefixed messages.
//!
//! ```text
//! preface:  "udpchat" (7) | version (1)
//! message:  length (2, big-endian) | postcard encoding of `Message`
//! ```
//!
//! The preface is not part of any message, so that any two versions can tell each
//! other theirs.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    VERSION,
    text::{Line, Name},
};

/// What the two sides say to each other over TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The dialling side's first message.
    Hello(Hello),
    /// The answer that begins the session.
    Accept(Accept),
    /// The answer that does not; the connection ends.
    Reject(RejectReason),
    /// The sender's stream has changed.
    Stream(StreamParams),
    /// A line of chat.
    Text(Line),
    /// Nothing new; the side is there.
    KeepAlive,
    /// Goodbye; the connection ends.
    Close(CloseReason),
}

/// Who is calling, what for, and with what stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The session's id, drawn by the dialling side; not zero.
    pub session: u32,
    /// What the caller calls itself.
    pub name: Name,
    /// What the caller wants.
    pub purpose: Purpose,
    /// The dialling side's stream, once it is known.
    pub stream: Option<StreamParams>,
    /// The dialling side's media clock.
    pub epoch: Epoch,
    /// The largest datagram that the dialling side takes, in bytes of UDP payload.
    pub max_datagram_len: u16,
}

/// The answering side's half of a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// What the answering side calls itself.
    pub name: Name,
    /// The answering side's stream, if it sends one and knows it.
    pub stream: Option<StreamParams>,
    /// The answering side's media clock.
    pub epoch: Epoch,
    /// The largest datagram that the answering side takes, in bytes of UDP payload.
    pub max_datagram_len: u16,
}

/// What a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To send video.
    Send,
    /// To send and to receive video and text.
    Chat,
}

/// What a stream looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamParams {
    /// Pixels across.
    pub width: u16,
    /// Pixels down.
    pub height: u16,
    /// Nominal frames a thousand seconds.
    pub millifps: u32,
    /// JPEG quality 1–100, if it is encoded by the sender.
    pub quality: Option<u8>,
}

/// Where a media clock's zero lies, for a peer on the same machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// A hash that is the same for all processes of one boot of one machine; zero if unknown.
    pub boot: u64,
    /// What that machine's monotonic clock showed at media time zero, µs.
    pub monotonic_us: u64,
}

/// Why a call was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RejectReason {
    /// Another session is on.
    Busy {
        /// With whom.
        with: Name,
    },
    /// The answering side does not do what the caller wants.
    Unwanted {
        /// What it does.
        wants: Purpose,
    },
    /// The hello made no sense.
    Malformed,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseReason {
    /// Its user ended it.
    Quit,
    /// The source has ended.
    SourceEnded,
    /// The peer was silent for too long.
    Silent,
}

/// Why a control connection makes no sense.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ControlError {
    /// The other side is not udpchat.
    #[error("the other side does not speak udpchat")]
    NotUdpchat,
    /// The other side speaks another version of it.
    #[error(
        "the other side speaks protocol version {0}, this one version {VERSION}: update the older"
    )]
    Version(u8),
    /// A message longer than any.
    #[error("a control message of {0} bytes, at most {MAX_MESSAGE_LEN} are allowed")]
    TooLong(usize),
    /// A message that is none of ours.
    #[error("a malformed control message")]
    Malformed,
}

impl Message {
    /// Appends the message with its length to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; LENGTH_LEN]);
        let body = postcard::to_stdvec(self).expect("messages are plain data");
        out.extend_from_slice(&body);
        let len = u16::try_from(out.len() - start - LENGTH_LEN).expect("messages are short");
        out[start..start + LENGTH_LEN].copy_from_slice(&len.to_be_bytes());
    }

    /// Parses one message at the head of `bytes`: the message and how many bytes it took,
    /// or `None` when it has not arrived whole.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, ControlError> {
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_LEN>() else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes(*length));
        if len > MAX_MESSAGE_LEN {
            return Err(ControlError::TooLong(len));
        }
        let Some(body) = rest.get(..len) else { return Ok(None) };
        match postcard::take_from_bytes(body) {
            Ok((message, [])) => Ok(Some((message, LENGTH_LEN + len))),
            _ => Err(ControlError::Malformed),
        }
    }
}

/// Parses the preface at the head of `bytes`: how many bytes it took, or `None` when it has
/// not arrived whole.
pub fn parse_preface(bytes: &[u8]) -> Result<Option<usize>, ControlError> {
    let known = bytes.len().min(NAME.len());
    if bytes[..known] != NAME[..known] {
        return Err(ControlError::NotUdpchat);
    }
    match bytes.get(NAME.len()) {
        None => Ok(None),
        Some(&VERSION) => Ok(Some(PREFACE.len())),
        Some(&other) => Err(ControlError::Version(other)),
    }
}

/// What each side sends first.
pub const PREFACE: [u8; 8] = *b"udpchat\x01";

/// The longest message, in bytes. A line of text is the largest: 4 × 500 bytes.
pub const MAX_MESSAGE_LEN: usize = 4096;

const NAME: &[u8] = b"udpchat";
const LENGTH_LEN: usize = 2;
const _: () = assert!(PREFACE[7] == VERSION);

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Vec<Message> {
        let stream = StreamParams { width: 1280, height: 720, millifps: 30_000, quality: Some(80) };
        let epoch = Epoch { boot: 1, monotonic_us: 2 };
        vec![
            Message::Hello(Hello {
                session: 7,
                name: Name::new("ann@desk"),
                purpose: Purpose::Chat,
                stream: Some(stream),
                epoch,
                max_datagram_len: 1200,
            }),
            Message::Accept(Accept {
                name: Name::new("bob"),
                stream: None,
                epoch,
                max_datagram_len: 1200,
            }),
            Message::Reject(RejectReason::Busy { with: Name::new("eve") }),
            Message::Stream(stream),
            Message::Text(Line::new("hello").unwrap()),
            Message::KeepAlive,
            Message::Close(CloseReason::Quit),
        ]
    }

    fn emitted(message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn every_message_parses_back_and_every_truncation_waits() {
        for message in messages() {
            let bytes = emitted(&message);
            assert_eq!(Message::parse(&bytes), Ok(Some((message, bytes.len()))));
            for len in 0..bytes.len() {
                assert_eq!(Message::parse(&bytes[..len]), Ok(None));
            }
        }
    }

    #[test]
    fn no_bit_flip_panics_or_yields_the_same_message() {
        for message in messages() {
            let bytes = emitted(&message);
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                if let Ok(Some((parsed, _))) = Message::parse(&flipped) {
                    assert_ne!(parsed, message, "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn an_overlong_message_is_refused_before_it_has_come() {
        assert_eq!(Message::parse(&[0xff, 0xff]), Err(ControlError::TooLong(0xffff)));
    }

    #[test]
    fn trailing_bytes_inside_a_message_are_malformed() {
        assert_eq!(Message::parse(&[0, 2, 5, 0]), Err(ControlError::Malformed));
    }

    #[test]
    fn the_preface_tells_strangers_and_versions_apart() {
        assert_eq!(parse_preface(&PREFACE), Ok(Some(8)));
        assert_eq!(parse_preface(&PREFACE[..5]), Ok(None));
        assert_eq!(parse_preface(b"GET / HTTP"), Err(ControlError::NotUdpchat));
        assert_eq!(parse_preface(b"udpchat\x02"), Err(ControlError::Version(2)));
    }

    #[test]
    fn text_is_cleaned_when_it_is_parsed() {
        let mut bytes = emitted(&Message::Text(Line::new("xx").unwrap()));
        let len = bytes.len();
        bytes[len - 2] = 0x1b;
        let Ok(Some((Message::Text(line), _))) = Message::parse(&bytes) else { panic!() };
        assert_eq!(line.as_str(), "x");
    }

    #[test]
    fn the_longest_line_fits_a_message() {
        let line = Line::new(&"😀".repeat(super::super::text::MAX_LINE_CHARS)).unwrap();
        assert!(emitted(&Message::Text(line)).len() <= MAX_MESSAGE_LEN + LENGTH_LEN);
    }
}
