//! The wake-up before the kernel dismantles a dying process's memory. From then on its wait status is in /proc, until a
//! parent reaps it: before Linux 6.15, a watcher that waits for the process itself is mostly too late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use super::jobs::Jobs;
use crate::sys::page::Page;
use crate::sys::procfs::{Stat, StatFile};

/// How long a process that leaves its memory may take to be on its way out: else it has called exec, or only a thread has
/// ended.
const LEAVING: Duration = Duration::from_millis(50);
/// How long it is looked at without a pause: most are gone by then.
const WITHOUT_PAUSE: Duration = Duration::from_millis(2);
/// The pause after that: a core that is being dumped takes seconds, and only the last look knows of it.
const PAUSE: Duration = Duration::from_millis(1);
/// Bytes of the thread's stack: it makes two system calls.
const STACK_BYTES: usize = 64 * 1024;
/// No status was seen.
const NONE: i64 = -1;

/// A thread that waits for it.
pub struct Leaving {
    seen: Arc<Seen>,
}

struct Seen {
    /// The last status, with the number of threads above it.
    last: AtomicI64,
    /// The host's memory was left, but not for its end.
    lives: AtomicBool,
    is_over: AtomicBool,
}

impl Leaving {
    /// Waits for a host that holds the mutex of the page. None where it does not, or there can be no thread.
    pub fn watch(page: Arc<Page>, pid: u32, jobs: &Jobs) -> Option<Self> {
        if page.holder() == 0 {
            return None;
        }
        let stat = StatFile::open(pid)?;
        let seen = Arc::new(Seen {
            last: AtomicI64::new(NONE),
            lives: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let (found, news) = (Arc::clone(&seen), Arc::clone(jobs.news()));
        let wait = move || {
            if page.await_leaving() {
                found.look(&stat);
                let _ = news.tell();
            }
        };
        let thread = std::thread::Builder::new().name("leaving".to_owned()).stack_size(STACK_BYTES).spawn(wait);
        thread.is_ok().then_some(Self { seen })
    }

    /// Whether the host's memory was left, but not for its end. Said once.
    pub fn has_news(&mut self) -> bool {
        self.seen.lives.swap(false, Ordering::AcqRel)
    }

    /// The last wait status that was seen of the process on its way out, and how many threads it still had.
    pub fn last(&self) -> Option<(i32, u32)> {
        let last = self.seen.last.load(Ordering::Acquire);
        (last != NONE).then_some(((last & 0xffff_ffff) as i32, (last >> 32) as u32))
    }

    /// The process has been dealt with.
    pub fn give_up(&self) {
        self.seen.is_over.store(true, Ordering::Release);
    }
}

impl Seen {
    fn look(&self, stat: &StatFile) {
        let since = Instant::now();
        while !self.is_over.load(Ordering::Acquire) {
            // Reaped: what was seen last was it.
            let Some(now) = stat.read() else { return };
            if now.is_exiting || now.has_ended() {
                self.note(&now);
            } else if since.elapsed() > LEAVING {
                self.lives.store(true, Ordering::Release);
                return;
            }
            if now.has_ended() {
                return;
            }
            if since.elapsed() > WITHOUT_PAUSE {
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn note(&self, now: &Stat) {
        let status = i64::from(now.exit_code.cast_unsigned());
        self.last.store(i64::from(now.threads) << 32 | status, Ordering::Release);
    }
}
