//! Descriptors of processes, pidfd_open(2).
#![allow(unsafe_code, reason = "neither libc nor nix wraps these calls")]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A descriptor of this process, which the kernel closes on exec. Linux 5.3.
pub fn open_self() -> nix::Result<OwnedFd> {
    open(std::process::id())
}

/// The same of another process.
pub fn open(pid: u32) -> nix::Result<OwnedFd> {
    // SAFETY: a system call on numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(nix::errno::Errno::result(fd)?).map_err(|_| nix::errno::Errno::EBADF)?;
    // SAFETY: the kernel has just made it and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `struct pidfd_info` as of Linux 6.13, 64 bytes (include/uapi/linux/pidfd.h).
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup_id: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT`: Linux 6.15.
const INFO_EXIT: u64 = 1 << 3;
/// `PIDFD_GET_INFO` = `_IOWR(0xff, 11, struct pidfd_info)` with the 64-byte structure.
const GET_INFO: libc::c_ulong = 0xc040_ff0b;

/// Whether the kernel tells of a process how it has ended once it has been reaped.
pub fn tells_exit_status(process: BorrowedFd<'_>) -> bool {
    let mut info = Info { mask: INFO_EXIT, ..Info::default() };
    // SAFETY: as below.
    let answer = unsafe { libc::ioctl(process.as_raw_fd(), GET_INFO as _, &raw mut info) };
    // Linux 6.13 knows the request but not this part of it, and says so in no way.
    answer == 0 && super::procfs::kernel_version() >= (6, 15)
}

/// The wait status of a process that has been reaped; none before that, and before Linux 6.15.
pub fn exit_status(process: BorrowedFd<'_>) -> Option<i32> {
    let mut info = Info { mask: INFO_EXIT, ..Info::default() };
    // SAFETY: the kernel writes at most the 64 bytes whose size is part of the request's number.
    let answer = unsafe { libc::ioctl(process.as_raw_fd(), GET_INFO as _, &raw mut info) };
    (answer == 0 && info.mask & INFO_EXIT != 0).then_some(info.exit_code)
}
