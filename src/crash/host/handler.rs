//! The signal handler. It adds detail and never decides: it writes one record and waits briefly for the monitor; then
//! the process goes on exactly as it would without it. It makes only system calls: no allocation, no lock, no
//! formatting.
#![allow(unsafe_code, reason = "signal handlers are raw system calls by nature")]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

#[cfg(target_env = "gnu")]
use ondat_telemetry_protocol::ending::Ending;

use crate::crash::record::{AWAITED, EXITS, Kind, NO_CORE_FILE, Record, TENTATIVE};
use crate::error::Error;
use crate::sys::altstack;
use crate::sys::descriptor::{Identity, Owned};
use crate::sys::page::{Layout, Page, Stage};

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

/// How long a crash waits at most for the monitor to have its record, in milliseconds.
const ACK_MS: u32 = 200;
/// How long it waits at most for the record to be in the state directory, in milliseconds, where the monitor may be killed
/// with this process: writing it takes some hundredths of a millisecond, and a disk that hangs must not hold up the end.
const STORED_MS: u32 = 50;
/// How long it waits at most for the child that writes the record where there is no monitor, in milliseconds.
const WRITTEN_MS: u64 = 100;
/// How often a wait looks whether the monitor has died meanwhile, in milliseconds.
const LOOK_MS: i64 = 10;
/// How long other crashing threads stand still for the first, in milliseconds: it ends the process long before.
const PARK_MS: i64 = 1_000;

/// Whether a client has armed the handler. Changed under [`ARMING`].
static IS_ARMED: AtomicBool = AtomicBool::new(false);
/// Held while it is armed or taken off: clients of several threads do so at the same time.
static ARMING: Mutex<()> = Mutex::new(());
/// The process that did: a forked child inherits the handler, and tells of itself.
static PID: AtomicI32 = AtomicI32::new(0);
static SOCKET: Descriptor = Descriptor::none();
/// The folder from which the run marker is found.
static MARKER: Descriptor = Descriptor::none();
static MARKER_PATH: PathBytes = PathBytes([const { AtomicU8::new(0) }; PATH_BYTES]);
static PAGE: Pointer = Pointer::none();
/// A number of [`Awaits`].
static AWAITS: AtomicU32 = AtomicU32::new(0);
/// How long a crash waits for its report to be sent, in milliseconds; 0 where it does not.
static SENDING_MS: AtomicU32 = AtomicU32::new(0);
/// The thread that reports, 0 for none.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// For each signal, the thread that was last handed on to the earlier handler, 0 for none. If the same thread comes again, the
/// earlier handler has called ours as the one that it had found.
static HANDED_ON: [AtomicI32; SIGNALS] = [const { AtomicI32::new(0) }; SIGNALS];
static EARLIER: Earlier = Earlier(UnsafeCell::new([const { MaybeUninit::zeroed() }; SIGNALS]));

/// The signals by which a handler of a fault ends its process: those of abort(3) and of a trap. On a stack that holds one
/// signal, our handler would end the process by another one, SIGSEGV.
const ENDS: [libc::c_int; 3] = [libc::SIGABRT, libc::SIGILL, libc::SIGTRAP];
const SIGNALS: usize = 32;
/// The real-time signals that the handler blocks while it runs. No other program chooses these seven: by them copies of
/// this library recognise each other.
const COPY: [libc::c_int; 7] = [38, 41, 47, 52, 53, 58, 63];
/// The first that a C library leaves to programs: glibc keeps 32 and 33, musl 34 too, nptl(7).
const LEAST_REAL_TIME: libc::c_int = 35;
/// How many milliseconds a client waits for another one that installs or takes off the handler: some system calls.
const TURNS: u32 = 100;

/// What a crash waits for before the process goes on to its end, beyond the sending of its report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Awaits {
    /// The monitor's notice: it has the record, and is awake when the process ends.
    Notice = 1,
    /// The record's being in the state directory too: the monitor may be killed as soon as this process has ended.
    Storing = 2,
}

/// What the handler needs, opened beforehand. The descriptors stay the caller's and must stay open until [`disarm`].
pub struct Armament<'a> {
    /// The signals, of which those that are ignored stay ignored.
    pub signals: &'a [libc::c_int],
    /// The socket to the monitor.
    pub socket: Option<&'a Owned>,
    /// The run marker: by a path from a folder.
    pub marker: Option<(RawFd, Identity, String)>,
    /// The page that is shared with the monitor, and inherited by children; alive until [`disarm`].
    pub page: Option<&'a Page>,
    /// What a crash waits for.
    pub awaits: Awaits,
    /// How long it waits for its report to be sent, in milliseconds.
    pub sending_ms: u32,
}

/// A descriptor by its number and by what it is open on: a host that closes what is not its own gives the number to
/// something else, which is not to be written to.
struct Descriptor {
    number: AtomicI32,
    identity: [AtomicU64; 4],
}

impl Descriptor {
    const fn none() -> Self {
        Self { number: AtomicI32::new(-1), identity: [const { AtomicU64::new(0) }; 4] }
    }

    fn set(&self, of: Option<(RawFd, Identity)>) {
        self.number.store(-1, Ordering::Release);
        if let Some((number, identity)) = of {
            for (kept, word) in self.identity.iter().zip(identity.to_words()) {
                kept.store(word, Ordering::Release);
            }
            self.number.store(number, Ordering::Release);
        }
    }

    fn is_set(&self) -> bool {
        self.number.load(Ordering::Acquire) >= 0
    }

    /// The number, while it is what it was.
    fn get(&self) -> Option<RawFd> {
        let number = self.number.load(Ordering::Acquire);
        if number < 0 {
            return None;
        }
        let was = self.identity.each_ref().map(|word| word.load(Ordering::Acquire));
        (Identity::of(number)?.to_words() == was).then_some(number)
    }
}

/// A path, with its NUL.
struct PathBytes([AtomicU8; PATH_BYTES]);

/// A run marker's name is at most some 110 bytes long.
const PATH_BYTES: usize = 256;

impl PathBytes {
    /// False where it is too long.
    fn set(&self, path: &str) -> bool {
        for (at, kept) in self.0.iter().enumerate() {
            kept.store(path.as_bytes().get(at).copied().unwrap_or(0), Ordering::Release);
        }
        path.len() < PATH_BYTES
    }

    fn get(&self) -> [u8; PATH_BYTES] {
        let mut bytes = self.0.each_ref().map(|byte| byte.load(Ordering::Acquire));
        // Whatever has been written over it, it ends.
        bytes[PATH_BYTES - 1] = 0;
        bytes
    }
}

/// The address of the page, kept twice: a host that has written over one must not lead the handler somewhere else.
struct Pointer {
    address: AtomicUsize,
    check: AtomicUsize,
}

impl Pointer {
    const fn none() -> Self {
        Self { address: AtomicUsize::new(0), check: AtomicUsize::new(0) }
    }

    fn set(&self, page: Option<*mut Layout>) {
        let address = page.map_or(0, |page| page as usize);
        self.check.store(!address, Ordering::Release);
        self.address.store(address, Ordering::Release);
    }

    fn get(&self) -> Option<&'static Layout> {
        let address = self.address.load(Ordering::Acquire);
        if address == 0 || self.check.load(Ordering::Acquire) != !address {
            return None;
        }
        // SAFETY: set from a page that is mapped until `disarm`, and kept as it was: both words say so.
        unsafe { (address as *const Layout).as_ref() }
    }
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

/// Installs the handler. One client of a process at a time.
pub fn arm(with: &Armament<'_>) -> Result<(), Error> {
    let _turn = turn();
    // A forked child has the handler, but not the client that armed it.
    if IS_ARMED.swap(true, Ordering::AcqRel) && PID.load(Ordering::Acquire) == getpid() {
        return Err(is_taken());
    }
    PID.store(0, Ordering::Release);
    SOCKET.set(with.socket.map(|socket| (socket.number(), socket.identity())));
    MARKER.set(None);
    if let Some((folder, identity, path)) = &with.marker
        && MARKER_PATH.set(path)
    {
        MARKER.set(Some((*folder, *identity)));
    }
    PAGE.set(with.page.map(Page::as_ptr));
    AWAITS.store(with.awaits as u32, Ordering::Release);
    SENDING_MS.store(with.sending_ms, Ordering::Release);
    OWNER.store(0, Ordering::Release);
    for thread in &HANDED_ON {
        thread.store(0, Ordering::Release);
    }
    PID.store(getpid(), Ordering::Release);
    watch_exit();
    if with.signals.iter().any(|signal| is_of_another_copy(*signal)) {
        PID.store(0, Ordering::Release);
        IS_ARMED.store(false, Ordering::Release);
        return Err(Error::InvalidState(
            "another copy of this library in this process has installed the crash handler: link it once".to_owned(),
        ));
    }
    for &signal in with.signals {
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
            for signal in COPY {
                libc::sigaddset(&raw mut action.sa_mask, signal);
            }
            libc::sigaction(signal, &raw const action, ptr::null_mut());
        }
    }
    Ok(())
}

/// The turn to change what is armed. Waited for only briefly: a child may have been forked while another thread had it.
fn turn() -> Option<MutexGuard<'static, ()>> {
    for _ in 0..TURNS {
        match ARMING.try_lock() {
            Ok(turn) => return Some(turn),
            Err(TryLockError::Poisoned(turn)) => return Some(turn.into_inner()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}

fn is_taken() -> Error {
    Error::InvalidState("another client of this process has installed the crash handler".to_owned())
}

/// Takes the handler off where it is still the one installed.
pub fn disarm() {
    let _turn = turn();
    PID.store(0, Ordering::Release);
    SOCKET.set(None);
    MARKER.set(None);
    PAGE.set(None);
    // SAFETY: as in `arm`.
    unsafe { put_back(&CRASH_SIGNALS) };
    let_crash_be_told();
    IS_ARMED.store(false, Ordering::Release);
}

/// Waits while another thread tells its crash to the monitor, or until the process ends by it. Else the next client would
/// start a monitor that sees the same death and reports it again.
fn let_crash_be_told() {
    // With the fence in `report`: that thread has read the socket before it was taken away and is seen here, or it has not.
    fence(Ordering::SeqCst);
    let end = monotonic_ms() + PARK_MS + i64::from(SENDING_MS.load(Ordering::Acquire));
    loop {
        let owner = OWNER.load(Ordering::SeqCst);
        // A child that was forked meanwhile has no such thread.
        // SAFETY: signal 0 is sent to nobody, tgkill(2).
        let is_there = owner != 0 && unsafe { libc::syscall(libc::SYS_tgkill, getpid(), owner, 0) } == 0;
        if !is_there || owner == gettid() || monotonic_ms() >= end {
            return;
        }
        // SAFETY: see `on_signal`.
        unsafe { park(owner) };
    }
}

/// Has [`at_exit`] called by exit(3) and by a return from `main`: where the kernel does not tell the monitor of the end of a
/// process that is reaped at once, this is all that tells it the code. on_exit(3) is glibc's alone; with another C library
/// such an exit is known where the kernel tells of it.
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
    let is_crash = Ending::Exited(code.to_le_bytes()[0]).is_crash();
    // After a signal that was survived, a clean end must not be taken for its work.
    let matters = is_crash || PAGE.get().is_some_and(|page| page.crash.read().is_some());
    let waits = is_crash && SENDING_MS.load(Ordering::Acquire) > 0;
    let flags = EXITS | if waits { AWAITED } else { 0 };
    let record = Record { kind: Kind::Exit, signal: 0, code, thread: gettid(), flags, at: realtime() };
    // SAFETY: system calls only.
    unsafe { tell(record, matters) };
}

/// Whether another copy of this library has installed its handler: two would report each crash twice. It is told by the
/// signals that its handler blocks.
fn is_of_another_copy(signal: libc::c_int) -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a query into a local.
    let now = unsafe {
        if libc::sigaction(signal, ptr::null(), now.as_mut_ptr()) != 0 {
            return false;
        }
        now.assume_init()
    };
    let blocks = |signal| {
        // SAFETY: a query.
        unsafe { libc::sigismember(&raw const now.sa_mask, signal) == 1 }
    };
    is_function(&now) && !is_ours(&now) && (LEAST_REAL_TIME..=64).all(|signal| blocks(signal) == COPY.contains(&signal))
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == on_signal as *const () as usize
}

extern "C" fn on_signal(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid `info`; everything below is async-signal-safe (signal-safety(7)) or a raw
    // system call.
    unsafe {
        let errno = libc::__errno_location();
        let errno_before = *errno;
        match PID.load(Ordering::Acquire) {
            0 => {}
            own if own == getpid() => report(signal, (*info).si_code),
            _ => report_child(signal, (*info).si_code),
        }
        pass_on(signal, info, context);
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
        fence(Ordering::SeqCst);
        let record = Record { kind: Kind::Crash, signal, code, thread, flags: flags(signal, code), at: realtime() };
        tell(record, true);
    }
}

/// A forked child tells its parent's monitor, which has to look at it before it is gone. It claims nothing: a child of vfork
/// has its parent's memory.
unsafe fn report_child(signal: libc::c_int, code: libc::c_int) {
    let Some(page) = PAGE.get() else { return };
    // Its report is not waited for: it is not what the monitor lives as long as.
    let flags = flags(signal, code) & !AWAITED;
    let record = Record { kind: Kind::Crash, signal, code, thread: gettid(), flags, at: realtime() };
    let ticket = page.ticket();
    // SAFETY: see `on_signal`.
    unsafe {
        if send(&record.to_message(ticket, getpid())) {
            await_answer(page, ticket, Stage::Received, ACK_MS);
        }
    }
}

/// Tells the monitor, or else, where it `matters`, the next start. The page has it first: a monitor that is stopped reads it
/// there later.
unsafe fn tell(record: Record, matters: bool) {
    let page = PAGE.get();
    if let Some(page) = page {
        let slot = if record.kind == Kind::Exit { &page.exit } else { &page.crash };
        slot.write(record.to_words());
    }
    let ticket = page.map_or(0, Layout::ticket);
    // SAFETY: see `on_signal`.
    let has_monitor = unsafe {
        send(&record.to_message(ticket, getpid())) && {
            match (patience(record), page) {
                _ if !matters => true,
                ((stage, patience), Some(page)) => await_answer(page, ticket, stage, patience),
                ((_, patience), None) => await_byte(patience),
            }
        }
    };
    if !has_monitor && matters && MARKER.is_set() {
        // SAFETY: see `on_signal`.
        unsafe { write_record(&record.to_bytes(), page) };
    }
}

/// The answer to wait for, and for how many milliseconds.
fn patience(record: Record) -> (Stage, u32) {
    if record.has(AWAITED) {
        (Stage::Sent, SENDING_MS.load(Ordering::Acquire))
    } else if AWAITS.load(Ordering::Acquire) == Awaits::Storing as u32 {
        (Stage::Stored, STORED_MS)
    } else {
        (Stage::Received, ACK_MS)
    }
}

/// Sends a message. False where no monitor is there to take it.
unsafe fn send(message: &[u8]) -> bool {
    let Some(socket) = SOCKET.get() else { return false };
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: a system call on bytes of the caller's.
    unsafe { libc::send(socket, message.as_ptr().cast(), message.len(), flags) >= 0 }
}

/// Waits for the answer in the page. False if the monitor has not even received the record, or has died before it could use
/// it: the record must then be kept in another way.
unsafe fn await_answer(page: &Layout, ticket: u32, stage: Stage, at_most_ms: u32) -> bool {
    let deadline = monotonic_ms() + i64::from(at_most_ms);
    loop {
        let left = deadline - monotonic_ms();
        let slice = left.clamp(0, LOOK_MS).cast_unsigned();
        if page.await_answer(ticket, stage, Duration::from_millis(slice)) {
            return true;
        }
        // SAFETY: see `on_signal`.
        if unsafe { has_hung_up() } {
            return page.await_answer(ticket, Stage::Stored, Duration::ZERO);
        }
        if left <= 0 {
            return page.await_answer(ticket, Stage::Received, Duration::ZERO);
        }
    }
}

/// Whether the monitor is gone.
unsafe fn has_hung_up() -> bool {
    let Some(socket) = SOCKET.get() else { return true };
    let mut looked_at = libc::pollfd { fd: socket, events: 0, revents: 0 };
    // SAFETY: a structure of this frame.
    unsafe { libc::poll(&raw mut looked_at, 1, 0) > 0 && looked_at.revents & (libc::POLLHUP | libc::POLLERR) != 0 }
}

/// The same where there is no page: the answer is a byte on the socket.
unsafe fn await_byte(at_most_ms: u32) -> bool {
    let deadline = monotonic_ms() + i64::from(at_most_ms);
    loop {
        let Some(socket) = SOCKET.get() else { return false };
        let mut waited = libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
        let left = (deadline - monotonic_ms()).max(0);
        // SAFETY: structures of this frame.
        unsafe {
            let ready = libc::poll(&raw mut waited, 1, libc::c_int::try_from(left).unwrap_or(libc::c_int::MAX));
            if ready == 0 {
                return false;
            }
            let mut answer = 0_u8;
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            if ready > 0 {
                // Nothing to read after a hang-up: the monitor died with the record unread.
                return libc::recv(socket, (&raw mut answer).cast(), 1, flags) == 1;
            }
            if *libc::__errno_location() != libc::EINTR {
                return false;
            }
        }
    }
}

/// Leaves the record to the next start: in the page cache it outlives the process. A disk may hang, perhaps the very one
/// whose failure this process dies of, and a process that writes to it cannot even be killed. So a child writes, and this
/// process waits for it only briefly.
unsafe fn write_record(bytes: &[u8], page: Option<&Layout>) {
    // SAFETY: see `on_signal`. Not fork(3), which runs handlers and takes locks. An exit signal of 0: nobody's `wait` sees
    // the child, and it is PID 1's once this process is gone.
    unsafe {
        let child = libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0);
        if child > 0 {
            if let Some(page) = page {
                page.await_written(Duration::from_millis(WRITTEN_MS));
            }
            return;
        }
        // A limit on file sizes says so by a signal, which must not take the place of this one.
        let mut ignore = default_action();
        ignore.sa_sigaction = libc::SIG_IGN;
        let mut before = default_action();
        libc::sigaction(libc::SIGXFSZ, &raw const ignore, &raw mut before);
        if let Some(folder) = MARKER.get() {
            let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
            let marker = libc::openat(folder, MARKER_PATH.get().as_ptr().cast(), flags);
            libc::write(marker, bytes.as_ptr().cast(), bytes.len());
            libc::close(marker);
        }
        if child == 0 {
            if let Some(page) = page {
                page.say_written();
            }
            libc::_exit(0);
        }
        // No process may be made here any more: written by this one, or lost.
        libc::sigaction(libc::SIGXFSZ, &raw const before, ptr::null_mut());
    }
}

/// Flags that say what is known of how the process will go on.
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
unsafe fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *const libc::c_void) {
    // SAFETY: see `on_signal`.
    unsafe {
        let handed_on = &HANDED_ON[usize::try_from(signal).unwrap_or(0) % SIGNALS];
        let comes_again = handed_on.swap(gettid(), Ordering::AcqRel) == gettid();
        let earlier = if comes_again { default_action() } else { EARLIER.get(signal) };
        let has_earlier = is_function(&earlier);
        let next = if has_earlier { earlier } else { default_action() };
        libc::sigaction(signal, &raw const next, ptr::null_mut());
        if has_earlier {
            if earlier.sa_flags & libc::SA_ONSTACK != 0 && altstack::holds_one_signal(context) {
                // The monitor sees such an end without the handler, too; only its cause is not known.
                put_back(&ENDS);
            }
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

/// Takes the handler off these, where it is still the one installed.
unsafe fn put_back(signals: &[libc::c_int]) {
    for &signal in signals {
        // SAFETY: queries and changes of this process's signal dispositions with valid structures.
        unsafe {
            let mut now = default_action();
            if libc::sigaction(signal, ptr::null(), &raw mut now) == 0 && is_ours(&now) {
                let earlier = EARLIER.get(signal);
                libc::sigaction(signal, &raw const earlier, ptr::null_mut());
            }
        }
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
