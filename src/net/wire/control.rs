//! The control channel: a preface each way, then length-prefixed messages.
//!
//! ```text
//! preface:  "udpchat" (7) | version (1)
//! message:  length (2, big-endian) | of the handshake, or encrypted
//! ```
//!
//! The preface is not part of any message, so that any two versions can tell each
//! other theirs. What is encrypted is the postcard encoding of a [`Message`]; see
//! [`crate::net::crypto::handshake`] for the rest. A message of no bytes is a refusal.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

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
    /// The answering side is asking somebody whether to take the call.
    Ringing,
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
    /// Its part of what the media keys are made from.
    pub secret: SecretPart,
    /// Whether its processor helps with AES, without which `ChaCha20` is faster.
    pub has_aes: bool,
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
    /// Its part of what the media keys are made from.
    pub secret: SecretPart,
    /// What seals the datagrams of both sides.
    pub cipher: Cipher,
}

/// Half of what the media keys are made from. Wiped when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretPart(Zeroizing<[u8; 32]>);

impl SecretPart {
    /// The part of these bytes, which nobody must be able to guess.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Says nothing of it.
impl fmt::Debug for SecretPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretPart(…)")
    }
}

/// What seals datagrams: both with keys of 256 bits, nonces of 96, tags of 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cipher {
    /// AES-256-GCM (NIST SP 800-38D), where both processors help with it.
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439), elsewhere.
    ChaCha20Poly1305,
}

impl Cipher {
    /// What two sides use of which `both_have_aes`, or not both.
    pub fn chosen(both_have_aes: bool) -> Self {
        if both_have_aes { Self::Aes256Gcm } else { Self::ChaCha20Poly1305 }
    }
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
    /// The caller is not wanted: it is not known, and nobody has said yes.
    Refused,
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
    /// The other side does not have the same code, or has one where we have none.
    #[error("the other side has another code, or only one side has one")]
    WrongCode,
    /// A message that the other side has not written.
    #[error("a control message was changed on its way")]
    Forged,
}

impl Message {
    /// Its bytes.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(postcard::to_stdvec(self).expect("messages are plain data"))
    }

    /// The message of exactly these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ControlError> {
        match postcard::take_from_bytes(bytes) {
            Ok((message, [])) => Ok(message),
            _ => Err(ControlError::Malformed),
        }
    }
}

/// Appends `message`, which is encrypted or of the handshake, with its length to `out`.
pub fn emit_framed(message: &[u8], out: &mut Vec<u8>) {
    let len = u16::try_from(message.len()).expect("messages are short");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(message);
}

/// The message at the head of `bytes`, and how many bytes it took with its length; `None` when
/// it has not arrived whole.
pub fn parse_framed(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, ControlError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_LEN>() else {
        return Ok(None);
    };
    let len = usize::from(u16::from_be_bytes(*length));
    if len > MAX_MESSAGE_LEN {
        return Err(ControlError::TooLong(len));
    }
    Ok(rest.get(..len).map(|message| (message, LENGTH_LEN + len)))
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
pub const PREFACE: [u8; 8] = *b"udpchat\x02";

/// The longest message, in bytes, as it is framed. A line of text is the largest: 4 × 500 bytes.
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
                secret: SecretPart::from_bytes([1; 32]),
                has_aes: true,
            }),
            Message::Accept(Accept {
                name: Name::new("bob"),
                stream: None,
                epoch,
                max_datagram_len: 1200,
                secret: SecretPart::from_bytes([2; 32]),
                cipher: Cipher::ChaCha20Poly1305,
            }),
            Message::Reject(RejectReason::Busy { with: Name::new("eve") }),
            Message::Stream(stream),
            Message::Text(Line::new("hello").unwrap()),
            Message::KeepAlive,
            Message::Close(CloseReason::Quit),
            Message::Ringing,
        ]
    }

    #[test]
    fn every_message_parses_back_and_no_part_of_it_does() {
        for message in messages() {
            let bytes = message.to_bytes();
            assert_eq!(Message::from_bytes(&bytes), Ok(message));
            for len in 0..bytes.len() {
                assert_eq!(Message::from_bytes(&bytes[..len]), Err(ControlError::Malformed));
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(Message::from_bytes(&longer), Err(ControlError::Malformed));
        }
    }

    #[test]
    fn no_bit_flip_panics_or_yields_the_same_message() {
        for message in messages() {
            let bytes = message.to_bytes();
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                if let Ok(parsed) = Message::from_bytes(&flipped) {
                    assert_ne!(parsed, message, "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn what_is_framed_waits_until_it_is_whole() {
        let mut bytes = Vec::new();
        emit_framed(b"hello", &mut bytes);
        for len in 0..bytes.len() {
            assert_eq!(parse_framed(&bytes[..len]), Ok(None));
        }
        bytes.extend([0, 0]);
        assert_eq!(parse_framed(&bytes), Ok(Some((&b"hello"[..], 7))));
        assert_eq!(parse_framed(&bytes[7..]), Ok(Some((&b""[..], 2))));
    }

    #[test]
    fn an_overlong_message_is_refused_before_it_has_come() {
        assert_eq!(parse_framed(&[0xff, 0xff]), Err(ControlError::TooLong(0xffff)));
    }

    #[test]
    fn the_secret_part_is_not_shown() {
        let text = format!("{:?}", messages()[0]);
        assert!(text.contains("SecretPart(…)"), "{text}");
    }

    #[test]
    fn the_preface_tells_strangers_and_versions_apart() {
        assert_eq!(parse_preface(&PREFACE), Ok(Some(8)));
        assert_eq!(parse_preface(&PREFACE[..5]), Ok(None));
        assert_eq!(parse_preface(b"GET / HTTP"), Err(ControlError::NotUdpchat));
        assert_eq!(parse_preface(b"udpchat\x01"), Err(ControlError::Version(1)));
    }

    #[test]
    fn text_is_cleaned_when_it_is_parsed() {
        let mut bytes = Message::Text(Line::new("xx").unwrap()).to_bytes();
        let len = bytes.len();
        bytes[len - 2] = 0x1b;
        let Ok(Message::Text(line)) = Message::from_bytes(&bytes) else { panic!() };
        assert_eq!(line.as_str(), "x");
    }

    #[test]
    fn the_longest_line_fits_a_message() {
        let line = Line::new(&"😀".repeat(super::super::text::MAX_LINE_CHARS)).unwrap();
        assert!(Message::Text(line).to_bytes().len() < MAX_MESSAGE_LEN - 100);
    }
}
