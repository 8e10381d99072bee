//! File systems as the victim alone sees them.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::support::{built, root};
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
    /// Folders below the target that stay visible, each after those that lead to it and are to be made.
    kept: Vec<Vec<CString>>,
}

impl Mounts {
    /// An empty file system in memory: what the victim is and loads stays visible, wherever this tree is.
    pub(crate) fn tmpfs(self, target: &str, flags: libc::c_ulong, options: &str) -> Self {
        let mut mounts = self.and("none", target, c"tmpfs", flags, options);
        let library = built("libondat_telemetry.so").parent().map(Path::to_owned).unwrap();
        let needed: Vec<PathBuf> = [root(), &library].iter().map(|folder| folder.canonicalize().unwrap()).collect();
        let hidden = needed.iter().filter(|folder| folder.starts_with(target));
        let paths = hidden.map(|folder| {
            let leading = folder.ancestors().take_while(|above| *above != Path::new(target));
            let mut leading: Vec<_> = leading.map(|path| CString::new(path.as_os_str().as_bytes()).unwrap()).collect();
            leading.reverse();
            leading
        });
        mounts.0.last_mut().unwrap().kept = paths.collect();
        mounts
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
        self.0.push(Mount { source, target, kind, flags, options, kept: Vec::new() });
        self
    }

    /// Surrounded by them.
    pub(crate) fn around(self) -> Around {
        Around::confined(move || {
            // SAFETY: system calls with strings that live until the end of this function.
            unsafe {
                check(libc::unshare(libc::CLONE_NEWNS).into())?;
                let (none, root) = (c"none".as_ptr(), c"/".as_ptr());
                check(libc::mount(none, root, none, libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()).into())?;
                for mount in &self.0 {
                    mount.make()?;
                }
            }
            Ok(())
        })
    }
}

impl Mount {
    fn make(&self) -> io::Result<()> {
        let mut folders = [-1; 2];
        // SAFETY: system calls with strings and numbers that outlive them.
        unsafe {
            for (folder, path) in folders.iter_mut().zip(&self.kept) {
                let path = path.last().map_or(std::ptr::null(), |path| path.as_ptr());
                let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
                *folder = libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path, flags);
                check(*folder)?;
            }
            // Folders can be made in it only until it is read-only.
            let flags = if self.kept.is_empty() { self.flags } else { self.flags & !libc::MS_RDONLY };
            let options = self.options.as_ptr().cast();
            check(libc::mount(self.source.as_ptr(), self.target.as_ptr(), self.kind.as_ptr(), flags, options).into())?;
            for (folder, path) in folders.iter().zip(&self.kept) {
                for above in path {
                    // It may be there already, for another one.
                    libc::mkdir(above.as_ptr(), 0o755);
                }
                let path = path.last().map_or(std::ptr::null(), |path| path.as_ptr());
                let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
                check(libc::syscall(libc::SYS_move_mount, *folder, c"".as_ptr(), libc::AT_FDCWD, path, flags))?;
            }
            if flags != self.flags {
                let (flags, options) = (libc::MS_REMOUNT | self.flags, self.options.as_ptr().cast());
                check(
                    libc::mount(self.source.as_ptr(), self.target.as_ptr(), self.kind.as_ptr(), flags, options).into(),
                )?;
            }
        }
        Ok(())
    }
}

fn check(answer: libc::c_long) -> io::Result<()> {
    if answer >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
