//! A page of memory that a host and its crash monitor share. What a dying process writes into it outlives the process
//! without a file system. Through it the kernel itself shows when the process leaves its memory: by exec or by its end.
#![allow(unsafe_code, reason = "mmap(2), futex(2) and robust mutexes have no safe form")]

use std::cell::UnsafeCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;

use super::descriptor;

/// Bytes of the mapping: one page, or what the kernel rounds up to one.
const BYTES: usize = 4096;
/// First word of a page: tells another copy of this library, and a file that is none.
const MAGIC: u32 = 0x4f44_5047;
/// How many askers can wait for an answer at the same time: a host and 64 children, twice.
const ANSWERS: usize = 128;
/// 32-bit words of a message.
pub const WORDS: usize = 8;
/// Bits of a robust futex's word, futex(2): a thread waits; the owner is gone.
const FUTEX_WAITERS: u32 = 0x8000_0000;
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
/// Room for the C library's mutex: 40 bytes with glibc on x86_64, 48 on aarch64.
const MUTEX_BYTES: usize = 64;
/// The name of the mapping in /proc/PID/maps.
const NAME: &std::ffi::CStr = c"ondat-telemetry";

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Stage {
    /// The monitor has it in memory.
    Received = 1,
    /// It is in the state directory too.
    Stored = 2,
    /// The server has it, or will not have it now.
    Sent = 3,
}

/// A slot for a message of the host's that may be its last words.
#[repr(C)]
pub struct Slot {
    /// 0 empty, 1 written.
    state: AtomicU32,
    words: [AtomicU32; WORDS],
}

impl Slot {
    /// Writes it. Only system-call-free stores: for signal handlers.
    pub fn write(&self, words: [u32; WORDS]) {
        self.state.store(0, Ordering::Release);
        for (slot, word) in self.words.iter().zip(words) {
            slot.store(word, Ordering::Relaxed);
        }
        self.state.store(1, Ordering::Release);
    }

    /// Empties it.
    pub fn clear(&self) {
        self.state.store(0, Ordering::Release);
    }

    /// The words that were written; none if nothing was written, or only half of it.
    pub fn read(&self) -> Option<[u32; WORDS]> {
        (self.state.load(Ordering::Acquire) == 1)
            .then(|| self.words.each_ref().map(|word| word.load(Ordering::Relaxed)))
    }
}

/// The content of the page: only numbers, which each side trusts as little as it must.
#[repr(C)]
pub struct Layout {
    magic: AtomicU32,
    /// The process that installed, by its own number.
    pid: AtomicI32,
    /// The thread that holds the mutex, and where in this structure its futex is; 0 for none.
    holder: AtomicU32,
    futex_at: AtomicUsize,
    /// Held by a thread of the host until it leaves its memory.
    mutex: UnsafeCell<[u64; MUTEX_BYTES / 8]>,
    /// The last signal, and the exit that was asked for.
    pub crash: Slot,
    /// As above.
    pub exit: Slot,
    /// Counts askers.
    tickets: AtomicU32,
    /// The answers by ticket: the ticket and a stage.
    answers: [AtomicU32; ANSWERS],
    /// A child of the host's has written its record.
    pub is_written: AtomicU32,
}

const _: () = assert!(size_of::<Layout>() <= BYTES && MUTEX_BYTES >= size_of::<libc::pthread_mutex_t>());

impl Layout {
    /// A number for a message to be answered; never 0, which asks for no answer.
    pub fn ticket(&self) -> u32 {
        self.tickets.fetch_add(1, Ordering::Relaxed) % 0xffff + 1
    }

    /// Answers a message: it has come this far.
    pub fn answer(&self, ticket: u32, stage: Stage) {
        let word = &self.answers[ticket as usize % ANSWERS];
        word.store(ticket << 8 | stage as u32, Ordering::Release);
        wake_all(word);
    }

    /// Waits for an answer of at least this stage. False where it has not come in time. Wakes early, with false, to let the
    /// caller look for other news.
    pub fn await_answer(&self, ticket: u32, stage: Stage, at_most: Duration) -> bool {
        let word = &self.answers[ticket as usize % ANSWERS];
        let now = word.load(Ordering::Acquire);
        if has_come(now, ticket, stage) {
            return true;
        }
        wait(word, now, Some(at_most));
        has_come(word.load(Ordering::Acquire), ticket, stage)
    }

    /// Waits until the child has written, for at most this long.
    pub fn await_written(&self, at_most: Duration) {
        if self.is_written.load(Ordering::Acquire) == 0 {
            wait(&self.is_written, 0, Some(at_most));
        }
    }

    /// Says so.
    pub fn say_written(&self) {
        self.is_written.store(1, Ordering::Release);
        wake_all(&self.is_written);
    }

    fn futex(&self) -> Option<&AtomicU32> {
        let at = self.futex_at.load(Ordering::Acquire);
        let first = std::mem::offset_of!(Layout, mutex);
        if self.holder.load(Ordering::Acquire) == 0
            || at < first
            || at + 4 > first + MUTEX_BYTES
            || !at.is_multiple_of(4)
        {
            return None;
        }
        // SAFETY: an aligned word inside the mutex of this structure, which both sides and the kernel only change as one.
        Some(unsafe { &*ptr::from_ref(self).cast::<u8>().add(at).cast::<AtomicU32>() })
    }

    /// Waits until the thread that holds the mutex leaves the host's memory: by its own end, by exec, or with the process.
    /// False if no thread holds it, or if the kernel cannot wait.
    pub fn await_leaving(&self) -> bool {
        let Some(futex) = self.futex() else { return false };
        loop {
            let word = futex.load(Ordering::Acquire);
            if word & FUTEX_OWNER_DIED != 0 {
                return true;
            }
            if word & FUTEX_TID_MASK == 0 {
                return false;
            }
            // The kernel wakes a waiter only if this bit is set.
            if word & FUTEX_WAITERS == 0
                && futex.compare_exchange(word, word | FUTEX_WAITERS, Ordering::AcqRel, Ordering::Acquire).is_err()
            {
                continue;
            }
            if !wait(futex, word | FUTEX_WAITERS, None) {
                return false;
            }
        }
    }

    /// Whether the thread that held the mutex has left the host's memory.
    pub fn has_left(&self) -> bool {
        self.futex().is_some_and(|futex| futex.load(Ordering::Acquire) & FUTEX_OWNER_DIED != 0)
    }

    /// The thread that holds the mutex, by its number in the host's namespace.
    pub fn holder(&self) -> u32 {
        self.holder.load(Ordering::Acquire)
    }
}

fn has_come(word: u32, ticket: u32, stage: Stage) -> bool {
    word >> 8 == ticket && word & 0xff >= stage as u32
}

/// Waits while the word is this one. False where the kernel refuses to.
fn wait(word: &AtomicU32, is: u32, at_most: Option<Duration>) -> bool {
    let timeout = at_most.map(|at_most| libc::timespec {
        tv_sec: at_most.as_secs().cast_signed(),
        tv_nsec: at_most.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: a word that lives on, and a timeout of this frame. Not FUTEX_PRIVATE_FLAG: two processes.
    let answer = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, is, timeout) };
    // SAFETY: errno of this thread.
    answer == 0 || matches!(unsafe { *libc::__errno_location() }, libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT)
}

fn wake_all(word: &AtomicU32) {
    // SAFETY: a word that lives on.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// The mapping. It stays mapped while a thread holds the mutex in it: that thread's list of robust mutexes leads here.
pub struct Page {
    at: NonNull<Layout>,
}

// SAFETY: everything in it is atomic but the mutex, which only `hold` and `let_go` touch, on one thread.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// A new page, and the descriptor by which another process maps it; without one where the kernel makes none.
    pub fn create() -> io::Result<(Self, Option<OwnedFd>)> {
        let file = descriptor::make(|| {
            // SAFETY: a name that ends with a NUL; the result is checked.
            let number = unsafe { libc::syscall(libc::SYS_memfd_create, NAME.as_ptr(), libc::MFD_CLOEXEC) };
            let number = Errno::result(i32::try_from(number).unwrap_or(-1))?;
            // SAFETY: the kernel has just made it and nobody else knows it.
            Ok::<_, Errno>(unsafe { OwnedFd::from_raw_fd(number) })
        });
        let file = file.ok().filter(|file| {
            // SAFETY: a descriptor and a size.
            unsafe { libc::ftruncate(file.as_raw_fd(), BYTES as libc::off_t) == 0 }
        });
        let page = Self::map_this(file.as_ref().map_or(-1, AsRawFd::as_raw_fd))?;
        page.magic.store(MAGIC, Ordering::Release);
        // SAFETY: a query.
        page.pid.store(unsafe { libc::getpid() }, Ordering::Release);
        Ok((page, file))
    }

    /// Maps another process's page.
    pub fn map(file: BorrowedFd<'_>) -> io::Result<Self> {
        let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: fills a local.
        let size =
            unsafe { (libc::fstat(file.as_raw_fd(), stat.as_mut_ptr()) == 0).then(|| stat.assume_init().st_size) };
        if size != Some(BYTES as libc::off_t) {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        let page = Self::map_this(file.as_raw_fd())?;
        if page.magic.load(Ordering::Acquire) == MAGIC { Ok(page) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn map_this(number: i32) -> io::Result<Self> {
        let flags = libc::MAP_SHARED | if number < 0 { libc::MAP_ANONYMOUS } else { 0 };
        // SAFETY: a new mapping of a file of that size, or of no file; the result is checked.
        let at = unsafe { libc::mmap(ptr::null_mut(), BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, number, 0) };
        let failed = at == libc::MAP_FAILED;
        match NonNull::new(at.cast()).filter(|_| !failed) {
            Some(at) => Ok(Self { at }),
            None => Err(io::Error::last_os_error()),
        }
    }

    /// The address of what is in it, which lives as long as the page.
    pub fn as_ptr(&self) -> *mut Layout {
        self.at.as_ptr()
    }

    /// The calling thread holds the mutex from now on. False where the C library has no such mutex, or it is held.
    pub fn hold(&self) -> bool {
        if self.holder.load(Ordering::Acquire) != 0 {
            return false;
        }
        let mutex: *mut libc::pthread_mutex_t = self.mutex.get().cast();
        // SAFETY: memory of this page with room for a mutex, which nobody holds: `holder` is 0.
        unsafe {
            let mut kind = std::mem::MaybeUninit::<libc::pthread_mutexattr_t>::zeroed();
            let is_made = libc::pthread_mutexattr_init(kind.as_mut_ptr()) == 0
                && libc::pthread_mutexattr_setpshared(kind.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED) == 0
                && libc::pthread_mutexattr_setrobust(kind.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST) == 0
                && libc::pthread_mutex_init(mutex, kind.as_ptr()) == 0;
            if !is_made || libc::pthread_mutex_trylock(mutex) != 0 {
                return false;
            }
        }
        let thread = gettid();
        // Where the library keeps the word that the kernel looks at is its own business: it is the first with this number.
        let words = self.mutex.get().cast::<u32>();
        // SAFETY: words of the mutex, which this thread holds.
        let word = (0..MUTEX_BYTES / 4).find(|at| unsafe { words.add(*at).read_volatile() } & FUTEX_TID_MASK == thread);
        let Some(word) = word else { return false };
        self.futex_at.store(std::mem::offset_of!(Layout, mutex) + word * 4, Ordering::Release);
        self.holder.store(thread, Ordering::Release);
        true
    }

    /// Lets go of the mutex. False where another thread of this process holds it: then the page must stay.
    pub fn let_go(&self) -> bool {
        match self.holder.load(Ordering::Acquire) {
            0 => true,
            holder if holder == gettid() => {
                self.holder.store(0, Ordering::Release);
                // SAFETY: this thread holds it.
                unsafe { libc::pthread_mutex_unlock(self.mutex.get().cast()) == 0 }
            }
            // A thread that has ended has no list any more.
            _ => self.has_left(),
        }
    }

    /// Whether it is of another process: inherited by fork.
    pub fn is_inherited(&self) -> bool {
        // SAFETY: a query.
        self.pid.load(Ordering::Acquire) != unsafe { libc::getpid() }
    }
}

impl std::ops::Deref for Page {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        // SAFETY: mapped as long as this lives.
        unsafe { self.at.as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // In a forked child the list of robust mutexes is empty, fork(2) and set_robust_list(2): there it may go.
        if self.is_inherited() || self.let_go() {
            // SAFETY: the mapping made in `map_this`, into which nothing leads any more.
            unsafe { libc::munmap(self.at.as_ptr().cast(), BYTES) };
        }
    }
}

fn gettid() -> u32 {
    // SAFETY: a query.
    u32::try_from(unsafe { libc::syscall(libc::SYS_gettid) }).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_for_one_ticket_and_no_earlier_stage() {
        let (page, file) = Page::create().unwrap();
        let other = Page::map(std::os::fd::AsFd::as_fd(&file.unwrap())).unwrap();
        let (one, two) = (page.ticket(), page.ticket());
        assert!(one != 0 && two != 0 && one != two);
        other.answer(one, Stage::Received);
        assert!(page.await_answer(one, Stage::Received, Duration::ZERO));
        assert!(!page.await_answer(one, Stage::Stored, Duration::ZERO));
        assert!(!page.await_answer(two, Stage::Received, Duration::ZERO));
        other.answer(one, Stage::Sent);
        assert!(page.await_answer(one, Stage::Stored, Duration::ZERO));
    }

    #[test]
    fn a_thread_that_ends_with_the_mutex_is_noticed() {
        let (page, _) = Page::create().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(page.hold()));
        });
        assert!(page.await_leaving());
        assert!(page.has_left());
        assert!(page.let_go());
    }

    #[test]
    fn who_lets_go_has_not_left() {
        let (page, _) = Page::create().unwrap();
        assert!(page.hold());
        assert!(!page.hold(), "it is held");
        assert!(!page.has_left());
        assert!(page.let_go());
        assert!(!page.await_leaving(), "nobody holds it");
        assert!(page.hold());
    }

    #[test]
    fn a_file_that_is_no_page_is_refused() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert!(Page::map(std::os::fd::AsFd::as_fd(&file)).is_err());
    }
}
