//! The program. Its code is in the library of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    ondat_telemetry_collector::run()
}
