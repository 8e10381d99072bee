//! Starting a program that is nobody's child, at a cost that does not grow with this process's memory.
#![allow(unsafe_code, reason = "clone(2) with a shared address space has no safe form")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use super::signals::AllSignalsBlocked;
use crate::error::Error;

/// Bytes of stack for each of the two short-lived children; they call a dozen system calls.
const STACK_BYTES: usize = 64 * 1024;
/// The descriptors that the program gets start here, after stdin, stdout and stderr.
pub const FIRST_DESCRIPTOR: RawFd = 3;
/// The most descriptors that are handed over.
const DESCRIPTORS: usize = 3;

/// What the children read, on the parent's stack: they share its memory, and it waits for them.
struct Task {
    program: *const libc::c_char,
    argv: [*const libc::c_char; 2],
    environment: [*const libc::c_char; 1],
    descriptors: [RawFd; DESCRIPTORS],
    helper_stack: *mut libc::c_void,
    errno: i32,
}

/// A mapping that is a child's stack.
struct Stack {
    base: *mut libc::c_void,
}

impl Stack {
    fn map() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping; the result is checked.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), STACK_BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { base }) }
    }

    fn top(&self) -> *mut libc::c_void {
        self.base.wrapping_byte_add(STACK_BYTES)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, whose users have exited or called exec.
        unsafe { libc::munmap(self.base, STACK_BYTES) };
    }
}

/// Starts `program` with these descriptors as 3, 4, ..., no other, an empty environment, in its own session, at `/`,
/// with default signals. Its parent is PID 1 (or the nearest subreaper), so no `wait` of this process ever sees it and
/// no SIGCHLD is raised. Where this process is PID 1, the program is its child all the same.
pub fn spawn_detached(program: &CStr, descriptors: [Option<BorrowedFd<'_>>; DESCRIPTORS]) -> Result<(), Error> {
    let unsupported =
        |what: &str, error: io::Error| Error::Unsupported(format!("{what} {}: {error}", program.to_string_lossy()));
    let (launcher_stack, helper_stack) = Stack::map()
        .and_then(|launcher| Ok((launcher, Stack::map()?)))
        .map_err(|error| unsupported("no memory to start", error))?;
    let mut task = Task {
        program: program.as_ptr(),
        argv: [program.as_ptr(), ptr::null()],
        environment: [ptr::null()],
        descriptors: descriptors.map(|descriptor| descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd())),
        helper_stack: helper_stack.top(),
        errno: 0,
    };
    // The children run in this memory until exec: none of the host's signal handlers may run in them.
    let _blocked = AllSignalsBlocked::set()?;
    let task_pointer: *mut Task = &raw mut task;
    // An exit signal of 0 raises no SIGCHLD and hides the child from every wait without __WCLONE.
    // SAFETY: the stack is mapped and large enough, `launch` only makes system calls, and CLONE_VFORK keeps this
    // thread, with `task` on its stack, waiting until the child has exited.
    let child =
        unsafe { libc::clone(launch, launcher_stack.top(), libc::CLONE_VM | libc::CLONE_VFORK, task_pointer.cast()) };
    if child < 0 {
        return Err(unsupported("cannot start", io::Error::last_os_error()));
    }
    let mut status = 0;
    // SAFETY: waits for the child just made, which has already exited; `status` is a local.
    while unsafe { libc::waitpid(child, &raw mut status, libc::__WCLONE) } < 0
        && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
    {}
    // SAFETY: the children have written it, if at all, before they exited; a volatile read, because the compiler has
    // not seen them.
    let errno = unsafe { (&raw const (*task_pointer).errno).read_volatile() };
    if errno != 0 {
        return Err(unsupported("cannot start", io::Error::from_raw_os_error(errno)));
    }
    Ok(())
}

/// The first child: starts the second and exits at once, which gives the second another parent.
extern "C" fn launch(task: *mut libc::c_void) -> libc::c_int {
    let task: *mut Task = task.cast();
    // SAFETY: as in `spawn_detached`; the parent waits for this child, which waits for the helper's exec.
    unsafe {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        if libc::clone(become_program, (*task).helper_stack, flags, task.cast()) < 0 {
            (*task).errno = *libc::__errno_location();
        }
    }
    0
}

/// The second child: puts on what the program is to have, and becomes it. Only system calls; on failure it leaves
/// errno where the parent finds it.
extern "C" fn become_program(task: *mut libc::c_void) -> libc::c_int {
    let task: *mut Task = task.cast();
    // SAFETY: the parent waits, so `task` is alive; the calls touch only this process's descriptors and signals.
    unsafe {
        // exec resets handlers but keeps ignored signals ignored.
        let default: [u64; 4] = [0; 4];
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null::<u8>(), 8);
        }
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core);
        if !take_descriptors(&(*task).descriptors) {
            (*task).errno = *libc::__errno_location();
            return 127;
        }
        let none: u64 = 0;
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, ptr::null::<u8>(), 8);
        libc::execve((*task).program, (*task).argv.as_ptr(), (*task).environment.as_ptr());
        (*task).errno = *libc::__errno_location();
    }
    127
}

/// Makes /dev/null 0, 1 and 2, the given descriptors 3 and up, and closes everything else.
///
/// # Safety
/// Changes the descriptors of the calling process, which must be one that shares none with its parent.
unsafe fn take_descriptors(wanted: &[RawFd; DESCRIPTORS]) -> bool {
    // SAFETY: plain system calls on numbers, whose failures are looked at.
    unsafe {
        let last = FIRST_DESCRIPTOR + DESCRIPTORS as RawFd;
        let mut moved = [-1; DESCRIPTORS];
        for (from, to) in wanted.iter().zip(&mut moved) {
            if *from >= 0 {
                // Out of the way first: the numbers wanted may be in use by the others.
                *to = libc::fcntl(*from, libc::F_DUPFD, last);
                if *to < 0 {
                    return false;
                }
            }
        }
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for number in 0..FIRST_DESCRIPTOR {
            if null >= 0 {
                libc::dup2(null, number);
            } else {
                libc::close(number);
            }
        }
        for (number, from) in (FIRST_DESCRIPTOR..).zip(moved) {
            if from < 0 {
                libc::close(number);
            } else if libc::dup2(from, number) < 0 {
                return false;
            }
        }
        if libc::syscall(libc::SYS_close_range, last, libc::c_uint::MAX, 0) != 0 {
            // Before Linux 5.9, or forbidden: one by one.
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
            for number in last..RawFd::try_from(limit.rlim_cur.min(65_536)).unwrap_or(1024) {
                libc::close(number);
            }
        }
        true
    }
}
