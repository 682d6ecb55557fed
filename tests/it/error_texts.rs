//! An error prints its cause or returns it as `source()`, but not both: `{error:#}` prints the
//! whole chain, so a cause that its parent also prints would appear twice.
//!
//! In this crate the parent prints the cause. An error converted to text on its way to the user
//! then loses nothing. `#[from]`, `#[source]` and a field named `source` are therefore only for
//! `#[error(transparent)]` and for texts that leave the cause to the chain.

use std::{fs, path::Path};

use crate::layering::collect;

#[test]
fn no_error_both_prints_and_returns_its_cause() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut files = Vec::new();
    collect(root, &mut files);
    let mut violations = Vec::new();
    let mut variants = 0;
    for file in files {
        let text = fs::read_to_string(&file).expect("readable");
        for (attribute, item) in errors(&text) {
            variants += 1;
            if let Some(field) = printed_source(attribute, item) {
                violations.push(format!("{}: {attribute} prints {field}", file.display()));
            }
        }
    }
    assert!(variants > 50, "the errors are there: {variants}");
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn the_checker_finds_printed_causes() {
    for (text, printed) in [
        ("#[error(\"bad: {0}\")]\nA(#[from] io::Error),", Some("{0}")),
        ("#[error(\"bad {name}: {0}\")]\nA(u8, #[source] io::Error),", Some("{1}")),
        ("#[error(\"bad\")]\nA(#[from] io::Error),", None),
        ("#[error(transparent)]\nA(#[from] io::Error),", None),
        ("#[error(\"bad: {error}\")]\nA { error: io::Error },", None),
        ("#[error(\"bad: {source}\")]\nA {\n/// Why.\nsource: io::Error },", Some("{source}")),
        ("#[error(\"bad: {e:?}\")]\nA { #[source]\ne: io::Error },", Some("{e}")),
        ("#[error(\"bad: {0}\")]\npub struct A(#[from] io::Error);", Some("{0}")),
    ] {
        let text = text.replace("{name}: {0}", "{name}: {1}");
        let found: Vec<_> = errors(&text).filter_map(|(a, i)| printed_source(a, i)).collect();
        assert_eq!(found, Vec::from_iter(printed), "{text}");
    }
}

/// Each `#[error(…)]` with the variant or struct that follows it, up to the end of its fields.
fn errors(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices("#[error(").filter_map(|(at, _)| {
        let rest = &text[at..];
        let (attribute, item) = rest.split_at(rest.find(")]\n")? + 2);
        let name_end = item.find(['(', '{', ',', ';', '}'])?;
        let end = match item[name_end..].chars().next()? {
            '{' => item.find('}')?,
            '(' => name_end + closing(&item[name_end..])?,
            _ => name_end,
        };
        Some((attribute, &item[..end]))
    })
}

/// The index of the parenthesis that closes the one at the start of `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    text.char_indices().find_map(|(at, c)| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        (depth == 0).then_some(at)
    })
}

/// The placeholder of the field that is the error's `source()`, if its message contains it.
fn printed_source(attribute: &str, item: &str) -> Option<String> {
    let open = item.find(['(', '{'])?;
    let is_tuple = item[open..].starts_with('(');
    let fields = item[open + 1..].split(',');
    fields.enumerate().find_map(|(index, field)| {
        let code: Vec<&str> =
            field.lines().map(str::trim).filter(|line| !line.starts_with("///")).collect();
        let code = code.join(" ");
        let is_marked = code.contains("#[from]") || code.contains("#[source]");
        let declared = code.rsplit("] ").next().unwrap_or_default().trim().to_owned();
        let name = declared.split(':').next().unwrap_or_default().trim();
        let name = name.strip_prefix("pub ").unwrap_or(name);
        let name = if is_tuple { index.to_string() } else { name.to_owned() };
        let is_source = is_marked || (!is_tuple && name == "source");
        let is_printed = [format!("{{{name}}}"), format!("{{{name}:")];
        let is_printed = is_printed.iter().any(|text| attribute.contains(&text[..]));
        (is_source && is_printed).then(|| format!("{{{name}}}"))
    })
}
