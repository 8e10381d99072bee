//! The schedule's thread: it finds what is due, asks whether it is permitted, does it, and waits for the next. While it
//! works, a second thread follows the switches. While a call must not wait for a disk, there is a third.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::{Core, priority};
use crate::error::Error;
use crate::sys::thread::Thread;
use crate::sys::waiter::{Place, Waiter};

/// The thread's stack in bytes: a TLS handshake's deepest frames with room to spare.
const STACK_BYTES: usize = 512 * 1024;
/// How long the thread that follows the switches sleeps at most: it is waited for, also where the host has closed what would
/// wake it.
const FOLLOWER_LOOK: Duration = Duration::from_secs(1);
/// The pause after a connection could not be accepted, in seconds.
const DOOR_PAUSE: i64 = 60;

/// The running schedule.
pub struct Worker {
    thread: Thread,
    waiter: Arc<Waiter>,
    has_ended: Arc<(Mutex<bool>, Condvar)>,
}

impl Worker {
    /// Starts the thread, with all signals blocked: the host's handlers never run on it.
    pub fn start(core: Arc<Core>) -> Result<Self, Error> {
        let watched = core.config().state_dir.clone();
        let watched = watched.map(|dir| -> Place { Box::new(move || dir.path()) });
        let waiter = Arc::new(Waiter::new(watched));
        let waited_on = Arc::clone(&waiter);
        let has_ended = Arc::<(Mutex<bool>, Condvar)>::default();
        let ending = Arc::clone(&has_ended);
        let thread = spawn(
            c"ondat-telemetry",
            Box::new(move || {
                run(&core, &waited_on);
                drop(core);
                *lock(&ending.0) = true;
                ending.1.notify_all();
            }),
        );
        let thread = thread.map_err(|error| Error::Unsupported(format!("no thread for the schedule: {error}")))?;
        Ok(Self { thread, waiter, has_ended })
    }

    /// Makes the worker look anew at what is due.
    pub fn wake(&mut self, core: &Arc<Core>) {
        if self.waiter.wake() {
            return;
        }
        // The host has closed what the thread waits for, and nothing else wakes that. Another one takes its place; it ends
        // when its timer, which the kernel keeps while it is waited for, goes off.
        self.waiter.stop();
        if let Ok(another) = Self::start(Arc::clone(core)) {
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

fn run(core: &Arc<Core>, waiter: &Arc<Waiter>) {
    loop {
        // A child that was forked in a callback goes on here, in the parent's place.
        if waiter.is_stopped() || core.is_closing() || core.is_forked() {
            return;
        }
        let worked = catch_unwind(AssertUnwindSafe(|| look(core, waiter)));
        let next = worked.unwrap_or_else(|_| {
            core.log(priority::WARNING, "a bug in the telemetry library was contained; it pauses for an hour");
            Some(core.now() + 3600)
        });
        // Looked at once more after work: the other thread may have taken what would have woken this one.
        if !is_due(core, next) && !core.is_closing() {
            waiter.wait_at_door(next, core.door().as_deref());
        }
    }
}

/// Does what is due and says when the next thing will be.
fn look(core: &Arc<Core>, waiter: &Arc<Waiter>) -> Option<i64> {
    core.refresh_switches();
    core.refresh_version();
    core.keep_door(waiter.has_other_folder());
    let next = next_due(core);
    if is_due(core, next) {
        do_watched(core, waiter, &mut || do_due(core));
    }
    // One at a time: what is due comes first.
    let Ok(mut visitor) = core.visitor() else {
        // Without a free descriptor, a waiting connection would wake the thread again and again.
        core.shut_door();
        let opened = core.now() + DOOR_PAUSE;
        return Some(next.map_or(opened, |next| next.min(opened)));
    };
    if visitor.is_some() {
        do_watched(core, waiter, &mut || visitor.take().into_iter().for_each(|visitor| core.answer(visitor)));
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

/// Does this while another thread follows the switches: a server that is slow must not keep under way what is turned off
/// meanwhile.
fn do_watched(core: &Arc<Core>, waiter: &Arc<Waiter>, work: &mut dyn FnMut()) {
    let done = Done { is_done: Arc::default(), waiter: Arc::clone(waiter) };
    let (core_of_it, waiter_of_it, is_done) = (Arc::clone(core), Arc::clone(waiter), Arc::clone(&done.is_done));
    let follow = move || {
        while !is_done.load(Ordering::Acquire) && !waiter_of_it.is_stopped() {
            waiter_of_it.wait_at_most(None, FOLLOWER_LOOK);
            core_of_it.refresh_switches();
        }
    };
    // Where there is no second thread, they are looked at before each request.
    let follower = spawn(c"ondat-switches", Box::new(follow));
    work();
    drop(done);
    if let Ok(follower) = follower
        && !core.is_forked()
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

/// The most things that wait behind one another for a disk.
const QUEUED: usize = 64;

/// Runs work that may wait for a disk that does not answer, one piece after the other, on a thread that exists as long as there
/// is work. The caller waits only as long as it wants to.
#[derive(Clone, Default)]
pub struct Lane(Arc<(Mutex<LaneState>, Condvar)>);

#[derive(Default)]
struct LaneState {
    waiting: VecDeque<Box<dyn FnOnce() + Send>>,
    thread: Option<Thread>,
    is_running: bool,
}

impl Lane {
    /// Does this after what waits already. None where time was up first: it is done later, while the process lives.
    pub fn run(
        &self,
        patience: Duration,
        work: impl FnOnce() -> Result<(), Error> + Send + 'static,
    ) -> Option<Result<(), Error>> {
        let deadline = Instant::now() + patience;
        let outcome = Arc::<Mutex<Option<Result<(), Error>>>>::default();
        let told = Arc::clone(&outcome);
        let (state, changed) = &*self.0;
        let mut state = lock(state);
        if state.waiting.len() >= QUEUED {
            let why = format!("{QUEUED} others wait for the state directory already, which does not answer");
            return Some(Err(Error::Io(why)));
        }
        state.waiting.push_back(Box::new(move || {
            let done = catch_unwind(AssertUnwindSafe(work));
            *lock(&told) = Some(
                done.unwrap_or_else(|_| Err(Error::Internal("a bug on a second thread was contained".to_owned()))),
            );
        }));
        if !state.is_running {
            let lane = self.clone();
            match spawn(c"ondat-disk", Box::new(move || lane.work_off())) {
                Ok(thread) => (state.thread, state.is_running) = (Some(thread), true),
                Err(_) => {
                    // Where there are no threads, the caller has to wait.
                    let work = state.waiting.pop_back();
                    drop(state);
                    work.into_iter().for_each(|work| work());
                    return lock(&outcome).take();
                }
            }
        }
        let left = || deadline.saturating_duration_since(Instant::now());
        let is_not_done = |_: &mut LaneState| lock(&outcome).is_none();
        let state = changed.wait_timeout_while(state, left(), is_not_done).unwrap_or_else(PoisonError::into_inner).0;
        // A host that counts its threads finds as many as before.
        let is_ending = |state: &mut LaneState| state.is_running && state.waiting.is_empty();
        let mut state = changed.wait_timeout_while(state, left(), is_ending).unwrap_or_else(PoisonError::into_inner).0;
        let ended = if state.is_running { None } else { state.thread.take() };
        drop(state);
        ended.into_iter().for_each(Thread::join);
        lock(&outcome).take()
    }

    /// Waits until nothing is left to do. False where time was up first.
    pub fn wait_until_idle(&self, patience: Duration) -> bool {
        let (state, changed) = &*self.0;
        let is_busy = |state: &mut LaneState| state.is_running;
        let waited = changed.wait_timeout_while(lock(state), patience, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_running
    }

    fn work_off(&self) {
        let (state, changed) = &*self.0;
        let mut locked = lock(state);
        while let Some(work) = locked.waiting.pop_front() {
            drop(locked);
            work();
            locked = lock(state);
            changed.notify_all();
        }
        locked.is_running = false;
        changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn what_is_done_in_time_is_told_and_leaves_no_thread() {
        let lane = Lane::default();
        for _ in 0..3 {
            assert_eq!(lane.run(LONG, || Ok(())), Some(Ok(())));
            let refused = lane.run(LONG, || Err(Error::Io("full".to_owned())));
            assert_eq!(refused, Some(Err(Error::Io("full".to_owned()))));
            let panicked = lane.run(LONG, || panic!("on purpose"));
            assert!(matches!(panicked, Some(Err(Error::Internal(_)))));
            assert!(lock(&lane.0.0).thread.is_none() && lane.wait_until_idle(Duration::ZERO));
        }
    }

    #[test]
    fn what_takes_longer_is_done_later_in_its_turn_and_not_without_bound() {
        let lane = Lane::default();
        let (thaw, frozen) = channel::<()>();
        let (tell, told) = channel();
        assert_eq!(lane.run(Duration::ZERO, move || frozen.recv().map_err(|_| Error::Io(String::new()))), None);
        assert!(!lane.wait_until_idle(Duration::ZERO));
        // The first is being done or the first that waits.
        while !lock(&lane.0.0).waiting.is_empty() {
            std::thread::yield_now();
        }
        for number in 0..QUEUED {
            let tell = tell.clone();
            let done = lane.run(Duration::ZERO, move || tell.send(number).map_err(|_| Error::Io(String::new())));
            assert_eq!(done, None, "{number}");
        }
        assert!(matches!(lane.run(LONG, || Ok(())), Some(Err(Error::Io(_)))));
        thaw.send(()).unwrap();
        assert_eq!(told.iter().take(QUEUED).collect::<Vec<_>>(), (0..QUEUED).collect::<Vec<_>>());
        assert_eq!(lane.run(LONG, || Ok(())), Some(Ok(())));
    }
}
