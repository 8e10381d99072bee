//! When: is something due, do it, wait for the next. One thread; while it works, a second one follows the switches.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

use crate::error::Error;
use crate::sys::descriptor::Owned;
use crate::sys::thread::Thread;
use crate::sys::waiter::{Place, Waiter};

/// The thread's stack in bytes: a TLS handshake's deepest frames with room to spare.
const STACK_BYTES: usize = 512 * 1024;
/// How long the thread that follows the switches sleeps at most: it is waited for, also where the host has closed what would
/// wake it.
const FOLLOWER_LOOK: Duration = Duration::from_secs(1);
/// The pause after a connection could not be accepted, in seconds.
const DOOR_PAUSE: i64 = 60;
/// How long nothing is done after a bug was contained, in seconds.
const AFTER_BUG: i64 = 3_600;

/// What there is to do, and when. The worker's owner implements it; the worker knows nothing of what is done.
pub trait Jobs: Send + Sync {
    /// Where the folder is whose changes end a wait; none without one.
    fn watched(&self) -> Option<Place>;
    /// Whether there is nothing left to do, also because this is a child that was forked in a callback and goes on in the
    /// parent's place.
    fn has_ended(&self) -> bool;
    /// Whether this is such a child.
    fn is_forked(&self) -> bool;
    /// The time in Unix seconds.
    fn now(&self) -> i64;
    /// Looks at what others may have changed; `is_anew` if the watched folder is another one than before.
    fn look(&self, is_anew: bool);
    /// Looks whether something has been turned off meanwhile. Called on a second thread.
    fn look_at_switches(&self);
    /// When the next thing is due, in Unix seconds; none if nothing is.
    fn next_due(&self) -> Option<i64>;
    /// Does what is due.
    fn do_due(&self);
    /// The socket at which visitors come in.
    fn door(&self) -> Option<Arc<Owned>>;
    /// A visitor who waits. The error says that nobody can be let in.
    fn visitor(&self) -> Result<Option<OwnedFd>, Errno>;
    /// Lets nobody in any more.
    fn shut_door(&self);
    /// Answers a visitor.
    fn answer(&self, visitor: OwnedFd);
    /// Says in the log that a bug was contained.
    fn tell_of_bug(&self, line: &str);
}

/// The running schedule.
pub struct Worker {
    thread: Thread,
    waiter: Arc<Waiter>,
    has_ended: Arc<(Mutex<bool>, Condvar)>,
}

impl Worker {
    /// Starts the thread, with all signals blocked: the host's handlers never run on it.
    pub fn start(jobs: Arc<dyn Jobs>) -> Result<Self, Error> {
        let waiter = Arc::new(Waiter::new(jobs.watched()));
        let waited_on = Arc::clone(&waiter);
        let has_ended = Arc::<(Mutex<bool>, Condvar)>::default();
        let ending = Arc::clone(&has_ended);
        let thread = spawn(
            c"ondat-telemetry",
            Box::new(move || {
                run(&jobs, &waited_on);
                drop(jobs);
                *lock(&ending.0) = true;
                ending.1.notify_all();
            }),
        );
        let thread = thread.map_err(|error| Error::Unsupported(format!("no thread for the schedule: {error}")))?;
        Ok(Self { thread, waiter, has_ended })
    }

    /// Makes the worker look anew at what is due.
    pub fn wake(&mut self, jobs: &Arc<dyn Jobs>) {
        if self.waiter.wake() {
            return;
        }
        // The host has closed what the thread waits for, and nothing else wakes that. Another one takes its place; it ends
        // when its timer, which the kernel keeps while it is waited for, goes off.
        self.waiter.stop();
        if let Ok(another) = Self::start(Arc::clone(jobs)) {
            *self = another;
        }
    }

    /// Lets the thread end after what it is doing.
    pub fn leave(self) {
        self.waiter.stop();
    }

    /// Ends the thread after what it is doing, waiting at most this long for it.
    pub fn stop(self, timeout: Duration) {
        let can_be_woken = self.waiter.stop();
        if self.thread.is_current() || !can_be_woken {
            return;
        }
        let (has_ended, changed) = &*self.has_ended;
        let waited = changed.wait_timeout_while(lock(has_ended), timeout, |has_ended| !*has_ended);
        if waited.is_ok_and(|(has_ended, _)| *has_ended) {
            self.thread.join();
        }
    }
}

/// Not generic, so that the code that starts a thread is in the library once.
fn spawn(name: &'static CStr, work: Box<dyn FnOnce() + Send>) -> io::Result<Thread> {
    Thread::start(name, STACK_BYTES, work)
}

fn run(jobs: &Arc<dyn Jobs>, waiter: &Arc<Waiter>) {
    loop {
        if waiter.is_stopped() || jobs.has_ended() {
            return;
        }
        let worked = catch_unwind(AssertUnwindSafe(|| look(jobs, waiter)));
        let next = worked.unwrap_or_else(|_| {
            jobs.tell_of_bug("a bug in the telemetry library was contained; it pauses for an hour");
            Some(jobs.now() + AFTER_BUG)
        });
        // Looked at once more after work: the other thread may have taken what would have woken this one.
        if !is_due(jobs, next) && !jobs.has_ended() {
            waiter.wait_at_door(next, jobs.door().as_deref());
        }
    }
}

/// Does what is due and says when the next thing will be.
fn look(jobs: &Arc<dyn Jobs>, waiter: &Arc<Waiter>) -> Option<i64> {
    jobs.look(waiter.has_other_folder());
    let next = jobs.next_due();
    if is_due(jobs, next) {
        do_watched(jobs, waiter, &mut || jobs.do_due());
    }
    // One at a time: what is due comes first.
    let Ok(mut visitor) = jobs.visitor() else {
        // Without a free descriptor, a waiting connection would wake the thread again and again.
        jobs.shut_door();
        let opened = jobs.now() + DOOR_PAUSE;
        return Some(next.map_or(opened, |next| next.min(opened)));
    };
    if visitor.is_some() {
        do_watched(jobs, waiter, &mut || visitor.take().into_iter().for_each(|visitor| jobs.answer(visitor)));
    }
    next
}

fn is_due(jobs: &Arc<dyn Jobs>, due: Option<i64>) -> bool {
    due.is_some_and(|due| due <= jobs.now())
}

/// Does this while another thread follows the switches: a server that is slow must not keep under way what is turned off
/// meanwhile.
fn do_watched(jobs: &Arc<dyn Jobs>, waiter: &Arc<Waiter>, work: &mut dyn FnMut()) {
    let done = Done { is_done: Arc::default(), waiter: Arc::clone(waiter) };
    let (jobs_of_it, waiter_of_it, is_done) = (Arc::clone(jobs), Arc::clone(waiter), Arc::clone(&done.is_done));
    let follow = move || {
        while !is_done.load(Ordering::Acquire) && !waiter_of_it.is_stopped() {
            waiter_of_it.wait_at_most(None, FOLLOWER_LOOK);
            jobs_of_it.look_at_switches();
        }
    };
    // Where there is no second thread, they are looked at before each request.
    let follower = spawn(c"ondat-switches", Box::new(follow));
    work();
    drop(done);
    // A child that was forked in a callback has no such thread.
    if let Ok(follower) = follower
        && !jobs.is_forked()
    {
        // A panic of it cost no more than what it would have noticed: the worker looks at the switches next.
        follower.join();
    }
}

/// Ends the other thread, also where this one panics.
struct Done {
    is_done: Arc<AtomicBool>,
    waiter: Arc<Waiter>,
}

impl Drop for Done {
    fn drop(&mut self) {
        self.is_done.store(true, Ordering::Release);
        self.waiter.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
