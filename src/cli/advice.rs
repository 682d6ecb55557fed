//! What to type instead of a wrong command line.

use std::{ffi::OsString, path::Path};

use clap::{
    Command, CommandFactory, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::args::Cli;
use crate::{
    net::io::{bind_addr, host_port},
    video::{sink::OutputSpec, source::SourceSpec},
};

/// What to type instead of `args`, which clap rejects with `error`.
pub(super) fn advice(error: &clap::Error, args: &[OsString]) -> Option<String> {
    let typed = [ContextKind::InvalidSubcommand, ContextKind::InvalidArg];
    let typed = typed.into_iter().find_map(|kind| error.get(kind)).and_then(|typed| match typed {
        ContextValue::String(typed) => Some(typed.as_str()),
        _ => None,
    });
    match (error.kind(), typed) {
        (ErrorKind::UnknownArgument, Some(word)) if word == "-" || !word.starts_with('-') => {
            about_word(word, args)
        }
        (ErrorKind::UnknownArgument, Some(option)) => {
            about_option(option, args).or_else(|| Some(did_you_mean(&suggested(error)?)))
        }
        (ErrorKind::InvalidSubcommand, Some(verb)) => {
            let resembling = || suggested(error).filter(|_| !verb.contains('/'));
            Some(did_you_mean(&meant_verb(verb).or_else(resembling)?))
        }
        _ => Some(did_you_mean(&suggested(error)?)),
    }
}

/// clap's suggestion.
fn suggested(error: &clap::Error) -> Option<String> {
    let kinds =
        [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    match kinds.into_iter().find_map(|kind| error.get(kind))? {
        ContextValue::String(one) => Some(one.clone()),
        ContextValue::Strings(several) => {
            Some(several.join(" or ")).filter(|names| !names.is_empty())
        }
        _ => None,
    }
}

fn did_you_mean(meant: &str) -> String {
    format!("did you mean {meant}?")
}

/// The verb suggested for an unknown word, or for a host or a file without a verb.
fn meant_verb(typed: &str) -> Option<String> {
    let synonym = SYNONYMS.iter().find(|(_, words)| words.contains(&typed));
    let verb = synonym.map(|(verb, _)| (*verb).to_owned());
    let file = || is_file(typed).then(|| format!("udpchat demo --source {typed}"));
    let looks_like_host = typed.contains(['.', ':']) || typed == "localhost";
    let host =
        || (looks_like_host && host_port(typed).is_ok()).then(|| format!("udpchat chat {typed}"));
    verb.or_else(file).or_else(host)
}

/// Advice for a word where the verb takes none.
fn about_word(word: &str, args: &[OsString]) -> Option<String> {
    let verb = verb_of(args)?;
    let verb = verb.get_name();
    let mut options = replacements(verb, word).into_iter();
    let option = options.find(|option| is_accepted(option, word, args));
    option.map(|option| did_you_mean(&option.join(" "))).or_else(|| about_stray(verb, word))
}

/// The options whose value `word` may be, most likely first.
fn replacements(verb: &str, word: &str) -> Vec<[String; 2]> {
    let is_number = word.parse::<u32>().is_ok();
    let is_named = !matches!(SourceSpec::from(OsString::from(word)), SourceSpec::Path(_));
    let is_source = is_named || is_file(word);
    let is_output = word.parse::<OutputSpec>().is_ok();
    let is_address = bind_addr(word).is_ok();
    let [source, output, host, bind] =
        ["--source", "--output", "--to", "--bind"].map(|option| [option.into(), word.to_owned()]);
    let port = ["--port".into(), word.to_owned()];
    let bind_port = ["--bind".into(), format!(":{word}")];
    let seconds = ["--seconds".into(), word.to_owned()];
    [
        (is_source, source),
        (is_output, output),
        (is_number, port),
        (is_number, bind_port),
        (is_number && verb == "demo", seconds),
        (!is_number && !is_source && host_port(word).is_ok(), host),
        // An address at which nobody can be called is one to listen on.
        (is_address && host_port(word).is_err(), bind),
        (Path::new(word).is_dir(), ["--dir".into(), word.to_owned()]),
    ]
    .into_iter()
    .filter_map(|(fits, option)| fits.then_some(option))
    .collect()
}

/// Whether `option` is valid in the command line in place of `word`.
fn is_accepted(option: &[String], word: &str, args: &[OsString]) -> bool {
    let Some(at) = args.iter().rposition(|arg| arg == word) else { return false };
    let mut args = args.to_vec();
    args.splice(at..=at, option.iter().map(OsString::from));
    let refusal = Cli::try_parse_from(args).err();
    refusal.is_none_or(|error| match error.kind() {
        ErrorKind::MissingRequiredArgument => true,
        ErrorKind::UnknownArgument => {
            let about = error.get(ContextKind::InvalidArg);
            about != Some(&ContextValue::String(option[0].clone()))
        }
        _ => false,
    })
}

/// Advice for a word that is not the value of any option of `verb`.
fn about_stray(verb: &str, word: &str) -> Option<String> {
    let is_host = host_port(word).is_ok();
    let is_number = word.parse::<u16>().is_ok();
    let advice = match verb {
        "send" | "chat" if is_number => "a port follows its host, as in HOST:7722".to_owned(),
        "chat" if is_host => "chat calls one HOST".to_owned(),
        "recv" if is_host => waits_for_senders(word),
        "demo" if is_host => {
            format!("demo streams to this machine only; to reach {word}, type udpchat chat {word}")
        }
        "devices" => "devices takes no argument; type udpchat devices".to_owned(),
        "doctor" => "doctor checks this machine only; type udpchat doctor".to_owned(),
        "completions" => "completions takes one shell".to_owned(),
        "man" if verb_named(word).is_some() => did_you_mean(&format!("udpchat {word} --help")),
        "man" => "type udpchat man".to_owned(),
        _ => return None,
    };
    Some(advice)
}

fn waits_for_senders(host: &str) -> String {
    format!(
        "recv waits for senders: type udpchat send --to THIS-HOST on the other machine, or call \
         it from here: udpchat chat {host}"
    )
}

/// Advice for an option that the verb does not take, but others do.
fn about_option(option: &str, args: &[OsString]) -> Option<String> {
    let name = option.strip_prefix("--")?;
    let Some(verb) = verb_of(args) else {
        let verbs = verbs_with(name)?;
        return Some(format!("the command comes first, in this case {}", listed(&verbs, "or")));
    };
    match (verb.get_name(), name) {
        ("recv", "to") => Some(waits_for_senders("HOST")),
        ("chat", "to") => Some("type the host alone, as in udpchat chat HOST".to_owned()),
        ("demo", "to") => Some(
            "demo streams to this machine only; to reach another, type udpchat chat HOST"
                .to_owned(),
        ),
        ("recv" | "chat", "port") => Some(did_you_mean("--bind :PORT")),
        ("send", "port") => Some(did_you_mean("--to HOST:PORT")),
        _ => {
            let verbs = verbs_with(name)?;
            Some(format!("it is an option of {}", listed(&verbs, "and")))
        }
    }
}

/// The visible verb in `args`.
fn verb_of(args: &[OsString]) -> Option<Command> {
    // No option before the verb takes a value.
    let word = args.iter().skip(1).find(|arg| !arg.as_encoded_bytes().starts_with(b"-"))?;
    verb_named(word.to_str()?)
}

fn verb_named(name: &str) -> Option<Command> {
    let whole = Cli::command();
    whole.get_subcommands().find(|verb| verb.get_name() == name && !verb.is_hide_set()).cloned()
}

/// The verbs that take the option `--name`.
fn verbs_with(name: &str) -> Option<Vec<String>> {
    let whole = Cli::command();
    let takes = |verb: &&Command| verb.get_arguments().any(|arg| arg.get_long() == Some(name));
    let verbs = whole.get_subcommands().filter(takes).map(|verb| verb.get_name().to_owned());
    Some(verbs.collect()).filter(|verbs: &Vec<_>| !verbs.is_empty())
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[String], conjunction: &str) -> String {
    match names {
        [several @ .., last] if !several.is_empty() => {
            format!("{} {conjunction} {last}", several.join(", "))
        }
        _ => names.concat(),
    }
}

fn is_file(word: &str) -> bool {
    let path = Path::new(word);
    path.exists() && !path.is_dir()
}

/// Other words for the verbs.
const SYNONYMS: [(&str, &[&str]); 6] = [
    ("recv", &["receive", "listen", "watch", "view", "play"]),
    ("send", &["stream", "camera", "publish"]),
    ("chat", &["call", "talk", "dial", "answer"]),
    ("demo", &["test", "try", "loopback"]),
    ("devices", &["cameras", "list", "ls"]),
    ("doctor", &["check", "diagnose"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn advice_on(line: &str) -> String {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = Cli::try_parse_from(&args).unwrap_err();
        advice(&error, &args).unwrap_or_default()
    }

    #[test]
    fn stray_words_and_options_get_advice_for_their_command() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let folder = env!("CARGO_MANIFEST_DIR");
        let waits = "recv waits for senders: type udpchat send --to THIS-HOST on the other \
                     machine, or call it from here: udpchat chat ";
        let here = "demo streams to this machine only; to reach ";
        for (typed, expected) in [
            ("send desk", "did you mean --to desk?".to_owned()),
            ("send --to desk attic", "did you mean --to attic?".to_owned()),
            ("send --to desk 7722", "a port follows its host, as in HOST:7722".to_owned()),
            ("send desk --source pattern", "did you mean --to desk?".to_owned()),
            (&format!("send --to desk {file}"), format!("did you mean --source {file}?")),
            ("send --to desk camera:1", "did you mean --source camera:1?".to_owned()),
            ("send --to desk -", "did you mean --source -?".to_owned()),
            ("send --to desk --source pattern camera:1", String::new()),
            ("send --bind desk", "it is an option of recv and chat".to_owned()),
            ("send --show window", "it is an option of recv, chat and demo".to_owned()),
            ("send --port 7722", "did you mean --to HOST:PORT?".to_owned()),
            ("recv desk", format!("{waits}desk")),
            ("recv 192.168.1.20", format!("{waits}192.168.1.20")),
            ("recv --to desk", format!("{waits}HOST")),
            ("recv --to=desk", format!("{waits}HOST")),
            ("recv call.avi", "did you mean --output call.avi?".to_owned()),
            ("recv 0.0.0.0", "did you mean --bind 0.0.0.0?".to_owned()),
            ("recv :7722", "did you mean --bind :7722?".to_owned()),
            ("recv 7722", "did you mean --bind :7722?".to_owned()),
            ("recv --port 7722", "did you mean --bind :PORT?".to_owned()),
            ("recv --source pattern", "it is an option of send, chat and demo".to_owned()),
            ("recv --quality 50", "it is an option of send, chat and demo".to_owned()),
            ("chat desk attic", "chat calls one HOST".to_owned()),
            ("chat desk 7722", "a port follows its host, as in HOST:7722".to_owned()),
            ("chat desk call.avi", "did you mean --output call.avi?".to_owned()),
            ("chat --to desk", "type the host alone, as in udpchat chat HOST".to_owned()),
            ("chat --no-control", "it is an option of send and recv".to_owned()),
            ("demo desk", format!("{here}desk, type udpchat chat desk")),
            ("demo --to desk", format!("{here}another, type udpchat chat HOST")),
            ("demo 5", "did you mean --seconds 5?".to_owned()),
            (&format!("demo {file}"), format!("did you mean --source {file}?")),
            ("demo --code abc", "it is an option of send, recv and chat".to_owned()),
            ("devices desk", "devices takes no argument; type udpchat devices".to_owned()),
            ("devices --to desk", "it is an option of send".to_owned()),
            ("doctor 7722", "did you mean --port 7722?".to_owned()),
            ("doctor 7722 desk", "did you mean --port 7722?".to_owned()),
            ("doctor desk", "doctor checks this machine only; type udpchat doctor".to_owned()),
            ("doctor --bind :7722", "it is an option of recv and chat".to_owned()),
            ("completions bash zsh", "completions takes one shell".to_owned()),
            ("man recv", "did you mean udpchat recv --help?".to_owned()),
            (&format!("man {folder}"), format!("did you mean --dir {folder}?")),
            ("man udpchat", "type udpchat man".to_owned()),
            ("-v recv desk", format!("{waits}desk")),
            ("--to desk", "the command comes first, in this case send".to_owned()),
            ("--bind :7722", "the command comes first, in this case recv or chat".to_owned()),
            ("window", String::new()),
            (file, format!("did you mean udpchat demo --source {file}?")),
            ("./no/such", String::new()),
            // The last folder resembles a verb.
            ("/srv/main/no-such", String::new()),
            ("/srv/main", String::new()),
            ("demos", "did you mean demo?".to_owned()),
            ("chat.example", "did you mean udpchat chat chat.example?".to_owned()),
        ] {
            assert_eq!(advice_on(&format!("udpchat {typed}")), expected, "{typed}");
        }
    }
}
