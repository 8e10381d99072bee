//! A thread for work that may wait for a disk: whoever has asked for it waits only as long as it wants to.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::sys::thread::Thread;

/// The thread's stack in bytes, as that of the worker: it does the same.
const STACK_BYTES: usize = 512 * 1024;

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
            match Thread::start(c"ondat-disk", STACK_BYTES, Box::new(move || lane.work_off())) {
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
