//! Text from a peer: bounded, and free of characters that a terminal would interpret.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use unicode_segmentation::UnicodeSegmentation;

/// A peer's name: at most [`MAX_NAME_CHARS`] printable characters, never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Name(String);

/// One line of chat: at most [`MAX_LINE_CHARS`] printable characters, never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line(String);

impl Name {
    /// Cleans and truncates `text`; if nothing is left, the name is "unnamed".
    pub fn new(text: &str) -> Self {
        Self(cleaned(text, MAX_NAME_CHARS).unwrap_or_else(|| "unnamed".into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Line {
    /// Cleans and truncates `text`; `None` if nothing is left.
    pub fn new(text: &str) -> Option<Self> {
        cleaned(text, MAX_LINE_CHARS).map(Self)
    }

    /// Cleans `text` and splits it into lines: between words, or between grapheme clusters in a
    /// word longer than half a line.
    pub fn parts(text: &str) -> Vec<Self> {
        let cleaned = cleaned(text, usize::MAX).unwrap_or_default();
        let (mut parts, mut rest) = (Vec::new(), cleaned.as_str());
        while !rest.is_empty() {
            let (part, more) = rest.split_at(first_part_len(rest));
            parts.extend(Self::new(part));
            rest = more;
        }
        parts
    }

    /// The line.
    #[cfg(any(test, feature = "internals"))]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The length in bytes of the first line of `text`, which is not empty.
fn first_part_len(text: &str) -> usize {
    let Some((longest, next)) = text.char_indices().nth(MAX_LINE_CHARS) else {
        return text.len();
    };
    if next == ' ' {
        return longest;
    }
    let between_words = text[..longest].rfind(' ').map(|at| at + 1);
    let ends = text.grapheme_indices(true).map(|(at, _)| at);
    let between_characters = ends.take_while(|at| *at <= longest).last().filter(|at| *at > 0);
    let between_words = between_words.filter(|at| *at > longest / 2);
    between_words.or(between_characters).unwrap_or(longest)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// Cleaned on deserialization as well, since a peer need not run our code.
impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(&String::deserialize(deserializer)?))
    }
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?)
            .ok_or_else(|| serde::de::Error::custom("empty line"))
    }
}

/// The maximum length of a name, in characters.
pub const MAX_NAME_CHARS: usize = 64;

/// The maximum length of a line, in characters; at four bytes each it fits a control message.
pub const MAX_LINE_CHARS: usize = 500;

fn cleaned(text: &str, max_chars: usize) -> Option<String> {
    let spaced = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    let kept: String = spaced.filter(|&c| is_harmless(c)).take(max_chars).collect();
    let kept = kept.trim();
    (!kept.is_empty()).then(|| kept.to_owned())
}

/// Whether `c` is neither a control character (C0, C1, DEL) nor an invisible character that
/// reorders or hides text (the bidirectional controls of UAX #9, zero-width marks, tags).
fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escape_characters_are_removed() {
        let line = Line::new("\u{1b}[31mred\u{1b}[0m\u{7}\r\n\u{9b}2J").unwrap();
        assert_eq!(line.as_str(), "[31mred[0m  2J");
    }

    #[test]
    fn ordinary_text_is_unchanged() {
        for text in ["Grüße aus Köln!", "日本語", "😀 ok?"] {
            assert_eq!(Line::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn direction_overrides_are_removed() {
        assert_eq!(Name::new("a\u{202e}b\u{2066}c").as_str(), "abc");
    }

    #[test]
    fn empty_text_is_no_line_but_an_unnamed_name() {
        assert_eq!(Line::new(" \u{1b}\u{7}\t "), None);
        assert_eq!(Name::new("\u{0}").as_str(), "unnamed");
    }

    fn parts(text: &str) -> Vec<String> {
        Line::parts(text).into_iter().map(|line| line.0).collect()
    }

    #[test]
    fn a_long_line_is_split_between_words() {
        assert_eq!(parts("hello"), ["hello"]);
        assert!(parts(" \u{7}\t ").is_empty());
        let words = "caf\u{e9} words ".repeat(300);
        let split = parts(&words);
        let (_, full) = split.split_last().unwrap();
        assert!(full.len() == 6 && full.iter().all(|part| part.chars().count() > 400));
        assert_eq!(split.join(" "), words.trim());
        let exact = format!("{} tail", "x".repeat(MAX_LINE_CHARS));
        assert_eq!(parts(&exact), [&exact[..MAX_LINE_CHARS], "tail"]);
    }

    #[test]
    fn a_long_word_is_split_between_grapheme_clusters() {
        let word = format!("a{}", "e\u{301}".repeat(600));
        let split = parts(&word);
        assert_eq!(split.concat(), word);
        assert!(split.iter().all(|part| !part.starts_with('\u{301}')));
        let tower = format!("x{}", "\u{301}".repeat(2000));
        assert_eq!(parts(&tower).concat(), tower, "even a character longer than a line");
    }

    proptest! {
        #[test]
        fn splitting_a_line_loses_nothing(text in "(\\PC{0,40} ?){0,60}") {
            let unspaced = |text: &str| text.replace(' ', "");
            let whole = cleaned(&text, usize::MAX).unwrap_or_default();
            let split = parts(&text);
            prop_assert_eq!(unspaced(&split.concat()), unspaced(&whole));
            prop_assert!(split.iter().all(|part| part.chars().count() <= MAX_LINE_CHARS));
            prop_assert!(split.len() <= 1 + 2 * whole.chars().count() / MAX_LINE_CHARS.div_euclid(2));
        }

        #[test]
        fn names_are_bounded_and_printable(text in any::<String>()) {
            let name = Name::new(&text);
            prop_assert!(name.as_str().chars().count() <= MAX_NAME_CHARS);
            prop_assert!(!name.as_str().chars().any(char::is_control));
            prop_assert_eq!(Name::new(name.as_str()), name);
        }
    }
}
