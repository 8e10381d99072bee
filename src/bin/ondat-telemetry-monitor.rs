//! The process that watches another one: the crash monitor, which the library starts, or the supervisor of
//! `ondat-telemetry exec`. People do not start it by hand.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write, stderr};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use ondat_telemetry::crash::monitor::supervisor;
use ondat_telemetry::crash::monitor::watcher::{self, Inherited};
use ondat_telemetry::crash::setup::SETUP_BYTES;
use ondat_telemetry::error::Error;
use ondat_telemetry::sys::signals::{Mask, inherited};
use ondat_telemetry::sys::spawn::FIRST_DESCRIPTOR;

ondat_telemetry::remember_sigpipe!();

/// The exit codes of env(1) and others for a program that cannot be run, and for one that is not there.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1).map(OsStringExt::into_vec);
    match words.next().as_deref() {
        None => watch(),
        Some(b"supervise") => supervise(words),
        Some(_) => ExitCode::FAILURE,
    }
}

fn watch() -> ExitCode {
    // Started with all of them blocked: what is sent to every process of a service does not end this one.
    if Mask::block_all().is_err() {
        return ExitCode::FAILURE;
    }
    let [socket, process, output, page, leash] = [0, 1, 2, 3, 4].map(|number| inherited(FIRST_DESCRIPTOR + number));
    let Some(socket) = socket else { return ExitCode::FAILURE };
    match watcher::run(socket, Inherited { process, output, page, leash }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// `supervise DESCRIPTOR PROGRAM ARGUMENT...`, the descriptor being a pipe with the task.
fn supervise(mut words: impl Iterator<Item = Vec<u8>>) -> ExitCode {
    let number = words.next().and_then(|word| String::from_utf8(word).ok()?.parse().ok());
    let words: Result<Vec<_>, _> = words.map(CString::new).collect();
    let (Some(descriptor), Ok(words)) = (number.and_then(inherited), words) else { return ExitCode::FAILURE };
    let mut bytes = Vec::new();
    let read = File::from(descriptor).take(SETUP_BYTES as u64).read_to_end(&mut bytes);
    let task = read.map_err(|error| Error::Io(error.to_string())).and_then(|_| supervisor::decode(&bytes));
    let ended = match task {
        Ok(task) => supervisor::run(task, &words),
        Err(error) => return complain(&format!("the supervisor's task: {error}"), CANNOT_RUN),
    };
    match ended {
        Ok(ended) => {
            if let Some(core) = &ended.core {
                complain(&core.to_string(), 0);
            }
            ended.end_likewise()
        }
        Err(error) => {
            let name = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
            let code = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
            complain(&format!("cannot start {name}: {error}"), code)
        }
    }
}

fn complain(line: &str, code: u8) -> ExitCode {
    // There is no place left to report that the standard error is closed.
    let _ = writeln!(stderr(), "ondat-telemetry: {line}");
    ExitCode::from(code)
}
