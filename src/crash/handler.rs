//! The signal handler. It adds detail and never decides: it writes one record, waits briefly for the monitor, and then
//! the process goes on exactly as without it. Only system calls; no allocation, no lock, no formatting.
#![allow(unsafe_code, reason = "signal handlers are raw system calls by nature")]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use super::record::{AWAITED, EXITS, Kind, NO_CORE_FILE, Record, TENTATIVE};
use crate::error::Error;

/// The signals by which a process crashes.
pub const CRASH_SIGNALS: [libc::c_int; 9] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGXCPU,
    libc::SIGXFSZ,
];
/// Those that a Go runtime turns into panics: a handler put over its own would see faults that the program recovers
/// from (os/signal, "Go programs that use cgo or SWIG").
pub const GO_SIGNALS: [libc::c_int; 3] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE];

/// How long a crash waits for the monitor, in milliseconds.
const ACK_MS: libc::c_int = 200;
/// How long other crashing threads stand still for the first, in milliseconds: it ends the process long before.
const PARK_MS: i64 = 1_000;

/// Whether a client has armed the handler.
static IS_ARMED: AtomicBool = AtomicBool::new(false);
/// The process that did: a forked child inherits the handler but not the monitor.
static PID: AtomicI32 = AtomicI32::new(0);
static SOCKET: Descriptor = Descriptor::none();
static MARKER: Descriptor = Descriptor::none();
/// How long a crash waits for its report to be sent, in milliseconds; 0 where it does not.
static SENDING_MS: AtomicI32 = AtomicI32::new(0);
/// The thread that reports, 0 for none.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// By signal, the thread that was last handed on to the earlier handler, 0 for none. When the same comes again, that one
/// has called ours as what it found before itself.
static HANDED_ON: [AtomicI32; SIGNALS] = [const { AtomicI32::new(0) }; SIGNALS];
static EARLIER: Earlier = Earlier(UnsafeCell::new([const { MaybeUninit::zeroed() }; SIGNALS]));

const SIGNALS: usize = 32;

/// A descriptor by its number and by what it is open on: a host that closes what is not its own gives the number to
/// something else, which is not to be written to.
struct Descriptor {
    number: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

impl Descriptor {
    const fn none() -> Self {
        Self { number: AtomicI32::new(-1), device: AtomicU64::new(0), inode: AtomicU64::new(0) }
    }

    fn set(&self, number: RawFd) {
        let (device, inode) = identity(number).unwrap_or_default();
        self.device.store(device, Ordering::Release);
        self.inode.store(inode, Ordering::Release);
        self.number.store(number, Ordering::Release);
    }

    /// The number, while it is what it was.
    fn get(&self) -> Option<RawFd> {
        let number = self.number.load(Ordering::Acquire);
        let was = (self.device.load(Ordering::Acquire), self.inode.load(Ordering::Acquire));
        (number >= 0 && identity(number) == Some(was)).then_some(number)
    }
}

/// Device and inode of what a descriptor is open on.
fn identity(number: RawFd) -> Option<(u64, u64)> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: a system call that fills the structure.
    let stat = unsafe { (libc::fstat(number, stat.as_mut_ptr()) == 0).then(|| stat.assume_init()) }?;
    Some((stat.st_dev, stat.st_ino))
}

/// What was installed before, by signal, with a check word each: a host that has written over this must not be led into
/// a handler that never was. Written while the handler is not yet installed for that signal.
struct Earlier(UnsafeCell<[MaybeUninit<(libc::sigaction, u64)>; SIGNALS]>);

// SAFETY: an entry is written before the handler that reads it is installed, and not again while it is.
unsafe impl Sync for Earlier {}

impl Earlier {
    fn get(&self, signal: libc::c_int) -> libc::sigaction {
        let at = usize::try_from(signal).unwrap_or(0) % SIGNALS;
        // SAFETY: zeroed memory is valid, and writes happened before installation.
        let (action, check) = unsafe { (*self.0.get())[at].assume_init() };
        if check == check_word(&action) { action } else { default_action() }
    }

    fn set(&self, signal: libc::c_int, action: libc::sigaction) {
        let at = usize::try_from(signal).unwrap_or(0) % SIGNALS;
        // SAFETY: only `arm` calls this, for a signal whose handler is not ours yet.
        unsafe { (*self.0.get())[at] = MaybeUninit::new((action, check_word(&action))) };
    }
}

/// Any pattern that fills memory fails this; zeros, which are `SIG_DFL`, do too, and that is what they are taken for.
fn check_word(action: &libc::sigaction) -> u64 {
    (action.sa_sigaction as u64).rotate_left(17) ^ u64::from(action.sa_flags.cast_unsigned()) ^ 0x4f44_4352_7369_6721
}

fn default_action() -> libc::sigaction {
    // SAFETY: zeroed memory is a valid sigaction: SIG_DFL without flags.
    unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() }
}

/// Installs the handler for these signals, but where one is ignored: that stays ignored. One client of a process at a
/// time. The descriptors, -1 for none, stay the caller's and must stay open until [`disarm`]. A crash waits `sending_ms`
/// for its report to be sent.
pub fn arm(signals: &[libc::c_int], socket: RawFd, marker: RawFd, sending_ms: u32) -> Result<(), Error> {
    // A forked child has the handler, but not the client that armed it.
    if IS_ARMED.swap(true, Ordering::AcqRel) && PID.load(Ordering::Acquire) == getpid() {
        return Err(Error::InvalidState("another client of this process has installed the crash handler".to_owned()));
    }
    SOCKET.set(socket);
    MARKER.set(marker);
    SENDING_MS.store(i32::try_from(sending_ms).unwrap_or(i32::MAX), Ordering::Release);
    OWNER.store(0, Ordering::Release);
    for thread in &HANDED_ON {
        thread.store(0, Ordering::Release);
    }
    // SAFETY: a query.
    PID.store(unsafe { libc::getpid() }, Ordering::Release);
    if sending_ms > 0 || PID.load(Ordering::Acquire) == 1 {
        watch_exit();
    }
    for &signal in signals {
        // SAFETY: queries and changes of this process's signal dispositions with valid structures.
        unsafe {
            let mut now = MaybeUninit::<libc::sigaction>::zeroed();
            if libc::sigaction(signal, ptr::null(), now.as_mut_ptr()) != 0 {
                continue;
            }
            let now = now.assume_init();
            if now.sa_sigaction == libc::SIG_IGN || is_ours(&now) {
                continue;
            }
            EARLIER.set(signal, now);
            let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, ptr::null_mut());
        }
    }
    Ok(())
}

/// Takes the handler off where it is still the one installed.
pub fn disarm() {
    PID.store(0, Ordering::Release);
    SOCKET.set(-1);
    MARKER.set(-1);
    for signal in CRASH_SIGNALS {
        // SAFETY: as in `arm`.
        unsafe {
            let mut now = MaybeUninit::<libc::sigaction>::zeroed();
            if libc::sigaction(signal, ptr::null(), now.as_mut_ptr()) == 0 && is_ours(&now.assume_init()) {
                let earlier = EARLIER.get(signal);
                libc::sigaction(signal, &raw const earlier, ptr::null_mut());
            }
        }
    }
    IS_ARMED.store(false, Ordering::Release);
}

/// Has [`at_exit`] called by exit(3): who may die with this process has to be told before. on_exit(3) is glibc's alone;
/// elsewhere such an exit is found at the next start.
fn watch_exit() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn on_exit(
                function: extern "C" fn(libc::c_int, *mut libc::c_void),
                argument: *mut libc::c_void,
            ) -> libc::c_int;
        }
        static IS_WATCHED: AtomicBool = AtomicBool::new(false);
        if !IS_WATCHED.swap(true, Ordering::AcqRel) {
            // SAFETY: the function stays mapped, because the library is linked with -z nodelete.
            unsafe { on_exit(at_exit, ptr::null_mut()) };
        }
    }
}

#[cfg(target_env = "gnu")]
extern "C" fn at_exit(code: libc::c_int, _: *mut libc::c_void) {
    if PID.load(Ordering::Acquire) != getpid() {
        return;
    }
    let waits = code & 0xff != 0 && SENDING_MS.load(Ordering::Acquire) > 0;
    let flags = EXITS | if waits { AWAITED } else { 0 };
    // SAFETY: system calls only.
    unsafe { tell(Record { kind: Kind::Exit, signal: 0, code, thread: gettid(), flags, at: realtime() }) };
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == on_signal as *const () as usize
}

extern "C" fn on_signal(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid `info`; everything below is async-signal-safe (signal-safety(7)) or a raw
    // system call.
    unsafe {
        let errno = libc::__errno_location();
        let errno_before = *errno;
        if PID.load(Ordering::Acquire) == getpid() {
            report(signal, (*info).si_code);
        }
        pass_on(signal, info);
        *errno = errno_before;
    }
}

/// Tells the monitor, once a process: a thread that comes second waits for the first to end the process.
unsafe fn report(signal: libc::c_int, code: libc::c_int) {
    // SAFETY: see `on_signal`.
    unsafe {
        let thread = gettid();
        match OWNER.compare_exchange(0, thread, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {}
            // A fault in this very code: nothing more is tried.
            Err(owner) if owner == thread => return,
            Err(owner) => return park(owner),
        }
        tell(Record { kind: Kind::Crash, signal, code, thread, flags: flags(signal, code), at: realtime() });
    }
}

/// Tells the monitor, or else the next start.
unsafe fn tell(record: Record) {
    // SAFETY: see `on_signal`.
    unsafe {
        let bytes = record.to_bytes();
        let patience = if record.has(AWAITED) { SENDING_MS.load(Ordering::Acquire) } else { ACK_MS };
        if !tell_monitor(&bytes, patience)
            && let Some(marker) = MARKER.get()
        {
            write_record(marker, &bytes);
        }
    }
}

/// In the page cache it outlives the process; the next start reads it.
unsafe fn write_record(marker: RawFd, bytes: &[u8]) {
    let mut ignore = default_action();
    ignore.sa_sigaction = libc::SIG_IGN;
    let mut before = default_action();
    // SAFETY: see `on_signal`. A limit on file sizes says so by a signal, which must not take the place of this one.
    unsafe {
        libc::sigaction(libc::SIGXFSZ, &raw const ignore, &raw mut before);
        libc::write(marker, bytes.as_ptr().cast(), bytes.len());
        libc::sigaction(libc::SIGXFSZ, &raw const before, ptr::null_mut());
    }
}

/// What is known of how the process will go on.
fn flags(signal: libc::c_int, code: libc::c_int) -> u32 {
    let mut flags = 0;
    if is_function(&EARLIER.get(signal)) {
        flags |= TENTATIVE;
    } else if SENDING_MS.load(Ordering::Acquire) > 0 {
        flags |= AWAITED;
    }
    if flags & TENTATIVE == 0 && getpid() == 1 && !faults_again(signal, code) {
        flags |= EXITS;
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a query into a local.
    if unsafe { libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit) } == 0 && limit.rlim_cur == 0 {
        flags |= NO_CORE_FILE;
    }
    flags
}

/// Sends the record and waits this many milliseconds for the answer. False when no monitor has said that it has it.
unsafe fn tell_monitor(bytes: &[u8], patience: libc::c_int) -> bool {
    // SAFETY: see `on_signal`.
    unsafe {
        let Some(socket) = SOCKET.get() else { return false };
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        if libc::send(socket, bytes.as_ptr().cast(), bytes.len(), flags) < 0 {
            return false;
        }
        let mut waited = libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
        let deadline = monotonic_ms() + i64::from(patience);
        loop {
            let left = (deadline - monotonic_ms()).max(0);
            let ready = libc::poll(&raw mut waited, 1, libc::c_int::try_from(left).unwrap_or(libc::c_int::MAX));
            if ready > 0 {
                break;
            }
            if ready == 0 || *libc::__errno_location() != libc::EINTR {
                // The record waits in the socket for a monitor that is slow or stopped, and may yet die.
                return false;
            }
        }
        let mut answer = 0_u8;
        // Nothing to read after a hang-up: the monitor died with the record unread.
        libc::recv(socket, (&raw mut answer).cast(), 1, flags) == 1
    }
}

/// Stands still until the first crashing thread has ended the process, but not for ever: that one may recover.
unsafe fn park(owner: i32) {
    let deadline = libc::timespec { tv_sec: PARK_MS / 1_000, tv_nsec: 0 };
    // SAFETY: a futex wait on a static.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            OWNER.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            owner,
            &raw const deadline,
        );
    }
}

/// Puts back what was there before and lets the kernel deliver the signal to it, as it would have without us: on the
/// stack, with the mask and the flags that an earlier handler was installed with.
unsafe fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t) {
    // SAFETY: see `on_signal`.
    unsafe {
        let handed_on = &HANDED_ON[usize::try_from(signal).unwrap_or(0) % SIGNALS];
        let comes_again = handed_on.swap(gettid(), Ordering::AcqRel) == gettid();
        let earlier = if comes_again { default_action() } else { EARLIER.get(signal) };
        let has_earlier = is_function(&earlier);
        let next = if has_earlier { earlier } else { default_action() };
        libc::sigaction(signal, &raw const next, ptr::null_mut());
        if has_earlier {
            // It may recover: the next crash is to be reported.
            release();
        }
        if faults_again(signal, (*info).si_code) {
            return;
        }
        if !has_earlier && getpid() == 1 {
            // The default action of a signal that PID 1 sends itself is nothing at all (pid_namespaces(7)).
            libc::_exit(128 + signal);
        }
        // The same siginfo again, to this thread; it takes effect when this handler returns, with the stack as it was.
        if libc::syscall(libc::SYS_rt_tgsigqueueinfo, getpid(), gettid(), signal, info) == 0
            || libc::syscall(libc::SYS_tgkill, getpid(), gettid(), signal) == 0
        {
            return;
        }
        libc::_exit(128 + signal);
    }
}

fn is_function(action: &libc::sigaction) -> bool {
    action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN
}

/// Whether the instruction will fault again when the handler returns, which leaves the truest core.
fn faults_again(signal: libc::c_int, code: libc::c_int) -> bool {
    /// Memory errors, sigaction(2): noticed in passing, or sent by a test of the host; the instruction need not fault.
    const BUS_MCEERR: std::ops::RangeInclusive<libc::c_int> = 4..=5;
    let by_instruction = matches!(signal, libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE);
    by_instruction && code > 0 && !(signal == libc::SIGBUS && BUS_MCEERR.contains(&code))
}

/// Gives the claim back and lets parked threads go on.
unsafe fn release() {
    OWNER.store(0, Ordering::Release);
    // SAFETY: a futex wake on a static.
    unsafe {
        libc::syscall(libc::SYS_futex, OWNER.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, i32::MAX);
    }
}

fn monotonic_ms() -> i64 {
    let now = clock(libc::CLOCK_MONOTONIC);
    now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
}

fn realtime() -> i64 {
    clock(libc::CLOCK_REALTIME).tv_sec
}

fn clock(which: libc::clockid_t) -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills a local; async-signal-safe, signal-safety(7).
    unsafe { libc::clock_gettime(which, &raw mut now) };
    now
}

fn getpid() -> i32 {
    // SAFETY: a query. The system call itself: a cached value would be the parent's in a child made by clone(2).
    i32::try_from(unsafe { libc::syscall(libc::SYS_getpid) }).unwrap_or(0)
}

fn gettid() -> i32 {
    // SAFETY: a query.
    i32::try_from(unsafe { libc::syscall(libc::SYS_gettid) }).unwrap_or(0)
}
