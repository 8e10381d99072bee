//! Life, switches, version check and crashes.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::IntoRawFd;
use std::time::Duration;

use super::types::{Status, TextFn, VersionFn, give_version};
use super::{contain, guard, not_null, read_text};
use crate::client::{Client, in_callback};
use crate::config::ConfigBuilder;
use crate::error;
use crate::sys::altstack;

fn milliseconds(timeout_ms: u32) -> Duration {
    Duration::from_millis(timeout_ms.into())
}

/// Hands a text to a callback, followed by a NUL.
pub(super) fn give_text(
    bytes: Vec<u8>,
    callback: unsafe extern "C" fn(*const c_char, usize, *mut c_void),
    userdata: *mut c_void,
) {
    let length = bytes.len();
    let mut bytes = bytes;
    bytes.push(0);
    // SAFETY: the host's function with the host's userdata; the bytes live until it returns.
    in_callback(|| unsafe { callback(bytes.as_ptr().cast(), length, userdata) });
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
    out: Option<&mut *mut Client>,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard(errbuf, errbuf_len, || {
        let out = not_null("out", out)?;
        let client = Client::new(not_null("config", config)?.build()?)?;
        *out = Box::into_raw(Box::new(client));
        Ok(())
    })
}

/// Begins the schedule, on one thread of the library; while that works, a second one follows the switches. Call it after
/// daemonizing.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_start(telemetry: Option<&Client>, errbuf: *mut c_char, errbuf_len: usize) -> Status {
    guard(errbuf, errbuf_len, || not_null("telemetry", telemetry)?.start())
}

/// Delivers what is stored for at most timeout_ms, then cuts off what is under way, takes the crash handler off and
/// frees everything.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_close(telemetry: *mut Client, timeout_ms: u32) {
    if !telemetry.is_null() {
        // SAFETY: CONVENTIONS: made by ondat_telemetry_init, and this is the last call with it.
        contain(|| unsafe { Box::from_raw(telemetry) }.close(milliseconds(timeout_ms)));
    }
}

/// What is on, all sources counted: a mask of ONDAT_TELEMETRY_VERSION_CHECK, _DAILY_REPORT and _CRASH_REPORTS.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_switches(telemetry: Option<&Client>) -> u32 {
    telemetry.map_or(0, Client::switches)
}

/// Changes the host's word. What goes off is interrupted, and what was stored for it is removed.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_set_switches(
    telemetry: Option<&Client>,
    on: u32,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard(errbuf, errbuf_len, || not_null("telemetry", telemetry)?.set_switches(on))
}

/// JSON: {"version_check": {"on": bool, "off_by": [source, ...]}, "daily_report": ..., "crash_reports": ...}.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_explain_switches(
    telemetry: Option<&Client>,
    callback: TextFn,
    userdata: *mut c_void,
) -> Status {
    guard(std::ptr::null_mut(), 0, || {
        let callback = not_null("callback", callback)?;
        let text = not_null("telemetry", telemetry)?.explain_switches().to_string();
        give_text(text.into_bytes(), callback, userdata);
        Ok(())
    })
}

/// Asks the version zone now, for at most timeout_ms, and hands what is known then to the callback (NULL to do
/// without). The callback is called on OK only, before this returns.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_check_version(
    telemetry: Option<&Client>,
    timeout_ms: u32,
    callback: VersionFn,
    userdata: *mut c_void,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard(errbuf, errbuf_len, || {
        let info = not_null("telemetry", telemetry)?.check_version(milliseconds(timeout_ms))?;
        if let Some(callback) = callback {
            // SAFETY: the host's function with the host's userdata.
            give_version(&info, |info| unsafe { callback(info, userdata) });
        }
        Ok(())
    })
}

/// Hands to the callback what is known without asking, also right after a restart.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_latest_version(
    telemetry: Option<&Client>,
    callback: VersionFn,
    userdata: *mut c_void,
) -> Status {
    guard(std::ptr::null_mut(), 0, || {
        let callback = not_null("callback", callback)?;
        let info = not_null("telemetry", telemetry)?.latest_version();
        // SAFETY: the host's function with the host's userdata.
        give_version(&info, |info| unsafe { callback(info, userdata) });
        Ok(())
    })
}

/// Reports every abnormal end of this process from now on: installs signal handlers and starts the monitor process.
/// flags: 0, ONDAT_TELEMETRY_CRASH_GO_HOST, ONDAT_TELEMETRY_CRASH_CORE_DUMPS. UNSUPPORTED when the monitor cannot run:
/// crashes are then stored and reported at the next start. One client of a process can have it.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_install_crash_handler(
    telemetry: Option<&Client>,
    flags: u32,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard(errbuf, errbuf_len, || not_null("telemetry", telemetry)?.install_crash_handler(flags))
}

/// For a Go host whose crash handler is installed: a descriptor for debug.SetCrashOutput, *fd, the caller's to close (Go
/// keeps a copy). The monitor keeps whether the text is that of a panic or of a fatal error, and drops the text.
/// UNSUPPORTED when there is no monitor or the handler was not installed with ONDAT_TELEMETRY_CRASH_GO_HOST.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_crash_output(
    telemetry: Option<&Client>,
    fd: Option<&mut c_int>,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard(errbuf, errbuf_len, || {
        let fd = not_null("fd", fd)?;
        *fd = not_null("telemetry", telemetry)?.crash_output()?.into_raw_fd();
        Ok(())
    })
}

/// For a parent that reaps: wait_status is that of waitpid(2), description NULL or up to 200 characters that are sent.
/// OK also when there is nothing to report (exit code 0; SIGTERM, SIGINT, SIGHUP, SIGQUIT). Stored at once, delivered
/// by the schedule or ondat_telemetry_flush.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_report_exit(
    telemetry: Option<&Client>,
    component: *const c_char,
    wait_status: c_int,
    description: *const c_char,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard(errbuf, errbuf_len, || {
        // SAFETY: CONVENTIONS: NUL-terminated strings or NULL.
        let component = unsafe { read_text("component", component, 64) }?;
        let description = if description.is_null() {
            None
        } else {
            // SAFETY: as above.
            Some(unsafe { read_text("description", description, 4096) }?)
        };
        not_null("telemetry", telemetry)?.report_exit(component, wait_status, description)
    })
}

/// Gives the calling thread an alternate signal stack, unless it has one, so that a stack overflow on it is described
/// in full. Freed when the thread ends.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_thread_init() -> Status {
    guard(std::ptr::null_mut(), 0, altstack::ensure)
}

/// Delivers what is stored, now, for at most timeout_ms. QUEUED when something is left.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_flush(
    telemetry: Option<&Client>,
    timeout_ms: u32,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard(errbuf, errbuf_len, || not_null("telemetry", telemetry)?.flush(milliseconds(timeout_ms)))
}

#[allow(dead_code, reason = "asserted at compile time: any call from any thread")]
fn client_is_shared_between_threads() {
    fn assert<T: Send + Sync>() {}
    assert::<Client>();
}
