//! The crash monitor: a small process that outlives its host by one report. It sleeps until the host dies, reads from
//! the kernel how it died, stores the report and sends it. The thread that watches uses no disk and no network.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recv, recvmsg, send};

use super::children::Children;
use super::jobs::Jobs;
use super::leaving::Leaving;
use super::memory_watch::MemoryWatch;
use super::postmortem::{Death, Postmortem};
use super::reporting::{Reporting, Waiting};
use super::witnesses::{self, Dead, said_by_go};
use crate::crash::cores;
use crate::crash::output::{Class, CrashOutput};
use crate::crash::record::{AWAITED, Kind, MESSAGE_BYTES, Record, TENTATIVE};
use crate::crash::setup::{SETUP_BYTES, Setup};
use crate::error::Error;
use crate::sys::library::{self, Whose};
use crate::sys::page::{Page, Stage};
use crate::sys::procfs::{self, Stat, StatFile};

/// How long the host waits at most for what is read of its disk beforehand.
const BEFOREHAND: Duration = Duration::from_secs(1);
/// How often a host without a pidfd (before Linux 5.3) is looked at once its socket has closed.
const POLL_WITHOUT_PIDFD: Duration = Duration::from_millis(20);
/// How often it is asked whether jobs are done, while it is not sure that they can say so.
const NEWS_LOOK: Duration = Duration::from_secs(1);
/// How long after an earlier handler was called the process is looked at: it may have recovered. Again as often, while the
/// handler still runs.
const RECOVERY: Duration = Duration::from_secs(1);
/// How often: a handler that has left its signal blocked for good looks like one that runs.
const RECOVERY_LOOKS: u32 = 60;
/// The most records that are kept: a program that recovers from signal after signal must not fill this one's memory.
const RECORDS: usize = 16;
/// What the monitor was started with, beside its socket.
pub struct Inherited {
    /// The pidfd of the host.
    pub process: Option<OwnedFd>,
    /// What the host's Go runtime writes when it dies.
    pub output: Option<OwnedFd>,
    /// The page that it shares with the host.
    pub page: Option<OwnedFd>,
    /// While this is held, a parked process stays and keeps the host's memory: see `sys::spawn`.
    pub leash: Option<OwnedFd>,
}

/// Watches the process at the other end of `socket` and returns when its report is stored, and sent if that was
/// possible at once.
pub fn run(socket: OwnedFd, with: Inherited) -> Result<(), Error> {
    let Some(setup) = receive_setup(&socket)? else { return Ok(()) };
    let mut host = Host::new(socket, with, setup)?;
    // If the disk hangs later, this is what is known.
    host.jobs.settle(BEFOREHAND);
    host.say_ready();
    library::give_back(Whose::Process);
    let death = host.outlive();
    host.finish(death);
    Ok(())
}

fn receive_setup(socket: &OwnedFd) -> Result<Option<Setup>, Error> {
    let mut bytes = vec![0; SETUP_BYTES];
    let length =
        recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()).map_err(|error| Error::Io(error.to_string()))?;
    if length == 0 {
        return Ok(None);
    }
    serde_json::from_slice(&bytes[..length]).map(Some).map_err(|error| Error::InvalidArgument(error.to_string()))
}

struct Host {
    socket: Option<OwnedFd>,
    process: Option<OwnedFd>,
    stat: Option<StatFile>,
    page: Option<Arc<Page>>,
    page_inode: Option<u64>,
    leash: Option<OwnedFd>,
    /// The program's file when the monitor started.
    program: Option<(u64, u64)>,
    /// Wakes before the kernel takes the host's memory apart.
    leaving: Option<Leaving>,
    stops: Option<SignalFd>,
    output: Option<(File, CrashOutput)>,
    /// What the host's Go runtime has said, once it has ended.
    class: Option<Class>,
    memory: MemoryWatch,
    children: Children,
    jobs: Arc<Jobs>,
    postmortem: Arc<Postmortem>,
    reporting: Reporting,
    is_off: bool,
    /// It has said goodbye while one of its threads was crashing, and may be dead before this.
    goodbye: Option<Instant>,
    /// The host has ended, or is none of ours any more.
    is_dead: bool,
    /// The records of the host, the latest last.
    words: Vec<Record>,
    recovery: Option<Recovery>,
}

/// Looks whether a process has survived a signal.
struct Recovery {
    at: Instant,
    looks: u32,
}

/// The result of a poll.
#[derive(Default)]
struct Found {
    message: bool,
    end: bool,
    output: bool,
    stop: bool,
    memory: bool,
    news: bool,
}

impl Host {
    fn new(socket: OwnedFd, with: Inherited, setup: Setup) -> Result<Self, Error> {
        let no_descriptors = |error: io::Error| Error::Unsupported(format!("no descriptors for the monitor: {error}"));
        let jobs = Arc::new(Jobs::new().map_err(no_descriptors)?);
        let stat = StatFile::open(setup.pid);
        let page_inode = with.page.as_ref().and_then(|page| nix::sys::stat::fstat(page).ok()).map(|meta| meta.st_ino);
        let page = with.page.as_ref().and_then(|page| Page::map(page.as_fd()).ok()).map(Arc::new);
        let leaving = page.as_ref().and_then(|page| Leaving::watch(Arc::clone(page), setup.pid, &jobs));
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTERM);
        let postmortem = Arc::new(Postmortem::new(setup));
        let reader = Arc::clone(&postmortem);
        jobs.in_order(move || reader.read_beforehand());
        Ok(Self {
            socket: Some(socket),
            process: with.process,
            stat,
            page_inode,
            leash: with.leash,
            program: procfs::program_of(postmortem.setup().pid),
            leaving,
            stops: SignalFd::with_flags(&stop, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).ok(),
            output: with.output.map(|pipe| (File::from(pipe), CrashOutput::default())),
            class: None,
            memory: MemoryWatch::new(),
            children: Children::default(),
            reporting: Reporting::new(Arc::clone(&jobs), Arc::clone(&postmortem), page.clone()),
            page,
            jobs,
            postmortem,
            is_off: false,
            goodbye: None,
            is_dead: false,
            words: Vec::new(),
            recovery: None,
        })
    }

    fn setup(&self) -> &Setup {
        self.postmortem.setup()
    }

    fn say_ready(&self) {
        let ready = Record::of(Kind::Ready);
        if let Some(socket) = &self.socket {
            let _ = send(socket.as_raw_fd(), &ready.to_bytes(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        }
    }

    /// Waits for the host's end. None when there is nothing to report: it said goodbye, or became another program.
    fn outlive(&mut self) -> Option<Dead> {
        loop {
            let found = self.wait();
            if found.output {
                self.read_output();
            }
            if found.stop {
                self.ignore_stop();
            }
            if found.news {
                self.jobs.news().take();
            }
            if found.message {
                match self.receive() {
                    Received::Goodbye if self.words.iter().any(|word| word.kind == Kind::Crash) => {
                        self.goodbye = Some(Instant::now() + RECOVERY);
                        continue;
                    }
                    Received::Goodbye => return None,
                    Received::Closed => self.socket = None,
                    Received::Record => continue,
                }
            }
            if found.end {
                self.drain();
                self.read_output();
                return Some(self.witnesses());
            }
            let has_left = self.leaving.as_mut().is_some_and(Leaving::has_news);
            match self.goodbye {
                None if (found.message || has_left) && self.has_become_another_program() => {
                    self.forget_run();
                    return None;
                }
                Some(until) if until <= Instant::now() => return None,
                _ => {}
            }
            self.look_at_recovery();
            self.memory.look(found.memory);
            self.children.reap(&self.reporting);
        }
    }

    /// Sleeps until one of them has something to say.
    fn wait(&self) -> Found {
        let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(6 + self.children.count());
        let socket = self.socket.as_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        let process = self.process.as_ref().map(|process| PollFd::new(process.as_fd(), PollFlags::POLLIN));
        let output = self.output.as_ref().map(|(pipe, _)| PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        let stop = self.stops.as_ref().map(|stops| PollFd::new(stops.as_fd(), PollFlags::POLLIN));
        let memory = self.memory.notice().map(|(notice, flags)| PollFd::new(notice, flags));
        let news = Some(PollFd::new(self.jobs.news().as_fd(), PollFlags::POLLIN));
        let known = [socket, process, output, stop, memory, news];
        let is_there = known.each_ref().map(Option::is_some);
        polled.extend(known.into_iter().flatten());
        polled.extend(self.children.descriptors().map(|child| PollFd::new(child, PollFlags::POLLIN)));

        let is_blind = !self.is_dead && self.socket.is_none() && self.process.is_none();
        let now = Instant::now();
        let until = |at: Instant| at.saturating_duration_since(now);
        let timeout = [
            self.recovery.as_ref().map(|recovery| until(recovery.at)),
            self.goodbye.map(until),
            self.memory.look_at().map(until),
            is_blind.then_some(POLL_WITHOUT_PIDFD),
            self.jobs.news().are_owed().then_some(NEWS_LOOK),
        ];
        let timeout = timeout.into_iter().flatten().min();
        // Rounded up: a timeout of 0 would spin.
        let timeout = timeout.map(|timeout| PollTimeout::try_from(timeout + Duration::from_millis(1)));
        let polling = poll(&mut polled, timeout.and_then(Result::ok).unwrap_or(PollTimeout::NONE));
        if polling.is_err_and(|error| error != Errno::EINTR) {
            // Without memory, or with more descriptors than are allowed. Asked again at once, it would take a processor.
            std::thread::sleep(POLL_WITHOUT_PIDFD);
            let has_ended = !self.is_dead && self.stat.is_some() && self.look().is_none_or(|stat| stat.has_ended());
            return Found { end: has_ended, news: true, ..Found::default() };
        }

        let mut ready = polled.iter().map(|fd| fd.any().unwrap_or(false));
        let mut next = |at: usize| is_there[at] && ready.next().unwrap_or(false);
        let mut found =
            Found { message: next(0), end: next(1), output: next(2), stop: next(3), memory: next(4), news: next(5) };
        found.news |= self.jobs.news().are_owed() && self.jobs.are_done();
        if self.process.is_none() && !self.is_dead {
            found.end = is_blind && self.look().is_none_or(|stat| stat.has_ended());
        }
        found
    }

    /// Reads what there is, so that the dying host is not held up. Its text goes no further.
    fn read_output(&mut self) {
        let Some((pipe, output)) = &mut self.output else { return };
        let known = output.class();
        let mut bytes = [0; 4096];
        let has_ended = loop {
            match pipe.read(&mut bytes) {
                Ok(0) => break true,
                Ok(length) => output.take(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error.kind() != io::ErrorKind::WouldBlock,
            }
        };
        let class = output.class();
        if let (None, Some(class)) = (known, class) {
            // The host ends any moment, and this process with it where that is PID 1.
            match class {
                Class::Quit => self.forget_run(),
                // Its namespace is gone in some hundred microseconds, and this thread has nothing better to do.
                Class::Panic | Class::FatalError if self.postmortem.ends_with_pid_1() => {
                    if self.postmortem.may_use_disk() {
                        self.postmortem.note(said_by_go(class));
                    }
                }
                Class::Panic | Class::FatalError => self.note(said_by_go(class), Waiting::NONE),
            }
        }
        if has_ended {
            // Closed without a word it says nothing, and polling it would spin.
            self.class = class;
            self.output = None;
        }
    }

    fn receive(&mut self) -> Received {
        let Some(socket) = &self.socket else { return Received::Closed };
        let mut bytes = [0; MESSAGE_BYTES + 1];
        let mut control = nix::cmsg_space!(nix::sys::socket::UnixCredentials);
        let (length, sender) = {
            let mut vector = [IoSliceMut::new(&mut bytes)];
            match recvmsg::<()>(socket.as_raw_fd(), &mut vector, Some(&mut control), MsgFlags::MSG_DONTWAIT) {
                Ok(message) => {
                    let sender = message.cmsgs().ok().and_then(|mut all| {
                        all.find_map(|one| match one {
                            ControlMessageOwned::ScmCredentials(sender) => Some(sender.pid()),
                            _ => None,
                        })
                    });
                    (message.bytes, sender)
                }
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => return Received::Record,
                Err(_) => return Received::Closed,
            }
        };
        if length == 0 {
            return Received::Closed;
        }
        // Anything but a message is from a host that is out of its mind: it changes nothing.
        let Some((record, ticket, pid)) = Record::from_message(&bytes[..length]) else { return Received::Record };
        let waiting = Waiting { ticket, by_byte: self.page.is_none() };
        let is_of_host = sender.is_none_or(|sender| sender.unsigned_abs() == self.setup().pid);
        if !is_of_host {
            // In another PID namespace it has another number there: it cannot be told from a pid that means nothing.
            if record.kind == Kind::Crash && sender == Some(pid) {
                self.children.take(pid.unsigned_abs(), record);
            }
            self.answer(&waiting, Stage::Received);
            return Received::Record;
        }
        match record.kind {
            Kind::Goodbye => {
                // From here on what is on disk is this process's to remove.
                self.answer(&waiting, Stage::Received);
                self.on_disk(waiting, Postmortem::forget_run);
                return Received::Goodbye;
            }
            Kind::On => self.is_off = false,
            Kind::Off => self.is_off = true,
            Kind::Recovered | Kind::Output | Kind::Ready => {}
            Kind::Crash | Kind::Exit => self.take(record, waiting),
        }
        Received::Record
    }

    /// Takes what the process says of its end. It is in memory first, and the process may go on; the rest is done beside.
    fn take(&mut self, record: Record, waiting: Waiting) {
        if self.words.len() == RECORDS {
            self.words.remove(0);
        }
        self.words.push(record);
        if record.kind == Kind::Crash {
            self.recovery = record.has(TENTATIVE).then(|| Recovery { at: Instant::now() + RECOVERY, looks: 0 });
        }
        // Before the answer, as the process may be gone after it. The kernel knows the name: no disk is asked.
        if let Some(cwd) = procfs::cwd(self.setup().pid) {
            self.postmortem.set_cwd(cwd);
        }
        // Where it waits for more, a byte is sent once that has come.
        if !(waiting.by_byte && record.has(AWAITED)) {
            self.answer(&waiting, Stage::Received);
        }
        if record.has(AWAITED) && !self.is_off {
            let death = Death::new(record.ending(cores::are_files), record.witness(), Some(record));
            self.reporting.before_the_end(death, waiting);
        } else if record.ending(cores::are_files).is_crash() {
            self.note(record, waiting);
        } else if self.words.iter().any(|word| word.kind == Kind::Crash) {
            // The signal before was survived. The process waits until nothing says otherwise.
            self.on_disk(waiting, Postmortem::forget_run);
        }
    }

    fn answer(&self, waiting: &Waiting, stage: Stage) {
        match &self.page {
            Some(page) if waiting.ticket != 0 => page.answer(waiting.ticket, stage),
            _ if waiting.by_byte => {
                if let Some(socket) = &self.socket {
                    let _ = send(socket.as_raw_fd(), &[1], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
                }
            }
            _ => {}
        }
    }

    /// Writes it into the run marker, for the next start.
    fn note(&self, record: Record, waiting: Waiting) {
        self.on_disk(waiting, move |postmortem| postmortem.note(record));
    }

    fn forget_run(&self) {
        self.on_disk(Waiting::NONE, Postmortem::forget_run);
    }

    /// Makes the change on another thread, after all earlier changes on the disk, and answers the waiting host.
    fn on_disk(&self, waiting: Waiting, change: impl FnOnce(&Postmortem) + Send + 'static) {
        let (postmortem, page) = (Arc::clone(&self.postmortem), self.page.clone());
        self.jobs.in_order(move || {
            if postmortem.may_use_disk() {
                change(&postmortem);
            }
            if let Some(page) = page.filter(|_| waiting.ticket != 0) {
                page.answer(waiting.ticket, Stage::Stored);
            }
        });
    }

    /// Takes what the host still said before it died.
    fn drain(&mut self) {
        for _ in 0..64 + self.children.room() {
            if !matches!(self.receive(), Received::Record) || !self.has_message() {
                break;
            }
        }
        // A record that could not be sent is in the page.
        let Some(page) = &self.page else { return };
        for slot in [&page.crash, &page.exit] {
            let record = slot.read().and_then(Record::from_words);
            let record = record.filter(|record| matches!(record.kind, Kind::Crash | Kind::Exit));
            if let Some(record) = record.filter(|record| !self.words.contains(record)) {
                self.words.push(record);
            }
        }
    }

    fn has_message(&self) -> bool {
        let Some(socket) = &self.socket else { return false };
        poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// A stop of the whole service is not meant for this process while its host lives.
    fn ignore_stop(&self) {
        while self.stops.as_ref().is_some_and(|stops| matches!(stops.read_signal(), Ok(Some(_)))) {}
    }

    /// Whether the process lives on as another program: its socket has closed, or the thread that installed has left its
    /// memory. A host closes descriptors that are not its own, too, and threads end.
    fn has_become_another_program(&self) -> bool {
        let Some(now) = self.look() else { return false };
        let pid = self.setup().pid;
        let holds = self.page.as_ref().map(|page| (page.holder(), page.has_left()));
        // exec(2) makes every thread leave: if the thread is still there, there was none.
        if now.is_exiting || now.has_ended() || matches!(holds, Some((holder, false)) if holder != 0) {
            return false;
        }
        match self.page_inode.map(|inode| procfs::has_mapped(pid, inode)) {
            Some(Some(is_mapped)) => !is_mapped,
            // The mappings may not be read any more, or there is no page.
            _ => {
                let is_another_file = self.program.is_some() && procfs::program_of(pid) != self.program;
                // A process keeps its first thread over exec, and no other.
                let first_has_left = matches!(holds, Some((holder, true)) if holder == pid);
                let born = self.setup().born;
                first_has_left || is_another_file || born.is_some_and(|born| now.is_of_another_program(&born))
            }
        }
    }

    /// The host in /proc, and not another process with its pid.
    fn look(&self) -> Option<Stat> {
        let now = self.stat.as_ref()?.read()?;
        self.setup().born.is_none_or(|born| born.start_time == now.start_time).then_some(now)
    }

    /// A process that lives on after an earlier handler was called has recovered, unless that handler still runs.
    fn look_at_recovery(&mut self) {
        let pid = self.setup().pid;
        let Some(recovery) = &mut self.recovery else { return };
        if recovery.at > Instant::now() {
            return;
        }
        recovery.looks += 1;
        let last = self.words.last().filter(|record| record.kind == Kind::Crash);
        let may_die = |record: &Record| procfs::is_acting_on(pid, record.thread.unsigned_abs(), record.signal);
        // Of a process that has ended, the end comes with the next poll.
        let has_ended = self.stat.as_ref().is_some_and(|stat| stat.read().is_none_or(|stat| stat.has_ended()));
        if (has_ended || last.is_some_and(may_die)) && recovery.looks < RECOVERY_LOOKS {
            recovery.at = Instant::now() + RECOVERY;
            return;
        }
        self.recovery = None;
        self.words.retain(|record| record.kind != Kind::Crash);
        if let Some(page) = &self.page {
            page.crash.clear();
        }
        self.note(Record::of(Kind::Recovered), Waiting::NONE);
    }

    /// Everything that tells how the host has ended.
    fn witnesses(&self) -> Dead {
        // Ask this first: a process that is reaped meanwhile has no status that could be hidden.
        let is_hidden = procfs::is_hidden(self.setup().pid);
        let zombie = self.look().filter(Stat::has_ended);
        // The kernel gives this status only after the reaping. Before it, the zombie has the status.
        let is_seen = zombie.is_some_and(|stat| stat.exit_code != 0 || !is_hidden);
        let process = self.process.as_ref().filter(|_| !is_seen);
        let told = process.and_then(|process| witnesses::status_after_reaping(process.as_fd()));
        let class = self.class.or_else(|| self.output.as_ref().and_then(|(_, output)| output.class()));
        Dead {
            is_hidden,
            zombie,
            leaving: self.leaving.as_ref().and_then(Leaving::last),
            told,
            words: self.words.clone(),
            class,
            has_met_memory_limit: self.memory.has_killed(),
            kernel: procfs::kernel_version(),
        }
    }

    /// Reports, and waits for the end of what was begun.
    fn finish(&mut self, dead: Option<Dead>) {
        // From here on this process must hold up neither the release of the host's memory nor those that wait for its end.
        self.leash = None;
        self.is_dead = true;
        (self.socket, self.process, self.output) = (None, None, None);
        if let Some(leaving) = &self.leaving {
            leaving.give_up();
        }
        match dead.and_then(|dead| dead.death()) {
            Some(death) if !self.is_off => self.reporting.after_the_end(death),
            _ => self.forget_run(),
        }
        loop {
            self.children.reap(&self.reporting);
            if self.children.count() == 0 && self.reporting.is_over() {
                break;
            }
            let found = self.wait();
            if found.news {
                self.jobs.news().take();
            }
            if found.stop {
                self.reporting.go();
                return;
            }
        }
    }
}

enum Received {
    Record,
    Goodbye,
    Closed,
}
