//! Where this library's code was loaded from.
#![allow(unsafe_code, reason = "dladdr(3) has no safe form")]

use std::ffi::{CStr, OsStr};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The file that holds this code: the shared library, or the program it is linked into.
pub fn path() -> Option<PathBuf> {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    let here: fn() -> Option<PathBuf> = path;
    // SAFETY: an address of this code; the loader fills `info`, whose name lives as long as the library.
    let name = unsafe {
        if libc::dladdr(here as *const libc::c_void, info.as_mut_ptr()) == 0 {
            return None;
        }
        let name = info.assume_init().dli_fname;
        if name.is_null() {
            return None;
        }
        OsStr::from_bytes(CStr::from_ptr(name).to_bytes())
    };
    let path = PathBuf::from(name);
    // A program started by a bare name is recorded under that name: then the kernel knows better.
    if path.is_absolute() { Some(path) } else { path.canonicalize().or_else(|_| std::env::current_exe()).ok() }
}
