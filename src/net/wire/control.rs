//! The control channel: a preface each way, then length-prefixed messages.
//!
//! ```text
//! preface:  "udpchat" (7) | version (1)
//! message:  length (2, big-endian) | handshake message or ciphertext
//! ```
//!
//! The preface is not part of any message, so that any two versions can read each other's. The
//! plaintext is the postcard encoding of a [`Message`]; see [`crate::net::crypto::handshake`] for
//! the rest. An empty message is a refusal.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    VERSION,
    text::{Line, Name},
};

/// The messages of the control channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The dialling side's first message.
    Hello(Hello),
    /// Accepts the call; the session begins.
    Accept(Accept),
    /// Rejects the call; the connection ends.
    Reject(RejectReason),
    /// The sender's stream has changed.
    Stream(StreamParams),
    /// A line of chat.
    Text(Line),
    /// Shows that the sender is still there.
    KeepAlive,
    /// Goodbye; the connection ends.
    Close(CloseReason),
    /// The answering side is asking its user whether to accept the call.
    Ringing,
    /// The receiver has taken a frame to decode it. Sent while frames come faster than it takes
    /// them.
    Taken {
        /// The frame's id.
        frame: u32,
        /// How long the complete frame had waited, in µs.
        waited_us: u32,
    },
}

/// The answering side's half of what the media path needs. It is the payload of the second
/// handshake message, so the dialling side can send datagrams right after its hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaOffer {
    /// The maximum datagram length that the answering side accepts, in bytes of UDP payload.
    pub max_datagram_len: u16,
    /// The answering side's part of the secret from which the media keys are derived.
    pub secret: SecretPart,
    /// Whether the answering side's processor accelerates AES; without that, `ChaCha20` is faster.
    pub has_aes: bool,
}

/// The caller, its purpose and its stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The session's id, drawn by the dialling side; not zero.
    pub session: u32,
    /// The caller's name.
    pub name: Name,
    /// The caller's purpose.
    pub purpose: Purpose,
    /// The parameters of the dialling side's stream, once known.
    pub stream: Option<StreamParams>,
    /// The dialling side's media clock.
    pub epoch: Epoch,
    /// The maximum datagram length that the dialling side accepts, in bytes of UDP payload.
    pub max_datagram_len: u16,
    /// The dialling side's part of the secret from which the media keys are derived.
    pub secret: SecretPart,
    /// The cipher that seals the datagrams of both sides.
    pub cipher: Cipher,
}

/// The answering side's counterpart of a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// The answering side's name.
    pub name: Name,
    /// The parameters of the answering side's stream, if it sends one and knows them.
    pub stream: Option<StreamParams>,
    /// The answering side's media clock.
    pub epoch: Epoch,
}

/// Half of the secret from which the media keys are derived. Wiped on drop. Boxed, since moving a
/// value leaves a copy behind.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretPart(Box<Zeroizing<[u8; 32]>>);

impl SecretPart {
    /// Creates a part from bytes, which must be unpredictable.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Box::new(Zeroizing::new(bytes)))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Omits the bytes.
impl fmt::Debug for SecretPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretPart(…)")
    }
}

/// A cipher for datagrams. Both have keys of 256 bits, nonces of 96 and tags of 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cipher {
    /// AES-256-GCM (NIST SP 800-38D), if both processors accelerate it.
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439), otherwise.
    ChaCha20Poly1305,
}

impl Cipher {
    /// The cipher for two sides, given whether both processors accelerate AES.
    pub fn chosen(both_have_aes: bool) -> Self {
        if both_have_aes { Self::Aes256Gcm } else { Self::ChaCha20Poly1305 }
    }
}

/// The purpose of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To send video.
    Send,
    /// To send and to receive video and text.
    Chat,
}

/// The parameters of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamParams {
    /// The width in pixels.
    pub width: u16,
    /// The height in pixels.
    pub height: u16,
    /// The nominal number of frames in a thousand seconds.
    pub millifps: u32,
    /// The JPEG quality, 1–100, if the sender encodes.
    pub quality: Option<u8>,
}

/// The zero of a media clock, for a peer on the same machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// A hash shared by all processes of one boot of one machine; zero if unknown.
    pub boot: u64,
    /// The reading of that machine's monotonic clock at media time zero, in µs.
    pub monotonic_us: u64,
}

/// Why a call was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RejectReason {
    /// Another session is active.
    Busy {
        /// The other session's peer.
        with: Name,
    },
    /// The answering side has another purpose.
    Unwanted {
        /// Its purpose.
        wants: Purpose,
    },
    /// The hello was malformed.
    Malformed,
    /// The caller is not trusted, and the user has not accepted it.
    Refused,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseReason {
    /// The user ended it.
    Quit,
    /// The source has ended.
    SourceEnded,
    /// The peer was silent for too long.
    Silent,
}

/// Why a control connection failed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ControlError {
    /// The other side uses another protocol.
    #[error("the peer does not use the udpchat protocol")]
    NotUdpchat,
    /// The other side uses another version of the protocol.
    #[error(
        "the peer uses protocol version {0}, this program version {VERSION}: update the older one"
    )]
    Version(u8),
    /// A message exceeds the maximum length.
    #[error("control message of {0} bytes exceeds the maximum of {MAX_MESSAGE_LEN}")]
    TooLong(usize),
    /// A message is malformed.
    #[error("malformed control message")]
    Malformed,
    /// The two sides do not have the same code, or only one has a code.
    #[error("the codes differ, or only one side has a code")]
    WrongCode,
    /// A message was not written by the other side.
    #[error("a control message was modified in transit")]
    Forged,
}

impl Message {
    /// Serializes the message.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(postcard::to_stdvec(self).expect("messages are plain data"))
    }

    /// Parses a message from exactly these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ControlError> {
        match postcard::take_from_bytes(bytes) {
            Ok((message, [])) => Ok(message),
            _ => Err(ControlError::Malformed),
        }
    }
}

impl MediaOffer {
    /// Serializes the offer.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(postcard::to_stdvec(self).expect("an offer is plain data"))
    }

    /// Parses an offer from exactly these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ControlError> {
        match postcard::take_from_bytes(bytes) {
            Ok((offer, [])) => Ok(offer),
            _ => Err(ControlError::Malformed),
        }
    }
}

/// Appends `message`, a handshake message or ciphertext, with its length prefix to `out`.
pub fn emit_framed(message: &[u8], out: &mut Vec<u8>) {
    let len = u16::try_from(message.len()).expect("messages are short");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(message);
}

/// Parses the message at the head of `bytes`. Returns it with its length including the prefix;
/// `None` if it is not complete.
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

/// Parses the preface at the head of `bytes`. Returns its length; `None` if it is not complete.
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

/// The first bytes that each side sends.
pub const PREFACE: [u8; 8] = *b"udpchat\x02";

/// The maximum length of a framed message, in bytes. A line of text is the largest: 4 × 500 bytes.
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
                cipher: Cipher::ChaCha20Poly1305,
            }),
            Message::Accept(Accept { name: Name::new("bob"), stream: None, epoch }),
            Message::Reject(RejectReason::Busy { with: Name::new("eve") }),
            Message::Stream(stream),
            Message::Text(Line::new("hello").unwrap()),
            Message::KeepAlive,
            Message::Close(CloseReason::Quit),
            Message::Ringing,
        ]
    }

    #[test]
    fn every_message_parses_back_and_truncations_are_malformed() {
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
    fn an_offer_parses_back_and_truncations_are_malformed() {
        let secret = SecretPart::from_bytes([2; 32]);
        let offer = MediaOffer { max_datagram_len: 1200, secret, has_aes: true };
        let bytes = offer.to_bytes();
        assert_eq!(MediaOffer::from_bytes(&bytes), Ok(offer));
        for len in 0..bytes.len() {
            assert_eq!(MediaOffer::from_bytes(&bytes[..len]), Err(ControlError::Malformed));
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(MediaOffer::from_bytes(&longer), Err(ControlError::Malformed));
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
    fn framed_messages_parse_only_when_complete() {
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
    fn an_overlong_message_is_refused_before_it_arrives() {
        assert_eq!(parse_framed(&[0xff, 0xff]), Err(ControlError::TooLong(0xffff)));
    }

    #[test]
    fn debug_output_hides_the_secret_part() {
        let text = format!("{:?}", messages()[0]);
        assert!(text.contains("SecretPart(…)"), "{text}");
    }

    #[test]
    fn the_preface_distinguishes_other_protocols_and_versions() {
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
