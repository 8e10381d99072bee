//! Waits for a time of day, a file in a folder, or another thread, without waking up for anything else.
#![allow(unsafe_code, reason = "poll(2), timerfd and inotify by numbers that the host may have taken away")]

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::descriptor::{self, Owned};

/// How long a wait is at most where the kernel gives no timer, or no news of the folder: how late a switch is followed then.
const LOOK: Duration = Duration::from_secs(1);
/// The events of files that are replaced as a whole, and of the folder itself.
const CHANGES: u32 = libc::IN_MOVED_TO
    | libc::IN_ATTRIB
    | libc::IN_CLOSE_WRITE
    | libc::IN_DELETE
    | libc::IN_DELETE_SELF
    | libc::IN_MOVE_SELF
    | libc::IN_ONLYDIR
    | libc::IN_DONT_FOLLOW;
/// The events after which the watched folder is no longer the one with its name.
const FOLDER_IS_GONE: u32 = libc::IN_DELETE_SELF | libc::IN_MOVE_SELF | libc::IN_IGNORED | libc::IN_UNMOUNT;

/// After something was deleted in it, the folder itself may be deleted next. The kernel does not report that while a file in it
/// is open or a socket is bound. So it is checked every second for this long.
const DELETION: Duration = LOOK.saturating_mul(2);

/// The events of the folders above it.
const CHANGES_ABOVE: u32 = libc::IN_MOVE_SELF | libc::IN_ONLYDIR;

/// Says where the watched folder is, which may change.
pub type Place = Box<dyn Fn() -> PathBuf + Send + Sync>;

/// Two descriptors: a timer, which is also how other threads wake the waiting one, and a watched folder; for a folder on a file
/// system that is not the root's also what tells that something was mounted or unmounted. Each may be missing, for as long as
/// the kernel does not give it or the host takes it away: then there is a look each second.
pub struct Waiter {
    place: Option<Place>,
    state: Mutex<State>,
    /// Wakes where there is no timer.
    woken: Condvar,
}

#[derive(Default)]
struct State {
    is_woken: bool,
    is_stopped: bool,
    /// A thread is in poll(2), which only the descriptors wake.
    is_polling: bool,
    timer: Option<Owned>,
    watch: Option<Owned>,
    /// What is watched.
    folder: Found,
    /// Whether another folder is watched since the last question.
    is_other_folder: bool,
    /// When something was deleted in it.
    deleted_at: Option<Instant>,
    /// The table of mounts, where the folder hangs on one.
    mounts: Option<Owned>,
    /// Something of it cannot be watched.
    is_half_blind: bool,
}

impl Waiter {
    /// A waiter that also returns when files change in the folder that is at this place, or another folder comes there.
    pub fn new(place: Option<Place>) -> Self {
        let mut state = State::default();
        state.renew(place.as_ref().map(|place| Found::at(place())));
        Self { place, state: Mutex::new(state), woken: Condvar::new() }
    }

    /// Waits until this Unix second, a change in the folder, a step of the clock, [`wake`](Self::wake) or
    /// [`stop`](Self::stop). Without a time it waits for the others. May return without any of them.
    pub fn wait(&self, until: Option<i64>) {
        self.wait_at_door(until, None);
    }

    /// The same, or until a connection arrives at this listening socket.
    pub fn wait_at_door(&self, until: Option<i64>, door: Option<&Owned>) {
        self.wait_for_any(until, Duration::MAX, door);
    }

    /// Whether there may be another folder since this was asked last.
    pub fn has_other_folder(&self) -> bool {
        std::mem::take(&mut self.lock().is_other_folder)
    }

    /// As [`wait`](Self::wait), for no longer than this.
    pub fn wait_at_most(&self, until: Option<i64>, longest: Duration) {
        self.wait_for_any(until, longest, None);
    }

    fn wait_for_any(&self, until: Option<i64>, longest: Duration, door: Option<&Owned>) {
        // Not under the lock: it may be asked of a disk.
        let folder = self.place.as_ref().map(|place| Found::at(place()));
        let mut state = self.lock();
        if state.is_stopped || std::mem::take(&mut state.is_woken) {
            return;
        }
        // Changes during a time without a watch are looked at now.
        if state.renew(folder) == Watching::Anew {
            return;
        }
        let is_going = state.deleted_at.is_some_and(|at| at.elapsed() < DELETION);
        let is_blind = self.place.is_some() && (state.watch.is_none() || state.is_half_blind || is_going);
        let longest = if is_blind { longest.min(LOOK) } else { longest };
        // Armed under the lock, so that a wake that comes now is not overwritten.
        let mut state = if state.timer.as_ref().and_then(Owned::get).is_some_and(|timer| arm(timer, until)) {
            self.poll(state, longest, door)
        } else {
            let longest = longest.min(LOOK).min(until.map_or(LOOK, time_until));
            self.woken.wait_timeout(state, longest).unwrap_or_else(PoisonError::into_inner).0
        };
        state.take_news();
        state.is_woken = false;
    }

    fn poll<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        longest: Duration,
        door: Option<&Owned>,
    ) -> MutexGuard<'a, State> {
        let known = [state.timer.as_ref(), state.watch.as_ref(), door, state.mounts.as_ref()];
        let numbers = known.map(|descriptor| descriptor.map_or(-1, Owned::number));
        let mut fds = numbers.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        // It can always be read, proc(5).
        fds[3].events = libc::POLLPRI;
        let polled = numbers.iter().rposition(|number| *number >= 0).map_or(0, |last| last as libc::nfds_t + 1);
        state.is_polling = true;
        drop(state);
        // poll(2) counts whole milliseconds, and waits for ever below 0.
        let timeout =
            if longest == Duration::MAX { -1 } else { i32::try_from(longest.as_millis()).unwrap_or(i32::MAX) };
        // SAFETY: as many entries, or less. An interrupted or failed wait only makes the caller look at what is due once more.
        unsafe { libc::poll(fds.as_mut_ptr(), polled, timeout) };
        let mut state = self.lock();
        state.is_polling = false;
        if fds[3].revents != 0 {
            // Another folder may be in this place now.
            state.watch = None;
        }
        state
    }

    /// Makes a wait return. False where the waiting thread cannot be woken: the host has closed the descriptors that it
    /// waits for.
    pub fn wake(&self) -> bool {
        let mut state = self.lock();
        state.is_woken = true;
        self.nudge(&state)
    }

    /// Makes this and every later wait return; false as for [`wake`](Self::wake).
    pub fn stop(&self) -> bool {
        let mut state = self.lock();
        state.is_stopped = true;
        self.nudge(&state)
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    fn nudge(&self, state: &State) -> bool {
        self.woken.notify_all();
        !state.is_polling || state.timer.as_ref().and_then(Owned::get).is_some_and(arm_now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A folder as it is found at its place.
#[derive(Default, PartialEq, Eq)]
struct Found {
    path: PathBuf,
    /// Device and inode; none where there is none.
    identity: Option<(libc::dev_t, libc::ino_t)>,
}

impl Found {
    fn at(path: PathBuf) -> Self {
        let meta = nix::sys::stat::stat(&path);
        Self { identity: meta.ok().map(|meta| (meta.st_dev, meta.st_ino)), path }
    }
}

/// Whether the folder is watched as it was before.
#[derive(PartialEq, Eq)]
enum Watching {
    AsBefore,
    Anew,
}

impl State {
    /// Makes what is missing, as far as the kernel gives it.
    fn renew(&mut self, folder: Option<Found>) -> Watching {
        if self.timer.as_ref().and_then(Owned::get).is_none() {
            self.timer = timer();
        }
        let Some(folder) = folder else { return Watching::AsBefore };
        let is_mounted = self.mounts.as_ref().is_none_or(|mounts| mounts.get().is_some());
        if self.watch.as_ref().and_then(Owned::get).is_some() && is_mounted && folder == self.folder {
            return Watching::AsBefore;
        }
        // Before the watch: what is mounted after that is heard of.
        self.mounts = hangs_on_mount(&folder.path).then(mounts).flatten();
        let lacks_mounts = self.mounts.is_none() && hangs_on_mount(&folder.path);
        let (watch, is_whole) = watch(&folder.path).unzip();
        self.is_half_blind = lacks_mounts || is_whole == Some(false);
        (self.watch, self.folder, self.is_other_folder) = (watch, folder, true);
        if self.watch.is_some() { Watching::Anew } else { Watching::AsBefore }
    }

    /// Reads what happened in the folder, which is of no other use than to have happened.
    fn take_news(&mut self) {
        /// An event without a name, inotify(7).
        const EVENT_BYTES: usize = size_of::<libc::inotify_event>();
        let mut buffer = [0_u8; 4096];
        while let Some(watch) = self.watch.as_ref().and_then(Owned::get) {
            let Ok(length) = nix::unistd::read(watch, &mut buffer) else { return };
            let mut events = &buffer[..length];
            let mut is_gone = length == 0;
            while events.len() >= EVENT_BYTES {
                // SAFETY: as many bytes as an event has, of which any are one.
                let event = unsafe { events.as_ptr().cast::<libc::inotify_event>().read_unaligned() };
                is_gone |= event.mask & FOLDER_IS_GONE != 0;
                if event.mask & libc::IN_DELETE != 0 {
                    self.deleted_at = Some(Instant::now());
                }
                events = events.get(EVENT_BYTES + event.len as usize..).unwrap_or_default();
            }
            if is_gone {
                self.watch = None;
            }
        }
    }
}

fn timer() -> Option<Owned> {
    // SAFETY: a new descriptor, looked at before it is taken.
    let made = descriptor::make(|| unsafe {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        let number = Errno::result(libc::timerfd_create(libc::CLOCK_REALTIME, flags))?;
        Ok::<_, Errno>(OwnedFd::from_raw_fd(number))
    });
    Owned::new(made.ok()?).ok()
}

/// The folder, watched; and whether also the folders above it are, which may be moved with it.
fn watch(folder: &Path) -> Option<(Owned, bool)> {
    // SAFETY: a new descriptor, looked at before it is taken.
    let made = descriptor::make(|| unsafe {
        let number = Errno::result(libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK))?;
        Ok::<_, Errno>(OwnedFd::from_raw_fd(number))
    });
    let made = made.ok()?;
    let add = |folder: &Path, changes| {
        let path = CString::new(folder.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
        // SAFETY: a path with its NUL.
        Errno::result(unsafe { libc::inotify_add_watch(made.as_raw_fd(), path.as_ptr(), changes) })
    };
    add(folder, CHANGES).ok()?;
    // A folder that may not be read cannot be watched.
    let is_whole = folder
        .ancestors()
        .skip(1)
        .all(|above| !matches!(add(above, CHANGES_ABOVE), Err(Errno::ENOSPC | Errno::ENOMEM)));
    Some((Owned::new(made).ok()?, is_whole))
}

/// Whether something between the root and the folder is a file system of its own, as far as that can be seen.
fn hangs_on_mount(folder: &Path) -> bool {
    let device = |path: &Path| nix::sys::stat::stat(path).ok().map(|meta| meta.st_dev);
    device(folder).is_some_and(|own| device(Path::new("/")).is_some_and(|root| root != own))
}

fn mounts() -> Option<Owned> {
    let made = descriptor::make(|| {
        nix::fcntl::open(c"/proc/self/mountinfo", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
    });
    Owned::new(made.ok()?).ok()
}

/// Whether it is set to this Unix second, or to none.
fn arm(timer: BorrowedFd<'_>, until: Option<i64>) -> bool {
    // Zero would disarm it.
    let seconds = until.map_or(0, |until| until.max(1));
    // The kernel also wakes us when the clock is set, timerfd_create(2).
    set(timer, libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET, seconds, 0)
}

fn arm_now(timer: BorrowedFd<'_>) -> bool {
    set(timer, 0, 0, 1)
}

fn set(timer: BorrowedFd<'_>, flags: libc::c_int, seconds: i64, nanoseconds: libc::c_long) -> bool {
    let mut at = MaybeUninit::<libc::itimerspec>::zeroed();
    // SAFETY: a structure of numbers, of which zeros are one; the kernel only reads it.
    unsafe {
        (*at.as_mut_ptr()).it_value = libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        libc::timerfd_settime(timer.as_raw_fd(), flags, at.as_ptr(), ptr::null_mut()) == 0
    }
}

fn time_until(unix_second: i64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(u64::try_from(unix_second).unwrap_or(0)).saturating_sub(now)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::DirBuilderExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::Arc;
    use std::thread::JoinHandle;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ondat-telemetry-waiter-{name}-{}", std::process::id()));
            fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
            Self(path)
        }
    }

    impl Scratch {
        fn place(&self) -> Place {
            let path = self.0.clone();
            Box::new(move || path.clone())
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A thread that is in its wait.
    fn waiting(waiter: &Arc<Waiter>) -> JoinHandle<()> {
        let waited_on = Arc::clone(waiter);
        let thread = std::thread::spawn(move || waited_on.wait(None));
        while !waiter.lock().is_polling {
            std::thread::yield_now();
        }
        thread
    }

    #[test]
    fn a_wait_ends_by_a_wake_a_file_and_a_time() {
        let scratch = Scratch::new("ends");
        let waiter = Arc::new(Waiter::new(Some(scratch.place())));
        let thread = waiting(&waiter);
        assert!(waiter.wake());
        thread.join().unwrap();
        let thread = waiting(&waiter);
        fs::write(scratch.0.join("switches.json"), "{}").unwrap();
        thread.join().unwrap();
        waiter.wait(Some(1));
        waiter.stop();
        waiter.wait(None);
    }

    #[test]
    fn what_the_host_takes_away_is_made_anew_and_what_it_put_there_is_let_alone() {
        let scratch = Scratch::new("taken");
        let waiter = Arc::new(Waiter::new(Some(scratch.place())));
        let thread = waiting(&waiter);
        let numbers = {
            let state = waiter.lock();
            [&state.timer, &state.watch].map(|descriptor| descriptor.as_ref().unwrap().number())
        };
        let null = File::open("/dev/null").unwrap();
        for number in numbers {
            // SAFETY: as a host does that closes what it does not know and opens something else.
            assert_eq!(unsafe { libc::dup2(null.as_raw_fd(), number) }, number);
        }
        assert!(!waiter.wake(), "nothing can wake it");
        // The kernel keeps what is waited for.
        fs::write(scratch.0.join("a"), "").unwrap();
        thread.join().unwrap();
        waiter.wait(None);
        let thread = waiting(&waiter);
        fs::write(scratch.0.join("b"), "").unwrap();
        thread.join().unwrap();
        let thread = waiting(&waiter);
        assert!(waiter.wake());
        thread.join().unwrap();
        drop(Arc::into_inner(waiter).unwrap());
        for number in numbers {
            assert_eq!(fs::read_link(format!("/proc/self/fd/{number}")).unwrap(), Path::new("/dev/null"));
            // SAFETY: the test's own.
            unsafe { libc::close(number) };
        }
    }

    #[test]
    fn a_folder_that_was_removed_and_made_anew_is_watched() {
        let scratch = Scratch::new("anew");
        let waiter = Arc::new(Waiter::new(Some(scratch.place())));
        let thread = waiting(&waiter);
        fs::remove_dir(&scratch.0).unwrap();
        thread.join().unwrap();
        fs::DirBuilder::new().mode(0o700).create(&scratch.0).unwrap();
        while waiter.lock().watch.is_none() {
            waiter.wait(None);
        }
        let thread = waiting(&waiter);
        fs::write(scratch.0.join("switches.json"), "{}").unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn a_folder_whose_parent_was_moved_and_made_anew_is_watched() {
        let scratch = Scratch::new("parent");
        let (parent, moved) = (scratch.0.join("parent"), scratch.0.join("moved"));
        let folder = parent.join("deep/state");
        fs::create_dir_all(&folder).unwrap();
        let place = folder.clone();
        let waiter = Arc::new(Waiter::new(Some(Box::new(move || place.clone()))));
        let thread = waiting(&waiter);
        fs::rename(&parent, &moved).unwrap();
        thread.join().unwrap();
        fs::create_dir_all(&folder).unwrap();
        while waiter.lock().watch.is_none() {
            waiter.wait(None);
        }
        let thread = waiting(&waiter);
        fs::write(folder.join("switches.json"), "{}").unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn another_place_is_another_folder() {
        let scratch = Scratch::new("place");
        let (first, second) = (scratch.0.join("first"), scratch.0.join("second"));
        for folder in [&first, &second] {
            fs::create_dir(folder).unwrap();
        }
        let place = Arc::new(Mutex::new(first));
        let told = Arc::clone(&place);
        let waiter = Arc::new(Waiter::new(Some(Box::new(move || told.lock().unwrap().clone()))));
        *place.lock().unwrap() = second.clone();
        // What was there before is looked at.
        waiter.wait(None);
        let thread = waiting(&waiter);
        fs::write(second.join("switches.json"), "{}").unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn a_folder_that_was_deleted_with_something_in_it_open_is_not_taken_for_the_next() {
        let scratch = Scratch::new("kept");
        let inside = scratch.0.join("inside");
        fs::create_dir(&inside).unwrap();
        let kept = File::open(&inside).unwrap();
        let waiter = Arc::new(Waiter::new(Some(scratch.place())));
        assert!(waiter.has_other_folder() && !waiter.has_other_folder());
        let thread = waiting(&waiter);
        fs::remove_dir(&inside).unwrap();
        thread.join().unwrap();
        // Of this the kernel says nothing.
        fs::remove_dir(&scratch.0).unwrap();
        fs::DirBuilder::new().mode(0o700).create(&scratch.0).unwrap();
        while !waiter.has_other_folder() {
            waiter.wait(None);
        }
        let thread = waiting(&waiter);
        fs::write(scratch.0.join("switches.json"), "{}").unwrap();
        thread.join().unwrap();
        drop(kept);
    }

    #[test]
    fn a_wait_ends_when_somebody_comes_to_the_door() {
        let scratch = Scratch::new("door");
        let waiter = Waiter::new(None);
        let door = UnixListener::bind(scratch.0.join("door")).unwrap();
        let visitor = UnixStream::connect(scratch.0.join("door")).unwrap();
        let door = Owned::new(door.into()).unwrap();
        waiter.wait_at_door(None, Some(&door));
        assert!(descriptor::accept(door.get().unwrap()).unwrap().is_some());
        drop(visitor);
    }

    #[test]
    fn without_a_timer_there_is_a_look_each_second_and_a_wake_at_once() {
        let waiter = Waiter::new(None);
        waiter.lock().timer = None;
        assert!(waiter.wake());
        waiter.wait(None);
    }
}
