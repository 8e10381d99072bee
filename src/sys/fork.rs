//! Finds out, without a system call, whether this process is a forked child of the one that made something.
#![allow(unsafe_code, reason = "a page that the kernel wipes in children has no safe form")]

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

/// Of one page, only its first word is used; the kernel maps whole ones of at most this many bytes.
const PAGE_BYTES: usize = 4096;

/// The process in which something was made.
pub struct Birthplace {
    /// A word that is 1 here and 0 in every child, however that was forked: MADV_WIPEONFORK, madvise(2).
    page: Option<NonNull<AtomicU32>>,
    pid: u32,
}

// SAFETY: the page holds one atomic, which is written once, before it is shared.
unsafe impl Send for Birthplace {}
// SAFETY: as above.
unsafe impl Sync for Birthplace {}

impl Birthplace {
    /// This process. Where the kernel wipes no pages (before Linux 4.14, or forbidden), getpid(2) tells instead.
    pub fn new() -> Self {
        Self { page: page(), pid: std::process::id() }
    }

    /// Whether this is another process: a child, or a child's child. Allocates nothing and takes no lock.
    pub fn is_elsewhere(&self) -> bool {
        match self.page {
            // SAFETY: mapped until this is dropped.
            Some(page) => unsafe { page.as_ref() }.load(Ordering::Relaxed) == 0,
            None => std::process::id() != self.pid,
        }
    }
}

impl Default for Birthplace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Birthplace {
    fn drop(&mut self) {
        if let Some(page) = self.page {
            // SAFETY: the mapping made in `page`, which nobody else has.
            unsafe { libc::munmap(page.as_ptr().cast(), PAGE_BYTES) };
        }
    }
}

fn page() -> Option<NonNull<AtomicU32>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new anonymous mapping, given back where it is of no use; zeroed memory is an atomic.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(ptr::null_mut(), PAGE_BYTES, protection, flags, -1, 0);
        if page == libc::MAP_FAILED {
            return None;
        }
        // Emulators have said yes to any advice without following it: one that does not exist finds them out.
        let is_followed =
            libc::madvise(page, PAGE_BYTES, libc::MADV_WIPEONFORK) == 0 && libc::madvise(page, PAGE_BYTES, -1) != 0;
        if !is_followed {
            libc::munmap(page, PAGE_BYTES);
            return None;
        }
        let word = NonNull::new(page.cast::<AtomicU32>())?;
        word.as_ref().store(1, Ordering::Relaxed);
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a child finds, by each way to make one.
    fn in_child(fork: impl FnOnce() -> libc::c_long, birthplace: &Birthplace) -> bool {
        let child = fork();
        assert!(child >= 0);
        if child == 0 {
            // SAFETY: the child ends without running anything of the parent's.
            unsafe { libc::_exit(i32::from(birthplace.is_elsewhere())) };
        }
        let mut status = 0;
        // SAFETY: waits for the child just made.
        assert_eq!(i64::from(unsafe { libc::waitpid(child as i32, &raw mut status, 0) }), child);
        libc::WEXITSTATUS(status) == 1
    }

    #[test]
    fn a_child_is_elsewhere_however_it_was_forked() {
        let by_page = Birthplace::new();
        assert!(by_page.page.is_some());
        let by_pid = Birthplace { page: None, pid: std::process::id() };
        for birthplace in [by_page, by_pid] {
            assert!(!birthplace.is_elsewhere());
            // SAFETY: the children only read memory and exit.
            assert!(in_child(|| unsafe { libc::fork() }.into(), &birthplace));
            // SAFETY: as above; clone(2) as fork(2) uses it.
            assert!(in_child(|| unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) }, &birthplace));
            assert!(!birthplace.is_elsewhere());
        }
    }
}
