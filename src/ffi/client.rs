//! Life, switches, version check and crashes.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Duration;

use super::types::{Status, TextFn, VersionFn, give_version};
use super::{contain, guard, guard_client, not_null, read_text};
use crate::client::{Client, Core};
use crate::config::ConfigBuilder;
use crate::error;
use crate::sys::altstack;

fn milliseconds(timeout_ms: u32) -> Duration {
    Duration::from_millis(timeout_ms.into())
}

/// Hands a text to a callback, followed by a NUL.
pub(super) fn give_text(
    client: &Client,
    bytes: Vec<u8>,
    callback: unsafe extern "C" fn(*const c_char, usize, *mut c_void),
    userdata: *mut c_void,
) {
    let length = bytes.len();
    let mut bytes = bytes;
    bytes.push(0);
    // SAFETY: the host's function with the host's userdata; the bytes live until it returns.
    client.call_back(|| unsafe { callback(bytes.as_ptr().cast(), length, userdata) });
}

/// The library's version, static.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// A status in a few words, static; also for numbers that are none.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_strerror(status: i32) -> *const c_char {
    error::Status::from_number(status).map_or(c"unknown status", error::Status::meaning).as_ptr()
}

/// A client with these settings, in *out; end it with ondat_telemetry_close. Starts no thread and uses no network.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_init(
    config: Option<&ConfigBuilder>,
    out: Option<&mut *mut Core>,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard(errbuf, errbuf_len, || {
        let out = not_null("out", out)?;
        let client = Client::new(not_null("config", config)?.build()?)?;
        *out = Arc::into_raw(client.into_core()).cast_mut();
        Ok(())
    })
}

/// Begins the schedule, on one thread of the library; while that works, a second one follows the switches. Call it after
/// daemonizing.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_start(telemetry: *const Core, errbuf: *mut c_char, errbuf_len: usize) -> Status {
    guard_client(telemetry, errbuf, errbuf_len, |client| client.start())
}

/// Delivers what is stored, cuts off what is under way, takes the crash handler off and frees everything. It waits for
/// delivery, also of what another process is delivering, for at most timeout_ms; then for a crash handler that is at work in
/// another thread and for the crash monitor, 100 ms each at most; for the schedule's thread and the state directory's disk
/// until timeout_ms is over, or 100 ms where less is left: all in all at most 210 ms longer than timeout_ms. What does not end by
/// then is left to end by itself. Besides, and without a limit, it waits for callbacks of the host's that are running on other
/// threads or that it makes itself, such as the log's. In a callback it returns at once, see CONVENTIONS.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_close(telemetry: *mut Core, timeout_ms: u32) {
    // SAFETY: CONVENTIONS: NULL or made by ondat_telemetry_init.
    let Some(core) = (unsafe { telemetry.as_ref() }) else { return };
    if core.is_forked() {
        return;
    }
    contain(|| {
        // Two callbacks on two threads may both close it.
        if core.begin_closing() {
            // SAFETY: from Arc::into_raw, and of all calls of close this is the one that takes it back.
            Client::of(unsafe { Arc::from_raw(telemetry) }).close(milliseconds(timeout_ms));
        }
    });
}

/// What is on, all sources counted: a mask of ONDAT_TELEMETRY_VERSION_CHECK, _DAILY_REPORT and _CRASH_REPORTS.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_switches(telemetry: *const Core) -> u32 {
    // SAFETY: CONVENTIONS: NULL or made by ondat_telemetry_init and not closed yet.
    unsafe { telemetry.as_ref() }.map_or(0, Core::switches_here)
}

/// Changes the host's word, at once. What goes off is interrupted, and what was stored for it is removed: where the disk
/// takes more than 500 ms for that, later.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_set_switches(
    telemetry: *const Core,
    on: u32,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard_client(telemetry, errbuf, errbuf_len, |client| client.set_switches(on))
}

/// JSON: {"version_check": {"on": bool, "off_by": [source, ...]}, "daily_report": ..., "crash_reports": ...}.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_explain_switches(
    telemetry: *const Core,
    callback: TextFn,
    userdata: *mut c_void,
) -> Status {
    guard_client(telemetry, std::ptr::null_mut(), 0, |client| {
        let callback = not_null("callback", callback)?;
        let text = client.explain_switches().to_string();
        give_text(&client, text.into_bytes(), callback, userdata);
        Ok(())
    })
}

/// Asks the version zone now, for at most timeout_ms, and hands what is known then to the callback (NULL to do
/// without). The callback is called on OK only, before this returns.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_check_version(
    telemetry: *const Core,
    timeout_ms: u32,
    callback: VersionFn,
    userdata: *mut c_void,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard_client(telemetry, errbuf, errbuf_len, |client| {
        let info = client.check_version(milliseconds(timeout_ms))?;
        if let Some(callback) = callback {
            // SAFETY: the host's function with the host's userdata.
            give_version(&info, |info| client.call_back(|| unsafe { callback(info, userdata) }));
        }
        Ok(())
    })
}

/// Hands to the callback what is known without asking, also right after a restart.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_latest_version(
    telemetry: *const Core,
    callback: VersionFn,
    userdata: *mut c_void,
) -> Status {
    guard_client(telemetry, std::ptr::null_mut(), 0, |client| {
        let callback = not_null("callback", callback)?;
        let info = client.latest_version();
        // SAFETY: the host's function with the host's userdata.
        give_version(&info, |info| client.call_back(|| unsafe { callback(info, userdata) }));
        Ok(())
    })
}

/// Reports every abnormal end of this process from now on: installs signal handlers and starts the monitor process.
/// flags: 0, ONDAT_TELEMETRY_CRASH_GO_HOST, ONDAT_TELEMETRY_CRASH_CORE_DUMPS. UNSUPPORTED when the monitor cannot run:
/// crashes are then stored and reported at the next start. One client of a process can have it.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_install_crash_handler(
    telemetry: *const Core,
    flags: u32,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard_client(telemetry, errbuf, errbuf_len, |client| client.install_crash_handler(flags))
}

/// For a Go host whose crash handler is installed: a descriptor for debug.SetCrashOutput, *fd, the caller's to close (Go
/// keeps a copy). The monitor keeps whether the text is that of a panic or of a fatal error, and drops the text.
/// UNSUPPORTED when there is no monitor or the handler was not installed with ONDAT_TELEMETRY_CRASH_GO_HOST.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_crash_output(
    telemetry: *const Core,
    fd: Option<&mut c_int>,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard_client(telemetry, errbuf, errbuf_len, |client| {
        let fd = not_null("fd", fd)?;
        *fd = client.crash_output()?.into_raw_fd();
        Ok(())
    })
}

/// For a parent that reaps: wait_status is that of waitpid(2), description NULL or up to 200 characters that are sent.
/// OK also when there is nothing to report (exit code 0; SIGTERM, SIGINT, SIGHUP, SIGQUIT). Stored at once, delivered
/// by the schedule or ondat_telemetry_flush. A disk that does not answer is waited for at most 500 ms: the report is then
/// kept in memory and stored when the disk answers, while the process lives, and the status is OK where the schedule was
/// started, which delivers it, or else IO.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_report_exit(
    telemetry: *const Core,
    component: *const c_char,
    wait_status: c_int,
    description: *const c_char,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard_client(telemetry, errbuf, errbuf_len, |client| {
        // SAFETY: CONVENTIONS: NUL-terminated strings or NULL.
        let component = unsafe { read_text("component", component, 64) }?;
        let description = if description.is_null() {
            None
        } else {
            // SAFETY: as above.
            Some(unsafe { read_text("description", description, 4096) }?)
        };
        client.report_exit(component, wait_status, description)
    })
}

/// Gives the calling thread an alternate signal stack, unless it has one, so that a stack overflow on it is described
/// in full. Freed when the thread ends.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_thread_init() -> Status {
    guard(std::ptr::null_mut(), 0, altstack::ensure)
}

/// Delivers what is stored, now, for at most timeout_ms. QUEUED when something is left, also where another process is
/// delivering it, or it cannot be read.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_flush(
    telemetry: *const Core,
    timeout_ms: u32,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard_client(telemetry, errbuf, errbuf_len, |client| client.flush(milliseconds(timeout_ms)))
}

#[allow(dead_code, reason = "asserted at compile time: any call from any thread")]
fn client_is_shared_between_threads() {
    fn assert<T: Send + Sync>() {}
    assert::<Core>();
}
