//! Authenticated encryption of datagrams.
//!
//! A sealed datagram consists of its prelude in the clear, its encrypted body, and a tag covering
//! both (AEAD, RFC 5116). Each direction of a session has its own secret, from which its keys are
//! derived: key n seals the datagrams with sequence numbers n × 2²² to (n + 1) × 2²² − 1. The nonce
//! is the sequence number, which never repeats within a session, so no nonce is used twice with one
//! key. Without a handshake, two sessions with the same id share their keys: see
//! [`first_sequence`].

use std::{hint::black_box, time::Duration};

use ring::{
    aead::{
        AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
    },
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
};
use thiserror::Error;
use zeroize::Zeroizing;

use super::keys::{KEY_LEN, SharedSecret};
use crate::net::{
    frame::SessionId,
    wire::{
        control::{Cipher, SecretPart},
        datagram::{Direction, Form, Prelude, TAG_LEN},
    },
};

/// The secrets from which the keys of both directions of a session are derived. Wiped on drop.
#[derive(Debug)]
pub struct MediaSecrets {
    from_dialler: DirectionSecret,
    from_answerer: DirectionSecret,
}

/// Seals one side's datagrams.
#[derive(Debug)]
pub struct Sealer {
    secret: DirectionSecret,
    cipher: Cipher,
    key: EpochKey,
}

/// Opens the other side's datagrams.
///
/// Two keys are kept, since datagrams may be reordered across a key update. A third, the next, is
/// kept once a datagram claims to be sealed with it, so that repeated forgeries do not cause it to
/// be derived again.
#[derive(Debug)]
pub struct Opener {
    secret: DirectionSecret,
    cipher: Cipher,
    newest: EpochKey,
    before: Option<EpochKey>,
    next: Option<EpochKey>,
}

/// The datagram was not sealed by the peer, was modified, or needs a key that is not kept.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not sealed by the peer")]
pub struct OpenError;

/// The secret from which one direction's keys are derived.
struct DirectionSecret(Zeroizing<[u8; KEY_LEN]>);

/// The key for one range of sequence numbers.
struct EpochKey {
    epoch: u64,
    key: Box<LessSafeKey>,
}

impl MediaSecrets {
    /// Derives a session's secrets from its handshake hash and the secret part of each side.
    pub fn agreed(handshake_hash: &[u8], dialler: &SecretPart, answerer: &SecretPart) -> Self {
        let mut both = Zeroizing::new([0; 2 * KEY_LEN]);
        both[..KEY_LEN].copy_from_slice(dialler.as_bytes());
        both[KEY_LEN..].copy_from_slice(answerer.as_bytes());
        Self::extracted(handshake_hash, &both[..], &[])
    }

    /// Derives the secrets of a session without a handshake from a pre-shared secret.
    pub fn shared(secret: &SharedSecret, session: SessionId) -> Self {
        Self::extracted(SHARED_SALT, secret.as_bytes(), &session.get().to_be_bytes())
    }

    /// Derives the secrets by HKDF (RFC 5869) with SHA-256.
    fn extracted(salt: &[u8], secret: &[u8], context: &[u8]) -> Self {
        let prk = Salt::new(HKDF_SHA256, salt).extract(secret);
        let direction = |label| DirectionSecret::expanded(&prk, &[label, context]);
        Self { from_dialler: direction(DIALLER_LABEL), from_answerer: direction(ANSWERER_LABEL) }
    }

    /// Returns the sealer for datagrams in `direction`, starting at `first_sequence`, and the
    /// opener for the other direction, for datagrams near `received_sequence`.
    pub fn into_keys(
        self,
        direction: Direction,
        cipher: Cipher,
        first_sequence: u64,
        received_sequence: u64,
    ) -> (Sealer, Opener) {
        let (own, peer) = match direction {
            Direction::FromDialler => (self.from_dialler, self.from_answerer),
            Direction::FromAnswerer => (self.from_answerer, self.from_dialler),
        };
        let key = own.epoch_key(cipher, epoch_of(first_sequence));
        let newest = peer.epoch_key(cipher, epoch_of(received_sequence));
        let sealer = Sealer { secret: own, cipher, key };
        (sealer, Opener { secret: peer, cipher, newest, before: None, next: None })
    }
}

impl Sealer {
    /// Completes the datagram whose body is at `[Prelude::LEN .. len - TAG_LEN]`: writes the
    /// prelude before it, encrypts the body, and writes the tag after it. Each sequence number may
    /// be used only once.
    ///
    /// # Panics
    ///
    /// If the datagram is shorter than the prelude and the tag.
    pub fn seal(&mut self, prelude: &Prelude, datagram: &mut [u8]) {
        let epoch = epoch_of(prelude.sequence);
        if epoch != self.key.epoch {
            self.key = self.secret.epoch_key(self.cipher, epoch);
        }
        prelude.write(Form::Sealed, datagram);
        let (head, rest) = datagram.split_at_mut(Prelude::LEN);
        let (body, room) = rest.split_at_mut(rest.len() - TAG_LEN);
        let tag = self
            .key
            .key
            .seal_in_place_separate_tag(nonce(prelude.sequence), Aad::from(&*head), body)
            .expect("a datagram is far shorter than what one nonce may seal");
        room.copy_from_slice(tag.as_ref());
    }
}

impl Opener {
    /// Verifies and decrypts a datagram in place. Returns its body. On failure the contents of
    /// `datagram` are unspecified, and the keys in use stay the same.
    pub fn open<'a>(
        &mut self,
        prelude: &Prelude,
        datagram: &'a mut [u8],
    ) -> Result<&'a [u8], OpenError> {
        let epoch = epoch_of(prelude.sequence);
        if let Some(key) = self.known(epoch) {
            return key.open(prelude.sequence, datagram);
        }
        // No sender skips four million numbers, so deriving any other key would only serve forgers.
        if epoch != self.newest.epoch + 1 {
            return Err(OpenError);
        }
        let (secret, cipher) = (&self.secret, self.cipher);
        let next = self.next.get_or_insert_with(|| secret.epoch_key(cipher, epoch));
        let body = next.open(prelude.sequence, datagram)?;
        if let Some(next) = self.next.take() {
            self.before = Some(std::mem::replace(&mut self.newest, next));
        }
        Ok(body)
    }

    fn known(&self, epoch: u64) -> Option<&EpochKey> {
        let before = self.before.as_ref();
        [Some(&self.newest), before].into_iter().flatten().find(|key| key.epoch == epoch)
    }
}

impl DirectionSecret {
    fn expanded(prk: &Prk, info: &[&[u8]]) -> Self {
        let mut secret = Zeroizing::new([0; KEY_LEN]);
        expand(prk, info, &mut secret);
        Self(secret)
    }

    fn epoch_key(&self, cipher: Cipher, epoch: u64) -> EpochKey {
        let prk = Prk::new_less_safe(HKDF_SHA256, &self.0[..]);
        let mut key = Zeroizing::new([0; KEY_LEN]);
        expand(&prk, &[KEY_LABEL, &epoch.to_be_bytes()], &mut key);
        EpochKey { epoch, key: Box::new(aead_key(cipher, &key)) }
    }
}

impl EpochKey {
    fn open<'a>(&self, sequence: u64, datagram: &'a mut [u8]) -> Result<&'a [u8], OpenError> {
        let (head, rest) = datagram.split_at_mut(Prelude::LEN);
        let opened = self.key.open_in_place(nonce(sequence), Aad::from(&*head), rest);
        opened.map(|body| &*body).map_err(|_| OpenError)
    }
}

/// `ring` does not wipe its keys, so the key is overwritten with another.
impl Drop for EpochKey {
    fn drop(&mut self) {
        *self.key = aead_key(Cipher::Aes256Gcm, &[0; KEY_LEN]);
        black_box(&mut self.key);
    }
}

impl std::fmt::Debug for DirectionSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DirectionSecret(…)")
    }
}

impl std::fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EpochKey({})", self.epoch)
    }
}

/// An output length of HKDF, in the form that `ring` requires.
struct KeyLen;

impl KeyType for KeyLen {
    fn len(&self) -> usize {
        KEY_LEN
    }
}

/// Whether this processor accelerates AES and GCM's multiplication.
pub fn processor_has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// The first sequence number of a session that is sealed without a handshake and starts
/// `wall_clock` after the Unix epoch.
///
/// Two sessions with one key could have the same random 32-bit session id, and then must not use
/// the same sequence number. So each starts at its start time in seconds × 65,536, a number that no
/// session begun in an earlier second has reached, unless it sent more than 65,536 datagrams a
/// second, or a clock is wrong or was set back. Sessions begun in the same second differ only in
/// their ids.
pub fn first_sequence(wall_clock: Duration) -> u64 {
    wall_clock.as_secs() << DATAGRAMS_PER_SECOND_BITS & MAX_SEQUENCE
}

fn expand(prk: &Prk, info: &[&[u8]], out: &mut [u8; KEY_LEN]) {
    let okm = prk.expand(info, KeyLen).expect("32 bytes are one round of HKDF");
    okm.fill(&mut out[..]).expect("the requested length");
}

fn aead_key(cipher: Cipher, key: &[u8; KEY_LEN]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(algorithm(cipher), key).expect("both ciphers take 32 bytes"))
}

fn algorithm(cipher: Cipher) -> &'static Algorithm {
    match cipher {
        Cipher::Aes256Gcm => &AES_256_GCM,
        Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
    }
}

fn nonce(sequence: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&sequence.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn epoch_of(sequence: u64) -> u64 {
    sequence >> EPOCH_BITS
}

/// One key seals 2²² datagrams: a quarter of an hour at 5000 a second. RFC 9001 §6.6 allows 2²³ for
/// AES-GCM with datagrams of 2¹⁶ bytes, and more for smaller ones.
const EPOCH_BITS: u32 = 22;

/// The cipher of sessions without a handshake, in which the two sides cannot compare processors; it
/// is fast on all of them.
pub const ONE_WAY_CIPHER: Cipher = Cipher::ChaCha20Poly1305;

const DATAGRAMS_PER_SECOND_BITS: u32 = 16;

/// The largest sequence number; the wire format has 48 bits for it.
const MAX_SEQUENCE: u64 = (1 << 48) - 1;

const SHARED_SALT: &[u8] = b"udpchat shared key";
const DIALLER_LABEL: &[u8] = b"udpchat media from dialler";
const ANSWERER_LABEL: &[u8] = b"udpchat media from answerer";
const KEY_LABEL: &[u8] = b"udpchat key";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::wire::datagram::Kind;

    const CIPHERS: [Cipher; 2] = [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];

    fn secrets(salt: u8) -> MediaSecrets {
        let part = |byte| SecretPart::from_bytes([byte; KEY_LEN]);
        MediaSecrets::agreed(&[salt; 32], &part(1), &part(2))
    }

    /// A dialler's sealer, and its answerer's opener.
    fn pair(cipher: Cipher) -> (Sealer, Opener) {
        let (sealer, _) = secrets(0).into_keys(Direction::FromDialler, cipher, 0, 0);
        let (_, opener) = secrets(0).into_keys(Direction::FromAnswerer, cipher, 0, 0);
        (sealer, opener)
    }

    fn prelude(sequence: u64) -> Prelude {
        Prelude {
            kind: Kind::Video,
            direction: Direction::FromDialler,
            sequence,
            session: SessionId::new(7).unwrap(),
        }
    }

    fn sealed(sealer: &mut Sealer, sequence: u64, body: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0; Form::Sealed.overhead() + body.len()];
        datagram[Prelude::LEN..][..body.len()].copy_from_slice(body);
        sealer.seal(&prelude(sequence), &mut datagram);
        datagram
    }

    fn open(opener: &mut Opener, datagram: &[u8]) -> Result<Vec<u8>, OpenError> {
        let prelude = Prelude::read(datagram).map_err(|_| OpenError)?;
        opener.open(&prelude, &mut datagram.to_vec()).map(<[u8]>::to_vec)
    }

    #[test]
    fn sealed_datagrams_open_and_hide_their_content() {
        for cipher in CIPHERS {
            let (mut sealer, mut opener) = pair(cipher);
            let body = [0xff, 0xd8, 0xff, 0xe0].repeat(20);
            let datagram = sealed(&mut sealer, 5, &body);
            assert!(!datagram.windows(4).any(|bytes| bytes == &body[..4]));
            assert_eq!(open(&mut opener, &datagram), Ok(body));
        }
    }

    #[test]
    fn any_flipped_bit_is_rejected() {
        for cipher in CIPHERS {
            let (mut sealer, mut opener) = pair(cipher);
            let datagram = sealed(&mut sealer, 5, b"hello");
            for bit in 0..datagram.len() * 8 {
                let mut flipped = datagram.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                // Magic and version are checked before the seal is opened.
                if Form::of(&flipped) == Ok(Form::Sealed) {
                    assert_eq!(open(&mut opener, &flipped), Err(OpenError), "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn directions_sessions_and_handshakes_have_distinct_keys() {
        let (mut sealer, _) = pair(Cipher::Aes256Gcm);
        let datagram = sealed(&mut sealer, 5, b"hello");
        let (_, mut own) = secrets(0).into_keys(Direction::FromDialler, Cipher::Aes256Gcm, 0, 0);
        let (_, mut other) = secrets(1).into_keys(Direction::FromAnswerer, Cipher::Aes256Gcm, 0, 0);
        assert_eq!(open(&mut own, &datagram), Err(OpenError), "reflected to its sender");
        assert_eq!(open(&mut other, &datagram), Err(OpenError), "from another handshake");

        let key = SharedSecret::from_bytes([3; KEY_LEN]);
        let shared = |id| MediaSecrets::shared(&key, SessionId::new(id).unwrap());
        let cipher = Cipher::ChaCha20Poly1305;
        let (mut sealer, _) = shared(7).into_keys(Direction::FromDialler, cipher, 0, 0);
        let datagram = sealed(&mut sealer, 0, b"hello");
        for (id, opened) in [(7, Ok(b"hello".to_vec())), (8, Err(OpenError))] {
            let (_, mut opener) = shared(id).into_keys(Direction::FromAnswerer, cipher, 0, 0);
            assert_eq!(open(&mut opener, &datagram), opened);
        }
    }

    #[test]
    fn a_key_update_keeps_the_previous_key_for_late_datagrams() {
        for cipher in CIPHERS {
            let (mut sealer, mut opener) = pair(cipher);
            let boundary = 1 << EPOCH_BITS;
            let old = sealed(&mut sealer, boundary - 1, b"old");
            let new = sealed(&mut sealer, boundary, b"new");
            let newer = sealed(&mut sealer, 2 * boundary, b"newer");
            assert_eq!(open(&mut opener, &newer), Err(OpenError), "no key may be skipped");
            assert_eq!(open(&mut opener, &new), Ok(b"new".to_vec()));
            assert_eq!(open(&mut opener, &old), Ok(b"old".to_vec()), "overtaken");
            assert_eq!(open(&mut opener, &newer), Ok(b"newer".to_vec()));
            assert_eq!(open(&mut opener, &old), Err(OpenError), "gone");
        }
    }

    #[test]
    fn a_forged_datagram_does_not_update_the_key() {
        let (mut sealer, mut opener) = pair(Cipher::Aes256Gcm);
        let mut forged = sealed(&mut sealer, 1 << EPOCH_BITS, b"new");
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(open(&mut opener, &forged), Err(OpenError));
        assert_eq!((opener.newest.epoch, opener.before.is_none()), (0, true));
        // Nor is the key derived again for each forged datagram.
        let made = |opener: &Opener| &raw const *opener.next.as_ref().unwrap().key;
        let next = made(&opener);
        assert_eq!(open(&mut opener, &forged), Err(OpenError));
        assert_eq!(made(&opener), next);
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(open(&mut opener, &forged), Ok(b"new".to_vec()));
        assert_eq!((opener.newest.epoch, opener.next.is_none()), (1, true));
    }

    #[test]
    fn a_later_session_starts_at_higher_sequence_numbers() {
        let first = first_sequence(Duration::from_millis(1_795_000_000_900));
        let next = first_sequence(Duration::from_millis(1_795_000_001_100));
        assert_eq!(next - first, 65_536);
        assert!(next < 1 << 47);
    }

    #[test]
    fn debug_output_hides_secrets() {
        let (sealer, opener) = pair(Cipher::Aes256Gcm);
        let text = format!("{sealer:?} {opener:?} {:?}", secrets(0));
        assert!(!text.contains('['), "{text}");
    }
}
