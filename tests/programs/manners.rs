//! No harm to the host: its threads, signals, children, descriptors, scheduling and time stay its own.

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{DEADLINE, TempDir, compile, root, succeed};

/// The host that looks, and a state directory.
struct Scene {
    dir: TempDir,
    program: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let dir = TempDir::new();
        let flags = ["-std=gnu99", "-Wall", "-Wextra", "-Werror"];
        let program = compile("gcc", &root().join("tests/c/manners.c"), &dir.join("manners"), &flags);
        std::fs::DirBuilder::new().mode(0o700).create(dir.join("state")).unwrap();
        Self { dir, program }
    }

    /// timeout(1) ends with 124 where the host hangs.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg((3 * DEADLINE.as_secs()).to_string()).arg(&self.program).args(words).env_clear();
        command.env("ONDAT_TELEMETRY_STATE_DIR", self.dir.join("state")).env("PATH", "/usr/bin:/bin");
        // Nobody listens there.
        command.env("ONDAT_TELEMETRY_SENTRY_DSN", "http://key@127.0.0.1:9/1");
        command
            .env("ONDAT_TELEMETRY_NAMESERVERS", "127.0.0.1:9")
            .env("ONDAT_TELEMETRY_VERSION_ZONE", "latest.example.com");
        command
    }

    fn says(&self, words: &[&str]) -> String {
        String::from_utf8(succeed(&mut self.command(words)).stdout).unwrap()
    }

    /// None where the machine does not allow what it needs.
    fn says_if_allowed(&self, words: &[&str]) -> Option<String> {
        let output = self.command(words).output().unwrap();
        if output.status.code() == Some(77) {
            eprintln!("not tested here: {words:?} needs what this machine does not allow");
            return None;
        }
        assert!(output.status.success(), "{words:?}: {output:?}");
        Some(String::from_utf8(output.stdout).unwrap())
    }
}

#[test]
fn a_thread_is_cancelled_after_the_call_and_not_in_it() {
    let said = Scene::new().says(&["cancelled"]);
    assert_eq!(said, "of 14 returned 14, cancelled afterwards 14, off in callbacks 1, as it was 1\n");
}

#[test]
fn a_limit_of_files_is_an_error_and_no_signal() {
    let said = Scene::new().says(&["limited"]);
    let first = "raised 0, pending 0, blocked 0, blocked in callbacks 0, refused 1\n";
    assert_eq!(said, format!("{first}the host's own 1\nraised 1\n"));
}

#[test]
fn every_call_of_a_forked_child_comes_back_as_invalid_state() {
    let said = Scene::new().says(&["forked"]);
    assert_eq!(said, "of 40 children 0 hung and 0 got something else; in a callback 0; the parent goes on 0\n");
}

#[test]
fn what_a_host_without_standard_output_prints_goes_nowhere() {
    assert_eq!(Scene::new().says(&["closed"]), "taken 0, written 0\n");
}

#[test]
fn descriptors_that_have_become_the_hosts_are_let_alone_and_the_schedule_goes_on() {
    let Some(said) = Scene::new().says_if_allowed(&["taken"]) else { return };
    assert_eq!(said, "first 3\nfollowed\nkept 16 of 16\n");
}

#[test]
fn what_the_kernel_refuses_is_done_without() {
    for what in ["inotify", "watch", "timer", "affinity", "advice"] {
        assert_eq!(Scene::new().says(&["refused", what]), "start 0\nfollowed\nin a child 3\n", "{what}");
    }
}

#[test]
fn a_real_time_host_has_an_ordinary_thread() {
    let Some(said) = Scene::new().says_if_allowed(&["scheduled"]) else { return };
    assert!(said.starts_with("policy 0, nice 0, all processors 1\n"), "{said}");
}

#[test]
fn a_set_user_id_host_takes_nothing_but_the_switches_from_the_environment() {
    let scene = Scene::new();
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not tested here: only root can make a program that is set-user-ID root");
        return;
    }
    std::fs::set_permissions(scene.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&scene.program, PermissionsExt::from_mode(0o4755)).unwrap();
    let run = |variables: &[(&str, &str)]| {
        let mut command = Command::new(&scene.program);
        command.arg("privileged").env_clear().envs(variables.iter().copied());
        let said = |command: &mut Command| String::from_utf8(succeed(command).stdout).unwrap();
        (said(command.uid(65_534).gid(65_534)), said(command.uid(0).gid(0)))
    };
    let bad_component = [("ONDAT_TELEMETRY_COMPONENT", "NOT ONE"), ("ONDAT_TELEMETRY_STATE_DIR", "/nowhere")];
    let (privileged, ordinary) = run(&bad_component);
    if privileged.starts_with("secure 0") {
        eprintln!("not tested here: set-user-ID has no effect");
        return;
    }
    // 2: no version zone is set, neither by the host nor by the environment.
    assert_eq!(privileged, "secure 1, init 0 \nswitches 7, check 2\n");
    assert!(ordinary.starts_with("secure 0, init 2 "), "{ordinary}");
    let (privileged, _) = run(&[("DO_NOT_TRACK", "1"), ("ONDAT_TELEMETRY_VERSION_ZONE", "latest.example.com")]);
    assert_eq!(privileged, "secure 1, init 0 \nswitches 0, check 2\n");
}

/// A DNS server that knows a new version.
fn serve_version() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut question = [0; 1500];
        while let Ok((length, asker)) = socket.recv_from(&mut question) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let text = format!("o1 v=* l=9.9.9 r=9.9.8 m=9.9.7 t={} e={}", now - 60, now + 86_400);
            // The name's end, its type and class.
            let end = 12 + question[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
            let mut answer = question[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            // The same name, TXT, IN, a minute.
            answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, u8::try_from(text.len() + 1).unwrap()]);
            answer.push(u8::try_from(text.len()).unwrap());
            answer.extend(text.as_bytes());
            socket.send_to(&answer, asker).unwrap();
        }
    });
    address
}

#[test]
fn close_in_a_callback_lets_the_call_come_to_its_end() {
    let nameserver = serve_version();
    for (callback, freed) in [("explain", 1), ("preview", 1), ("latest", 1), ("check", 1), ("version", 1), ("log", 2)] {
        let scene = Scene::new();
        let mut command = scene.command(&["closing", callback]);
        command.env("ONDAT_TELEMETRY_NAMESERVERS", &nameserver);
        let said = String::from_utf8(succeed(&mut command).stdout).unwrap();
        assert_eq!(said, format!("status 0, called 1, afterwards 0, freed {freed}\n"), "{callback}");
    }
}

#[test]
fn eight_threads_race_and_a_callback_closes() {
    assert_eq!(Scene::new().says(&["racing"]), "called 10, afterwards 0\n");
}

/// A disk of its own that can be made to hang. Thawed and gone when the test is over, whatever becomes of the test.
struct Disk {
    folder: PathBuf,
    /// Thaws it where this process is killed: a frozen disk would keep its processes for ever.
    guard: Child,
}

impl Disk {
    /// None where the machine does not allow it.
    fn new(dir: &TempDir) -> Option<Self> {
        let (image, folder) = (dir.join("image"), dir.join("disk"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        let run = |words: &[&Path]| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let words = |text: &'static str| text.split(' ').map(Path::new);
        let is_mounted = run(&words("mkfs.ext4 -q").chain([&*image]).collect::<Vec<_>>())
            && run(&words("mount -o loop,noatime").chain([&*image, &*folder]).collect::<Vec<_>>());
        if !is_mounted {
            eprintln!("not tested here: no loop device can be mounted");
            return None;
        }
        let script = format!("read -t {} line; fsfreeze --unfreeze {}", 3 * DEADLINE.as_secs(), folder.display());
        let mut guard = Command::new("bash");
        let guard = guard.args(["-c", &script]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        Some(Self { folder, guard })
    }

    fn freeze(&self) {
        succeed(Command::new("sync").arg("-f").arg(&self.folder));
        succeed(Command::new("fsfreeze").arg("--freeze").arg(&self.folder));
    }

    fn thaw(&self) {
        succeed(Command::new("fsfreeze").arg("--unfreeze").arg(&self.folder));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}

/// A host that is told to go on.
struct Host {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Host {
    fn start(mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        Self { process, input, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn go_on(&mut self) {
        self.input.write_all(b"go on\n").unwrap();
    }
}

/// Files of this folder of the state directory.
fn stored(state: &Path, folder: &str) -> usize {
    let listing = std::fs::read_dir(state.join(folder)).into_iter().flatten().flatten();
    listing.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count()
}

#[test]
fn calls_that_have_no_time_for_it_do_not_wait_for_a_disk_that_hangs() {
    for is_started in [false, true] {
        let scene = Scene::new();
        let Some(disk) = Disk::new(&scene.dir) else { return };
        let state = disk.folder.join("state");
        std::fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
        let mut command = scene.command(&["frozen", if is_started { "started" } else { "" }]);
        command.env("ONDAT_TELEMETRY_STATE_DIR", &state);
        let mut host = Host::start(command);
        assert_eq!(host.line(), "ready");
        disk.freeze();
        host.go_on();
        // Whatever comes now comes while nothing can be written: it is thawed below.
        let said = host.line();
        if is_started {
            // Its thread delivers it once the disk answers.
            assert_eq!(said, "report_exit 0");
        } else {
            assert!(
                said.starts_with(&format!("report_exit 11 state_dir {} does not answer", state.display())),
                "{said}"
            );
        }
        assert_eq!(host.line(), "set_switches 0");
        if is_started {
            assert_eq!(host.line(), "closed");
        }
        assert_eq!(stored(&state, "spool/crashes"), 0, "{is_started}: it hung");
        disk.thaw();
        if !is_started {
            // Kept in memory meanwhile.
            while stored(&state, "spool/crashes") == 0 {
                assert!(host.process.try_wait().unwrap().is_none());
                thread::yield_now();
            }
        }
        host.go_on();
        if !is_started {
            assert_eq!(host.line(), "flush 6");
        }
        assert!(host.process.wait().unwrap().success());
    }
}
