//! The shell: arguments in, exit code out.

use std::process::ExitCode;

use udpchat::{app, cli};

fn main() -> ExitCode {
    match cli::parse() {
        Ok(cli) => app::main(cli),
        Err(code) => code,
    }
}
