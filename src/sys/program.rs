//! Starts a program as a child that finds everything as this process found it, and ends as it ended.
#![allow(unsafe_code, reason = "fork(2), prctl(2) and signal dispositions have no safe form")]

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, ptr};

use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Pid, pipe2, read};

use super::{prctl, signals};

/// Whether SIGPIPE was ignored when this process started; Rust's runtime ignores it before `main`. systemd starts
/// services so (IgnoreSIGPIPE= of systemd.exec(5)), and what they start must find it so.
static WAS_SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Called before Rust's runtime, by [`remember_sigpipe!`](crate::remember_sigpipe).
pub extern "C" fn remember_sigpipe() {
    WAS_SIGPIPE_IGNORED.store(signals::is_ignored(libc::SIGPIPE), Ordering::Relaxed);
}

/// For a program's main file: lets [`start`] and [`replace`] hand on how SIGPIPE was set.
#[macro_export]
macro_rules! remember_sigpipe {
    () => {
        #[used]
        #[allow(unsafe_code, reason = "a function that runs before main: it makes one system call")]
        #[unsafe(link_section = ".init_array")]
        static REMEMBER_SIGPIPE: extern "C" fn() = $crate::sys::program::remember_sigpipe;
    };
}

fn restore_sigpipe() {
    let was = if WAS_SIGPIPE_IGNORED.load(Ordering::Relaxed) { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: no handler is installed, only SIG_IGN or SIG_DFL.
    unsafe { libc::signal(libc::SIGPIPE, was) };
}

/// Becomes the program at this path. Returns only where that fails.
pub fn replace(path: &CString, words: &[CString]) -> io::Error {
    restore_sigpipe();
    match nix::unistd::execv(path, words) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}

/// Becomes the program of this name, as execvp(3) finds it. Returns only where that fails.
pub fn replace_by_name(words: &[CString]) -> io::Error {
    let Some(name) = words.first() else { return io::Error::from(io::ErrorKind::InvalidInput) };
    restore_sigpipe();
    match nix::unistd::execvp(name, words) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}

/// Starts the program of this name, as execvp(3) finds it, with this signal mask and all inherited descriptors. It is
/// killed when this process dies, because killing this process is meant for it. Only for a process with one thread.
pub fn start(words: &[CString], mask: &signals::Mask, is_sigchld_ignored: bool) -> io::Result<Pid> {
    let (failure, tell) = pipe2(OFlag::O_CLOEXEC)?;
    let parent = nix::unistd::getpid();
    // Everything that allocates comes before fork.
    let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(ptr::null());
    // SAFETY: a process with one thread; the child makes system calls only.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        // SAFETY: as above; `pointers` is a list of strings ended by a null pointer.
        unsafe {
            prctl::die_with_parent();
            if libc::getppid() != parent.as_raw() {
                libc::_exit(127);
            }
            restore_sigpipe();
            if is_sigchld_ignored {
                libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            }
            mask.restore();
            libc::execvp(pointers[0], pointers.as_ptr());
            let errno = *libc::__errno_location();
            libc::write(tell.as_raw_fd(), (&raw const errno).cast(), size_of::<libc::c_int>());
            libc::_exit(127);
        }
    }
    drop(tell);
    let mut errno = [0; size_of::<libc::c_int>()];
    let length = loop {
        match read(&failure, &mut errno) {
            Err(nix::Error::EINTR) => {}
            other => break other?,
        }
    };
    if length == errno.len() {
        let _ = nix::sys::wait::waitpid(Pid::from_raw(child), None);
        return Err(io::Error::from_raw_os_error(libc::c_int::from_ne_bytes(errno)));
    }
    Ok(Pid::from_raw(child))
}

/// Runs `work` in a child that holds none of this process's descriptors but the kept ones, and outlives it. Only for a
/// process with one thread.
pub fn in_child(kept: &[RawFd], work: impl FnOnce()) -> io::Result<Pid> {
    // SAFETY: a process with one thread, whose memory the child may use as it is.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _ = let_go_of_input_and_output();
                let _ = nix::unistd::dup2_stderr(null()?);
                close_others(kept);
                nix::unistd::setsid().ok();
                work();
                Ok::<(), io::Error>(())
            }));
            // SAFETY: ends the child without what the parent has registered for its own end.
            unsafe { libc::_exit(0) }
        }
        child => Ok(Pid::from_raw(child)),
    }
}

fn null() -> io::Result<OwnedFd> {
    let null = nix::fcntl::open(c"/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty());
    null.map_err(Into::into)
}

/// Closes standard input and output, so that a process that waits for their end waits for the program, not for this process.
pub fn let_go_of_input_and_output() -> io::Result<()> {
    let null = null()?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(())
}

/// Closes every descriptor but standard input, output, error and these, the only ones that this process has of its own.
pub fn close_others(own: &[RawFd]) {
    /// Where close_range(2) is missing (before Linux 5.9) or forbidden, higher numbers stay open.
    const HIGHEST: RawFd = 65_536;
    let mut first = 3;
    let mut own = own.to_vec();
    own.sort_unstable();
    for end in own.into_iter().chain([RawFd::MAX]) {
        // SAFETY: closes descriptors that nothing in this process owns or will use.
        unsafe {
            if first < end && libc::syscall(libc::SYS_close_range, first, end - 1, 0) != 0 {
                for number in first..end.min(HIGHEST) {
                    libc::close(number);
                }
            }
        }
        first = end.saturating_add(1);
    }
}

/// Sends a signal on, with its value where it has one.
pub fn pass_on(to: Pid, signal: libc::c_int, value: Option<libc::c_int>) {
    // SAFETY: system calls on numbers; a target that is gone is no error here.
    unsafe {
        match value {
            Some(value) => {
                let value = libc::sigval { sival_ptr: ptr::without_provenance_mut(value as usize) };
                libc::sigqueue(to.as_raw(), signal, value);
            }
            None => {
                libc::kill(to.as_raw(), signal);
            }
        }
    }
}

/// Ends this process by this signal, without a core of its own, or by the exit code that shells make of it: PID 1 cannot
/// die by a signal of its own.
pub fn die_by(signal: libc::c_int) -> ! {
    if nix::unistd::getpid().as_raw() != 1 {
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        prctl::be_undumpable();
        // SAFETY: changes this process only, whose end this is; the signal stays pending until it is unblocked.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::kill(libc::getpid(), signal);
        }
        signals::unblock(signal);
    }
    std::process::exit(128 + signal)
}

/// Stops this process by this signal until it is continued.
pub fn stop_by(signal: libc::c_int) {
    // SAFETY: sends this process a signal whose action is to stop; blocked, it waits for the next line.
    unsafe { libc::kill(libc::getpid(), signal) };
    signals::unblock(signal);
    signals::block(signal);
}
