//! The work of the monitor that may hang: disks and the network. It runs on threads beside the one that watches, which
//! goes on answering its host while a disk is frozen or a file server is gone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read, write};

/// The stack of such a thread in bytes: a TLS handshake's deepest frames with room to spare.
const STACK_BYTES: usize = 512 * 1024;

type Job = Box<dyn FnOnce() + Send>;

/// The threads of one monitor.
pub struct Jobs {
    /// How many jobs are not done.
    pending: Arc<(Mutex<usize>, Condvar)>,
    /// The thread that does things one after the other, once there is something to do.
    queue: Mutex<Option<Sender<Job>>>,
    news: Arc<News>,
}

/// A pipe that wakes the watching thread.
pub struct News {
    reader: OwnedFd,
    writer: OwnedFd,
    /// How many jobs have not reported yet that they are done. While there are some, the watcher does not rely on being woken.
    owed: AtomicUsize,
}

impl News {
    /// Wakes it. False where that is refused.
    pub fn tell(&self) -> bool {
        loop {
            match write(&self.writer, &[1]) {
                // A full pipe has woken it already.
                Ok(_) | Err(Errno::EAGAIN) => return true,
                Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Whether some jobs have not reported yet, and may fail to.
    pub fn are_owed(&self) -> bool {
        self.owed.load(Ordering::Acquire) > 0
    }

    /// What it polls.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// Whether there are some, waited for at most this long.
    fn are_there(&self, at_most: Duration) -> bool {
        let at_most = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
        poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], at_most).is_ok_and(|ready| ready > 0)
    }

    /// Takes what woke it.
    pub fn take(&self) {
        let mut bytes = [0; 64];
        while read(&self.reader, &mut bytes).is_ok_and(|length| length == bytes.len()) {}
    }
}

impl Jobs {
    /// None are running yet, and there is no thread.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let news = News { reader, writer, owed: AtomicUsize::new(0) };
        Ok(Self { pending: Arc::default(), queue: Mutex::default(), news: Arc::new(news) })
    }

    /// What wakes the watching thread when a job is done.
    pub fn news(&self) -> &Arc<News> {
        &self.news
    }

    /// Does it on a thread of its own; where there can be none, at once.
    pub fn beside(&self, job: impl FnOnce() + Send + 'static) {
        if let Err(job) = spawn(self.counted(job)) {
            job();
        }
    }

    /// Does it after all that was asked for so before.
    pub fn in_order(&self, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.is_none() {
            let (sender, receiver) = mpsc::channel::<Job>();
            let is_started = spawn(Box::new(move || receiver.into_iter().for_each(|job| job()))).is_ok();
            *queue = is_started.then_some(sender);
        }
        let job = self.counted(job);
        match &*queue {
            // The thread lives as long as the sender.
            Some(queue) => drop(queue.send(job)),
            None => job(),
        }
    }

    fn counted(&self, job: impl FnOnce() + Send + 'static) -> Job {
        let (pending, news) = (Arc::clone(&self.pending), Arc::clone(&self.news));
        *pending.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        news.owed.fetch_add(1, Ordering::AcqRel);
        Box::new(move || {
            // A bug in one of them must not keep this process for ever.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            *pending.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            pending.1.notify_all();
            if news.tell() {
                news.owed.fetch_sub(1, Ordering::AcqRel);
            }
        })
    }

    /// Whether everything is done.
    pub fn are_done(&self) -> bool {
        *self.pending.0.lock().unwrap_or_else(PoisonError::into_inner) == 0
    }

    /// Waits for the jobs that were given, for at most this long, and takes their news: nothing is left that wakes the watching
    /// thread.
    pub fn settle(&self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        while self.news.are_there(deadline.saturating_duration_since(Instant::now())) {
            self.news.take();
            // Done is noted before it is news.
            if self.are_done() {
                return;
            }
        }
    }

    /// Waits for that, for at most this long, and says whether it has come.
    pub fn finish(&self, at_most: Duration) -> bool {
        let (pending, changed) = &*self.pending;
        let pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(pending, at_most, |pending| *pending > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }
}

/// Does it on a thread of its own and waits for what comes of it, but not longer than this; where there can be no thread, not
/// at all.
pub fn within<T: Send + 'static>(at_most: Duration, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    let job = move || {
        // If the job was late, there is no receiver any more.
        let _ = sender.send(job());
    };
    spawn(Box::new(job)).ok()?;
    receiver.recv_timeout(at_most).ok()
}

/// The job comes back where there can be no thread.
fn spawn(job: Job) -> Result<(), Job> {
    let job = Arc::new(Mutex::new(Some(job)));
    let task = Arc::clone(&job);
    let work = move || {
        if let Some(job) = take(&task) {
            job();
        }
    };
    if std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).is_ok() {
        return Ok(());
    }
    take(&job).map_or(Ok(()), Err)
}

fn take(job: &Mutex<Option<Job>>) -> Option<Job> {
    job.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn what_hangs_holds_up_only_what_is_to_come_after_it() {
        let jobs = Jobs::new().unwrap();
        let disk = Arc::new(Barrier::new(2));
        let hanging = Arc::clone(&disk);
        jobs.in_order(move || {
            hanging.wait();
        });
        let (sender, receiver) = mpsc::channel();
        let after = sender.clone();
        jobs.in_order(move || after.send(1).unwrap());
        jobs.beside(move || sender.send(2).unwrap());
        assert_eq!(receiver.recv(), Ok(2));
        assert!(!jobs.finish(Duration::from_millis(10)));
        disk.wait();
        assert_eq!(receiver.recv(), Ok(1));
        assert!(jobs.finish(Duration::MAX));
        assert!(jobs.are_done());
    }

    #[test]
    fn a_job_that_is_done_is_news() {
        let jobs = Jobs::new().unwrap();
        jobs.beside(|| {});
        let mut fds = [PollFd::new(jobs.news().as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::NONE), Ok(1));
        jobs.news().take();
        assert_eq!(poll(&mut fds, PollTimeout::ZERO), Ok(0));
    }
}
