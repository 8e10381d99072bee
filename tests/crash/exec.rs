//! `ondat-telemetry exec`: a program under it behaves, and ends, as without it; its end is reported once.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::pid1::NAMESPACE;
use crate::process::Process;
use crate::sink::Sink;
use crate::support::{DEADLINE, TempDir, built, compile, root};
use crate::victim::{command, events, files_below, send, state_variable, stored_event, victim};

/// The settings of a node, in the environment.
pub(crate) struct Node {
    pub(crate) dir: TempDir,
    pub(crate) state: String,
    pub(crate) dsn: String,
}

impl Node {
    pub(crate) fn new(dsn: String) -> Self {
        let dir = TempDir::new();
        let (_, state) = state_variable(&dir);
        Self { dir, state, dsn }
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("ONDAT_TELEMETRY_VERSION", "1.2.3".to_owned()),
            ("ONDAT_TELEMETRY_CLUSTER_ID", "cluster-1".to_owned()),
            ("ONDAT_TELEMETRY_NODE_ID", "node-1".to_owned()),
            ("ONDAT_TELEMETRY_SENTRY_DSN", self.dsn.clone()),
            ("ONDAT_TELEMETRY_STATE_DIR", self.state.clone()),
            ("ONDAT_TELEMETRY_MONITOR_PATH", built("ondat-telemetry-monitor").to_str().unwrap().to_owned()),
            ("PATH", "/usr/bin:/bin".to_owned()),
        ]
    }

    /// `exec` with these options of its own, before these words.
    pub(crate) fn exec(&self, launcher: &[&str], options: &[&str], words: &[&str]) -> Command {
        let mut all: Vec<String> = launcher.iter().map(ToString::to_string).collect();
        all.push(command().to_str().unwrap().to_owned());
        all.push("exec".to_owned());
        all.extend(options.iter().chain(["--"].iter()).chain(words).map(ToString::to_string));
        let mut command = Command::new(&all[0]);
        command.args(&all[1..]).env_clear().envs(self.settings()).current_dir(self.dir.path());
        command
    }

    pub(crate) fn is_empty(&self) -> bool {
        files_below(Path::new(&self.state)).is_empty()
    }
}

pub(crate) fn plain(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env_clear().env("PATH", "/usr/bin:/bin");
    command
}

fn status(mut command: Command) -> i32 {
    command.stdin(Stdio::null()).status().unwrap().into_raw()
}

pub(crate) fn value(event: &Value) -> &str {
    event["exception"]["values"][0]["value"].as_str().unwrap()
}

#[test]
fn every_end_is_the_programs_own_and_a_crash_is_reported_before_it() {
    let ends = [
        ("exit 0", None),
        ("exit 3", Some("sh exited with code 3")),
        ("exit 255", Some("sh exited with code 255")),
        ("kill -TERM $$", None),
        ("kill -HUP $$", None),
        ("kill -KILL $$", Some("sh killed by SIGKILL")),
        ("kill -SEGV $$", Some("sh killed by SIGSEGV")),
        ("kill -ABRT $$", Some("sh killed by SIGABRT")),
        ("kill -USR1 $$", Some("sh killed by SIGUSR1")),
        ("kill -40 $$", Some("sh killed by SIG40")),
    ];
    for (end, report) in ends {
        let sink = Sink::start(200);
        let node = Node::new(sink.dsn());
        let words = ["sh", "-c", end];
        let mut without = plain(&words);
        let mut with = node.exec(&[], &[], &words);
        for command in [&mut without, &mut with] {
            no_core(command);
        }
        assert_eq!(status(with), status(without), "{end}");
        let reported: Vec<_> = events(&sink).iter().map(|event| value(event).to_owned()).collect();
        assert_eq!(reported, report.into_iter().collect::<Vec<_>>(), "{end}");
        assert!(node.is_empty());
    }
}

pub(crate) fn no_core(command: &mut Command) {
    let forbid = || {
        let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a system call with a local.
        if unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: a system call between fork and exec.
    unsafe { command.pre_exec(forbid) };
}

#[test]
fn the_component_can_be_named() {
    let sink = Sink::start(200);
    let node = Node::new(sink.dsn());
    assert_eq!(status(node.exec(&[], &["--component", "dataplane"], &["sh", "-c", "exit 3"])), 3 << 8);
    let events = events(&sink);
    assert_eq!(value(&events[0]), "dataplane exited with code 3");
    assert_eq!(events[0]["fingerprint"][0], "dataplane");
}

#[test]
fn a_program_that_is_not_there_or_cannot_be_run_is_said() {
    let sink = Sink::start(200);
    let node = Node::new(sink.dsn());
    for (word, code, why) in [("/nonexistent", 127, "No such file"), ("/etc/passwd", 126, "Permission denied")] {
        let output = node.exec(&[], &[], &[word]).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(word) && said.contains(why) && said.lines().count() == 1, "{said}");
    }
    assert!(node.is_empty() && sink.bodies().is_empty());
}

/// What a program inherits: signal mask, ignored signals, descriptors, process group, session, folder.
#[test]
fn the_program_finds_everything_as_without_it() {
    let sink = Sink::start(200);
    let node = Node::new(sink.dsn());
    let look = "grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | wc -l; pwd; umask; ulimit -a; \
                cut -d' ' -f5,6 /proc/$$/stat; env | grep -v ^_= | sort";
    let words = ["sh", "-c", look];
    let mut outputs = Vec::new();
    for mut command in [node.exec(&[], &[], &words), plain(&words)] {
        command.env_clear().envs(node.settings()).current_dir(node.dir.path());
        let change = || {
            // SAFETY: system calls on locals between fork and exec.
            unsafe {
                libc::setpgid(0, 0);
                for ignored in [libc::SIGPIPE, libc::SIGCHLD, libc::SIGHUP] {
                    libc::signal(ignored, libc::SIG_IGN);
                }
                let mut blocked = std::mem::zeroed::<libc::sigset_t>();
                libc::sigaddset(&raw mut blocked, libc::SIGUSR1);
                libc::sigprocmask(libc::SIG_BLOCK, &raw const blocked, std::ptr::null_mut());
                libc::dup2(1, 20);
            }
            Ok(())
        };
        // SAFETY: system calls between fork and exec.
        unsafe { command.pre_exec(change) };
        let output = command.output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        // The process group is new each time; that it is the one the command was started in is what counts.
        let group = text
            .lines()
            .find(|line| line.split(' ').count() == 2 && line.chars().all(|c| c.is_ascii_digit() || c == ' '));
        let group = group.unwrap().to_owned();
        outputs.push(text.replace(&group, "GROUP SESSION"));
    }
    assert!(outputs[0].contains("SigIgn"), "{}", outputs[0]);
    assert_eq!(outputs[0], outputs[1]);
}

/// A program in the making of a test, and its lines.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The program's process: the only child of the supervisor.
    fn program(&self) -> u32 {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.trim().parse().unwrap()
    }
}

fn signal_logger() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let unfinished = root().join(format!("target/tmp/signals-{}", std::process::id()));
        compile("gcc", &root().join("tests/c/signals.c"), &unfinished, &["-std=c99", "-Wall", "-Werror"]);
        let program = root().join("target/tmp/signals");
        std::fs::rename(unfinished, &program).unwrap();
        program
    })
}

#[test]
fn every_signal_is_handed_on_once_with_its_value() {
    let node = Node::new("http://key@127.0.0.1:9/1".to_owned());
    std::fs::create_dir_all(root().join("target/tmp")).unwrap();
    let mut running = Running::start(node.exec(&[], &[], &[signal_logger().to_str().unwrap()]));
    assert_eq!(running.line(), "ready");
    let supervisor = running.child.id();
    let own = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, libc::SIGUSR2, 32, 33];
    for signal in (1..=64).filter(|signal| !own.contains(signal)) {
        send(supervisor, signal);
        assert_eq!(running.line(), format!("{signal} -1"));
    }
    let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(4711) };
    // SAFETY: a system call on numbers.
    unsafe { libc::sigqueue(i32::try_from(supervisor).unwrap(), libc::SIGRTMIN() + 3, value) };
    assert_eq!(running.line(), format!("{} 4711", libc::SIGRTMIN() + 3));
    send(supervisor, libc::SIGUSR2);
    assert_eq!(running.line(), "", "a signal came twice");
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
}

/// Waits for the next change of the child's state, stops included.
fn change(child: &Child) -> WaitStatus {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    waitpid(pid, Some(WaitPidFlag::WUNTRACED | WaitPidFlag::WCONTINUED)).unwrap()
}

fn state_of(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().chars().next().unwrap()
}

#[test]
fn it_stops_and_continues_with_the_program() {
    let node = Node::new("http://key@127.0.0.1:9/1".to_owned());
    let mut running = Running::start(node.exec(&[], &[], &["cat"]));
    running.child.stdin.as_mut().unwrap().write_all(b"one\n").unwrap();
    assert_eq!(running.line(), "one");
    let program = running.program();
    let pid = Pid::from_raw(i32::try_from(running.child.id()).unwrap());
    // Stopped through the supervisor, and by itself.
    for (stopped, signal) in [(running.child.id(), libc::SIGTSTP), (program, libc::SIGSTOP)] {
        send(stopped, signal);
        let signal = nix::sys::signal::Signal::try_from(signal).unwrap();
        assert_eq!(change(&running.child), WaitStatus::Stopped(pid, signal));
        assert_eq!(state_of(program), 'T');
        send(running.child.id(), libc::SIGCONT);
        assert_eq!(change(&running.child), WaitStatus::Continued(pid));
        running.child.stdin.as_mut().unwrap().write_all(b"more\n").unwrap();
        assert_eq!(running.line(), "more", "the program goes on");
    }
    send(running.child.id(), libc::SIGTERM);
    // Waiting would close it, and the program might end because of that.
    let _input = running.child.stdin.take();
    assert_eq!(running.child.wait().unwrap().into_raw(), libc::SIGTERM);
}

/// A terminal with a program on it.
struct Terminal {
    master: File,
    seen: String,
    child: Child,
}

impl Terminal {
    fn start(mut command: Command) -> Self {
        let pty = openpty(None, None).unwrap();
        let end = || pty.slave.try_clone().unwrap();
        command.stdin(end()).stdout(end()).stderr(end());
        let take = || {
            // SAFETY: system calls between fork and exec; descriptor 0 is the terminal.
            unsafe {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
            }
            Ok(())
        };
        // SAFETY: system calls between fork and exec.
        unsafe { command.pre_exec(take) };
        let child = command.spawn().unwrap();
        Self { master: File::from(pty.master), seen: String::new(), child }
    }

    fn type_(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until this appears, and forgets everything up to there.
    fn expect(&mut self, text: &str) {
        let end = self.read_to(text);
        self.seen.drain(..end);
    }

    /// Reads until this appears. Where it ends in what was seen.
    fn read_to(&mut self, text: &str) -> usize {
        let start = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                return at + text.len();
            }
            let ready = poll(
                &mut [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)],
                PollTimeout::try_from(DEADLINE).unwrap(),
            );
            assert!(ready.unwrap() > 0 && start.elapsed() < DEADLINE, "no {text:?} in {:?}", self.seen);
            let mut bytes = [0; 4096];
            let length = self.master.read(&mut bytes).unwrap_or(0);
            assert!(length > 0, "the terminal ended without {text:?}: {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    }
}

#[test]
fn keys_and_the_terminals_size_reach_the_program_once() {
    let node = Node::new("http://key@127.0.0.1:9/1".to_owned());
    std::fs::create_dir_all(root().join("target/tmp")).unwrap();
    let mut terminal = Terminal::start(node.exec(&[], &[], &[signal_logger().to_str().unwrap()]));
    terminal.expect("ready");
    for (keys, signal) in [("\x03", libc::SIGINT), ("\x1c", libc::SIGQUIT), ("\x1a", libc::SIGTSTP)] {
        terminal.type_(keys);
        terminal.expect(&format!("{signal} -1"));
    }
    let size = libc::winsize { ws_row: 50, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: fills nothing; the structure is a local.
    assert_eq!(unsafe { libc::ioctl(terminal.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }, 0);
    terminal.expect(&format!("{} -1", libc::SIGWINCH));
    send(terminal.child.id(), libc::SIGUSR2);
    assert_eq!(terminal.child.wait().unwrap().code(), Some(0));
    assert!(!terminal.seen.contains(" -1"), "a signal came twice: {:?}", terminal.seen);
}

#[test]
fn a_shell_controls_it_like_any_job() {
    let node = Node::new("http://key@127.0.0.1:9/1".to_owned());
    let mut shell = Command::new("bash");
    shell.args(["--norc", "--noprofile", "-i"]).env_clear().envs(node.settings()).env("PS1", "prompt> ");
    shell.env("HISTFILE", "").current_dir(node.dir.path());
    let mut terminal = Terminal::start(shell);
    terminal.expect("prompt> ");
    terminal.type_(&format!("{} exec -- sh -c \"printf 'start''ed'; exec cat\"\n", command().display()));
    terminal.expect("started");
    terminal.type_("hello\n");
    terminal.expect("hello\r\nhello\r\n");
    terminal.type_("\x1a");
    terminal.expect("Stopped");
    terminal.expect("prompt> ");
    terminal.type_("fg\n");
    terminal.expect("exec cat");
    terminal.type_("again\n");
    terminal.expect("again\r\nagain\r\n");
    terminal.type_("\x03");
    terminal.expect("prompt> ");
    terminal.type_("echo status $?\n");
    terminal.expect("status 130");
    // In the background it may not read, as any other job.
    terminal.expect("prompt> ");
    terminal.type_(&format!("{} exec -- cat &\n", command().display()));
    terminal.expect("prompt> ");
    let start = Instant::now();
    while !terminal.seen.contains("Stopped") {
        assert!(start.elapsed() < DEADLINE, "it reads in the background: {:?}", terminal.seen);
        terminal.seen.clear();
        terminal.type_("jobs\n");
        terminal.expect("jobs\r\n");
        terminal.read_to("prompt> ");
    }
    terminal.type_("kill %1; fg\n");
    terminal.expect("Terminated");
    terminal.type_("exit\n");
    terminal.child.wait().unwrap();
}

#[test]
fn as_pid_1_it_ends_by_codes_reaps_orphans_and_has_sent_its_report() {
    for (end, code, report) in [
        ("exit 0", 0, None),
        ("exit 3", 3, Some("sh exited with code 3")),
        ("kill -SEGV $$", 139, Some("sh killed by SIGSEGV")),
        ("kill -TERM $$", 143, None),
        // An orphan ends while the program waits to see it gone.
        (
            "(sh -c 'echo $$ > pid' &); while [ ! -s pid ] || [ -d /proc/$(cat pid) ]; do :; done; exit 4",
            4,
            Some("sh exited with code 4"),
        ),
    ] {
        let sink = Sink::start(200);
        let node = Node::new(sink.dsn());
        let mut command = node.exec(&NAMESPACE, &[], &["sh", "-c", end]);
        no_core(&mut command);
        assert_eq!(command.stdin(Stdio::null()).status().unwrap().code(), Some(code), "{end}");
        let reported: Vec<_> = events(&sink).iter().map(|event| value(event).to_owned()).collect();
        assert_eq!(reported, report.into_iter().collect::<Vec<_>>(), "{end}");
        assert!(node.is_empty());
    }
}

#[test]
fn as_pid_1_it_waits_no_longer_than_agreed_and_the_report_is_stored() {
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = Node::new(format!("http://key@{}/1", hanging.local_addr().unwrap()));
    let command = node.exec(&NAMESPACE, &["--crash-wait-ms", "300"], &["sh", "-c", "exit 3"]);
    assert_eq!(status(command), 3 << 8);
    let (mut stream, _) = hanging.accept().unwrap();
    let mut request = String::new();
    let _ = stream.read_to_string(&mut request);
    let stored = stored_event(&node.state);
    assert!(request.contains(stored["event_id"].as_str().unwrap()), "{request}");

    // The next run delivers it, although its own program does not crash.
    let sink = Sink::start(200);
    let next = Node { dsn: sink.dsn(), ..node };
    let mut running = Running::start(next.exec(&NAMESPACE, &[], &["cat"]));
    let start = Instant::now();
    while !next.is_empty_but_for_markers() {
        assert!(start.elapsed() < DEADLINE, "the earlier report is not delivered");
        std::thread::yield_now();
    }
    assert_eq!(events(&sink)[0]["event_id"], stored["event_id"]);
    drop(running.child.stdin.take());
    assert!(running.child.wait().unwrap().success());
}

impl Node {
    fn is_empty_but_for_markers(&self) -> bool {
        std::fs::read_dir(Path::new(&self.state).join("spool/crashes")).unwrap().next().is_none()
    }
}

#[test]
fn a_stop_reaches_the_program_through_pid_1() {
    let node = Node::new("http://key@127.0.0.1:9/1".to_owned());
    let trap = "trap 'echo stopping; exit 0' TERM; echo ready; while :; do read line; done";
    let mut running = Running::start(node.exec(&NAMESPACE, &[], &["sh", "-c", trap]));
    assert_eq!(running.line(), "ready");
    send(running.program(), libc::SIGTERM);
    assert_eq!(running.line(), "stopping");
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    assert!(node.is_empty());
}

#[test]
fn who_kills_it_kills_the_program_and_nothing_tells_of_a_crash() {
    let sink = Sink::start(200);
    let node = Node::new(sink.dsn());
    let mut running = Running::start(node.exec(&[], &[], &["cat"]));
    running.child.stdin.as_mut().unwrap().write_all(b"one\n").unwrap();
    assert_eq!(running.line(), "one");
    let program = Process::open(running.program());
    send(running.child.id(), libc::SIGKILL);
    program.wait();
    assert_eq!(running.child.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(sink.bodies(), Vec::<String>::new());
    for _ in 0..2 {
        assert_eq!(status(node.exec(&[], &[], &["true"])), 0);
    }
    assert_eq!(files_below(Path::new(&node.state)), Vec::<String>::new());
    assert_eq!(sink.bodies(), Vec::<String>::new());
}

#[test]
fn a_program_that_uses_the_library_is_reported_once() {
    for launcher in [&[][..], &NAMESPACE[..]] {
        for monitor in [built("ondat-telemetry-monitor"), PathBuf::from("/nonexistent")] {
            let sink = Sink::start(200);
            let node = Node::new(sink.dsn());
            let mut words = vec!["env".to_owned()];
            words.push(format!("ONDAT_TELEMETRY_MONITOR_PATH={}", monitor.display()));
            words.extend([victim().to_str().unwrap(), "with", "segv"].map(str::to_owned));
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut command = node.exec(launcher, &[], &words);
            no_core(&mut command);
            let mut running = Running::start(command);
            assert!(running.line().starts_with("installed "));
            assert_eq!(running.line(), "ready");
            running.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            let status = running.child.wait().unwrap().into_raw();
            assert_eq!(status, if launcher.is_empty() { libc::SIGSEGV } else { 139 << 8 });
            // As PID 1 it has been waited for; else the monitor of the program may still be at work.
            let start = Instant::now();
            while !node.is_empty() {
                assert!(start.elapsed() < DEADLINE, "something stays in the state directory");
                std::thread::yield_now();
            }
            let reported: Vec<_> = events(&sink).iter().map(|event| value(event).to_owned()).collect();
            assert_eq!(reported.len(), 1, "{reported:?}");
            assert!(reported[0].ends_with("killed by SIGSEGV (address not mapped)"), "{reported:?}");
        }
    }
}

#[test]
fn whatever_is_wrong_with_telemetry_the_program_runs() {
    let sink = Sink::start(200);
    let node = Node::new(sink.dsn());
    let wrong = [
        ("ONDAT_TELEMETRY_SENTRY_DSN", "not a DSN", "sentry_dsn"),
        ("ONDAT_TELEMETRY_SENTRY_DSN", "", "sentry-dsn"),
        ("ONDAT_TELEMETRY_VERSION", "", "version"),
        ("ONDAT_TELEMETRY_STATE_DIR", "/dev/null", "/dev/null"),
        ("ONDAT_TELEMETRY_COMPONENT", "A B", "component"),
        ("ONDAT_TELEMETRY_MONITOR_PATH", "/nonexistent", "/nonexistent"),
    ];
    for (variable, text, said) in wrong {
        let output = node.exec(&[], &[], &["sh", "-c", "echo output; exit 3"]).env(variable, text).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{variable}={text}");
        assert_eq!(output.stdout, b"output\n");
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.contains(said) && complaint.contains("without crash reports"), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
    assert_eq!(sink.bodies(), Vec::<String>::new());
}

#[test]
fn turned_off_nothing_is_reported_or_stored() {
    let sink = Sink::start(200);
    let node = Node::new(sink.dsn());
    let mut command = node.exec(&[], &[], &["sh", "-c", "exit 3"]);
    command.env("DISABLE_ERROR_REPORTING", "true");
    assert_eq!(status(command), 3 << 8);
    assert!(node.is_empty() && sink.bodies().is_empty());
}

#[test]
fn who_reads_its_output_waits_for_the_program_alone() {
    // A server that hangs holds the sender, which must not hold the pipe.
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = Node::new(format!("http://key@{}/1", hanging.local_addr().unwrap()));
    let output = node.exec(&[], &["--crash-wait-ms", "0"], &["sh", "-c", "echo output; exit 3"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"output\n"[..]));
    let (stream, _) = hanging.accept().unwrap();
    drop(stream);
    // The program closes its output and goes on.
    let mut running = Running::start(node.exec(&[], &[], &["sh", "-c", "exec >&-; read line"]));
    assert_eq!(running.line(), "", "the supervisor keeps the pipe open");
    drop(running.child.stdin.take());
    running.child.wait().unwrap();
}
