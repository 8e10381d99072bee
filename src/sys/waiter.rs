//! Waiting for a time of day, a file in a folder, or another thread, without waking up for anything else.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::error::Error;

/// Two descriptors: a timer, which is also how other threads wake the waiting one, and a watched folder.
pub struct Waiter {
    timer: TimerFd,
    folder: Option<Inotify>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_woken: bool,
    is_stopped: bool,
}

impl Waiter {
    /// A waiter that also returns when files in `folder` change.
    pub fn new(folder: Option<&Path>) -> Result<Self, Error> {
        let no_descriptors = |error: Errno| Error::Unsupported(format!("no descriptors for the schedule: {error}"));
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)
            .map_err(no_descriptors)?;
        let folder = match folder {
            None => None,
            Some(path) => {
                let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(no_descriptors)?;
                let changes = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE;
                let watched =
                    inotify.add_watch(path, changes | AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DONT_FOLLOW);
                watched.map_err(|error| Error::Io(format!("watching {}: {error}", path.display())))?;
                Some(inotify)
            }
        };
        Ok(Self { timer, folder, state: Mutex::default() })
    }

    /// Waits until this Unix second, a change in the folder, a step of the clock, [`wake`](Self::wake) or
    /// [`stop`](Self::stop). Without a time it waits for the others.
    pub fn wait(&self, until: Option<i64>) {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.is_stopped || std::mem::take(&mut state.is_woken) {
                return;
            }
            // Armed under the lock, so that a wake that comes now is not overwritten.
            self.arm(until);
        }
        let mut fds = vec![PollFd::new(self.timer.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.folder.as_ref().map(|folder| PollFd::new(folder.as_fd(), PollFlags::POLLIN)));
        // An interrupted or failed wait only makes the caller look at what is due once more.
        let _ = poll(&mut fds, PollTimeout::NONE);
        if let Some(folder) = &self.folder {
            while folder.read_events().is_ok_and(|events| !events.is_empty()) {}
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_woken = false;
    }

    /// Makes a wait return.
    pub fn wake(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_woken = true;
        self.arm_now();
    }

    /// Makes this and every later wait return.
    pub fn stop(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_stopped = true;
        self.arm_now();
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopped(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_stopped
    }

    fn arm(&self, until: Option<i64>) {
        let Some(until) = until else {
            let _ = self.timer.unset();
            return;
        };
        // Zero would disarm it.
        let at =
            Expiration::OneShot(TimeSpec::from_duration(Duration::from_secs(u64::try_from(until).unwrap_or(0).max(1))));
        // The kernel also wakes us when somebody sets the clock, timerfd_create(2).
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        let _ = self.timer.set(at, flags);
    }

    fn arm_now(&self) {
        let _ = self
            .timer
            .set(Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(1))), TimerSetTimeFlags::empty());
    }
}
