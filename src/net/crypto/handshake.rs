//! The handshake of the control channel: Noise, `XXpsk3`.
//!
//! ```text
//! dialler → answerer:  e
//! answerer → dialler:  e, ee, s, es, [payload]  the dialler knows the answerer's key
//! dialler → answerer:  s, se, psk, [payload]    the answerer knows the dialler's key
//! ```
//!
//! (Noise Protocol Framework, revision 34, §7.5 and §9.) A passive eavesdropper learns neither
//! side's key. The payload of the second message can be read only by the dialler, whoever that is.
//! The payload of the third message, and everything after it, can be read only by the two sides,
//! which must both know the pre-shared key.

use std::hint::black_box;

use snow::{Builder, HandshakeState, TransportState, params::NoiseParams};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    keys::{Identity, KEY_LEN, PublicKey, SharedSecret},
    wiping::WipingResolver,
};
use crate::net::wire::control::PREFACE;

/// A handshake in progress.
#[derive(Debug)]
pub struct Handshake {
    state: HandshakeState,
    /// Set in `snow`, which does not wipe it, only while a message is written or read. Boxed, since
    /// moving a value leaves a copy behind.
    secret: Option<Box<SharedSecret>>,
}

/// The encrypted channel after the handshake.
#[derive(Debug)]
pub struct Transport {
    state: TransportState,
    hash: [u8; HASH_LEN],
    peer: PublicKey,
}

/// A message is not the other side's next one, or was written with another secret.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("cannot decrypt the message")]
pub struct DecryptError;

impl Handshake {
    /// The dialling side. Both sides must have the same `secret`, or none.
    pub fn dialler(identity: &Identity, secret: Option<&SharedSecret>) -> Self {
        Self::new(identity, secret, true)
    }

    /// The answering side.
    pub fn answerer(identity: &Identity, secret: Option<&SharedSecret>) -> Self {
        Self::new(identity, secret, false)
    }

    fn new(identity: &Identity, secret: Option<&SharedSecret>, dials: bool) -> Self {
        let params: NoiseParams = PATTERN.parse().expect("a pattern that snow knows");
        let prologue = [PREFACE, PREFACE].concat();
        let builder = Builder::with_resolver(params, Box::new(WipingResolver))
            .prologue(&prologue)
            .and_then(|builder| builder.local_private_key(identity.as_bytes()))
            .and_then(|builder| builder.psk(PSK_LOCATION, &NO_SECRET));
        let built =
            builder.and_then(|b| if dials { b.build_initiator() } else { b.build_responder() });
        let state = built.expect("the builder has all that the pattern needs");
        Self { state, secret: secret.cloned().map(Box::new) }
    }

    /// Runs `act` with the secret set in the state, and removes the secret afterwards.
    fn with_secret<T>(&mut self, act: impl FnOnce(&mut HandshakeState) -> T) -> T {
        let Some(secret) = &self.secret else { return act(&mut self.state) };
        let location = PSK_LOCATION.into();
        self.state.set_psk(location, secret.as_bytes()).expect("a secret has the length of a key");
        let result = act(&mut self.state);
        self.state.set_psk(location, &NO_SECRET).expect("it has the length of a key");
        black_box(&mut self.state);
        result
    }

    /// Writes this side's next message, with `payload`.
    ///
    /// # Panics
    ///
    /// If it is the other side's turn, or the message would be longer than Noise allows (65,535
    /// bytes).
    pub fn write(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut message = vec![0; payload.len() + MAX_OVERHEAD];
        let len = self
            .with_secret(|state| state.write_message(payload, &mut message))
            .expect("our turn, and it fits");
        message.truncate(len);
        message
    }

    /// Reads the other side's next message. Returns its payload.
    pub fn read(&mut self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
        let mut payload = Zeroizing::new(vec![0; message.len()]);
        let len = self
            .with_secret(|state| state.read_message(message, &mut payload))
            .map_err(|_| DecryptError)?;
        payload.truncate(len);
        Ok(payload)
    }

    /// The other side's key, once received.
    pub fn peer(&self) -> Option<PublicKey> {
        let key: [u8; KEY_LEN] = self.state.get_remote_static()?.try_into().ok()?;
        Some(PublicKey::from_bytes(key))
    }

    /// The encrypted channel, once all three messages are exchanged; `None` before.
    pub fn finish(self) -> Option<Transport> {
        let peer = self.peer()?;
        let hash = self.state.get_handshake_hash().try_into().ok()?;
        let state = self.state.into_transport_mode().ok()?;
        Some(Transport { state, hash, peer })
    }
}

impl Transport {
    /// The other side's key.
    pub fn peer(&self) -> PublicKey {
        self.peer
    }

    /// A value unique to this handshake and known to both sides; binds other keys to it (Noise
    /// §11.2).
    pub fn handshake_hash(&self) -> &[u8] {
        &self.hash
    }

    /// Encrypts `plain`, which adds 16 bytes.
    ///
    /// # Panics
    ///
    /// If the message would be longer than Noise allows (65,535 bytes).
    pub fn write(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut message = vec![0; plain.len() + TAG_LEN];
        let len = self.state.write_message(plain, &mut message).expect("it fits");
        message.truncate(len);
        message
    }

    /// Decrypts the other side's next message.
    pub fn read(&mut self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
        let mut plain = Zeroizing::new(vec![0; message.len()]);
        let len = self.state.read_message(message, &mut plain).map_err(|_| DecryptError)?;
        plain.truncate(len);
        Ok(plain)
    }
}

const PATTERN: &str = "Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s";
const PSK_LOCATION: u8 = 3;

/// The pre-shared key of sessions without a secret. It is public.
const NO_SECRET: [u8; KEY_LEN] = [0; KEY_LEN];

/// The output length of BLAKE2s, in bytes.
const HASH_LEN: usize = 32;

const TAG_LEN: usize = 16;

/// The length of the first message, in bytes: a public key, and the tag of its empty payload.
pub const FIRST_LEN: usize = KEY_LEN + TAG_LEN;

/// The length of the third message with an empty payload, in bytes: the encrypted key and its tag,
/// and the tag of the payload.
pub const MIN_THIRD_LEN: usize = KEY_LEN + 2 * TAG_LEN;

/// The most that a handshake message adds to its payload, in bytes: two keys and two tags.
pub const MAX_OVERHEAD: usize = 2 * (KEY_LEN + TAG_LEN);

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> SharedSecret {
        SharedSecret::from_bytes([byte; KEY_LEN])
    }

    /// Both sides after the handshake, or the index of the message that failed.
    fn shake_hands(
        ours: Option<&SharedSecret>,
        theirs: Option<&SharedSecret>,
        tamper: impl Fn(usize, &mut Vec<u8>),
    ) -> Result<(Transport, Transport), usize> {
        let (ann, bob) = (Identity::generate(), Identity::generate());
        let mut dialler = Handshake::dialler(&ann, ours);
        let mut answerer = Handshake::answerer(&bob, theirs);
        for turn in 0..3 {
            let (from, to) = if turn == 1 {
                (&mut answerer, &mut dialler)
            } else {
                (&mut dialler, &mut answerer)
            };
            let mut message = from.write(b"payload");
            tamper(turn, &mut message);
            let payload = to.read(&message).map_err(|_| turn)?;
            if turn > 0 && payload[..] != b"payload"[..] {
                return Err(turn);
            }
        }
        assert_eq!(answerer.peer(), Some(ann.public_key()));
        assert_eq!(dialler.peer(), Some(bob.public_key()));
        Ok((dialler.finish().unwrap(), answerer.finish().unwrap()))
    }

    #[test]
    fn both_sides_complete_the_handshake_and_exchange_messages() {
        for secret in [None, Some(&secret(1))] {
            let (mut ann, mut bob) = shake_hands(secret, secret, |_, _| {}).unwrap();
            assert_eq!(ann.handshake_hash(), bob.handshake_hash());
            for line in [&b"hello"[..], b""] {
                let message = ann.write(line);
                assert_eq!(message.len(), line.len() + TAG_LEN);
                assert_eq!(&bob.read(&message).unwrap()[..], line);
            }
            assert_eq!(&ann.read(&bob.write(b"hi")).unwrap()[..], b"hi");
        }
    }

    #[test]
    fn a_different_secret_fails_at_the_third_message() {
        let (a, b) = (secret(1), secret(2));
        for (ours, theirs) in [(Some(&a), Some(&b)), (Some(&a), None), (None, Some(&b))] {
            assert_eq!(shake_hands(ours, theirs, |_, _| {}).err(), Some(2));
        }
    }

    #[test]
    fn any_flipped_bit_fails_the_handshake() {
        for (turn, len) in [(0, 32 + 7 + 16), (1, 32 + 48 + 7 + 16), (2, 48 + 7 + 16)] {
            for bit in 0..len * 8 {
                let flipped = shake_hands(None, None, |at, message| {
                    assert!(at != turn || message.len() == len);
                    if at == turn {
                        message[bit / 8] ^= 1 << (bit % 8);
                    }
                });
                // X25519 ignores the top bit of a public key (RFC 7748 §5), but the hash covers it.
                assert!(flipped.is_err(), "bit {bit} of message {turn}");
            }
        }
    }

    #[test]
    fn replayed_reflected_and_altered_messages_are_rejected() {
        let (mut ann, mut bob) = shake_hands(None, None, |_, _| {}).unwrap();
        let message = ann.write(b"hello");
        assert!(bob.read(&message).is_ok());
        assert_eq!(bob.read(&message).err(), Some(DecryptError), "a repetition");
        assert_eq!(ann.read(&message).err(), Some(DecryptError), "a reflection");
        let mut changed = ann.write(b"hello");
        changed[0] ^= 1;
        assert_eq!(bob.read(&changed).err(), Some(DecryptError));
    }

    #[test]
    fn an_unfinished_handshake_has_no_transport() {
        assert!(Handshake::dialler(&Identity::generate(), None).finish().is_none());
    }
}
