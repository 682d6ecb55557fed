//! The program `udpchat`.

use std::process::ExitCode;

fn main() -> ExitCode {
    udpchat::run()
}
