//! Names and lines from a peer.

use crate::net::wire::text::{Line, MAX_LINE_CHARS, MAX_NAME_CHARS, Name};

/// The bytes are text, as typed by our user or sent by a peer.
pub fn text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let name = Name::new(&text);
    assert_clean(name.as_str(), MAX_NAME_CHARS);
    assert_eq!(Name::new(name.as_str()), name, "cleaning is idempotent");
    assert_eq!(deserialized(&text), Some(name));
    let line = Line::new(&text);
    if let Some(line) = &line {
        assert_clean(line.as_str(), MAX_LINE_CHARS);
        assert_eq!(Line::new(line.as_str()).as_ref(), Some(line));
    }
    assert_eq!(deserialized(&text), line);
}

/// Asserts that `text` is trimmed, not empty, at most `max_chars` long, and free of control
/// characters, hidden characters and characters that reorder text.
pub(super) fn assert_clean(text: &str, max_chars: usize) {
    assert!(!text.is_empty() && text == text.trim());
    assert!(text.chars().count() <= max_chars);
    let is_space = |c: char| c.is_whitespace() && c != ' ';
    for c in text.chars() {
        assert!(!c.is_control() && !is_space(c) && !HIDDEN.contains(&c), "{c:?} in {text:?}");
    }
}

/// The value deserialized from a peer's `text`.
fn deserialized<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    let bytes = postcard::to_stdvec(text).expect("text is plain data");
    postcard::from_bytes(&bytes).ok()
}

/// The bidirectional controls (Unicode TR 9), the zero-width space, the word joiner, the byte order
/// mark, and the language tag.
const HIDDEN: [char; 16] = [
    '\u{61c}',
    '\u{200b}',
    '\u{200e}',
    '\u{200f}',
    '\u{202a}',
    '\u{202b}',
    '\u{202c}',
    '\u{202d}',
    '\u{202e}',
    '\u{2060}',
    '\u{2066}',
    '\u{2067}',
    '\u{2068}',
    '\u{2069}',
    '\u{feff}',
    '\u{e0001}',
];
