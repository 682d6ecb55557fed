//! The preface of a control connection, the framing of messages, and decrypted messages.

use super::text::assert_clean;
use crate::net::wire::{
    control::{
        MAX_MESSAGE_LEN, MediaOffer, Message, PREFACE, RejectReason, emit_framed, parse_framed,
        parse_preface,
    },
    text::{MAX_LINE_CHARS, MAX_NAME_CHARS},
};

/// The bytes are the data of a control connection, a decrypted message, and an offer.
pub fn control(bytes: &[u8]) {
    preface(bytes);
    framed(bytes);
    message(bytes);
    offer(bytes);
}

/// Parsing a prefix of the bytes gives no result yet, or the same result as parsing all of them.
fn preface(bytes: &[u8]) {
    let whole = parse_preface(bytes);
    match whole {
        Ok(Some(len)) => assert_eq!(bytes[..len], PREFACE),
        Ok(None) => assert!(PREFACE.starts_with(bytes)),
        Err(_) => assert!(!bytes.starts_with(&PREFACE)),
    }
    for len in 0..bytes.len().min(PREFACE.len()) {
        let part = parse_preface(&bytes[..len]);
        assert!(part == Ok(None) || part == whole, "{part:?} of {len} bytes, then {whole:?}");
    }
}

/// Framing the parsed messages again gives the same bytes, and no bytes are skipped.
fn framed(bytes: &[u8]) {
    let (mut rest, mut again) = (bytes, Vec::new());
    while let Ok(Some((message, len))) = parse_framed(rest) {
        assert!(message.len() <= MAX_MESSAGE_LEN && (1..=rest.len()).contains(&len));
        assert_eq!(parse_framed(&rest[..len - 1]), Ok(None), "not before it is whole");
        emit_framed(message, &mut again);
        rest = &rest[len..];
    }
    assert!(bytes.starts_with(&again) && again.len() + rest.len() == bytes.len());
}

/// A message is serialized to a form that parses to the same message and fits the maximum length.
/// Its names and lines are clean.
fn message(bytes: &[u8]) {
    let Ok(message) = Message::from_bytes(bytes) else { return };
    let written = message.to_bytes();
    assert_eq!(Message::from_bytes(&written), Ok(message.clone()));
    assert!(written.len() + NOISE_OVERHEAD <= MAX_MESSAGE_LEN, "{} bytes", written.len());
    match &message {
        Message::Hello(hello) => assert_clean(hello.name.as_str(), MAX_NAME_CHARS),
        Message::Accept(accept) => assert_clean(accept.name.as_str(), MAX_NAME_CHARS),
        Message::Reject(RejectReason::Busy { with }) => assert_clean(with.as_str(), MAX_NAME_CHARS),
        Message::Text(line) => assert_clean(line.as_str(), MAX_LINE_CHARS),
        _ => {}
    }
}

/// An offer is serialized to a form that parses to the same offer.
fn offer(bytes: &[u8]) {
    let Ok(offer) = MediaOffer::from_bytes(bytes) else { return };
    assert_eq!(MediaOffer::from_bytes(&offer.to_bytes()), Ok(offer));
}

/// The most that the handshake adds to a message, in bytes: a key and two tags.
const NOISE_OVERHEAD: usize = 64;
