//! Parses the arguments, runs the program and returns the exit code.

use std::process::ExitCode;

use udpchat::{app, cli};

fn main() -> ExitCode {
    match cli::parse() {
        Ok(cli) => app::main(cli),
        Err(code) => code,
    }
}
