//! Descriptors in a process that belongs to somebody else. None of ours is ever standard input, output or error, and
//! one whose number the host has closed or reused is left alone.
#![allow(unsafe_code, reason = "descriptors are asked about by number, which may be anybody's")]

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{SockFlag, accept4};
use nix::sys::stat::Mode;

/// The lowest number that a descriptor of ours may have, after standard input, output and error.
const FIRST: RawFd = 3;
/// A mark that tells our timers, pidfds and the like from the host's: all have one inode, anon_inode(4). It is the signal of
/// F_SETSIG, fcntl(2), which means something only together with O_ASYNC, and is 0 unless it is set.
const MARK: libc::c_int = 61;
/// include/uapi/asm-generic/fcntl.h.
const F_SETSIG: libc::c_int = 10;
/// As above.
const F_GETSIG: libc::c_int = 11;

/// Identifies an open file, so that another file under its number is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: libc::dev_t,
    inode: libc::ino_t,
    kind: libc::mode_t,
    mark: libc::c_int,
}

impl Identity {
    /// The identity of what has this number now; none if it is closed. Async-signal-safe.
    pub fn of(number: RawFd) -> Option<Self> {
        let (device, inode, mode) = known(number).or_else(|| asked(number))?;
        // SAFETY: a query; O_PATH descriptors answer with an error, always the same one.
        let mark = unsafe { libc::fcntl(number, F_GETSIG) };
        Some(Self { device, inode, kind: mode & libc::S_IFMT, mark })
    }

    /// The identity as numbers, for a handler's statics. Async-signal-safe.
    pub fn to_words(self) -> [u64; 4] {
        [self.device, self.inode, u64::from(self.kind), u64::from(self.mark.cast_unsigned())]
    }

    /// Whether it still has this number. Async-signal-safe.
    pub fn is_at(&self, number: RawFd) -> bool {
        Self::of(number).is_some_and(|now| now == *self)
    }
}

/// Device, inode and mode as far as the kernel has them: file servers are not asked, which may not answer (statx(2),
/// AT_STATX_DONT_SYNC). None before Linux 4.11, and in sandboxes that refuse it.
fn known(number: RawFd) -> Option<(libc::dev_t, libc::ino_t, libc::mode_t)> {
    let mut meta = MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    let wanted = libc::STATX_TYPE | libc::STATX_INO;
    // SAFETY: the kernel fills the structure where it succeeds.
    let meta = unsafe {
        if libc::syscall(libc::SYS_statx, number, c"".as_ptr(), flags, wanted, meta.as_mut_ptr()) != 0 {
            return None;
        }
        meta.assume_init()
    };
    let device = libc::makedev(meta.stx_dev_major, meta.stx_dev_minor);
    Some((device, meta.stx_ino, libc::mode_t::from(meta.stx_mode)))
}

fn asked(number: RawFd) -> Option<(libc::dev_t, libc::ino_t, libc::mode_t)> {
    let mut meta = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the kernel fills the structure where it succeeds.
    let meta = unsafe {
        if libc::fstat(number, meta.as_mut_ptr()) != 0 {
            return None;
        }
        meta.assume_init()
    };
    Some((meta.st_dev, meta.st_ino, meta.st_mode))
}

/// A descriptor above 2 that is used and closed only while it is ours.
#[derive(Debug)]
pub struct Owned {
    number: RawFd,
    identity: Identity,
}

impl Owned {
    /// Takes it, moves it above 2 and remembers what it is.
    pub fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let descriptor = lift(descriptor)?;
        let number = descriptor.as_raw_fd();
        // SAFETY: a descriptor of ours. Where it is refused, the inode alone has to tell.
        unsafe { libc::fcntl(number, F_SETSIG, MARK) };
        let identity = Identity::of(number).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { number: descriptor.into_raw_fd(), identity })
    }

    /// The descriptor; none where the host has closed it, or has something else under its number.
    pub fn get(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: it is open and ours as of this moment, and nobody but the host, who must not, closes it before drop.
        self.identity.is_at(self.number).then(|| unsafe { BorrowedFd::borrow_raw(self.number) })
    }

    /// The same as an error: `EBADF`.
    pub fn borrow(&self) -> io::Result<BorrowedFd<'_>> {
        self.get().ok_or_else(|| Errno::EBADF.into())
    }

    /// Its number, for a signal handler that asks [`Identity::is_at`] itself, and for children that inherit it.
    pub fn number(&self) -> RawFd {
        self.number
    }

    /// What it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Gives it to a caller that closes it; none if it is not ours any more.
    pub fn into_inner(self) -> Option<OwnedFd> {
        let number = self.get()?.as_raw_fd();
        std::mem::forget(self);
        // SAFETY: ours as of this moment, and forgotten here.
        Some(unsafe { OwnedFd::from_raw_fd(number) })
    }

    /// Another descriptor of the same open file.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        self.borrow()?.try_clone_to_owned()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if self.identity.is_at(self.number) {
            // SAFETY: ours as of this moment, and gone with this value.
            drop(unsafe { OwnedFd::from_raw_fd(self.number) });
        }
    }
}

/// Makes a descriptor above 2. While standard input, output or error is closed its number stays taken meanwhile by a
/// descriptor that can be neither read nor written: what the host prints there goes nowhere, as before.
pub fn make<T, E>(open: impl FnOnce() -> Result<T, E>) -> Result<OwnedFd, E>
where
    OwnedFd: From<T>,
    E: From<Errno>,
{
    let _gaps = Gaps::fill();
    Ok(lift(OwnedFd::from(open()?))?)
}

/// The same for two at once.
pub fn make_pair(open: impl FnOnce() -> Result<(OwnedFd, OwnedFd), Errno>) -> Result<(OwnedFd, OwnedFd), Errno> {
    let _gaps = Gaps::fill();
    let (one, other) = open()?;
    Ok((lift(one)?, lift(other)?))
}

/// The next connection at a listening socket, which does not block; none if there is none.
pub fn accept(listener: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    let accepted = make(|| {
        let number = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        // SAFETY: a new descriptor.
        Ok::<_, Errno>(unsafe { OwnedFd::from_raw_fd(number) })
    });
    match accepted {
        Ok(connection) => Ok(Some(connection)),
        Err(Errno::EAGAIN | Errno::ECONNABORTED | Errno::EINTR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The bytes of a file.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::from(make(|| File::open(path))?).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Has the kernel acknowledge what comes on a TCP connection at once, until it thinks otherwise (tcp(7), `TCP_QUICKACK`).
pub fn acknowledge_at_once(socket: BorrowedFd<'_>) {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: a number that the kernel reads. Where it is refused nothing is lost but some milliseconds.
    unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_QUICKACK, (&raw const on).cast(), length);
    }
}

/// Opens a regular file to read. Anything else with this name (a FIFO without a writer, a device) is not waited for.
pub fn open_regular(path: impl AsRef<Path>) -> io::Result<OwnedFile> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = OwnedFile::new(make(|| nix::fcntl::open(path.as_ref(), flags, Mode::empty()))?)?;
    if file.meta()?.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file)
}

/// The bytes of a regular file, of a longer one so many and one more.
pub fn read_at_most(path: impl AsRef<Path>, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a file; what is no UTF-8 in it is replaced.
pub fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&read(path)?).into_owned())
}

fn lift(descriptor: OwnedFd) -> Result<OwnedFd, Errno> {
    if descriptor.as_raw_fd() >= FIRST {
        return Ok(descriptor);
    }
    // SAFETY: the new descriptor is looked at; the old one is closed by its owner, at the end of this function.
    unsafe {
        let number = Errno::result(libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FIRST))?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// The lock of the few lines in which placeholders are made and removed: the id of the process that holds it, so that a child
/// that was forked in the middle of them does not wait for a thread that it does not have. 0: it is free.
static TURN: AtomicU32 = AtomicU32::new(0);
/// The process that the two below are about.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// How many threads are making descriptors while placeholders are there.
static MAKING: AtomicU32 = AtomicU32::new(0);
/// Which of 0, 1 and 2 are placeholders, by bits.
static HELD: AtomicU32 = AtomicU32::new(0);
/// How long a thread waits for its turn between two looks: the other one makes a few system calls.
const TURN_POLL: Duration = Duration::from_micros(50);

/// Standard input, output and error that are closed are taken by placeholders until this is dropped.
pub struct Gaps {
    is_counted: bool,
}

impl Gaps {
    /// From now on. For one's own descriptors there is [`make`].
    pub fn fill() -> Self {
        let _turn = Turn::take();
        let mut held = HELD.load(Ordering::Relaxed);
        // Placeholders of another thread count as gaps: it may take them away before this one is done.
        if held == 0 && (0..FIRST).all(is_open) {
            return Self { is_counted: false };
        }
        loop {
            // SAFETY: a path with its NUL. O_PATH: neither reading nor writing, which fail as on a closed one (open(2)).
            let number = unsafe { libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) };
            if (0..FIRST).contains(&number) {
                held |= 1 << number;
                continue;
            }
            if number >= 0 {
                // SAFETY: made by this thread just now.
                unsafe { libc::close(number) };
            }
            break;
        }
        HELD.store(held, Ordering::Relaxed);
        MAKING.fetch_add(1, Ordering::Relaxed);
        Self { is_counted: true }
    }
}

impl Drop for Gaps {
    fn drop(&mut self) {
        if !self.is_counted {
            return;
        }
        let _turn = Turn::take();
        if MAKING.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        let held = HELD.swap(0, Ordering::Relaxed);
        for number in (0..FIRST).filter(|number| held & 1 << number != 0) {
            // SAFETY: a query.
            let flags = unsafe { libc::fcntl(number, libc::F_GETFL) };
            // The host may have put something of its own there.
            if flags >= 0 && flags & libc::O_PATH != 0 {
                // SAFETY: a placeholder; nobody reads or writes through it.
                unsafe { libc::close(number) };
            }
        }
    }
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: a query.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

struct Turn;

impl Turn {
    fn take() -> Self {
        let me = std::process::id();
        loop {
            match TURN.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break,
                Err(holder) if holder == me => std::thread::sleep(TURN_POLL),
                // A parent's thread: it is not in this process.
                Err(holder) => {
                    if TURN.compare_exchange(holder, me, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                        break;
                    }
                }
            }
        }
        if PROCESS.swap(me, Ordering::Relaxed) != me {
            MAKING.store(0, Ordering::Relaxed);
        }
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TURN.store(0, Ordering::Release);
    }
}

/// A regular file that is read, written and closed only while its descriptor is ours.
#[derive(Debug)]
pub struct OwnedFile(Owned);

impl OwnedFile {
    /// Takes it.
    pub fn new(file: OwnedFd) -> io::Result<Self> {
        Owned::new(file).map(Self)
    }

    /// Its number and what it is, for a signal handler.
    pub fn identity(&self) -> (RawFd, Identity) {
        (self.0.number(), self.0.identity())
    }

    /// Every write goes to its end from now on, even if others write there too.
    pub fn append_only(&self) -> io::Result<()> {
        let flags = nix::fcntl::FcntlArg::F_SETFL(OFlag::O_APPEND);
        Ok(nix::fcntl::fcntl(self.0.borrow()?, flags).map(drop)?)
    }

    /// Takes the lock of flock(2) without waiting; false if another process has it. The lock goes with the file.
    pub fn try_lock(&self) -> io::Result<bool> {
        // SAFETY: a descriptor of ours.
        match Errno::result(unsafe { libc::flock(self.0.borrow()?.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
            Ok(_) => Ok(true),
            Err(Errno::EWOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives it with its lock to a caller that closes it.
    pub fn into_inner(self) -> io::Result<OwnedFd> {
        let file = ManuallyDrop::new(self);
        // SAFETY: read once; what is left is not dropped.
        unsafe { ptr::read(&raw const file.0) }.into_inner().ok_or_else(|| Errno::EBADF.into())
    }

    /// Makes its bytes durable.
    pub fn sync(&self) -> io::Result<()> {
        nix::unistd::fsync(self.0.borrow()?).map_err(Into::into)
    }

    /// How many bytes there are from here to its end.
    pub fn left(&self) -> io::Result<u64> {
        let at = (&*self).stream_position()?;
        Ok(u64::try_from(self.meta()?.st_size).unwrap_or(0).saturating_sub(at))
    }

    /// What the file is, fstat(2).
    pub fn meta(&self) -> io::Result<nix::sys::stat::FileStat> {
        nix::sys::stat::fstat(self.0.borrow()?).map_err(Into::into)
    }
}

impl Drop for OwnedFile {
    fn drop(&mut self) {
        if let Some(file) = self.0.get() {
            // Also where a child has inherited the open file, which keeps the lock otherwise.
            // SAFETY: a descriptor of ours; one that was not locked is none the worse for it.
            unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
        }
    }
}

impl Read for OwnedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Read for &OwnedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(self.0.borrow()?, buffer)?)
    }
}

impl Write for OwnedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for &OwnedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(self.0.borrow()?, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for OwnedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&*self).seek(to)
    }
}

impl Seek for &OwnedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (offset, whence) = match to {
            SeekFrom::Start(offset) => (i64::try_from(offset).map_err(io::Error::other)?, nix::unistd::Whence::SeekSet),
            SeekFrom::End(offset) => (offset, nix::unistd::Whence::SeekEnd),
            SeekFrom::Current(offset) => (offset, nix::unistd::Whence::SeekCur),
        };
        let at = nix::unistd::lseek(self.0.borrow()?, offset, whence)?;
        u64::try_from(at).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};

    use super::*;

    fn timer() -> OwnedFd {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::empty()).unwrap();
        timer.as_fd().try_clone_to_owned().unwrap()
    }

    /// Puts something of the host's under the number.
    fn give_number_to_host(number: RawFd, host: &impl AsRawFd) {
        // SAFETY: what is closed by it is what the test is about.
        assert_eq!(unsafe { libc::dup2(host.as_raw_fd(), number) }, number);
    }

    #[test]
    fn what_the_host_has_closed_is_not_there_and_not_closed_again() {
        let ours = Owned::new(OwnedFd::from(File::open("/dev/null").unwrap())).unwrap();
        assert!(ours.get().is_some());
        // SAFETY: as a host's close_range(2) does.
        unsafe { libc::close(ours.number()) };
        assert!(ours.get().is_none());
        assert_eq!(ours.borrow().unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn what_has_become_the_hosts_is_let_alone() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let file = || OwnedFd::from(File::open("/dev/null").unwrap());
        let others = [(file(), file()), (reader, writer), (timer(), timer())];
        // Two of one file, one of a pipe's ends for the other, and two timers, which have one inode.
        for (number, (mine, host)) in others.into_iter().enumerate() {
            let ours = Owned::new(mine).unwrap();
            give_number_to_host(ours.number(), &host);
            assert!(ours.get().is_none(), "{number}");
            let at = ours.number();
            drop(ours);
            assert!(is_open(at), "{number}");
            // SAFETY: the test's own.
            unsafe { libc::close(at) };
        }
    }

    #[test]
    fn a_file_is_neither_read_nor_written_once_it_is_the_hosts() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        nix::unistd::write(&writer, b"the host's").unwrap();
        let mut file = OwnedFile::new(OwnedFd::from(File::open("/dev/zero").unwrap())).unwrap();
        file.read_exact(&mut [0; 8]).unwrap();
        let number = file.0.number();
        give_number_to_host(number, &reader);
        assert!(file.read(&mut [0; 8]).is_err() && file.write(b"x").is_err() && file.rewind().is_err());
        drop(file);
        let mut left = [0; 16];
        assert_eq!(nix::unistd::read(&reader, &mut left).unwrap(), 10);
        // SAFETY: the test's own.
        unsafe { libc::close(number) };
    }

    #[test]
    fn the_bytes_of_a_file_come_whole() {
        assert_eq!(read("/proc/self/comm").unwrap(), std::fs::read("/proc/self/comm").unwrap());
        assert_eq!(read("/nowhere").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(read_text("/proc/self/stat").unwrap().starts_with(&std::process::id().to_string()));
    }
}
