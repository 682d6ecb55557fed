//! Codes that two people share, and the secret derived from them.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use rand::RngExt;
use unicode_normalization::UnicodeNormalization;
use zeroize::{Zeroize, Zeroizing};

use super::keys::{KEY_LEN, SharedSecret};

/// A code, generated or typed. Wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Code(Zeroizing<String>);

/// The code is so short that it can be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a code needs at least {MIN_TYPED_CHARS} characters")]
pub struct CodeTooShort;

impl Code {
    /// Generates a code of 80 bits: sixteen letters and digits in groups of four, from an alphabet
    /// without easily confused characters.
    #[cfg_attr(
        not(any(test, feature = "cli")),
        expect(dead_code, reason = "the API takes codes, and only the program generates them")
    )]
    pub(crate) fn generate() -> Self {
        let mut rng = rand::rng();
        let mut code = Zeroizing::new(String::with_capacity(GENERATED_LEN + 3));
        for i in 0..GENERATED_LEN {
            if i > 0 && i.is_multiple_of(GROUP_LEN) {
                code.push('-');
            }
            code.push(char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
        }
        Self(code)
    }

    /// Parses a typed code. A generated code may be typed in lower or upper case, with or without
    /// hyphens and white space, and with O for 0, I or L for 1. Any other code is a passphrase,
    /// normalized to Unicode form C: see `docs/PROTOCOL.md`, §5.4.
    pub(crate) fn typed(text: &str) -> Result<Self, CodeTooShort> {
        let text = normalized(text);
        let mut canonical: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|c| !is_gap(*c)).map(canonical).collect());
        let is_generated = canonical.len() == GENERATED_LEN
            && canonical.bytes().all(|byte| ALPHABET.contains(&byte));
        if is_generated {
            for at in [12, 8, 4] {
                canonical.insert(at, '-');
            }
            return Ok(Self(canonical));
        }
        let text = text.trim();
        if text.chars().count() < MIN_TYPED_CHARS {
            return Err(CodeTooShort);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The shared secret: Argon2id (RFC 9106), version 1.3, with the parameters that its section 4
    /// recommends for little memory: 3 passes over 64 MiB in 4 lanes. Whoever has answered a call
    /// of ours can try codes offline against that handshake; each attempt costs a tenth of a second
    /// and 64 MiB. The salt is the same for everyone, since the two sides share nothing else. A
    /// code should therefore be used for one peer only.
    pub(crate) fn secret(&self) -> SharedSecret {
        let params = Params::new(64 << 10, 3, 4, Some(KEY_LEN)).expect("within RFC 9106's limits");
        let mut key = Zeroizing::new([0; KEY_LEN]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(self.0.as_bytes(), SALT, &mut key[..])
            .expect("salt and output have valid lengths");
        let secret = SharedSecret::from_bytes(*key);
        key.zeroize();
        secret
    }
}

/// The code in its canonical form, which can be typed.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Does not reveal the code.
impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(…)")
    }
}

/// `text` normalized as an `OpaqueString` (RFC 8265 §4.2.2): every space becomes an ASCII space,
/// then Unicode normalization form C, since keyboards differ in whether é is one character or two.
fn normalized(text: &str) -> Zeroizing<String> {
    // Form C takes at most three times the bytes (UAX #15), so the buffer never moves and leaves no
    // copy.
    let mut normalized = Zeroizing::new(String::with_capacity(3 * text.len()));
    normalized.extend(text.chars().map(|c| if is_space(c) { ' ' } else { c }).nfc());
    normalized
}

/// Whether `c` is in Unicode's space category (Zs).
fn is_space(c: char) -> bool {
    matches!(
        c,
        ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
    )
}

/// White space, hyphens, and the dashes that a word processor may substitute.
fn is_gap(c: char) -> bool {
    c.is_whitespace() || matches!(c, '-' | '\u{2010}'..='\u{2015}')
}

fn canonical(c: char) -> char {
    match c.to_ascii_lowercase() {
        'o' => '0',
        'i' | 'l' => '1',
        other => other,
    }
}

/// Douglas Crockford's base 32: no I, L, O or U.
const ALPHABET: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// In characters of 5 bits each: 80 bits.
const GENERATED_LEN: usize = 16;
const GROUP_LEN: usize = 4;

/// In characters. Shorter codes can be guessed despite the cost of each attempt.
const MIN_TYPED_CHARS: usize = 10;

const SALT: &[u8] = b"udpchat code, version 2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whitespace_in_a_code_is_ignored() {
        let code = Code::typed("k3v9-x2mq-7pth-w4zd").unwrap();
        for text in ["K3V9X2MQ7PTHW4ZD\n", "\r\nk3v9x2mq7pthw4zd", "k3v9\tx2mq\t7pth\tw4zd"] {
            assert_eq!(Code::typed(text).unwrap(), code, "{text:?}");
        }
    }

    #[test]
    fn a_generated_code_is_accepted_in_any_spelling() {
        let code = Code::generate();
        let text = code.to_string();
        assert_eq!(text.len(), 19);
        let sloppy = text.to_uppercase().replace('0', "o").replace('1', "L").replace('-', " ");
        let dashes = text.replace('-', "\u{2013}") + "\t";
        for typed in [&text, &text.replace('-', ""), &sloppy, &dashes] {
            assert_eq!(Code::typed(typed).unwrap(), code, "{typed}");
        }
        assert_ne!(Code::generate(), code);
    }

    #[test]
    fn a_passphrase_is_trimmed_but_otherwise_unchanged() {
        let code = Code::typed(" Correct horse battery ").unwrap();
        assert_eq!(code.to_string(), "Correct horse battery");
        assert_ne!(code, Code::typed("correct horse battery").unwrap());
        let error = Code::typed("too short").unwrap_err().to_string();
        assert!(error.contains("10 characters"), "{error}");
    }

    #[test]
    fn a_passphrase_is_normalized_to_unicode_nfc() {
        let code = |text: &str| Code::typed(text).unwrap().to_string();
        let composed = "caf\u{e9} cr\u{e8}me";
        for other in [
            "cafe\u{301} cre\u{300}me",
            "caf\u{e9}\u{a0}cr\u{e8}me",
            "\u{3000}caf\u{e9}\u{2003}cre\u{300}me\u{a0}\r\n",
        ] {
            assert_eq!(code(other), composed, "{other:?}");
        }
        // Marks in either order; a syllable as one, two or three characters; singleton characters.
        for (typed, normalized) in [
            ("s\u{307}\u{323} s\u{323}\u{307} \u{1e69} marks", "\u{1e69} \u{1e69} \u{1e69} marks"),
            (
                "\u{1112}\u{1161}\u{11ab} \u{d558}\u{11ab} \u{d55c} syllable",
                "\u{d55c} \u{d55c} \u{d55c} syllable",
            ),
            ("\u{212b}\u{2126} ohm and so on", "\u{c5}\u{3a9} ohm and so on"),
        ] {
            assert_eq!(code(typed), normalized, "{typed:?}");
        }
        // Characters that only look alike stay distinct: full-width letters, ligatures, capitals.
        for other in
            ["\u{ff43}af\u{e9} cr\u{e8}me", "caf\u{e9} cr\u{e8}\u{fb01}me", "Caf\u{e9} cr\u{e8}me"]
        {
            assert_eq!(code(other), other);
        }
    }

    /// `tests/vectors/codes.json`, made with the C implementation of Argon2.
    #[test]
    fn derived_keys_match_the_vectors() {
        let vectors = include_str!("../../../tests/vectors/codes.json");
        let vectors: Vec<(String, String)> = serde_json::from_str(vectors).unwrap();
        assert_eq!(vectors.len(), 4);
        for (typed, key) in vectors {
            let secret = Code::typed(&typed).unwrap().secret();
            assert_eq!(data_encoding::HEXLOWER.encode(secret.as_bytes()), key, "{typed:?}");
        }
    }

    #[test]
    fn equal_codes_yield_equal_secrets() {
        let secret = |text: &str| *Code::typed(text).unwrap().secret().as_bytes();
        assert_eq!(secret("0123-4567-89ab-cdef"), secret("O123456789ABCDEF"));
        assert_ne!(secret("0123-4567-89ab-cdef"), secret("0123-4567-89ab-cdeg"));
    }

    #[test]
    fn debug_output_hides_the_code() {
        assert_eq!(format!("{:?}", Code::generate()), "Code(…)");
    }
}
