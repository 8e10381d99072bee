//! One report for each death: stored, and sent. If the disk does not answer, the report is sent from memory, and stored
//! once the disk does.

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::jobs::{Jobs, within};
use super::postmortem::{Death, Postmortem, Report, keep_delivered};
use crate::crash::delivery::{Sent, new_event_id};
use crate::error::Error;
use crate::sys::page::{Page, Stage};

/// How long a report waits for the disk before it is sent from memory: writing it takes a millisecond.
pub const DISK_PATIENCE: Duration = Duration::from_millis(200);
/// How long a stop lets an upload go on: a server that answers takes some milliseconds.
const LAST_MOMENT: Duration = Duration::from_millis(100);
/// How long the end of a PID 1 waits for the administrator's file to be read; after that the last state counts.
const WORD_PATIENCE: Duration = Duration::from_millis(100);
/// The share of a PID 1's wait that sending may take. The rest, a quarter, is for storing a report that could not be sent.
const SENDING_SHARE: (u32, u32) = (3, 4);

/// How the words of a dying process are answered.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// The ticket in the shared page; 0: no host waits.
    pub ticket: u32,
    /// There is no page: the answer is a byte on the socket.
    pub by_byte: bool,
}

impl Waiting {
    /// No host waits.
    pub const NONE: Self = Self { ticket: 0, by_byte: false };
}

/// How far a report has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Begun,
    /// It is on disk, or will never be.
    Settled,
    /// The disk did not answer: it is being sent from memory.
    TakenOver,
    /// The server has it from there.
    Delivered,
}

type Shared = Arc<(Mutex<Progress>, Condvar)>;

/// The reports of one monitor.
pub struct Reporting {
    jobs: Arc<Jobs>,
    postmortem: Arc<Postmortem>,
    page: Option<Arc<Page>>,
    /// The host's own death is being reported before it comes.
    is_begun: Cell<bool>,
    reports: Mutex<Vec<Shared>>,
}

impl Reporting {
    /// Nothing is reported yet.
    pub fn new(jobs: Arc<Jobs>, postmortem: Arc<Postmortem>, page: Option<Arc<Page>>) -> Self {
        Self { jobs, postmortem, page, is_begun: Cell::new(false), reports: Mutex::default() }
    }

    /// Reports the host's death before it comes. The host waits for that.
    pub fn before_the_end(&self, death: Death, waiting: Waiting) {
        if self.is_begun.replace(true) {
            return;
        }
        let Ok(event_id) = self.postmortem.event_id() else { return };
        let (postmortem, page) = (Arc::clone(&self.postmortem), self.page.clone());
        let answer = move |stage| {
            if let Some(page) = page.as_ref().filter(|_| waiting.ticket != 0) {
                page.answer(waiting.ticket, stage);
            }
        };
        if self.postmortem.ends_with_pid_1() {
            self.jobs.beside(move || {
                send_before_storing(&postmortem, &event_id, &death, &answer);
                answer(Stage::Sent);
            });
        } else {
            let shared = self.begin();
            self.jobs.beside(move || {
                store_and_send(&postmortem, &event_id, &death, &shared, &answer);
                answer(Stage::Sent);
            });
        }
    }

    /// Reports the host's death, once it has come.
    pub fn after_the_end(&self, death: Death) {
        let (postmortem, pid) = (Arc::clone(&self.postmortem), self.postmortem.setup().pid);
        if death.may_have_core() {
            self.jobs.beside(move || drop(postmortem.note_core(pid, death.ending)));
        }
        if !self.is_begun.get()
            && let Ok(event_id) = self.postmortem.event_id()
        {
            self.report(event_id, death);
        }
    }

    /// Reports a child's death.
    pub fn of_child(&self, pid: u32, death: Death) {
        let postmortem = Arc::clone(&self.postmortem);
        if death.may_have_core() {
            self.jobs.beside(move || drop(postmortem.note_core(pid, death.ending)));
        }
        if let Ok(event_id) = new_event_id() {
            self.report(event_id, death);
        }
    }

    /// Reports the death of a supervisor's program, and waits for that.
    pub fn of_program(&self, event_id: String, death: Death) {
        if self.postmortem.ends_with_pid_1() {
            send_before_storing(&self.postmortem, &event_id, &death, &|_| {});
        } else {
            self.report(event_id, death);
            self.jobs.finish(Duration::MAX);
        }
    }

    fn report(&self, event_id: String, death: Death) {
        let shared = self.begin();
        let (postmortem, id, begun) = (Arc::clone(&self.postmortem), event_id.clone(), Arc::clone(&shared));
        self.jobs.beside(move || store_and_send(&postmortem, &id, &death, &begun, &|_| {}));
        let postmortem = Arc::clone(&self.postmortem);
        self.jobs.beside(move || take_over(&postmortem, &event_id, &death, &shared));
    }

    fn begin(&self) -> Shared {
        let shared: Shared = Arc::new((Mutex::new(Progress::Begun), Condvar::new()));
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&shared));
        shared
    }

    /// Whether everything is done.
    pub fn is_over(&self) -> bool {
        self.jobs.are_done()
    }

    /// Waits only until everything is stored: a signal asks this process to end.
    pub fn go(&self) {
        if self.jobs.finish(LAST_MOMENT) {
            return;
        }
        for shared in self.reports.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            wait_while(shared, DISK_PATIENCE, |progress| progress == Progress::Begun);
        }
    }
}

/// The progress once it is another, or the time is up.
fn wait_while(shared: &Shared, at_most: Duration, is: impl Fn(Progress) -> bool) -> Progress {
    let (progress, changed) = &**shared;
    let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = changed.wait_timeout_while(progress, at_most, |progress| is(*progress));
    *waited.unwrap_or_else(PoisonError::into_inner).0
}

/// Changes it from one to another; what it was.
fn change(shared: &Shared, from: Progress, to: Progress) -> Progress {
    let (progress, changed) = &**shared;
    let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
    let was = *progress;
    if was == from {
        *progress = to;
        changed.notify_all();
    }
    was
}

/// The usual way.
fn store_and_send(postmortem: &Postmortem, event_id: &str, death: &Death, shared: &Shared, answer: &dyn Fn(Stage)) {
    let stored = postmortem.store(event_id, death);
    if change(shared, Progress::Begun, Progress::Settled) == Progress::TakenOver {
        wait_while(shared, Duration::MAX, |progress| progress == Progress::TakenOver);
    }
    answer(Stage::Stored);
    let is_delivered = wait_while(shared, Duration::ZERO, |_| true) == Progress::Delivered;
    // A report that cannot be sent stays stored.
    if let Ok(Report::Stored(claim)) = stored {
        let _ = if is_delivered { keep_delivered(claim) } else { postmortem.send(claim).map(drop) };
    }
}

/// Sends the report from memory if the disk does not answer in time.
fn take_over(postmortem: &Postmortem, event_id: &str, death: &Death, shared: &Shared) {
    wait_while(shared, DISK_PATIENCE, |progress| progress == Progress::Begun);
    if change(shared, Progress::Begun, Progress::TakenOver) != Progress::Begun {
        return;
    }
    let sent = postmortem.send_from_memory(event_id, death, Duration::MAX);
    let to = if has_arrived(&sent) { Progress::Delivered } else { Progress::Settled };
    change(shared, Progress::TakenOver, to);
}

/// Where this process and its host end together: a disk that hangs must not keep them, so that it is asked only where the
/// report is lost otherwise, or where it is seen to answer.
fn send_before_storing(postmortem: &Arc<Postmortem>, event_id: &str, death: &Death, answer: &dyn Fn(Stage)) {
    let reader = Arc::clone(postmortem);
    within(WORD_PATIENCE, move || reader.read_word());
    let (part, whole) = SENDING_SHARE;
    let timeout = Duration::from_millis(postmortem.setup().wait_ms.into()) * part / whole;
    let sent = if postmortem.may_send_at_once(event_id, death) {
        postmortem.send_from_memory(event_id, death, timeout)
    } else {
        Ok(None)
    };
    if has_arrived(&sent) {
        if postmortem.may_use_disk() {
            postmortem.note_delivered(event_id, death);
        }
        return;
    }
    if let Ok(Report::Stored(claim)) = postmortem.store(event_id, death) {
        answer(Stage::Stored);
        // Tried just now, unless it was not to be.
        if matches!(sent, Ok(None)) {
            let _ = postmortem.send(claim);
        }
    }
}

fn has_arrived(sent: &Result<Option<Sent>, Error>) -> bool {
    matches!(sent, Ok(Some(Sent::Delivered | Sent::Dropped(_))))
}
