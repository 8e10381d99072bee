//! pthread_cancel(3), which would unwind a waiting call from inside, and end the process when that reaches Rust code.
#![allow(unsafe_code, reason = "pthread_setcancelstate(3) has no safe form")]

use libc::c_int;

/// PTHREAD_CANCEL_DISABLE of pthread.h, of glibc and musl alike.
const DISABLE: c_int = 1;

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// The calling thread is not cancelled until this is dropped; a request that comes meanwhile is followed after that, at the
/// host's next cancellation point. No system call.
pub struct Uncancelled {
    before: c_int,
}

impl Uncancelled {
    /// From now on.
    pub fn set() -> Self {
        let mut before = DISABLE;
        // SAFETY: changes the calling thread's state and tells the one before.
        unsafe { pthread_setcancelstate(DISABLE, &raw mut before) };
        Self { before }
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: the state that this thread had.
        unsafe { pthread_setcancelstate(self.before, std::ptr::null_mut()) };
    }
}
