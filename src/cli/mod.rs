//! The command line: definitions of all verbs and options, from which the help, the completions and
//! the man pages are generated.

mod advice;
pub mod args;
pub(crate) mod values;

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::{Command, CommandFactory, Parser, error::ErrorKind};

pub use args::Cli;
pub use values::{MaxDatagramLen, Rate};

/// Parses the command line. If there is nothing to run, prints the help or the error and returns
/// the exit code.
///
/// Usage errors are one line, like every other error, and exit with 2.
pub fn parse() -> Result<Cli, ExitCode> {
    let args: Vec<OsString> = env::args_os().collect();
    Cli::try_parse_from(&args).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed standard output cannot be reported.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => {
            // Nor can a closed standard error.
            let _ = writeln!(io::stderr(), "udpchat: {}", one_line(&error, &args));
            ExitCode::from(EXIT_USAGE)
        }
    })
}

/// The man pages of `udpchat` and of each visible verb: file names and contents in roff.
pub fn man_pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut whole = Cli::command().disable_help_subcommand(true);
    whole.build();
    let verbs: Vec<Command> =
        whole.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().collect();
    std::iter::once(whole)
        .chain(verbs)
        .map(|command| {
            let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
            Ok((format!("{name}.1"), man_page(command)?))
        })
        .collect()
}

fn man_page(mut command: Command) -> io::Result<Vec<u8>> {
    let usage = command.render_usage().to_string();
    let extra = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let is_whole = command.has_subcommands();
    // The page shows the same options as `--help`.
    let command = command.mut_args(|arg| arg.hide_short_help(false));
    let command = command.override_usage(usage.trim_start_matches("Usage: ").to_owned());
    let page = clap_mangen::Man::new(command).manual("udpchat");
    let mut roff = Vec::new();
    page.render_title(&mut roff)?;
    page.render_name_section(&mut roff)?;
    page.render_synopsis_section(&mut roff)?;
    page.render_description_section(&mut roff)?;
    page.render_options_section(&mut roff)?;
    if is_whole {
        page.render_subcommands_section(&mut roff)?;
        roff.extend(as_typed("ENVIRONMENT", ENVIRONMENT));
        roff.extend(as_typed("EXIT STATUS", EXIT_STATUS));
    }
    roff.extend(as_typed("EXAMPLES", extra.trim_start_matches("Examples:\n")));
    if !is_whole {
        roff.extend(as_typed("SEE ALSO", "udpchat(1)"));
    }
    Ok(roff)
}

/// A section whose lines are not filled.
fn as_typed(heading: &str, text: &str) -> Vec<u8> {
    let mut page = roff::Roff::new();
    page.control("SH", [heading]).control("nf", []);
    for line in text.lines() {
        page.text([roff::roman(line)]);
    }
    page.control("fi", []).to_roff().into_bytes()
}

/// Condenses clap's error about `args` to one line: its first paragraph, advice, and a pointer to
/// the help.
fn one_line(error: &clap::Error, args: &[OsString]) -> String {
    let text = error.to_string();
    let message = text.split("\n\n").next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "missing command: send, recv, chat, demo, devices or doctor (see udpchat --help)".into()
        }
        _ => match advice::advice(error, args) {
            Some(advice) => format!("{message}: {advice} (see --help)"),
            None => format!("{message} (see --help)"),
        },
    }
}

const ENVIRONMENT: &str = "\
UDPCHAT_CODE             shared code, as an alternative to --code CODE
RUST_LOG                 log filter, finer than -v and -q, for example udpchat::net=debug
OPENCV_FFMPEG_LOGLEVEL   log level of FFmpeg for files and URLs; by default -8 (quiet), except with -vv";

const EXIT_STATUS: &str = "\
0     success
1     failure; the reason is on standard error
2     usage error
130   terminated by a second Ctrl-C; 128 + N by a second signal N";

/// The exit code of a usage error.
pub const EXIT_USAGE: u8 = 2;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The visible verbs.
    fn verbs() -> Vec<Command> {
        let mut whole = Cli::command();
        whole.build();
        let seen = |verb: &&Command| !verb.is_hide_set() && verb.get_name() != "help";
        whole.get_subcommands().filter(seen).cloned().collect()
    }

    /// The long options of `verb`, without those common to all verbs.
    fn options(verb: &Command) -> BTreeSet<&str> {
        let common = ["help", "verbose", "quiet"];
        verb.get_arguments()
            .filter_map(clap::Arg::get_long)
            .filter(|long| !common.contains(long))
            .collect()
    }

    fn refusal(line: &str) -> String {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        one_line(&Cli::try_parse_from(&args).unwrap_err(), &args)
    }

    #[test]
    fn each_verb_offers_exactly_its_options() {
        let source =
            ["source", "quality", "size", "fps", "gray", "strips", "pipeline", "once"].as_slice();
        let sink = ["show", "output", "overwrite", "playout-delay", "conceal"].as_slice();
        let sending = ["mtu", "fec", "max-bitrate"].as_slice();
        let network = ["offload", "dscp", "netem"].as_slice();
        let trust = ["name", "identity", "known-peers", "code"].as_slice();
        let report = ["stats", "stats-json", "seconds"].as_slice();
        let table = [
            (
                "send",
                &[source, sending, network, trust, report, &["to", "no-control", "key-file"]][..],
            ),
            (
                "recv",
                &[sink, network, trust, report, &["bind", "no-control", "key-file", "accept"]],
            ),
            ("chat", &[source, sink, sending, network, trust, report, &["bind", "accept"]]),
            ("demo", &[source, sink, sending, network, report, &["json"]]),
            ("devices", &[]),
            ("doctor", &[&["port"]]),
            ("completions", &[]),
            ("man", &[&["dir"]]),
        ];
        let verbs = verbs();
        assert_eq!(verbs.len(), table.len());
        for (verb, (name, expected)) in verbs.iter().zip(table) {
            assert_eq!(verb.get_name(), name);
            let expected: BTreeSet<&str> = expected.concat().into_iter().collect();
            assert_eq!(options(verb), expected, "{name}");
        }
    }

    #[test]
    fn every_option_is_described_in_help_and_man_page() {
        let pages = man_pages().unwrap();
        for mut verb in verbs() {
            let name = format!("udpchat-{}.1", verb.get_name());
            let (_, page) = pages.iter().find(|(page, _)| *page == name).unwrap();
            let page = plain(page);
            let help = words(&verb.render_long_help().to_string());
            for arg in verb.get_arguments().filter(|arg| arg.get_id() != "help") {
                let text = arg.get_help().map(|help| words(&help.to_string())).unwrap_or_default();
                assert!(text.len() > 10, "{name}: {} has no text", arg.get_id());
                assert!(help.contains(&text), "{name}: {}", arg.get_id());
                assert!(page.contains(&text), "{name}: '{text}' in {page}");
            }
        }
    }

    #[test]
    fn every_referenced_man_page_exists() {
        let pages = man_pages().unwrap();
        let mut named = 0;
        for (_, page) in &pages {
            let page = plain(page);
            for part in page.split("(1)").take(page.matches("(1)").count()) {
                let name = part.rsplit([' ', '"']).next().unwrap_or_default();
                assert!(pages.iter().any(|(page, _)| *page == format!("{name}.1")), "'{name}'");
                named += 1;
            }
        }
        assert!(named >= 2 * verbs().len(), "{named}");
    }

    /// A page's text without roff requests.
    fn plain(roff: &[u8]) -> String {
        let text = String::from_utf8(roff.to_vec()).unwrap();
        let text =
            text.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace("\\fI", "");
        words(&text.replace("\\*(Aq", "'").replace("\\(aq", "'").replace("\n.br", ""))
    }

    fn words(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn short_help_lists_common_options_and_long_help_all() {
        for mut verb in verbs() {
            let short = verb.render_help().to_string();
            let long = verb.render_long_help().to_string();
            let has = |help: &str, option: &str| {
                help.lines().any(|line| line.trim_start().starts_with(&format!("--{option}")))
            };
            let options = options(&verb);
            assert!(options.iter().all(|option| has(&long, option)), "{long}");
            let shown = options.iter().filter(|option| has(&short, option)).count();
            assert!(shown <= 18, "{}: {shown}", verb.get_name());
            for often in ["to", "source", "size", "show", "output", "code", "seconds"] {
                assert_eq!(has(&short, often), options.contains(often), "--{often} in\n{short}");
            }
        }
        let mut verbs = verbs();
        let demo = verbs.iter_mut().find(|verb| verb.get_name() == "demo").unwrap();
        assert!(demo.render_help().to_string().contains("--netem"));
    }

    /// The commands in `text`: each from `udpchat` to the end of the line or code span, or to a
    /// pipe, redirection or comment.
    fn commands(text: &str) -> Vec<String> {
        let ends = ["  ", "`", "#", " | ", " > ", ")"];
        let lines = text.lines().map(|line| line.replace("\\|", "|"));
        let shown = lines.flat_map(|line| {
            let starts = line.match_indices("udpchat ").map(|(at, _)| at);
            let is_one = |at: &usize| {
                let before = &line[..*at];
                let is_indented = *at > 0 && before.trim().is_empty();
                let is_piped_to = before.ends_with("| ") && !line.starts_with('|');
                is_indented || is_piped_to || before.ends_with('`')
            };
            let starts: Vec<usize> = starts.filter(is_one).collect();
            starts
                .into_iter()
                .map(move |at| {
                    let rest = &line[at..];
                    let end = ends.iter().filter_map(|end| rest.find(end)).min();
                    rest[..end.unwrap_or(rest.len())].trim().to_owned()
                })
                .collect::<Vec<_>>()
        });
        shown.collect()
    }

    #[test]
    fn every_documented_command_parses() {
        let helps = std::iter::once(Cli::command()).chain(verbs());
        let helps: String = helps.map(|mut verb| verb.render_long_help().to_string()).collect();
        let documents = [
            include_str!("../../README.md"),
            include_str!("../../SECURITY.md"),
            include_str!("../../docs/TESTING.md"),
            include_str!("../../docs/BENCHMARKS.md"),
            &helps,
        ];
        let fine = [
            ErrorKind::DisplayHelp,
            ErrorKind::DisplayVersion,
            // A verb mentioned without its arguments.
            ErrorKind::MissingRequiredArgument,
        ];
        let shown: Vec<String> = documents.into_iter().flat_map(commands).collect();
        let wrong = shown.iter().filter(|command| {
            // A placeholder for any verb.
            let command = command.replace("VERB", "send");
            let words = command.split_whitespace().map(|word| word.trim_matches('\''));
            Cli::try_parse_from(words).is_err_and(|error| !fine.contains(&error.kind()))
        });
        assert_eq!(wrong.collect::<Vec<_>>(), Vec::<&String>::new());
        assert!(shown.len() > 30, "{shown:?}");
    }

    #[test]
    fn mistyped_commands_get_a_suggestion() {
        for (typed, meant) in [
            ("udpchat sned", "did you mean send?"),
            ("udpchat doctro", "did you mean doctor?"),
            ("udpchat receive", "did you mean recv?"),
            ("udpchat call", "did you mean chat?"),
            ("udpchat 192.168.1.20", "did you mean udpchat chat 192.168.1.20?"),
            ("udpchat send --to desk --sorce pattern", "did you mean --source?"),
            ("udpchat send --to desk --qualtiy 50", "did you mean --quality?"),
            ("udpchat send desk", "did you mean --to desk?"),
            ("udpchat recv --show wndow", "did you mean window?"),
            ("udpchat recv --accept konwn", "did you mean known?"),
            ("udpchat completions bsah", "did you mean bash?"),
        ] {
            let message = refusal(typed);
            assert!(message.contains(meant), "{typed}: {message}");
            assert_eq!(message.lines().count(), 1);
        }
        assert!(!refusal("udpchat xyzzy").contains("mean"));
    }
}
