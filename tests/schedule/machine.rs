//! A machine with clocks that the test sets, what a host is told, and chance that is the same in every run.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use ondat_telemetry::callbacks::VersionInfo;
use ondat_telemetry::client::Client;
use ondat_telemetry::config::builder::ConfigBuilder;
use ondat_telemetry::sys::clock::{Clock, Moment, Uptime};

pub(crate) const HOUR: i64 = 3_600;
pub(crate) const DAY: i64 = 24 * HOUR;
/// 2026-11-24T00:00:00Z.
pub(crate) const START: i64 = 1_795_478_400;

/// The machine: what is true, and what its clock says.
#[derive(Clone)]
pub(crate) struct Machine(Arc<Mutex<State>>);

struct State {
    /// Seconds that have really passed since the test began.
    elapsed: i64,
    /// What the clock shows more than that.
    clock: i64,
    /// Number and begin of this boot.
    boot: (u32, i64),
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { elapsed: 0, clock: START, boot: (1, -1_000) })))
    }

    pub(crate) fn elapsed(&self) -> i64 {
        self.0.lock().unwrap().elapsed
    }

    pub(crate) fn unix(&self) -> i64 {
        self.now().unix
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.0.lock().unwrap().elapsed += seconds;
    }

    pub(crate) fn set_clock_by(&self, seconds: i64) {
        self.0.lock().unwrap().clock += seconds;
    }

    pub(crate) fn reboot(&self) {
        let mut state = self.0.lock().unwrap();
        state.boot = (state.boot.0 + 1, state.elapsed);
    }
}

impl Clock for Machine {
    fn now(&self) -> Moment {
        let state = self.0.lock().unwrap();
        let uptime = Uptime { id: format!("boot {}", state.boot.0), seconds: state.elapsed - state.boot.1 };
        Moment { unix: state.clock + state.elapsed, boot: Some(uptime) }
    }
}

/// A folder that is gone when the test is over.
pub(crate) struct StateDir(pub(crate) PathBuf);

impl StateDir {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::DirBuilderExt;
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("ondat-telemetry-schedule-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        // In memory where there is such a place: nothing here is about the disk, and fsync(2) takes its time.
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = folder.join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a host was told.
#[derive(Clone, Default)]
pub(crate) struct Host {
    log: Arc<Mutex<Vec<(i32, String)>>>,
    news: Arc<Mutex<Vec<VersionInfo>>>,
}

impl Host {
    /// Lets this host hear what a client says.
    pub(crate) fn listen(&self, builder: &mut ConfigBuilder) {
        let (log, news) = (Arc::clone(&self.log), Arc::clone(&self.news));
        builder.set_log(7, Arc::new(move |priority, line| log.lock().unwrap().push((priority, line.to_owned()))));
        builder.set_on_version(Arc::new(move |info| news.lock().unwrap().push(info.clone())));
    }

    /// The lines of this priority so far, which are forgotten with that.
    pub(crate) fn lines(&self, priority: i32) -> Vec<String> {
        let lines = std::mem::take(&mut *self.log.lock().unwrap());
        let lines = lines.into_iter().filter(|(of, line)| *of == priority && !line.contains(NOTICE_WORDS));
        lines.map(|(_, line)| line).collect()
    }

    /// How often the administrator was told what is sent.
    pub(crate) fn notices(&self) -> usize {
        self.log.lock().unwrap().iter().filter(|(_, line)| line.contains(NOTICE_WORDS)).count()
    }

    pub(crate) fn news(&self) -> Vec<VersionInfo> {
        std::mem::take(&mut *self.news.lock().unwrap())
    }
}

/// Of the line before anything is sent.
const NOTICE_WORDS: &str = "tells its vendor about itself";

pub(crate) const WARNING: i32 = 4;
pub(crate) const NOTICE: i32 = 5;
pub(crate) const INFO: i32 = 6;

/// SplitMix64: the same numbers in every run, as each test has its own thread.
pub(crate) fn pseudo_random() -> u64 {
    thread_local!(static STATE: Cell<u64> = const { Cell::new(0) });
    let mut z = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(z);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(crate) fn draw(bound: i64) -> i64 {
    i64::try_from(pseudo_random() % bound.unsigned_abs()).unwrap()
}

/// Lets the process live for so long, waking it when it wanted to be woken.
pub(crate) fn live(client: &Client, machine: &Machine, seconds: i64) {
    let end = machine.elapsed() + seconds;
    let mut wakes = 0;
    loop {
        let next = client.work().unwrap();
        let left = end - machine.elapsed();
        let wait = next.map_or(left, |next| next - machine.unix());
        if wait >= left {
            machine.pass(left);
            return;
        }
        machine.pass(wait.max(0));
        wakes += 1;
        assert!(wakes < 10 + seconds / 600, "it does not come to rest: it wants to be woken in {wait} s");
    }
}

pub(crate) fn gaps(asked: &[i64]) -> Vec<i64> {
    asked.windows(2).map(|pair| pair[1] - pair[0]).collect()
}
