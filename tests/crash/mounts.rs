//! File systems as the victim alone sees them.

use std::ffi::{CStr, CString};
use std::io;

use crate::victim::Around;

/// What is mounted over what, in order.
#[derive(Clone, Default)]
pub(crate) struct Mounts(Vec<Mount>);

#[derive(Clone)]
struct Mount {
    source: CString,
    target: CString,
    kind: &'static CStr,
    flags: libc::c_ulong,
    options: CString,
}

impl Mounts {
    /// An empty file system in memory.
    pub(crate) fn tmpfs(self, target: &str, flags: libc::c_ulong, options: &str) -> Self {
        self.and("none", target, c"tmpfs", flags, options)
    }

    /// A folder as it is, with flags such as `MS_NOEXEC`.
    pub(crate) fn folder(self, target: &str, flags: libc::c_ulong) -> Self {
        let own = self.and(target, target, c"none", libc::MS_BIND, "");
        own.and("none", target, c"none", libc::MS_REMOUNT | libc::MS_BIND | flags, "")
    }

    /// The root, with flags such as `MS_RDONLY`.
    pub(crate) fn root(self, flags: libc::c_ulong) -> Self {
        self.and("none", "/", c"none", libc::MS_REMOUNT | libc::MS_BIND | flags, "")
    }

    fn and(mut self, source: &str, target: &str, kind: &'static CStr, flags: libc::c_ulong, options: &str) -> Self {
        let [source, target, options] = [source, target, options].map(|text| CString::new(text).unwrap());
        self.0.push(Mount { source, target, kind, flags, options });
        self
    }

    /// Surrounded by them.
    pub(crate) fn around(self) -> Around {
        Around::confined(move || {
            // SAFETY: system calls with strings that live until the end of this function.
            unsafe {
                check(libc::unshare(libc::CLONE_NEWNS))?;
                let (none, root) = (c"none".as_ptr(), c"/".as_ptr());
                check(libc::mount(none, root, none, libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()))?;
                for Mount { source, target, kind, flags, options } in &self.0 {
                    let options = options.as_ptr().cast();
                    check(libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), *flags, options))?;
                }
            }
            Ok(())
        })
    }
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
