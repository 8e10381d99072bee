//! Waiting for a process of whoever.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::support::DEADLINE;

/// A process's descriptor, to wait for its end without being its parent.
pub(crate) struct Process {
    pub(crate) pid: u32,
    descriptor: OwnedFd,
}

impl Process {
    pub(crate) fn open(pid: u32) -> Self {
        Self::find(pid).unwrap_or_else(|| panic!("pidfd_open {pid}: {}", std::io::Error::last_os_error()))
    }

    /// None where there is no such process any more.
    pub(crate) fn find(pid: u32) -> Option<Self> {
        // SAFETY: a system call on numbers, whose result is checked; the kernel has just made the descriptor.
        let descriptor = unsafe {
            let number = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            (number >= 0).then(|| OwnedFd::from_raw_fd(i32::try_from(number).unwrap()))
        };
        descriptor.map(|descriptor| Self { pid, descriptor })
    }

    pub(crate) fn wait(&self) {
        let mut fds = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::try_from(DEADLINE).unwrap()).unwrap();
        assert_eq!(ready, 1, "process {} did not end", self.pid);
    }

    /// Whether it has ended by now.
    pub(crate) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
    }

    /// Sends it a signal, unless it is gone.
    pub(crate) fn signal(&self, signal: i32) {
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: a system call on numbers.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor, signal, std::ptr::null::<u8>(), 0) };
    }
}
