//! `report next`: a running daemon says what it would send now, byte for byte, and goes on as if nobody had asked.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use serde_json::{Value, json};

use crate::api::{Api, CommandLine};
use crate::cluster::Cluster;
use crate::support::{
    DEADLINE, NOBODY, both, bytes_of, compile, files_below, make_private_folder, ondat, program, run, succeed, wait_for,
};

/// What it is named in messages.
const DAEMON: &str = "dataplane";
/// From the midnight at which a host has begun to half an hour before the next, when the node's slot is over.
const NEARLY_A_DAY: u32 = 84_600;
/// Without the daily report, and with all.
const OFF: i64 = 5;
const ALL: i64 = 7;

fn volume(number: usize) -> String {
    let volume = json!({ "volume_id": format!("volume {number}"), "volume_size_bytes": number * 7919 });
    format!("v{volume}\n")
}

/// A daemon on a cluster's state directory.
struct Daemon {
    child: Child,
    /// None when it is ending.
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// What its callback has said and nobody has looked at.
    filled: Vec<String>,
}

impl Daemon {
    /// Which reports so many volumes, and again so often.
    fn start(cluster: &Cluster, url: &str, ca_file: &str, volumes: usize, times: usize) -> Self {
        Self::start_as(DAEMON, cluster, url, ca_file, volumes, times)
    }

    fn start_as(component: &str, cluster: &Cluster, url: &str, ca_file: &str, volumes: usize, times: usize) -> Self {
        let calls = cluster.folder.join(&format!("calls of {component}"));
        let cluster_fields = "c{\"k8s_in_k8s\":true,\"api_call_metrics\":{\"ListNodes\":{\"200\":14}}}\n".to_owned();
        let all = std::iter::once(if times == 1 { cluster_fields } else { String::new() });
        fs::write(&calls, all.chain((0..volumes).map(volume)).collect::<String>()).unwrap();
        let host = cluster.folder.join("next");
        let host = if host.exists() { host } else { compile("next.c", &cluster.folder) };
        // Not under `timeout`: the process that is asked is the one that was started.
        let mut command = Command::new(host);
        command.env_clear();
        cluster.settings(&mut command, url, ca_file);
        command.env("ONDAT_TELEMETRY_COMPONENT", component).arg(calls).arg(times.to_string());
        Self::of(&mut command)
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut daemon = Self { child, input: Some(input), lines, filled: Vec::new() };
        daemon.hear("started");
        daemon
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that begins with this word, and returns the rest.
    fn hear(&mut self, word: &str) -> String {
        loop {
            let known = self.filled.iter().position(|line| line.split(' ').next() == Some(word));
            if let Some(at) = known {
                let line = self.filled.remove(at);
                return line[word.len()..].trim().to_owned();
            }
            let line = self.lines.recv_timeout(DEADLINE).unwrap_or_else(|why| panic!("{word}: {why}"));
            self.filled.push(line);
        }
    }

    /// Waits for a line of the log with this in it.
    fn hear_log(&mut self, what: &str) {
        while !self.hear("log").contains(what) {}
    }

    /// How many descriptors it has when the library has one thread again, which may have a file open just now.
    fn at_rest(&mut self) -> i64 {
        wait_for("the other thread to end", || {
            let open = self.tell("open");
            (open / 1000 == 1).then_some(open % 1000)
        })
    }

    fn command(&mut self, text: &str) {
        writeln!(self.input.as_mut().unwrap(), "{text}").unwrap();
    }

    fn tell(&mut self, text: &str) -> i64 {
        self.command(text);
        self.hear(text.split(' ').next().unwrap()).parse().unwrap()
    }

    /// Ends as a daemon does.
    fn end(mut self) {
        self.tell("close");
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks as an administrator does.
fn ask(state_dir: &Path, more: &[&str]) -> Output {
    run(ondat(&["report", "next", "--state-dir"]).arg(state_dir).args(more))
}

fn asked(state_dir: &Path) -> Vec<u8> {
    let output = ask(state_dir, &[]);
    assert!(output.status.success(), "{}", both(&output));
    output.stdout
}

fn asked_json(state_dir: &Path) -> Value {
    let output = ask(state_dir, &["--json"]);
    assert!(output.status.success(), "{}", both(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What is said where there is no report, with this exit status.
fn refused(state_dir: &Path, code: i32) -> String {
    let output = ask(state_dir, &[]);
    assert_eq!(output.status.code(), Some(code), "{}", both(&output));
    assert_eq!(output.stdout, b"");
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

fn socket(state_dir: &Path, component: &str, pid: u32) -> PathBuf {
    state_dir.join(format!("processes/{component}-{pid}.ask"))
}

fn sockets(state_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(state_dir.join("processes")).unwrap().map(Result::unwrap);
    let sockets = entries.filter(|entry| entry.file_type().unwrap().is_socket());
    let mut names: Vec<_> = sockets.map(|socket| socket.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Everything in a state directory but what processes say of themselves.
fn remembered(state_dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = files_below(state_dir).into_iter().filter(|path| !path.starts_with(state_dir.join("processes")));
    files.map(|path| (path.clone(), bytes_of(&path))).collect()
}

#[test]
fn the_bytes_are_those_of_the_report_that_is_sent_then() {
    for kem in ["X25519", "X-Wing"] {
        let cluster = Cluster::new(kem);
        let collector = cluster.collector();
        let mut daemon = Daemon::start(&cluster, &collector.url, &collector.ca_file, 5000, 1);
        let before = remembered(&cluster.state_dir);
        let said = asked_json(&cluster.state_dir);
        assert_eq!(daemon.hear("preview"), "5001 0");
        let text = asked(&cluster.state_dir);
        assert_eq!(daemon.hear("preview"), "5001 0");
        assert_eq!(remembered(&cluster.state_dir), before, "asking leaves nothing behind");
        assert_eq!(collector.reports(), Vec::<PathBuf>::new());
        let head: Value = serde_json::from_slice(text.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
        assert_eq!((&said["report_id"], &said["day"]), (&head["report_id"], &head["day"]));
        assert_eq!(said["bytes"], text.len());
        assert_eq!((&said["component"], &said["pid"]), (&json!(DAEMON), &json!(daemon.pid())));

        daemon.tell(&format!("pass {NEARLY_A_DAY}"));
        assert_eq!(daemon.hear("report"), "5001 0");
        wait_for("the report", || (!collector.reports().is_empty()).then_some(()));
        let sealed = &collector.reports()[0];
        assert_eq!(fs::metadata(sealed).unwrap().len(), said["sealed_bytes"], "{kem}");
        let [copy] = cluster.sent().try_into().unwrap();
        assert!(bytes_of(&copy) == text, "not the bytes that were sent");
        let mut open = program(crate::support::command("ondat-telemetry-collector"));
        open.args(["open", "--json", "--key"]).arg(cluster.folder.join("keys/report.key"));
        let opened = succeed(open.arg("--data").arg(&collector.data));
        let opened: Value = serde_json::from_slice(&opened.stdout).unwrap();
        assert_eq!(opened["report_id"], said["report_id"], "{opened}");
        // Another day's is asked for as well, where that one's is made.
        assert_eq!(asked_json(&cluster.state_dir)["day"], said["day"]);
        daemon.end();
        assert_eq!(sockets(&cluster.state_dir), [""; 0], "close takes it away");
        assert!(refused(&cluster.state_dir, 2).contains("makes reports: none runs"));
    }
}

/// What a process may have more while a million volumes are asked for than while ten thousand are.
const SLACK_KIB: i64 = 1024;

#[test]
fn a_million_volumes_take_no_more_memory_than_ten_thousand() {
    let cluster = Cluster::new("X25519");
    let peaks = [1, 100].map(|times| {
        let mut daemon = Daemon::start(&cluster, NOBODY, "", 10_000, times);
        daemon.tell("memory");
        let said = asked_json(&cluster.state_dir);
        let peak = daemon.tell("memory");
        assert!(said["bytes"].as_u64().unwrap() > 500_000 * times as u64, "{said}");
        daemon.end();
        peak
    });
    assert!(peaks[1] <= peaks[0] + SLACK_KIB, "{peaks:?} KiB");
}

#[test]
fn what_keeps_a_report_from_being_made_is_said() {
    let cluster = Cluster::new("X25519");
    let state = &cluster.state_dir;
    assert!(refused(state, 2).contains("no running process on this state directory makes reports: none runs"));
    let mut daemon = Daemon::start(&cluster, NOBODY, "", 10, 1);
    daemon.tell(&format!("switches {OFF}"));
    let why = refused(state, 3);
    assert!(why.contains(&format!("{DAEMON} (pid {}): daily_report is turned off by the host program", daemon.pid())));
    daemon.tell(&format!("switches {ALL}"));
    succeed(ondat(&["disable", "daily-report", "--state-dir"]).arg(state));
    assert!(refused(state, 3).contains("turned off by the administrator"));
    succeed(ondat(&["enable", "daily-report", "--state-dir"]).arg(state));
    asked(state);
    daemon.end();

    // Nobody to send to, no key, and no callback at all.
    let host = compile("next.c", &cluster.folder);
    let bare = |settings: &[(&str, &str)]| {
        let mut command = Command::new(&host);
        command.env_clear();
        cluster.who(&mut command);
        command.env("ONDAT_TELEMETRY_COMPONENT", DAEMON).envs(settings.iter().copied()).args(["/dev/null", "1"]);
        Daemon::of(&mut command)
    };
    let daemon = bare(&[]);
    assert!(refused(state, 2).contains("report_url is not set"));
    daemon.end();
    let old = fs::read_to_string(cluster.public_keys()).unwrap();
    let mut old: Value = serde_json::from_str(&old).unwrap();
    (old["keys"][0]["not_before"], old["keys"][0]["not_after"]) = (json!(1), json!(2));
    let daemon = bare(&[("ONDAT_TELEMETRY_REPORT_URL", NOBODY), ("ONDAT_TELEMETRY_REPORT_KEYS", &old.to_string())]);
    assert!(refused(state, 2).contains("no key is valid now"));
    daemon.end();
    let mut probe = program(compile("told.c", &cluster.folder));
    cluster.who(&mut probe);
    let mut child = probe.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.as_ref().unwrap(), "start").unwrap();
    wait_for("a process without a callback", || {
        let said = refused(state, 2);
        said.contains("cannot be asked, without a report callback or of an older version").then_some(())
    });
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn who_is_rude_holds_up_nobody_for_long() {
    let cluster = Cluster::new("X25519");
    let mut daemon = Daemon::start(&cluster, NOBODY, "", 10_000, 20);
    let at_rest = daemon.at_rest();
    let path = socket(&cluster.state_dir, DAEMON, daemon.pid());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let connect = || UnixStream::connect(&path).unwrap();
    let says = |bytes: &[u8]| {
        let mut stream = connect();
        // It may have been hung up on already.
        let _ = stream.write_all(bytes);
        stream
    };
    // Who says nothing, too little, the wrong thing, too much, who is gone, who has asked and is gone.
    let silent: Vec<_> = (0..3).map(|_| connect()).collect();
    let dribbling = says(b"n");
    drop((says(b"what"), says(b""), says(b"next")));
    // Who asks and says no more.
    let mut half = says(b"next");
    half.shutdown(Shutdown::Write).unwrap();
    let half = std::thread::spawn(move || {
        let mut answer = Vec::new();
        half.read_to_end(&mut answer).map(|_| answer)
    });
    // Who asks and does not listen: the report does not fit into what the kernel holds.
    let mut deaf = says(b"next");
    let flood = says(&[b'n'; 1 << 16]);
    let said = asked_json(&cluster.state_dir);
    assert!(said["bytes"].as_u64().unwrap() > 10_000_000, "{said}");
    for mut stream in silent.into_iter().chain([dribbling, flood]) {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"", "nobody is told without having asked");
    }
    // Both were answered in their turn; the deaf one not to the end.
    let end =
        format!("{} {} {}", said["sealed_bytes"], said["report_id"].as_str().unwrap(), said["day"].as_str().unwrap());
    let whole = half.join().unwrap().unwrap();
    assert!(whole.starts_with(b"OTN1") && whole.ends_with(end.as_bytes()));
    let mut cut = Vec::new();
    deaf.read_to_end(&mut cut).unwrap();
    assert!(cut.starts_with(b"OTN1") && cut.len() < whole.len() && whole.starts_with(&cut));
    wait_for("no descriptor more", || (daemon.at_rest() <= at_rest).then_some(()));
    daemon.end();
}

#[test]
fn close_and_turning_off_end_an_answer_that_nobody_takes() {
    for is_closed in [true, false] {
        let cluster = Cluster::new("X25519");
        let mut daemon = Daemon::start(&cluster, NOBODY, "", 10_000, 100);
        let mut deaf = UnixStream::connect(socket(&cluster.state_dir, DAEMON, daemon.pid())).unwrap();
        deaf.write_all(b"next").unwrap();
        // The greeting and how long the first piece of the report is: its callback is being called.
        deaf.read_exact(&mut [0; 8]).unwrap();
        if is_closed {
            daemon.tell("close");
        } else {
            succeed(ondat(&["disable", "daily-report", "--state-dir"]).arg(&cluster.state_dir));
            daemon.hear_log("has asked what would be sent: daily_report is turned off by the administrator");
        }
        let preview = daemon.hear("preview");
        let (taken, refused) = preview.split_once(' ').unwrap();
        let [taken, refused] = [taken, refused].map(|number| number.parse::<u64>().unwrap());
        assert!(refused > 0 && taken + refused == 1_000_000, "{preview}");
        // It is hung up on.
        deaf.read_to_end(&mut Vec::new()).unwrap();
    }
}

#[test]
fn a_switch_that_is_turned_off_meanwhile_is_told() {
    let cluster = Cluster::new("X25519");
    let mut daemon = Daemon::start(&cluster, NOBODY, "", 10, 2);
    daemon.tell("hold");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&cluster.state_dir, &[]));
        daemon.hear("holding");
        // The callback is the only thing that goes on.
        daemon.tell(&format!("switches {OFF}"));
        daemon.tell("release");
        let output = asking.join().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", both(&output));
        assert_eq!(output.stdout, b"");
        assert!(both(&output).contains("turned off by the host program"), "{}", both(&output));
    });
    // And a close.
    daemon.tell(&format!("switches {ALL}"));
    daemon.tell("hold");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&cluster.state_dir, &[]));
        daemon.hear("holding");
        daemon.command("close");
        // It waits for the callback, which nothing else can end.
        let path = socket(&cluster.state_dir, DAEMON, daemon.pid());
        wait_for("the socket to go", || (!path.exists()).then_some(()));
        set_free(&mut daemon);
        let output = asking.join().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", both(&output));
        assert!(both(&output).contains("the client is closing"), "{}", both(&output));
    });
}

/// Lets a callback go on while the daemon waits for it in `close`, and takes no commands.
fn set_free(daemon: &mut Daemon) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.pid()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1).unwrap();
    daemon.hear("close");
}

#[test]
fn of_several_daemons_the_first_one_that_can_is_asked() {
    let cluster = Cluster::new("X25519");
    let state = &cluster.state_dir;
    let mut first = Daemon::start_as("first", &cluster, NOBODY, "", 1, 1);
    // The kernel counts hundredths of a second.
    let began = Instant::now();
    wait_for("the next of them", || (began.elapsed().as_millis() > 50).then_some(()));
    let second = Daemon::start_as("a-second", &cluster, NOBODY, "", 2, 1);
    assert_eq!(sockets(state).len(), 2);
    assert_eq!(asked_json(state)["component"], "first");
    // One that may send none is passed over.
    first.tell(&format!("switches {OFF}"));
    assert_eq!(asked_json(state)["component"], "a-second");
    first.tell(&format!("switches {ALL}"));
    // One that was killed leaves its socket behind.
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert_eq!(sockets(state).len(), 2);
    assert_eq!(asked_json(state)["component"], "a-second");
    second.end();
    assert!(refused(state, 2).contains("none runs"));
    assert_eq!(sockets(state), [format!("first-{}.ask", first.pid())]);
    let third = Daemon::start(&cluster, NOBODY, "", 1, 1);
    assert_eq!(sockets(state), [format!("{DAEMON}-{}.ask", third.pid())], "the next one that comes removes it");
    asked(state);
    third.end();
}

#[test]
fn a_forked_child_neither_answers_nor_takes_the_socket_away() {
    let cluster = Cluster::new("X25519");
    let mut daemon = Daemon::start(&cluster, NOBODY, "", 1, 1);
    let child = daemon.tell("fork");
    assert!(child > 0);
    asked(&cluster.state_dir);
    let path = socket(&cluster.state_dir, DAEMON, daemon.pid());
    assert!(path.exists());
    let mut stray = Daemon::start_as("another", &cluster, NOBODY, "", 1, 1);
    daemon.tell("close");
    assert!(!path.exists());
    assert_eq!(asked_json(&cluster.state_dir)["component"], "another");
    stray.tell("close");
    assert!(refused(&cluster.state_dir, 2).contains("none runs"));
}

#[test]
fn a_child_that_was_forked_in_the_callback_says_nothing() {
    let cluster = Cluster::new("X25519");
    let collector = cluster.collector();
    let mut daemon = Daemon::start(&cluster, &collector.url, &collector.ca_file, 5000, 1);
    let whole = asked(&cluster.state_dir);
    daemon.tell("split");
    assert!(asked(&cluster.state_dir) == whole);
    daemon.tell("split");
    daemon.tell(&format!("pass {NEARLY_A_DAY}"));
    daemon.hear("report");
    wait_for("the report", || (!collector.reports().is_empty()).then_some(()));
    let [copy] = cluster.sent().try_into().unwrap();
    assert!(bytes_of(&copy) == whole);
    daemon.end();
}

#[test]
fn wherever_the_state_directory_is_and_whatever_becomes_of_it() {
    let mut cluster = Cluster::new("X25519");
    // Longer than the address of a socket.
    let (one, other) = (cluster.folder.join(&"d".repeat(120)), cluster.folder.join("moved"));
    make_private_folder(&one);
    cluster.state_dir = one.clone();
    let mut daemon = Daemon::start(&cluster, NOBODY, "", 1, 1);
    asked(&one);
    fs::rename(&one, &other).unwrap();
    asked(&other);
    // Made anew in its old place.
    make_private_folder(&one);
    wait_for("the daemon to follow", || ask(&one, &[]).status.success().then_some(()));
    assert_eq!(sockets(&one), [format!("{DAEMON}-{}.ask", daemon.pid())]);
    let descriptors = daemon.at_rest();
    // Where nothing can be made for a while. Who removes it does not meet what is made there meanwhile.
    fs::remove_dir_all(&one).unwrap();
    fs::write(&one, "no directory").unwrap();
    daemon.hear_log("until that changes nothing is remembered");
    fs::remove_file(&one).unwrap();
    make_private_folder(&one);
    wait_for("the daemon to follow once more", || ask(&one, &[]).status.success().then_some(()));
    wait_for("no descriptor more", || (daemon.at_rest() <= descriptors).then_some(()));
    daemon.end();
}

/// Who asks as another user, and prints what is answered.
const ASKER: &str = "import socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.connect(sys.argv[1])
asked.sendall(b'next')
answer = b''
while piece := asked.recv(65536):
    answer += piece
sys.stdout.buffer.write(answer)";

#[test]
fn another_user_who_gets_that_far_is_refused() {
    let cluster = Cluster::new("X25519");
    let mut daemon = Daemon::start(&cluster, NOBODY, "", 1, 1);
    let path = socket(&cluster.state_dir, DAEMON, daemon.pid());
    for open in [cluster.folder.path(), &cluster.state_dir, &cluster.state_dir.join("processes")] {
        fs::set_permissions(open, PermissionsExt::from_mode(0o711)).unwrap();
    }
    fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let asked_by = |uid: u32| {
        let mut command = program("/usr/bin/env");
        command.args(["python3", "-c", ASKER]).arg(&path).uid(uid);
        succeed(&mut command).stdout
    };
    let refused = asked_by(12_345);
    assert_eq!(refused[..9], *b"OTN1\0\0\0\0\x09", "{refused:?}");
    let words = "uid 12345 may not ask a process of uid 0: ask as that user or as root";
    assert_eq!(std::str::from_utf8(&refused[9..]).unwrap(), words);
    daemon.hear_log(words);
    assert!(asked_by(0).len() > 100, "and root is not");
    daemon.end();
}

/// A socket in the place of a daemon's, at which something else listens.
#[test]
fn what_makes_no_sense_is_said_in_one_line() {
    let cluster = Cluster::new("X25519");
    let mut daemon = Daemon::start(&cluster, NOBODY, "", 1, 1);
    let path = socket(&cluster.state_dir, DAEMON, daemon.pid());
    fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let long = [&b"OTN1"[..], &[0xff; 64]].concat();
    for (answer, code, said) in [
        (&b""[..], 4, "has hung up before the end of its report"),
        (b"OTN1", 4, "has hung up"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 5, "answers what makes no sense (another greeting)"),
        (&long, 5, "makes no sense (a piece of 4294967295 bytes)"),
        (b"OTN1\0\0\0\x05no gz\0\0\0\0\0", 5, "makes no sense"),
        (b"OTN1\0\0\0\0\0", 5, "makes no sense"),
        (b"OTN1\0\0\0\0\x0bno \x1b[31mroom", 8, "no [31mroom"),
        (b"OTN1\0\0\0\0\xffwhatever", 1, "whatever"),
    ] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut asker, _) = listener.accept().unwrap();
                let mut question = [0; 4];
                asker.read_exact(&mut question).unwrap();
                assert_eq!(question, *b"next");
                asker.write_all(answer).unwrap();
            });
            let line = refused(&cluster.state_dir, code);
            assert!(line.contains(said), "{line}");
        });
    }
    daemon.tell("close");
}

#[test]
fn the_api_says_the_same() {
    let cluster = Cluster::new("X25519");
    let api = Api::serve(&cluster.state_dir);
    let client = CommandLine::log_in(&api);
    let next = || client.get("/v1/report/next");
    let nobody = next();
    assert_eq!(nobody.status, 404, "{nobody:?}");
    assert!(nobody.body.contains("no running process on this state directory makes reports"), "{nobody:?}");
    let mut daemon = Daemon::start(&cluster, NOBODY, "", 5000, 1);
    let said = asked_json(&cluster.state_dir);
    let answer = next();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.as_bytes() == asked(&cluster.state_dir), "not the same bytes");
    let (id, day) = (said["report_id"].as_str().unwrap(), said["day"].as_str().unwrap());
    assert_eq!(answer.header("ondat-telemetry-report"), format!("{day}-{id}"));
    assert_eq!(answer.header("ondat-telemetry-sealed-bytes"), said["sealed_bytes"].to_string());
    assert_eq!(answer.header("ondat-telemetry-process"), format!("{DAEMON}-{}", daemon.pid()));
    assert_eq!(answer.header("content-type"), "application/jsonl");
    // Of eight at once four are asked for, one after the other, and four are told to come again.
    daemon.tell("hold");
    let (tell, told) = channel();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (tell, next) = (tell.clone(), &next);
            scope.spawn(move || tell.send(next()).unwrap());
        }
        daemon.hear("holding");
        for _ in 0..4 {
            let busy = told.recv_timeout(DEADLINE).unwrap();
            assert_eq!((busy.status, busy.header("retry-after")), (503, "5"), "{busy:?}");
        }
        daemon.tell("release");
        for _ in 0..4 {
            assert_eq!(told.recv_timeout(DEADLINE).unwrap().status, 200);
        }
    });
    daemon.tell(&format!("switches {OFF}"));
    let off = next();
    assert_eq!(off.status, 409, "{off:?}");
    assert!(off.body.contains("turned off by the host program"), "{off:?}");
    daemon.end();
}
