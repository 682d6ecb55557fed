//! Identity keys and shared secrets.

use std::{fmt, str::FromStr};

use data_encoding::{BASE32_NOPAD, BASE64_NOPAD};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use snow::{params::DHChoice, resolvers::CryptoResolver};
use thiserror::Error;
use zeroize::Zeroizing;

pub use super::wiping::KEY_LEN;
use super::wiping::WipingResolver;

/// A side's private key: X25519 (RFC 7748). Wiped on drop.
#[derive(Clone)]
pub struct Identity(Zeroizing<[u8; KEY_LEN]>);

/// The public half of an [`Identity`].
///
/// As text it is 43 characters of base64 (RFC 4648 §4, without padding).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; KEY_LEN]);

/// A short form of a public key for comparison by people: the first 80 bits of its SHA-256, as
/// sixteen letters and digits in groups of four.
///
/// Finding another key with the same fingerprint takes 2⁸⁰ attempts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; FINGERPRINT_LEN]);

/// 256 bits known only to both sides. Wiped on drop.
#[derive(Clone)]
pub struct SharedSecret(Zeroizing<[u8; KEY_LEN]>);

/// The text is not a public key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a public key is 43 characters of base64")]
pub struct InvalidPublicKey;

impl Identity {
    /// Generates a key from the system's randomness.
    pub fn generate() -> Self {
        Self(random())
    }

    /// Creates the identity with this private key.
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The private key.
    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The public key.
    pub fn public_key(&self) -> PublicKey {
        let mut dh =
            WipingResolver.resolve_dh(&DHChoice::Curve25519).expect("snow is built with X25519");
        dh.set(self.as_bytes());
        PublicKey(dh.pubkey().try_into().expect("X25519 keys have 32 bytes"))
    }
}

impl PublicKey {
    /// Creates a key from its bytes.
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The fingerprint for comparison by people.
    pub fn fingerprint(&self) -> Fingerprint {
        let digest = digest(&SHA256, &self.0);
        let (head, _) = digest.as_ref().split_first_chunk().expect("SHA-256 yields 32 bytes");
        Fingerprint(*head)
    }
}

impl SharedSecret {
    /// Creates a secret from its bytes.
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Generates a secret from the system's randomness.
    pub fn generate() -> Self {
        Self(random())
    }

    /// The bytes of the secret.
    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_NOPAD.encode(&self.0))
    }
}

impl FromStr for PublicKey {
    type Err = InvalidPublicKey;

    fn from_str(text: &str) -> Result<Self, InvalidPublicKey> {
        let bytes = BASE64_NOPAD.decode(text.as_bytes()).map_err(|_| InvalidPublicKey)?;
        bytes.try_into().map(Self).map_err(|_| InvalidPublicKey)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = BASE32_NOPAD.encode(&self.0).to_lowercase();
        let (first, rest) = text.split_at(GROUP_LEN);
        f.write_str(first)?;
        rest.as_bytes()
            .chunks(GROUP_LEN)
            .try_for_each(|group| write!(f, "-{}", String::from_utf8_lossy(group)))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Shows the fingerprint, not the private key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public_key().fingerprint())
    }
}

/// Omits the bytes.
impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(…)")
    }
}

/// Returns unpredictable bytes.
///
/// # Panics
///
/// If the system has no randomness, without which no secret is safe.
pub(super) fn random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new().fill(&mut bytes[..]).expect("the system has randomness");
    bytes
}

const FINGERPRINT_LEN: usize = 10;
const GROUP_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7748 §5.2: the first iteration, whose scalar is the base point.
    #[test]
    fn the_public_key_matches_rfc_7748() {
        let mut nine = [0; KEY_LEN];
        nine[0] = 9;
        let public = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
        let key = Identity::from_bytes(nine).public_key();
        assert_eq!(data_encoding::HEXLOWER.encode(key.as_bytes()), public);
    }

    #[test]
    fn a_public_key_round_trips_through_text() {
        let key = Identity::generate().public_key();
        let text = key.to_string();
        assert_eq!((text.len(), text.parse()), (43, Ok(key)));
        for wrong in [&text[1..], &format!("{text}A"), "ä", ""] {
            assert_eq!(wrong.parse::<PublicKey>(), Err(InvalidPublicKey), "{wrong}");
        }
    }

    #[test]
    fn a_fingerprint_is_four_groups_of_four() {
        let text = PublicKey::from_bytes([7; KEY_LEN]).fingerprint().to_string();
        let groups: Vec<_> = text.split('-').collect();
        assert_eq!(groups.len(), 4);
        assert!(groups.iter().all(|group| group.len() == 4), "{text}");
        assert_ne!(text, PublicKey::from_bytes([8; KEY_LEN]).fingerprint().to_string());
    }

    #[test]
    fn debug_output_hides_secrets() {
        let secret = SharedSecret::from_bytes([0x5a; KEY_LEN]);
        assert_eq!(format!("{secret:?}"), "SharedSecret(…)");
        let identity = Identity::from_bytes([0x5a; KEY_LEN]);
        assert_eq!(
            format!("{identity:?}"),
            format!("Identity({})", identity.public_key().fingerprint())
        );
    }
}
