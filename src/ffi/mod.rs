//! The C interface. Each function converts its arguments, calls one method of the core, and converts the result. The
//! text of the header is in cbindgen.toml and in the doc comments here, written for C programmers.
#![allow(unsafe_code, reason = "C gives raw pointers, and every exported name must be unmangled")]
#![allow(clippy::not_unsafe_ptr_arg_deref, reason = "the callers are C, whose obligations the header states once")]

pub mod client;
pub mod config;
pub mod report;
pub mod types;

use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use crate::callbacks::Report;
use crate::client::{Client, Core, IN_FORKED_CHILD};
use crate::error::Error;
use crate::sys::cancellation::Uncancelled;
use crate::sys::held_signals::{WritesRaiseNothing, as_the_host};
use crate::sys::thread;
use types::{FreeFn, Status};

thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs one call: a panic becomes INTERNAL, errno stays the caller's, `errbuf` gets the reason.
fn guard(errbuf: *mut c_char, errbuf_len: usize, call: impl FnOnce() -> Result<(), Error>) -> Status {
    let outcome = contain(call)
        .unwrap_or_else(|| Err(Error::Internal("a bug in the telemetry library was contained".to_owned())));
    let (status, reason) = match outcome {
        Ok(()) => (Status::ONDAT_TELEMETRY_OK, String::new()),
        Err(error) => (error.status().into(), error.to_string()),
    };
    // SAFETY: the CONVENTIONS of the header: `errbuf` is NULL or has room for `errbuf_len` bytes.
    unsafe { write_line(errbuf, errbuf_len, &reason) };
    status
}

/// Runs one call of a client. In a forked child no more is done than to say so: another thread of the parent may have held
/// any lock when that was forked, the allocator's too.
fn guard_client(
    telemetry: *const Core,
    errbuf: *mut c_char,
    errbuf_len: usize,
    call: impl FnOnce(Client) -> Result<(), Error>,
) -> Status {
    // SAFETY: CONVENTIONS: NULL or made by ondat_telemetry_init and not closed yet.
    if unsafe { telemetry.as_ref() }.is_some_and(Core::is_forked) {
        return refuse_forked(errbuf, errbuf_len);
    }
    guard(errbuf, errbuf_len, || {
        if telemetry.is_null() {
            return Err(Error::InvalidArgument("telemetry is NULL".to_owned()));
        }
        // Kept until the call is over: a callback of it may close the client.
        // SAFETY: as above, from Arc::into_raw.
        let core = unsafe {
            Arc::increment_strong_count(telemetry);
            Arc::from_raw(telemetry)
        };
        call(Client::of(core))
    })
}

/// The same for the report in a report callback.
fn guard_report(
    report: *const Report<'_>,
    errbuf: *mut c_char,
    errbuf_len: usize,
    call: impl FnOnce(&Report<'_>) -> Result<(), Error>,
) -> Status {
    // Shared: several threads of the host may fill it.
    // SAFETY: CONVENTIONS: NULL or what a report callback was given, which has not returned yet.
    let report = unsafe { report.as_ref() };
    if report.is_some_and(|report| report.is_forked()) {
        return refuse_forked(errbuf, errbuf_len);
    }
    guard(errbuf, errbuf_len, || call(not_null("report", report)?))
}

fn refuse_forked(errbuf: *mut c_char, errbuf_len: usize) -> Status {
    // SAFETY: the CONVENTIONS of the header: `errbuf` is NULL or has room for `errbuf_len` bytes.
    unsafe { write_line(errbuf, errbuf_len, IN_FORKED_CHILD) };
    Status::ONDAT_TELEMETRY_INVALID_STATE
}

/// Runs `call` and leaves no trace on the calling thread: errno is the caller's, it is not cancelled, and no signal comes of
/// what is written. None when it panicked.
fn contain<T>(call: impl FnOnce() -> T) -> Option<T> {
    keep_panics_quiet();
    let errno = Errno::last_raw();
    let uncancelled = Uncancelled::set();
    let writes_raise_nothing = WritesRaiseNothing::set();
    let before = IS_INSIDE.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(call));
    IS_INSIDE.set(before);
    drop(writes_raise_nothing);
    drop(uncancelled);
    Errno::set_raw(errno);
    outcome.ok()
}

/// Nothing of ours may appear on the host's stderr, where Rust's hook would print a contained panic.
fn keep_panics_quiet() {
    static IS_SET: AtomicBool = AtomicBool::new(false);
    // Do not wait for another thread to have done it: a forked child would wait for ever.
    if IS_SET.load(Ordering::Relaxed) || IS_SET.swap(true, Ordering::AcqRel) {
        return;
    }
    let earlier = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !IS_INSIDE.get() && !thread::is_ours() {
            earlier(info);
        }
    }));
}

/// Copies as much of `line` as fits, cut between characters, and a final NUL.
///
/// # Safety
/// `buffer` is NULL or has room for `length` bytes.
unsafe fn write_line(buffer: *mut c_char, length: usize, line: &str) {
    if buffer.is_null() || length == 0 {
        return;
    }
    let mut end = line.len().min(length - 1);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    // SAFETY: `end` is less than `length`, and the two do not overlap: `line` is ours.
    unsafe {
        std::ptr::copy_nonoverlapping(line.as_ptr(), buffer.cast(), end);
        *buffer.add(end) = 0;
    }
}

/// A NUL-terminated UTF-8 string of at most `longest` bytes.
///
/// # Safety
/// `text` is NULL or a NUL-terminated string that stays unchanged during the call.
unsafe fn read_text<'a>(name: &str, text: *const c_char, longest: usize) -> Result<&'a str, Error> {
    if text.is_null() {
        return Err(Error::InvalidArgument(format!("{name} is NULL")));
    }
    // SAFETY: reads no further than the terminating NUL or the limit.
    let length = unsafe { libc::strnlen(text, longest + 1) };
    if length > longest {
        return Err(Error::InvalidArgument(format!("{name} is longer than {longest} bytes")));
    }
    // SAFETY: `length` bytes before the NUL.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast(), length) };
    utf8(name, bytes)
}

/// Bytes with their length.
///
/// # Safety
/// `bytes` is NULL or points to `length` bytes that stay unchanged during the call.
unsafe fn read_bytes<'a>(name: &str, bytes: *const c_void, length: usize, longest: usize) -> Result<&'a [u8], Error> {
    if bytes.is_null() {
        return Err(Error::InvalidArgument(format!("{name} is NULL")));
    }
    if length > longest {
        return Err(Error::InvalidArgument(format!("{name} is longer than {longest} bytes")));
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(bytes.cast(), length) })
}

fn utf8<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, Error> {
    std::str::from_utf8(bytes)
        .map_err(|error| Error::InvalidArgument(format!("{name} is not UTF-8 (byte {})", error.valid_up_to())))
}

fn not_null<T>(name: &str, pointer: Option<T>) -> Result<T, Error> {
    pointer.ok_or_else(|| Error::InvalidArgument(format!("{name} is NULL")))
}

/// A callback's userdata, freed once: when no more calls are possible.
struct Userdata {
    pointer: *mut c_void,
    free: FreeFn,
}

// SAFETY: the header's CONVENTIONS: callbacks may come from any thread, and so may the call that frees.
unsafe impl Send for Userdata {}
// SAFETY: as above; the library itself only passes the pointer on.
unsafe impl Sync for Userdata {}

impl Userdata {
    fn get(&self) -> *mut c_void {
        self.pointer
    }
}

impl Drop for Userdata {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: the host gave this function for this pointer, and this is its one call.
            as_the_host(|| unsafe { free(self.pointer) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_internal_and_says_nothing_on_stderr() {
        let mut errbuf = [1; 64];
        let status = guard(errbuf.as_mut_ptr(), errbuf.len(), || panic!("on purpose"));
        assert_eq!(status, Status::ONDAT_TELEMETRY_INTERNAL);
        // SAFETY: `guard` has terminated it.
        let line = unsafe { std::ffi::CStr::from_ptr(errbuf.as_ptr()) };
        assert_eq!(line.to_str(), Ok("a bug in the telemetry library was contained"));
    }

    #[test]
    fn a_panic_on_a_thread_of_ours_says_nothing_on_stderr() {
        let program = std::env::current_exe().unwrap();
        let mut command = std::process::Command::new(program);
        command.args(["--exact", "--nocapture", "--ignored", "ffi::tests::panics_on_both_kinds_of_thread"]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("by the host"), "{said}");
        assert!(!said.contains("by the library"), "{said}");
    }

    #[test]
    #[ignore = "a_panic_on_a_thread_of_ours_says_nothing_on_stderr runs it, and reads what it says"]
    fn panics_on_both_kinds_of_thread() {
        keep_panics_quiet();
        let ours = thread::Thread::start(c"ondat-switches", 256 * 1024, Box::new(|| panic!("by the library")));
        ours.unwrap().join();
        std::thread::spawn(|| panic!("by the host")).join().unwrap_err();
    }

    #[test]
    fn errbuf_is_cut_between_characters_and_terminated() {
        let mut errbuf = [1; 4];
        let status = guard(errbuf.as_mut_ptr(), errbuf.len(), || Err(Error::Network("ab\u{e9}".to_owned())));
        assert_eq!(status, Status::ONDAT_TELEMETRY_NETWORK);
        assert_eq!(errbuf, [b'a' as c_char, b'b' as c_char, 0, 1]);
        guard(std::ptr::null_mut(), 0, || Err(Error::Network(String::new())));
    }

    #[test]
    fn errno_stays_the_callers() {
        Errno::set_raw(77);
        guard(std::ptr::null_mut(), 0, || {
            Errno::set_raw(5);
            Ok(())
        });
        assert_eq!(Errno::last_raw(), 77);
    }

    #[test]
    fn bad_strings_are_invalid_arguments() {
        // SAFETY: literals with a NUL, and NULL.
        unsafe {
            assert!(read_text("x", std::ptr::null(), 9).is_err());
            assert!(read_text("x", c"\xff".as_ptr(), 9).is_err());
            assert!(read_text("x", c"0123456789".as_ptr(), 9).is_err());
            assert_eq!(read_text("x", c"012345678".as_ptr(), 9), Ok("012345678"));
        }
    }
}
