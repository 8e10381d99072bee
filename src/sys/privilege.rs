//! Whether this process has rights that the user who started it does not have.
#![allow(unsafe_code, reason = "getauxval(3) has no safe form")]

/// Whether the kernel says so (AT_SECURE, getauxval(3)): a set-user-ID, set-group-ID or privileged program. Its environment is
/// given by another user.
pub fn is_secure() -> bool {
    // SAFETY: a query of what the kernel has given this process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
