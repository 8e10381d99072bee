//! Life cycle, switches, version check and crashes.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Duration;

use super::types::{Status, TextFn, VersionFn, give_version};
use super::{contain, guard, guard_client, not_null, read_text};
use crate::client::{Client, Core};
use crate::config::builder::ConfigBuilder;
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

/// The version of the library, a static string.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Describes a status in a few words, as a static string. Also accepts numbers that are no status.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_strerror(status: i32) -> *const c_char {
    error::Status::from_number(status).map_or(c"unknown status", error::Status::meaning).as_ptr()
}

/// Creates a client with these settings in *out. End it with ondat_telemetry_close. Starts no thread and uses no
/// network.
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

/// Starts the schedule on one thread of the library. While that thread works, a second thread watches the switches.
/// Call this after daemonizing.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_start(telemetry: *const Core, errbuf: *mut c_char, errbuf_len: usize) -> Status {
    guard_client(telemetry, errbuf, errbuf_len, |client| client.start())
}

/// Delivers what is stored, interrupts what is under way, removes the crash handler and frees everything.
///
/// It waits for at most timeout_ms for delivery, also for what another process is delivering. It then waits for at most
/// 100 ms for a crash handler at work in another thread and for at most 100 ms for the crash monitor. For the
/// schedule's thread and the disk of the state directory it waits until timeout_ms is over, or for 100 ms if less is
/// left. In total it takes at most 210 ms longer than timeout_ms. What has not ended by then ends by itself later.
///
/// In addition, and without a limit, it waits for callbacks: those that are running on other threads, and those that it
/// makes itself, such as the log callback. Called in a callback it returns at once, see CONVENTIONS.
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

/// Returns what is on, with all sources counted: a mask of ONDAT_TELEMETRY_VERSION_CHECK, _DAILY_REPORT and
/// _CRASH_REPORTS.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_switches(telemetry: *const Core) -> u32 {
    // SAFETY: CONVENTIONS: NULL or made by ondat_telemetry_init and not closed yet.
    unsafe { telemetry.as_ref() }.map_or(0, Core::switches_here)
}

/// Changes the host's own choice at once. Turning a switch off interrupts what is being sent and removes what was
/// stored for it. If the disk takes more than 500 ms for the removal, it is finished later.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_set_switches(
    telemetry: *const Core,
    on: u32,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard_client(telemetry, errbuf, errbuf_len, |client| client.set_switches(on))
}

/// Passes this JSON to the callback: {"version_check": {"on": bool, "off_by": [text, ...], "sources": [{"kind": text,
/// "name": text, "text": text}, ...]}, "daily_report": ..., "crash_reports": ...}. off_by is for people. sources says
/// the same for programs. kind is host, environment, cluster_spec, administrator, api_client, unreadable, or a word of
/// a later version; name is the variable, the field, or why switches.json cannot be read.
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

/// Asks the version zone now, for at most timeout_ms, and passes the result to the callback, which may be NULL. The
/// callback is called only on OK, before this function returns.
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

/// Passes what is already known to the callback, without asking. Works right after a restart, too.
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

/// Reports every abnormal end of this process from now on: installs signal handlers and starts the monitor process, for
/// whose answer it waits for at most 5 s. flags: 0, or a combination of ONDAT_TELEMETRY_CRASH_GO_HOST and
/// ONDAT_TELEMETRY_CRASH_CORE_DUMPS. Returns UNSUPPORTED if the monitor cannot run: crashes are then stored and
/// reported at the next start. Only one client of a process can have the crash handler.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_install_crash_handler(
    telemetry: *const Core,
    flags: u32,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard_client(telemetry, errbuf, errbuf_len, |client| client.install_crash_handler(flags))
}

/// For a Go host whose crash handler is installed: returns a descriptor for debug.SetCrashOutput in *fd. The caller
/// closes it (Go keeps a copy). The monitor only notes whether the text is a panic or a fatal error, and discards the
/// text. Returns UNSUPPORTED if there is no monitor, or if the handler was not installed with
/// ONDAT_TELEMETRY_CRASH_GO_HOST.
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

/// For a parent that reaps a child: reports how the child ended. wait_status is that of waitpid(2). description is NULL
/// or a text of which up to 200 characters are sent. Returns OK also if there is nothing to report (exit code 0;
/// SIGTERM, SIGINT, SIGHUP, SIGQUIT).
///
/// The report is stored at once and delivered by the schedule or by ondat_telemetry_flush. If the disk does not answer
/// within 500 ms, the report is kept in memory and stored when the disk answers, as long as the process lives. The
/// status is then OK if the schedule was started, which will deliver the report, and IO otherwise.
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

/// Gives the calling thread an alternate signal stack, unless it has one, so that a stack overflow on this thread is
/// reported with its cause. The stack is freed when the thread ends.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_thread_init() -> Status {
    guard(std::ptr::null_mut(), 0, altstack::ensure)
}

/// Delivers what is stored, now, for at most timeout_ms. Returns QUEUED if something is left, also if another process
/// is delivering it or if it cannot be read.
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
