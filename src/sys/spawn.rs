//! Starts a program that is not a child of this process, at a cost that does not grow with this process's memory.
#![allow(unsafe_code, reason = "clone(2) with a shared address space has no safe form")]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::{io, ptr};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::signals::AllSignalsBlocked;
use super::{descriptor, prctl};
use crate::error::Error;

/// Bytes of stack for each of the two small children; they call some dozen system calls.
const STACK_BYTES: usize = 64 * 1024;
/// The descriptors that the program gets start here, after stdin, stdout and stderr.
pub const FIRST_DESCRIPTOR: RawFd = 3;
/// The most descriptors that are handed over.
pub const DESCRIPTORS: usize = 5;
/// The place among them of the one whose end lets the parked process go.
const LEASH: usize = DESCRIPTORS - 1;
/// How long a parked process may take to go once it is let go, in milliseconds: it is woken by the kernel and ends.
const GOING_MS: u32 = 100;

/// The data that the children read and write in this process's memory, which they share. It is at the foot of the launcher's
/// stack, which stays as long as the launcher does.
struct Task {
    program: *const libc::c_char,
    argv: [*const libc::c_char; 2],
    environment: [*const libc::c_char; 1],
    descriptors: [RawFd; DESCRIPTORS],
    helper_stack: *mut libc::c_void,
    errno: AtomicI32,
    /// What the launcher reads until it ends; -1: it does not stay.
    parking: RawFd,
    /// Futex: 1 once the helper has become the program or has failed.
    is_done: AtomicU32,
}

/// A mapping that is a child's stack.
struct Stack {
    base: *mut libc::c_void,
}

// SAFETY: an address; who uses the memory is said where it is used.
unsafe impl Send for Stack {}

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

/// The program's parent, where this process would be: it does nothing, and no `wait` for children sees it. It shares this
/// process's memory but none of its descriptors, and ends with the program.
pub struct Parked {
    pid: i32,
    stack: Option<Stack>,
}

impl Parked {
    /// Reaps it, once the program has ended or is ending. Otherwise it stays an invisible zombie until this process ends.
    pub fn reap(mut self) {
        for _ in 0..GOING_MS {
            let mut status = 0;
            // SAFETY: waits for a child of this module's.
            let ended = unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WCLONE | libc::WNOHANG) };
            if ended != 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // It is still on its stack.
        std::mem::forget(self.stack.take());
    }
}

/// Whether the kernel makes this process the parent of orphans: PID 1 of its namespace, or a subreaper.
pub fn adopts_orphans() -> bool {
    let mut is_subreaper: libc::c_int = 0;
    // SAFETY: fills a local.
    unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut is_subreaper) };
    std::process::id() == 1 || is_subreaper != 0
}

/// Whether children of this process come into another PID namespace than its own (unshare(2), setns(2)). The first of
/// them is that namespace's PID 1, with whose end the namespace takes no more processes: it must not be one of ours.
pub fn children_are_elsewhere() -> bool {
    let [own, of_children] =
        ["pid", "pid_for_children"].map(|name| std::fs::read_link(format!("/proc/self/ns/{name}")));
    // Linux 4.12 has the second; where it cannot be read, it is taken for the usual. A namespace without its PID 1 yet has
    // no link to show: ENOENT.
    match (own, of_children) {
        (Ok(own), Ok(of_children)) => own != of_children,
        (Ok(_), Err(error)) => {
            error.kind() == io::ErrorKind::NotFound && std::path::Path::new("/proc/self/ns/time_for_children").exists()
        }
        _ => false,
    }
}

/// Starts `program` with these descriptors as 3, 4, ..., no other, an empty environment, in its own session, at `/`, with
/// default signal actions, all signals blocked, ordinary scheduling, every processor its cgroup allows, and the limits that
/// it may have. No `wait` of this process ever sees it and no SIGCHLD is raised: its parent is PID 1 or the nearest
/// subreaper, or, where that is this process, the process that is returned. At most one descriptor fewer than
/// [`DESCRIPTORS`] is given.
pub fn spawn_detached(
    program: &CStr,
    given: [Option<BorrowedFd<'_>>; DESCRIPTORS - 1],
) -> Result<Option<Parked>, Error> {
    let unsupported =
        |what: &str, error: io::Error| Error::Unsupported(format!("{what} {}: {error}", program.to_string_lossy()));
    let no_memory = |error| unsupported("no memory to start", error);
    let (launcher_stack, helper_stack) =
        Stack::map().and_then(|launcher| Ok((launcher, Stack::map()?))).map_err(no_memory)?;
    let leash =
        (adopts_orphans() && raw::IS_THERE).then(|| descriptor::make_pair(|| pipe2(OFlag::O_CLOEXEC))).transpose();
    let leash = leash.map_err(|error| unsupported("no descriptors to start", error.into()))?;
    let mut descriptors = [-1; DESCRIPTORS];
    for (number, descriptor) in descriptors.iter_mut().zip(given) {
        *number = descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd());
    }
    descriptors[LEASH] = leash.as_ref().map_or(-1, |(_, held)| held.as_fd().as_raw_fd());
    let task: *mut Task = launcher_stack.base.cast();
    // SAFETY: the foot of a new mapping, aligned to a page and larger than a task; the stack grows from its other end.
    unsafe {
        task.write(Task {
            program: program.as_ptr(),
            argv: [program.as_ptr(), ptr::null()],
            environment: [ptr::null()],
            descriptors,
            helper_stack: helper_stack.top(),
            errno: AtomicI32::new(0),
            parking: leash.as_ref().map_or(-1, |(parking, _)| parking.as_raw_fd()),
            is_done: AtomicU32::new(0),
        });
    }
    // The children run in this memory until exec: none of the host's signal handlers may run in them.
    let _blocked = AllSignalsBlocked::set()?;
    // A launcher that stays cannot be waited for by vfork, which lasts until its end.
    let vfork = if leash.is_some() { 0 } else { libc::CLONE_VFORK };
    // An exit signal of 0 raises no SIGCHLD and hides the child from every wait without __WCLONE.
    // SAFETY: the stack is mapped and large enough, `launch` only makes system calls, and this thread waits below until the
    // child does not need the task any more.
    let child = unsafe { libc::clone(launch, launcher_stack.top(), libc::CLONE_VM | vfork, task.cast()) };
    if child < 0 {
        return Err(unsupported("cannot start", io::Error::last_os_error()));
    }
    // SAFETY: on the launcher's stack, which is still mapped.
    let task = unsafe { &*task };
    while leash.is_some() && task.is_done.load(Ordering::Acquire) == 0 {
        // SAFETY: waits on a word of that memory.
        unsafe { libc::syscall(libc::SYS_futex, task.is_done.as_ptr(), libc::FUTEX_WAIT, 0, ptr::null::<u8>()) };
    }
    let errno = task.errno.load(Ordering::Acquire);
    if leash.is_some() && errno == 0 {
        return Ok(Some(Parked { pid: child, stack: Some(launcher_stack) }));
    }
    let mut status = 0;
    // SAFETY: waits for the child just made, which has exited or does so; `status` is a local.
    while unsafe { libc::waitpid(child, &raw mut status, libc::__WCLONE) } < 0
        && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
    {}
    if errno != 0 {
        return Err(unsupported("cannot start", io::Error::from_raw_os_error(errno)));
    }
    Ok(None)
}

/// The first child: starts the second, and exits at once, which gives the second another parent, or stays.
extern "C" fn launch(task: *mut libc::c_void) -> libc::c_int {
    let helper_argument = task;
    // SAFETY: as in `spawn_detached`; the parent waits for this child, which waits for the helper's exec.
    let task = unsafe { &*task.cast::<Task>() };
    // SAFETY: as above.
    unsafe {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        if libc::clone(become_program, task.helper_stack, flags, helper_argument) < 0 {
            task.errno.store(*libc::__errno_location(), Ordering::Release);
        }
        if task.parking < 0 {
            return 0;
        }
        let has_failed = task.errno.load(Ordering::Acquire) != 0;
        let parking = task.parking;
        if !has_failed {
            libc::chdir(c"/".as_ptr());
            close_all_but(parking);
        }
        // From here on the host's thread goes its way, and so may its errno and all that is its own: bare system calls.
        task.is_done.store(1, Ordering::Release);
        raw::call(libc::SYS_futex, task.is_done.as_ptr() as usize, libc::FUTEX_WAKE as usize, 1);
        if !has_failed {
            let mut byte = 0_u8;
            raw::call(libc::SYS_read, parking as usize, (&raw mut byte) as usize, 1);
        }
        raw::call(libc::SYS_exit, 0, 0, 0);
    }
    0
}

/// System calls that touch nothing of the calling thread's but registers.
mod raw {
    /// Whether there are any for this processor; else the program is this process's child.
    pub(super) const IS_THERE: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

    /// Makes one.
    ///
    /// # Safety
    /// As for the call itself.
    #[cfg(target_arch = "x86_64")]
    pub(super) unsafe fn call(number: libc::c_long, one: usize, two: usize, three: usize) -> isize {
        let answer: isize;
        // SAFETY: the kernel keeps every register but these (System V ABI, AMD64 supplement, A.2.1).
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") number as isize => answer,
                in("rdi") one,
                in("rsi") two,
                in("rdx") three,
                in("r10") 0_usize,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        answer
    }

    /// Makes one.
    ///
    /// # Safety
    /// As for the call itself.
    #[cfg(target_arch = "aarch64")]
    pub(super) unsafe fn call(number: libc::c_long, one: usize, two: usize, three: usize) -> isize {
        let answer: isize;
        // SAFETY: the kernel keeps every register but x0, syscall(2).
        unsafe {
            std::arch::asm!(
                "svc 0",
                in("x8") number,
                inlateout("x0") one => answer,
                in("x1") two,
                in("x2") three,
                in("x3") 0_usize,
                options(nostack),
            );
        }
        answer
    }

    /// Never called: [`IS_THERE`] is false.
    ///
    /// # Safety
    /// None needed.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(super) unsafe fn call(_: libc::c_long, _: usize, _: usize, _: usize) -> isize {
        -1
    }
}

/// The second child: puts on what the program is to have, and becomes it. Only system calls; on failure it leaves
/// errno where the parent finds it.
extern "C" fn become_program(task: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the parent waits, so `task` is alive; the calls touch only this process's descriptors and signals.
    unsafe {
        let task = &*task.cast::<Task>();
        // exec resets handlers but keeps ignored signals ignored.
        let default: [u64; 4] = [0; 4];
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null::<u8>(), 8);
        }
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        libc::umask(0o077);
        be_ordinary();
        set_limits();
        if !take_descriptors(&task.descriptors) {
            task.errno.store(*libc::__errno_location(), Ordering::Release);
            return 127;
        }
        libc::execve(task.program, task.argv.as_ptr(), task.environment.as_ptr());
        task.errno.store(*libc::__errno_location(), Ordering::Release);
    }
    127
}

/// Takes off what a host has put on for itself: a real-time policy, a core of its own, a nice value, an I/O class. What may
/// not be changed stays.
///
/// # Safety
/// Changes the calling process, by system calls only.
unsafe fn be_ordinary() {
    /// Of ioprio_set(2).
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: as above, with structures of this frame.
    unsafe {
        let no_priority: libc::c_int = 0;
        // musl's sched_setscheduler(3) does nothing.
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const no_priority);
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        // All there may be: the kernel leaves those that the cgroup allows, sched_setaffinity(2).
        let all = [u64::MAX; 1024 / 64];
        libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&all), all.as_ptr());
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0);
        prctl::forget_timer_slack();
    }
}

/// No core of the program's own, and as much of everything else as the host could have.
///
/// # Safety
/// As [`be_ordinary`].
unsafe fn set_limits() {
    // SAFETY: as above.
    unsafe {
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core);
        for which in [
            libc::RLIMIT_FSIZE,
            libc::RLIMIT_CPU,
            libc::RLIMIT_AS,
            libc::RLIMIT_DATA,
            libc::RLIMIT_NOFILE,
            libc::RLIMIT_STACK,
        ] {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // An unlimited stack changes where the kernel puts mappings.
            if libc::getrlimit(which, &raw mut limit) == 0 && (which != libc::RLIMIT_STACK || limit.rlim_cur < 1 << 20)
            {
                limit.rlim_cur = if which == libc::RLIMIT_STACK { limit.rlim_max.min(8 << 20) } else { limit.rlim_max };
                libc::setrlimit(which, &raw const limit);
            }
        }
    }
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
        // Without it, a pipe without a reader: 0 to 2 must be open, or the next descriptor would be one of them.
        let mut pipe = [null, null];
        if null < 0 && libc::pipe(pipe.as_mut_ptr()) != 0 {
            return false;
        }
        // Out of the way, too.
        let [input, output] = pipe.map(|end| libc::fcntl(end, libc::F_DUPFD, last));
        if input < 0 || output < 0 {
            return false;
        }
        for number in 0..FIRST_DESCRIPTOR {
            libc::dup2(if number == 0 { input } else { output }, number);
        }
        for (number, from) in (FIRST_DESCRIPTOR..).zip(moved) {
            if from < 0 {
                libc::close(number);
            } else if libc::dup2(from, number) < 0 {
                return false;
            }
        }
        close_range(last, RawFd::MAX);
        true
    }
}

/// Closes every descriptor but one.
///
/// # Safety
/// As [`take_descriptors`].
unsafe fn close_all_but(kept: RawFd) {
    // SAFETY: as above.
    unsafe {
        if kept > 0 {
            close_range(0, kept - 1);
        }
        close_range(kept + 1, RawFd::MAX);
    }
}

/// Closes these descriptors, both ends included.
///
/// # Safety
/// As [`take_descriptors`].
unsafe fn close_range(first: RawFd, last: RawFd) {
    // SAFETY: as above.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) != 0 {
            // Before Linux 5.9, or forbidden: one by one.
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
            let end = RawFd::try_from(limit.rlim_cur.min(65_536)).unwrap_or(1024);
            for number in first..=last.min(end) {
                libc::close(number);
            }
        }
    }
}
