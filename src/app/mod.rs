//! The program: its verbs, and what they share.

mod event_loop;
mod network;
mod process;
mod receiving;
mod source_opening;
mod telemetry;
mod terminal;
pub(crate) mod trust;
mod usage;
mod verbs;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;
use log::LevelFilter;

use crate::cli::{Cli, EXIT_USAGE, args::Verb, man_pages};
use process::{descriptors::with_remedy, stdout::print_all};
use terminal::messages::Messages;

/// Runs the requested verb. The exit code is 0 on success, 1 on failure and 2 on a usage error.
pub fn main(cli: Cli) -> ExitCode {
    process::signals::block_stop_signals();
    start_log(&cli);
    let messages = Messages::new(cli.quiet);
    match run_verb(cli.verb, &messages) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            messages.error(&with_remedy(format!("{error:#}")));
            let is_usage = error.is::<usage::UsageError>();
            if is_usage { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn run_verb(verb: Verb, messages: &Messages) -> Result<()> {
    match verb {
        Verb::Send(args) => verbs::send::run(&args, messages),
        Verb::Recv(args) => verbs::recv::run(&args, messages),
        Verb::Chat(args) => verbs::chat::run(&args, messages),
        Verb::Demo(args) => verbs::demo::run(&args, messages),
        Verb::Devices => verbs::devices::run(),
        Verb::Doctor(args) => verbs::doctor::run(&args),
        Verb::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "udpchat", &mut out);
            print_all(&out)
        }
        Verb::Man { dir: None } => {
            let pages = man_pages().context("cannot make the man page")?;
            print_all(&pages.first().map(|(_, roff)| roff.clone()).unwrap_or_default())
        }
        Verb::Man { dir: Some(dir) } => {
            for (name, roff) in man_pages().context("cannot make the man pages")? {
                let path = dir.join(name);
                std::fs::write(&path, roff)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            Ok(())
        }
    }
}

/// Starts the log at the level that the flags give. `RUST_LOG`, if set, overrides it.
fn start_log(cli: &Cli) {
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => LevelFilter::Error,
        (_, 0) => LevelFilter::Warn,
        (_, 1) => LevelFilter::Info,
        (_, 2) => LevelFilter::Debug,
        (_, _) => LevelFilter::Trace,
    };
    env_logger::Builder::new()
        .filter_level(level)
        .parse_default_env()
        .format_target(cli.verbose > 1)
        .init();
}
