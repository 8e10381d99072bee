//! `exec`: runs a program and reports how it ends. This command only prepares; it then becomes the small supervisor,
//! which stays. The program runs whatever is wrong with telemetry.

use std::ffi::{CString, OsString};
use std::io::Write;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use clap::Args;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe;
use ondat_telemetry::client::Client;
use ondat_telemetry::crash::host::watch;
use ondat_telemetry::crash::monitor::supervisor::{self, Task};
use ondat_telemetry::crash::setup::Setup;
use ondat_telemetry::error::Error;
use ondat_telemetry::switch::Switch;
use ondat_telemetry::switches::Switches;
use ondat_telemetry::sys::program;

use crate::settings::{Settings, Warnings};
use crate::{Output, complain};

/// The end of `--help`.
pub(crate) const HELP: &str = "\
Everything that ends the program but success, SIGTERM, SIGINT, SIGHUP and SIGQUIT, and their exit codes 143, 130, 129 and
131, is reported as a crash, once. A process that is left to this one and crashes is reported under its own name. The
program keeps its terminal, process group, descriptors and signal settings; signals sent to this process are handed on,
and it stops and continues with the program. It works as PID 1.

Exit status: that of the program; if a signal ended it, the same signal ends this process (as PID 1: 128 plus its number).
126 and 127 where the program cannot be run or found.";

/// What is run, and how.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Raise the soft limit of core files to the hard one
    #[arg(long)]
    core_dumps: bool,
    /// How long the end may wait for the report to be sent, 0 to 30000
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u32).range(0..=30_000))]
    crash_wait_ms: Option<u32>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// Becomes the supervisor of the program, or the program itself where there is no supervisor to become. Returns only
/// where that fails.
pub(crate) fn run(
    arguments: &Arguments,
    settings: Result<Settings, Error>,
    warnings: &Warnings,
) -> Result<Output, Error> {
    let words: Result<Vec<_>, _> = arguments.program.iter().map(|word| CString::new(word.clone().into_vec())).collect();
    let words = words.map_err(|_| Error::InvalidArgument("the program's words hold a zero byte".to_owned()))?;
    let monitor = settings.as_ref().ok().and_then(|settings| settings.config.given.monitor_path.clone());
    let wait_ms = settings.as_ref().ok().and_then(|settings| settings.config.given.crash_wait_ms);
    let wait_ms = arguments.crash_wait_ms.or(wait_ms).unwrap_or(watch::PID_1_WAIT_MS);
    let setup = settings.and_then(|settings| prepare(arguments, settings));
    warnings.take().iter().for_each(|warning| complain(&format!("warning: {warning}")));
    let name = words.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let setup = setup.map_err(|error| complain(&format!("{name} runs without crash reports: {error}"))).ok();
    match supervise(monitor.as_deref(), &Task { setup, wait_ms }, &words) {
        Err(error) => complain(&format!("{name} runs unsupervised, without crash reports: {error}")),
        Ok(never) => match never {},
    }
    let error = program::replace_by_name(&words);
    complain(&format!("cannot start {name}: {error}"));
    let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    Ok(Output::text(String::new()).with_code(code))
}

/// What a report will say but the ending.
fn prepare(arguments: &Arguments, settings: Settings) -> Result<Setup, Error> {
    let has_component = settings.has_component;
    let mut config = settings.complete()?;
    if !has_component {
        config.component = component_of(&arguments.program);
    }
    if arguments.core_dumps {
        watch::allow_core_dumps(config.state_dir.as_ref());
    }
    let dsn = config.given.sentry_dsn.as_ref().map(ToString::to_string).ok_or_else(|| {
        Error::InvalidConfig("there is nobody to report to: set --sentry-dsn or ONDAT_TELEMETRY_SENTRY_DSN".to_owned())
    })?;
    let switches = Switches::new(config.host_switches, config.objections.clone(), config.state_dir.clone());
    let setup = config.crash_setup(&switches, &dsn, std::process::id());
    // Turned off now is not turned off for ever: the switch is asked again when there is something to report.
    if switches.is_on(Switch::CrashReports) {
        let client = Client::new(config)?;
        if let Err(error) = client.report_leftovers() {
            complain(&format!("warning: earlier runs are not looked at: {error}"));
        }
    }
    Ok(setup)
}

/// The program's own name, as far as a component's name may hold it.
fn component_of(program: &[OsString]) -> String {
    let name = program.first().and_then(|path| Path::new(path).file_name()).unwrap_or_default();
    let name = String::from_utf8_lossy(name.as_bytes()).to_ascii_lowercase();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let name: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).take(64).collect();
    ondat_telemetry_protocol::identity::component(&name).unwrap_or_else(|_| "program".to_owned())
}

fn supervise(monitor: Option<&Path>, task: &Task, words: &[CString]) -> Result<std::convert::Infallible, Error> {
    let failed = |what: &str, error: std::io::Error| Error::Unsupported(format!("{what}: {error}"));
    let monitor = watch::find_monitor(monitor)?;
    let path = CString::new(monitor.as_os_str().as_bytes())
        .map_err(|_| Error::InvalidConfig("monitor_path: it contains a zero byte".to_owned()))?;
    let task = supervisor::encode(task)?;
    // No file, and not in the environment or among the arguments, which others can read and the program would inherit.
    let (read, write) = pipe().map_err(|error| failed("a pipe for the supervisor", error.into()))?;
    fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| failed("the pipe", error.into()))?;
    std::fs::File::from(write).write_all(&task).map_err(|error| failed("the supervisor's task", error))?;
    let number = CString::new(read.as_raw_fd().to_string()).unwrap_or_default();
    let mut all = vec![path.clone(), c"supervise".to_owned(), number];
    all.extend_from_slice(words);
    let number = read.into_raw_fd();
    let error = program::replace(&path, &all);
    // Nobody reads it then: the program must not find it open.
    let _ = nix::unistd::close(number);
    Err(failed(&monitor.display().to_string(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_program_has_a_component() {
        let component = |path: &str| component_of(&[OsString::from(path), OsString::from("argument")]);
        assert_eq!(component("/usr/bin/Dataplane-2.sh"), "dataplane-2.sh");
        assert_eq!(component("./größe"), "gr__e");
        assert_eq!(component(""), "program");
        assert_eq!(component_of(&[]), "program");
    }
}
