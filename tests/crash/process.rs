//! Waiting for a process of whoever.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::support::DEADLINE;

/// A process's descriptor, to wait for its end without being its parent.
pub(crate) struct Process {
    pub(crate) pid: u32,
    descriptor: OwnedFd,
}

impl Process {
    pub(crate) fn open(pid: u32) -> Self {
        // SAFETY: a system call on numbers, whose result is checked; the kernel has just made the descriptor.
        let descriptor = unsafe {
            let number = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            assert!(number >= 0, "pidfd_open {pid}: {}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(i32::try_from(number).unwrap())
        };
        Self { pid, descriptor }
    }

    pub(crate) fn wait(&self) {
        let mut fds = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::try_from(DEADLINE).unwrap()).unwrap();
        assert_eq!(ready, 1, "process {} did not end", self.pid);
    }
}
