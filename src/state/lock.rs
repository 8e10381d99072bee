//! Locks of flock(2). Nobody waits for one without a bound, and a file system without locks is used all the same.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::sys::descriptor::OwnedFile;

/// A lock that is released when this is dropped. On a file system without locks it excludes nobody.
pub struct Lock(#[allow(dead_code, reason = "held, not looked at")] Option<Flock<File>>);

/// What came of a try to lock a file.
pub enum Tried<T> {
    /// It is locked.
    Locked(T),
    /// Somebody else has the lock.
    Held,
    /// The file system has none.
    Unsupported,
}

/// Whether an error of flock(2) says that the file system has no locks: NFS without a lock daemon, some FUSE.
pub fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS)
}

impl Lock {
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn of(lock: Flock<File>) -> Self {
        Self(Some(lock))
    }
}

thread_local! {
    /// Until when the call that this thread is in may wait.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Does this, which waits for no lock beyond the deadline: a call has one for everything, also where another process was stopped
/// with a lock in its hands.
pub fn until<T>(deadline: Instant, work: impl FnOnce() -> T) -> T {
    struct Before(Option<Instant>);
    impl Drop for Before {
        fn drop(&mut self) {
            DEADLINE.set(self.0);
        }
    }
    let before = DEADLINE.get();
    let _before = Before(before);
    DEADLINE.set(Some(before.map_or(deadline, |before| before.min(deadline))));
    work()
}

/// When a wait that may take this long ends.
pub(super) fn end_of(patience: Duration) -> Instant {
    let end = Instant::now() + patience;
    DEADLINE.get().map_or(end, |deadline| deadline.min(end))
}

/// Tries to lock it, alone or with others.
pub fn lock(file: File, how: FlockArg) -> io::Result<Tried<Flock<File>>> {
    match Flock::lock(file, how) {
        Ok(lock) => Ok(Tried::Locked(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(Tried::Held),
        Err((_, error)) if is_unsupported(error) => Ok(Tried::Unsupported),
        Err((_, error)) => Err(error.into()),
    }
}

/// The same for a file whose lock goes with it.
pub fn lock_owned(file: &OwnedFile) -> io::Result<Tried<()>> {
    match file.try_lock() {
        Ok(true) => Ok(Tried::Locked(())),
        Ok(false) => Ok(Tried::Held),
        Err(error) if error.raw_os_error().is_some_and(|number| is_unsupported(Errno::from_raw(number))) => {
            Ok(Tried::Unsupported)
        }
        Err(error) => Err(error),
    }
}
