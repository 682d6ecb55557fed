//! Secrets left in memory after a handshake, searched for in `/proc/self/mem` as an attacker would.

use std::{fs, hint::black_box, os::unix::fs::FileExt};

use udpchat::net::crypto::{
    handshake::Handshake,
    keys::{Identity, KEY_LEN, SharedSecret},
};

/// A key that is stored masked, so that its plain bytes are in memory only where they are used.
#[derive(Clone, Copy)]
struct Hidden([u8; KEY_LEN]);

impl Hidden {
    fn new() -> Self {
        Self(rand::random())
    }

    fn shown(&self) -> [u8; KEY_LEN] {
        self.0.map(|byte| black_box(byte) ^ MASK)
    }

    /// Whether `bytes` are one half of the key. Halves, because the allocator overwrites the start
    /// of freed memory.
    fn is_half_of_it(&self, bytes: &[u8]) -> bool {
        self.0.chunks(HALF).any(|half| half.iter().zip(bytes).all(|(a, b)| a ^ MASK == *b))
    }
}

#[test]
fn no_identity_or_code_remains_in_memory() {
    let (identity, secret) = (Hidden::new(), Hidden::new());
    // On a thread of its own, as the network loop is; its stack ends with it.
    std::thread::spawn(move || shake_hands(identity, secret)).join().expect("no panic");
    assert_eq!([identity, secret].map(found), [0, 0]);
}

/// Runs both sides of a successful handshake, and of one with different codes.
fn shake_hands(identity: Hidden, secret: Hidden) {
    let ann = Identity::from_bytes(identity.shown());
    let ours = SharedSecret::from_bytes(secret.shown());
    let (bob, other) = (Identity::generate(), SharedSecret::generate());
    for (theirs, is_same) in [(&ours, true), (&other, false)] {
        let mut dialler = Box::new(Handshake::dialler(&ann, Some(&ours)));
        let mut answerer = Box::new(Handshake::answerer(&bob, Some(theirs)));
        answerer.read(&dialler.write(&[])).expect("a first message");
        dialler.read(&answerer.write(&[])).expect("a second message");
        assert!(
            [identity, secret].map(found).iter().all(|count| *count > 0),
            "the search finds live keys"
        );
        let third = answerer.read(&dialler.write(b"hello"));
        assert_eq!(third.is_ok(), is_same);
        if is_same {
            let mut dialler = dialler.finish().expect("all three have crossed");
            let mut answerer = answerer.finish().expect("all three have crossed");
            answerer.read(&dialler.write(b"hello")).expect("the same keys");
        }
    }
}

/// The number of places in the writable memory of this process that hold half of `key`.
fn found(key: Hidden) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("readable");
    let memory = fs::File::open("/proc/self/mem").expect("readable");
    let mut page = vec![0; PAGE_LEN + HALF];
    let mut count = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let (from, to) = range.expect("a range of addresses");
        let [from, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).expect("an address"));
        let mut at = from;
        while at < to {
            // Other tests may have unmapped it meanwhile.
            let read = memory.read_at(&mut page, at).unwrap_or(0);
            count += page[..read].windows(HALF).filter(|bytes| key.is_half_of_it(bytes)).count();
            page.fill(0);
            at += PAGE_LEN as u64;
        }
    }
    count
}

const MASK: u8 = 0x55;
const HALF: usize = KEY_LEN / 2;
const PAGE_LEN: usize = 4096;
