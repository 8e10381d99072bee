//! The crash monitor's process: started by the library, never by hand.

use std::process::ExitCode;

use ondat_telemetry::crash::monitor;
use ondat_telemetry::sys::signals::inherited;
use ondat_telemetry::sys::spawn::FIRST_DESCRIPTOR;

fn main() -> ExitCode {
    if monitor::ignore_stop_signals().is_err() {
        return ExitCode::FAILURE;
    }
    let (socket, process) = (inherited(FIRST_DESCRIPTOR), inherited(FIRST_DESCRIPTOR + 1));
    let Some(socket) = socket else { return ExitCode::FAILURE };
    match monitor::run(socket, process) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
