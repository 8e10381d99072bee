//! The one thread: what is due, is it permitted, do it, wait for the next. While it does, a second one follows the
//! switches.

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
        let thread = std::thread::Builder::new()
            .name("ondat-telemetry".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                run(&core, &waited_on);
                drop(core);
                *ending.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
                ending.1.notify_all();
            })
            .map_err(|error| Error::Unsupported(format!("no thread for the schedule: {error}")))?;
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

fn run(core: &Core, waiter: &Waiter) {
    loop {
        if waiter.is_stopped() || core.is_closing() {
            return;
        }
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if has_due(core) {
                do_due_watched(core, waiter);
                // The other thread may have taken what would have woken this one.
                return;
            }
            waiter.wait(next_due(core));
        }));
        if worked.is_err() {
            core.log(priority::WARNING, "a bug in the telemetry library was contained; it pauses for an hour");
            waiter.wait(Some(core.now() + 3600));
        }
    }
}

/// Does what is due and says when the next thing will be.
pub fn work(core: &Core) -> Option<i64> {
    if has_due(core) {
        do_due(core);
    }
    next_due(core)
}

/// Looks at what others have changed, and whether anything is due.
fn has_due(core: &Core) -> bool {
    core.refresh_switches();
    core.refresh_version();
    [core.version_check_due(), core.delivery_due(), core.report_due()].into_iter().any(|due| is_due(core, due))
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
fn do_due_watched(core: &Core, waiter: &Waiter) {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let follow = || {
            while !is_done.load(Ordering::Acquire) && !waiter.is_stopped() {
                waiter.wait(None);
                core.refresh_switches();
            }
        };
        let thread = std::thread::Builder::new().name("ondat-switches".to_owned()).stack_size(STACK_BYTES);
        // Where there is no second thread, they are looked at before each request.
        let _ = thread.spawn_scoped(scope, follow);
        let _done = Done { is_done: &is_done, waiter };
        do_due(core);
    });
}

/// Ends the other thread, also where this one panics.
struct Done<'a> {
    is_done: &'a AtomicBool,
    waiter: &'a Waiter,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.is_done.store(true, Ordering::Release);
        self.waiter.wake();
    }
}
