//! The library's threads: all signals blocked and ordinary scheduling, whatever the settings of the host's thread that
//! starts them.
#![allow(unsafe_code, reason = "scheduling and processors of a new thread have no safe form")]

use std::cell::Cell;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{io, ptr};

use super::signals::AllSignalsBlocked;

/// The most bytes of a set of processors: 8192 of them, CONFIG_NR_CPUS of the largest kernels.
const PROCESSOR_BYTES: usize = 1024;

thread_local! {
    static IS_OURS: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is one of the library's.
pub fn is_ours() -> bool {
    IS_OURS.get()
}

/// A thread that was started; let go, it runs on by itself.
pub struct Thread {
    id: libc::pthread_t,
}

// SAFETY: a number or, with musl, an address, which pthread_join(3) and pthread_equal(3) take from any thread.
unsafe impl Send for Thread {}
// SAFETY: as above.
unsafe impl Sync for Thread {}

struct Start {
    name: &'static CStr,
    work: Box<dyn FnOnce() + Send>,
}

impl Thread {
    /// Starts a thread of at most 15 letters' name. It does not inherit the host's scheduling: a host of real-time priority
    /// that is pinned to one processor and polls there would never let it run, not even to change that itself.
    pub fn start(name: &'static CStr, stack_bytes: usize, work: Box<dyn FnOnce() + Send>) -> io::Result<Self> {
        let _blocked = AllSignalsBlocked::set().map_err(io::Error::other)?;
        let start = Box::into_raw(Box::new(Start { name, work }));
        let mut result = 0;
        // Attributes that are refused are left out: a sandbox may forbid sched_setaffinity(2).
        for wanted in [Wanted::Ordinary, Wanted::Stack, Wanted::Plain] {
            match create(&wanted, stack_bytes, start) {
                Ok(id) => return Ok(Self { id }),
                Err(error) => result = error,
            }
        }
        // SAFETY: made above, and no thread has it.
        drop(unsafe { Box::from_raw(start) });
        Err(io::Error::from_raw_os_error(result))
    }

    /// Waits for its end.
    pub fn join(self) {
        let id = self.id;
        std::mem::forget(self);
        // SAFETY: a thread that was neither joined nor detached.
        unsafe { libc::pthread_join(id, ptr::null_mut()) };
    }

    /// Whether it is the calling one.
    pub fn is_current(&self) -> bool {
        // SAFETY: two ids of threads that have not been joined.
        unsafe { libc::pthread_equal(self.id, libc::pthread_self()) != 0 }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: a thread that was neither joined nor detached.
        unsafe { libc::pthread_detach(self.id) };
    }
}

#[derive(PartialEq, Eq)]
enum Wanted {
    Ordinary,
    Stack,
    Plain,
}

fn create(wanted: &Wanted, stack_bytes: usize, start: *mut Start) -> Result<libc::pthread_t, i32> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::zeroed();
    let mut id = MaybeUninit::uninit();
    // SAFETY: the attributes are initialised before use and destroyed after; `start` is the new thread's where there is one,
    // and then its id is set.
    unsafe {
        let failed = libc::pthread_attr_init(attributes.as_mut_ptr());
        if failed != 0 {
            return Err(failed);
        }
        if *wanted != Wanted::Plain {
            libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack_bytes);
        }
        if *wanted == Wanted::Ordinary {
            make_ordinary(attributes.as_mut_ptr());
        }
        let failed = libc::pthread_create(id.as_mut_ptr(), attributes.as_ptr(), begin, start.cast());
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        if failed == 0 { Ok(id.assume_init()) } else { Err(failed) }
    }
}

/// # Safety
/// Initialised attributes.
unsafe fn make_ordinary(attributes: *mut libc::pthread_attr_t) {
    let no_priority = MaybeUninit::<libc::sched_param>::zeroed();
    // SAFETY: all zero is ordinary scheduling's only priority, and more fields of musl's than are used.
    unsafe {
        libc::pthread_attr_setinheritsched(attributes, libc::PTHREAD_EXPLICIT_SCHED);
        libc::pthread_attr_setschedpolicy(attributes, libc::SCHED_OTHER);
        libc::pthread_attr_setschedparam(attributes, no_priority.as_ptr());
        #[cfg(target_env = "gnu")]
        {
            let mut processors = [0_u64; PROCESSOR_BYTES / size_of::<u64>()];
            let bytes = libc::syscall(libc::SYS_sched_getaffinity, 0, PROCESSOR_BYTES, processors.as_mut_ptr());
            if let Ok(bytes) = usize::try_from(bytes) {
                // All there can be: the kernel leaves those out that the cgroup does not allow, sched_setaffinity(2).
                processors.fill(u64::MAX);
                libc::pthread_attr_setaffinity_np(attributes, bytes.min(PROCESSOR_BYTES), processors.as_ptr().cast());
            }
        }
    }
}

/// Lets the calling thread run on every processor that its cgroup allows.
///
/// # Safety
/// A system call only.
#[cfg(not(target_env = "gnu"))]
unsafe fn leave_processor() {
    let all = [u64::MAX; PROCESSOR_BYTES / size_of::<u64>()];
    // SAFETY: a set of this frame, of which the kernel leaves out what is not allowed.
    unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&all), all.as_ptr()) };
}

extern "C" fn begin(start: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: the box that `Thread::start` has made for this thread alone.
    let start = unsafe { Box::from_raw(start.cast::<Start>()) };
    IS_OURS.set(true);
    // SAFETY: about the calling thread, which alone has a nice value of its own (sched(7)): a higher priority than the
    // ordinary one is given up. The name is at most 15 letters and a NUL.
    unsafe {
        libc::pthread_setname_np(libc::pthread_self(), start.name.as_ptr());
        // Other C libraries cannot say so for a thread that does not run yet. A host that polls on one processor with
        // real-time priority can hold the thread up there.
        #[cfg(not(target_env = "gnu"))]
        leave_processor();
        if libc::getpriority(libc::PRIO_PROCESS, 0) < 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        }
    }
    let work = start.work;
    // Nothing may unwind into the C library. A thread that waits for the work finds that it has not been done.
    let _ = catch_unwind(AssertUnwindSafe(work));
    ptr::null_mut()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use nix::sys::signal::SigSet;

    use super::*;

    const STACK: usize = 256 * 1024;

    #[test]
    fn a_thread_is_named_ours_and_gets_no_signal() {
        let (tell, told) = channel();
        let thread = Thread::start(
            c"ondat-test",
            STACK,
            Box::new(move || {
                let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
                tell.send((name, is_ours(), SigSet::thread_get_mask().unwrap().contains(nix::sys::signal::SIGTERM)))
                    .unwrap();
            }),
        )
        .unwrap();
        assert!(!thread.is_current() && !is_ours());
        thread.join();
        assert_eq!(told.recv().unwrap(), ("ondat-test\n".to_owned(), true, true));
        assert!(!SigSet::thread_get_mask().unwrap().contains(nix::sys::signal::SIGTERM));
    }

    #[test]
    fn a_panic_ends_the_thread_and_no_more() {
        Thread::start(c"ondat-test", STACK, Box::new(|| panic!("on purpose"))).unwrap().join();
    }
}
