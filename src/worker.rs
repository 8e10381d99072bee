//! The one thread: what is due, is it permitted, do it, wait for the next. While it does, a second one follows the
//! switches.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::{Core, priority};
use crate::error::Error;
use crate::sys::signals::AllSignalsBlocked;
use crate::sys::waiter::Waiter;

/// The thread's stack in bytes: a TLS handshake's deepest frames with room to spare.
const STACK_BYTES: usize = 512 * 1024;

/// The running schedule.
pub struct Worker {
    thread: JoinHandle<()>,
    waiter: Arc<Waiter>,
    has_ended: Arc<(Mutex<bool>, Condvar)>,
}

impl Worker {
    /// Starts the thread, with all signals blocked: the host's handlers never run on it.
    pub fn start(core: Arc<Core>) -> Result<Self, Error> {
        let watched = core.config().state_dir.as_ref().map(|dir| dir.path().to_owned());
        let waiter = Arc::new(Waiter::new(watched.as_deref())?);
        let waited_on = Arc::clone(&waiter);
        let has_ended = Arc::<(Mutex<bool>, Condvar)>::default();
        let ending = Arc::clone(&has_ended);
        let _blocked = AllSignalsBlocked::set()?;
        let thread = spawn(
            "ondat-telemetry",
            Box::new(move || {
                run(&core, &waited_on);
                drop(core);
                *ending.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
                ending.1.notify_all();
            }),
        );
        let thread = thread.map_err(|error| Error::Unsupported(format!("no thread for the schedule: {error}")))?;
        Ok(Self { thread, waiter, has_ended })
    }

    /// Makes the worker look anew at what is due.
    pub fn wake(&self) {
        self.waiter.wake();
    }

    /// Ends the thread after what it is doing, waiting at most this long for it.
    pub fn stop(self, timeout: Duration) {
        self.waiter.stop();
        if self.thread.thread().id() == std::thread::current().id() {
            return;
        }
        let (has_ended, changed) = &*self.has_ended;
        let has_ended = has_ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(has_ended, timeout, |has_ended| !*has_ended);
        if waited.is_ok_and(|(has_ended, _)| *has_ended) {
            // A panic of the worker was logged by the worker.
            let _ = self.thread.join();
        }
    }
}

/// Boxed, so that what starts a thread is in the library once.
fn spawn(name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work)
}

fn run(core: &Arc<Core>, waiter: &Arc<Waiter>) {
    loop {
        if waiter.is_stopped() || core.is_closing() {
            return;
        }
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(core, waiter)));
        let next = worked.unwrap_or_else(|_| {
            core.log(priority::WARNING, "a bug in the telemetry library was contained; it pauses for an hour");
            Some(core.now() + 3600)
        });
        // Looked at once more after work: the other thread may have taken what would have woken this one.
        if !is_due(core, next) {
            waiter.wait(next);
        }
    }
}

/// Does what is due and says when the next thing will be.
fn look(core: &Arc<Core>, waiter: &Arc<Waiter>) -> Option<i64> {
    core.refresh_switches();
    core.refresh_version();
    let next = next_due(core);
    if is_due(core, next) {
        do_due_watched(core, waiter);
    }
    next
}

/// The same without a second thread.
pub fn work(core: &Core) -> Option<i64> {
    core.refresh_switches();
    core.refresh_version();
    do_due(core);
    next_due(core)
}

fn is_due(core: &Core, due: Option<i64>) -> bool {
    due.is_some_and(|due| due <= core.now())
}

fn do_due(core: &Core) {
    if is_due(core, core.version_check_due()) {
        core.make_scheduled_version_check();
    }
    if is_due(core, core.delivery_due()) {
        core.deliver_due();
    }
    if is_due(core, core.report_due()) {
        core.make_scheduled_report();
    }
}

fn next_due(core: &Core) -> Option<i64> {
    let next = [core.version_check_due(), core.version_expiry(), core.delivery_due(), core.report_due()];
    next.into_iter().flatten().min()
}

/// Does what is due while another thread follows the switches: a server that is slow must not keep under way what is
/// turned off meanwhile.
fn do_due_watched(core: &Arc<Core>, waiter: &Arc<Waiter>) {
    let done = Done { is_done: Arc::default(), waiter: Arc::clone(waiter) };
    let (core_of_it, waiter_of_it, is_done) = (Arc::clone(core), Arc::clone(waiter), Arc::clone(&done.is_done));
    let follow = move || {
        while !is_done.load(Ordering::Acquire) && !waiter_of_it.is_stopped() {
            waiter_of_it.wait(None);
            core_of_it.refresh_switches();
        }
    };
    // Where there is no second thread, they are looked at before each request.
    let follower = spawn("ondat-switches", Box::new(follow));
    do_due(core);
    drop(done);
    if let Ok(follower) = follower {
        // A panic of it cost no more than what it would have noticed: the worker looks at the switches next.
        let _ = follower.join();
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
