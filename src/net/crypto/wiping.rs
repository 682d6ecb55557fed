//! Wipes `snow`'s private keys, cipher keys and hash states on drop.
//!
//! `snow` does not wipe private keys, cipher keys or hash states, but lets its caller supply the
//! objects that hold them. This module supplies `snow`'s own objects, each in a wrapper that
//! overwrites its contents on drop.

use std::hint::black_box;

use snow::{
    Error,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};

/// The length in bytes of every key: X25519 keys and the keys of both ciphers.
pub const KEY_LEN: usize = 32;

/// Creates the wrapped objects.
pub(super) struct WipingResolver;

impl CryptoResolver for WipingResolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        DefaultResolver.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(WipedDh(DefaultResolver.resolve_dh(choice)?)))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::new(WipedHash(DefaultResolver.resolve_hash(choice)?)))
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::new(WipedCipher(DefaultResolver.resolve_cipher(choice)?)))
    }
}

/// A key pair. Wiping costs a scalar multiplication, since setting a private key computes the
/// public key.
struct WipedDh(Box<dyn Dh>);

impl Drop for WipedDh {
    fn drop(&mut self) {
        self.0.set(&[0; KEY_LEN]);
        black_box(&mut self.0);
    }
}

impl Dh for WipedDh {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn pub_len(&self) -> usize {
        self.0.pub_len()
    }

    fn priv_len(&self) -> usize {
        self.0.priv_len()
    }

    fn set(&mut self, privkey: &[u8]) {
        self.0.set(privkey);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        self.0.generate(rng)
    }

    fn pubkey(&self) -> &[u8] {
        self.0.pubkey()
    }

    fn privkey(&self) -> &[u8] {
        self.0.privkey()
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        self.0.dh(pubkey, out)
    }
}

/// A cipher with its key.
struct WipedCipher(Box<dyn Cipher>);

impl Drop for WipedCipher {
    fn drop(&mut self) {
        self.0.set(&[0; KEY_LEN]);
        black_box(&mut self.0);
    }
}

impl Cipher for WipedCipher {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn set(&mut self, key: &[u8; KEY_LEN]) {
        self.0.set(key);
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        self.0.encrypt(nonce, authtext, plaintext, out)
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.0.decrypt(nonce, authtext, ciphertext, out)
    }
}

/// A hash, with its buffered input.
struct WipedHash(Box<dyn Hash>);

impl Drop for WipedHash {
    fn drop(&mut self) {
        self.0.reset();
        black_box(&mut self.0);
    }
}

impl Hash for WipedHash {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn block_len(&self) -> usize {
        self.0.block_len()
    }

    fn hash_len(&self) -> usize {
        self.0.hash_len()
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.input(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        self.0.result(out);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Records the last key it was given.
    #[derive(Clone, Default)]
    struct Spy(Arc<Mutex<Vec<u8>>>);

    impl Spy {
        fn note(&self, key: &[u8]) {
            *self.0.lock().unwrap() = key.to_vec();
        }

        fn noted(&self) -> Vec<u8> {
            self.0.lock().unwrap().clone()
        }
    }

    impl Dh for Spy {
        fn name(&self) -> &'static str {
            "spy"
        }

        fn pub_len(&self) -> usize {
            KEY_LEN
        }

        fn priv_len(&self) -> usize {
            KEY_LEN
        }

        fn set(&mut self, privkey: &[u8]) {
            self.note(privkey);
        }

        fn generate(&mut self, _: &mut dyn Random) -> Result<(), Error> {
            Ok(())
        }

        fn pubkey(&self) -> &[u8] {
            &[]
        }

        fn privkey(&self) -> &[u8] {
            &[]
        }

        fn dh(&self, _: &[u8], _: &mut [u8]) -> Result<(), Error> {
            Ok(())
        }
    }

    impl Cipher for Spy {
        fn name(&self) -> &'static str {
            "spy"
        }

        fn set(&mut self, key: &[u8; KEY_LEN]) {
            self.note(key);
        }

        fn encrypt(&self, _: u64, _: &[u8], _: &[u8], _: &mut [u8]) -> usize {
            0
        }

        fn decrypt(&self, _: u64, _: &[u8], _: &[u8], _: &mut [u8]) -> Result<usize, Error> {
            Ok(0)
        }
    }

    impl Hash for Spy {
        fn name(&self) -> &'static str {
            "spy"
        }

        fn block_len(&self) -> usize {
            64
        }

        fn hash_len(&self) -> usize {
            KEY_LEN
        }

        fn reset(&mut self) {
            self.note(&[]);
        }

        fn input(&mut self, data: &[u8]) {
            self.note(data);
        }

        fn result(&mut self, _: &mut [u8]) {}
    }

    #[test]
    fn keys_are_wiped_when_dropped() {
        let key = [7; KEY_LEN];
        let spy = Spy::default();
        let mut dh = WipedDh(Box::new(spy.clone()));
        dh.set(&key);
        assert_eq!(spy.noted(), key);
        drop(dh);
        assert_eq!(spy.noted(), [0; KEY_LEN]);
        let mut cipher = WipedCipher(Box::new(spy.clone()));
        cipher.set(&key);
        assert_eq!(spy.noted(), key);
        drop(cipher);
        assert_eq!(spy.noted(), [0; KEY_LEN]);
        let mut hash = WipedHash(Box::new(spy.clone()));
        hash.input(&key);
        assert_eq!(spy.noted(), key);
        drop(hash);
        assert!(spy.noted().is_empty());
    }
}
