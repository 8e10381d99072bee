//! Alternate signal stacks, sigaltstack(2): where a handler runs if the thread's own stack is exhausted.
#![allow(unsafe_code, reason = "sigaltstack(2) and thread-exit destructors have no safe form")]

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{io, ptr};

use crate::error::Error;

/// The least usable bytes; the kernel's own need (AVX-512, AMX) is added where it is larger.
const LEAST_BYTES: usize = 64 * 1024;
/// What a runtime's handler of a fault, and ours of the signal that it then raises, take beside the kernel's frames. Measured on
/// x86_64: 3400 bytes, where the first one only calls abort(3).
const HANDLERS_BYTES: usize = 4608;

/// Gives the calling thread an alternate stack with a guard page, unless it has one. Freed when the thread ends.
pub fn ensure() -> Result<(), Error> {
    let mut current = MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: asks for the current state; the kernel fills the structure.
    let current = unsafe {
        if libc::sigaltstack(ptr::null(), current.as_mut_ptr()) != 0 {
            return Err(failed("sigaltstack"));
        }
        current.assume_init()
    };
    if current.ss_flags & libc::SS_DISABLE == 0 {
        return Ok(());
    }
    // SAFETY: a query without memory.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let usable = LEAST_BYTES.max(two_frames()).next_multiple_of(page);
    let total = usable + page;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
    // SAFETY: a new mapping, whose lowest page is then made inaccessible: the guard.
    let base = unsafe {
        let base = libc::mmap(ptr::null_mut(), total, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if base == libc::MAP_FAILED {
            return Err(failed("memory for an alternate signal stack"));
        }
        libc::mprotect(base, page, libc::PROT_NONE);
        base
    };
    let stack = libc::stack_t { ss_sp: base.wrapping_byte_add(page), ss_flags: 0, ss_size: usable };
    // SAFETY: the mapping is this thread's alone and stays until the thread ends.
    if unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) } != 0 {
        let error = failed("sigaltstack");
        // SAFETY: the mapping just made, which nobody uses.
        unsafe { libc::munmap(base, total) };
        return Err(error);
    }
    if let Some(key) = exit_key() {
        // Where it cannot be noted, the stack outlives the thread: a few pages of address space.
        // SAFETY: a key of this process and a heap pointer that `free` takes over.
        unsafe { libc::pthread_setspecific(key, Box::into_raw(Box::new(Mapping { base, total })).cast()) };
    }
    Ok(())
}

/// What the kernel puts on a stack for two signals, getauxval(3): 3.5 KB on a processor with AVX, 7 with AVX-512, 22 with AMX.
fn two_frames() -> usize {
    // SAFETY: a query without memory.
    let frame = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) };
    usize::try_from(frame).unwrap_or(0).saturating_mul(2)
}

/// Whether the interrupted thread has an alternate stack on which a second signal's handler may not fit while that of the
/// first runs: those that runtimes give to threads hold their own handler, Rust's has 8 KiB. Async-signal-safe.
///
/// # Safety
/// `context` is what the kernel gave to the handler that is running.
pub unsafe fn holds_one_signal(context: *const libc::c_void) -> bool {
    // SAFETY: the caller's promise.
    let stack = unsafe { (*context.cast::<libc::ucontext_t>()).uc_stack };
    stack.ss_flags & libc::SS_DISABLE == 0 && (1..two_frames() + HANDLERS_BYTES).contains(&stack.ss_size)
}

fn failed(what: &str) -> Error {
    Error::Unsupported(format!("{what}: {}", io::Error::last_os_error()))
}

struct Mapping {
    base: *mut libc::c_void,
    total: usize,
}

fn exit_key() -> Option<libc::pthread_key_t> {
    /// One more than the key; 0: none yet. No lock: a child that was forked while a thread held it would wait for ever.
    static KEY: AtomicU32 = AtomicU32::new(0);
    if let Some(key) = KEY.load(Ordering::Acquire).checked_sub(1) {
        return Some(key);
    }
    let mut key = 0;
    // SAFETY: fills `key`; the destructor stays mapped because the library is linked with -z nodelete.
    if unsafe { libc::pthread_key_create(&raw mut key, Some(free)) } != 0 {
        return None;
    }
    match KEY.compare_exchange(0, key + 1, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Some(key),
        Err(others) => {
            // SAFETY: the key just made, which nobody has used.
            unsafe { libc::pthread_key_delete(key) };
            others.checked_sub(1)
        }
    }
}

unsafe extern "C" fn free(mapping: *mut libc::c_void) {
    // SAFETY: the pointer given to pthread_setspecific in `ensure`, handed out once, at the end of its thread.
    unsafe {
        let mapping = Box::from_raw(mapping.cast::<Mapping>());
        let none = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        let mut before = MaybeUninit::<libc::stack_t>::zeroed();
        libc::sigaltstack(&raw const none, before.as_mut_ptr());
        let before = before.assume_init();
        let is_ours = before.ss_sp == mapping.base.wrapping_byte_add(mapping.total - before.ss_size);
        if !is_ours {
            // The thread has put another in its place meanwhile: that one stays.
            libc::sigaltstack(&raw const before, ptr::null_mut());
        }
        libc::munmap(mapping.base, mapping.total);
    }
}
