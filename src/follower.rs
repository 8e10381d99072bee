//! Interrupts what is being sent when its switch is turned off, for those that send without a schedule: a command, a
//! host that has started none, the crash monitor.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::switches::Switches;
use crate::sys::thread::Thread;

/// How often the administrator's file is looked at. Not watched: that takes descriptors, of which the kernel may give none.
const LOOK: Duration = Duration::from_millis(500);
/// How long the last look is waited for. If it hangs in the disk, it is left to itself.
const LAST_LOOK: Duration = Duration::from_millis(100);
/// The thread's stack in bytes.
const STACK_BYTES: usize = 256 * 1024;

#[derive(Default)]
struct Following {
    is_over: bool,
    has_ended: bool,
}

/// Does this while another thread follows the switches.
pub fn following<T>(switches: &Arc<Switches>, work: impl FnOnce() -> T) -> T {
    let follower = Follower::start(switches);
    let outcome = work();
    follower.stop();
    outcome
}

/// The other thread, which ends when this is dropped, also where the work panics.
struct Follower {
    shared: Arc<(Mutex<Following>, Condvar)>,
    thread: Option<Thread>,
}

impl Follower {
    fn start(switches: &Arc<Switches>) -> Self {
        let shared = Arc::<(Mutex<Following>, Condvar)>::default();
        let (followed, following) = (Arc::clone(switches), Arc::clone(&shared));
        let work = Box::new(move || follow(&followed, &following));
        // Where there is no second thread, they are looked at before each request.
        let thread = Thread::start(c"ondat-switches", STACK_BYTES, work).ok();
        Self { shared, thread }
    }

    fn stop(mut self) {
        self.end();
        let (state, changed) = &*self.shared;
        if let Some(thread) = self.thread.take() {
            let waited = changed.wait_timeout_while(lock(state), LAST_LOOK, |state| !state.has_ended);
            let has_ended = waited.unwrap_or_else(PoisonError::into_inner).0.has_ended;
            if has_ended {
                thread.join();
            }
        }
    }

    fn end(&self) {
        lock(&self.shared.0).is_over = true;
        self.shared.1.notify_all();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.end();
    }
}

fn follow(switches: &Switches, shared: &(Mutex<Following>, Condvar)) {
    let (state, changed) = shared;
    let mut following = lock(state);
    while !following.is_over {
        let waited = changed.wait_timeout_while(following, LOOK, |state| !state.is_over);
        following = waited.unwrap_or_else(PoisonError::into_inner).0;
        if !following.is_over {
            drop(following);
            switches.refresh();
            following = lock(state);
        }
    }
    following.has_ended = true;
    changed.notify_all();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::DirBuilderExt;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::state::StateDir;
    use crate::switch::Switch;
    use crate::switches::FILE;

    #[test]
    fn a_request_of_who_has_no_schedule_is_ended_by_the_administrators_word() {
        let path = std::env::temp_dir().join(format!("ondat-telemetry-follower-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        let dir = StateDir::open(&path).unwrap();
        let switches = Arc::new(Switches::new(Switch::ALL_BITS, Vec::new(), Some(dir.clone())));
        let permit = switches.permit(Switch::DailyReport).unwrap();
        let (revoke, revoked) = channel();
        permit.on_revoke(move || revoke.send(()).unwrap());
        let outcome = following(&switches, || {
            dir.root().write(FILE, br#"{"daily_report":false}"#).unwrap();
            revoked.recv()
        });
        assert_eq!((outcome, switches.is_on(Switch::DailyReport)), (Ok(()), false));
        std::fs::remove_dir_all(&path).unwrap();
    }
}
