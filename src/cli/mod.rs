//! What the user types: the definitions of every verb and option, from which the help, the
//! completions and the man page are made too.

pub mod args;
pub(crate) mod values;

use std::{io::Write, process::ExitCode};

use clap::{CommandFactory, Parser, error::ErrorKind};

pub use args::Cli;
pub use values::{HostPort, MaxDatagramLen, Quality, Rate};

/// What the user typed; or, when that is no command, the exit code, with everything said.
///
/// Usage errors are one line, like every other error, and exit with 2.
pub fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nobody is left to tell if standard output is gone.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => {
            // Nor if standard error is.
            let _ = writeln!(std::io::stderr(), "udpchat: {}", one_line(&error));
            ExitCode::from(EXIT_USAGE)
        }
    })
}

/// The man page of `udpchat`, and one for each verb: file names and contents in roff.
pub fn man_pages() -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = Cli::command();
    command.build();
    let verbs =
        command.get_subcommands().filter(|c| c.get_name() != "help" && !c.is_hide_set()).cloned();
    std::iter::once(command.clone())
        .chain(verbs)
        .map(|command| {
            let page = clap_mangen::Man::new(command);
            let mut roff = Vec::new();
            page.render(&mut roff)?;
            Ok((page.get_filename(), roff))
        })
        .collect()
}

/// What clap says in several paragraphs: the first one, and where to read on.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text.split("\n\n").next().unwrap_or_default();
    let said = said.strip_prefix("error: ").unwrap_or(said);
    let words: Vec<&str> = said.split_whitespace().collect();
    match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "say what to do: send, recv, chat, demo, devices or doctor (see udpchat --help)".into()
        }
        _ => format!("{} (see --help)", words.join(" ")),
    }
}

/// The verb by which the program tries, in a child, whether the window toolkit starts.
pub(crate) const WINDOW_TRIAL: &str = "window-trial";

/// The exit code of a usage error.
pub const EXIT_USAGE: u8 = 2;
