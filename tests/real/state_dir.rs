//! State directories as Kubernetes, disks and administrators make them: each with the library, every command and `serve`.
#![allow(unsafe_code, reason = "mounts of a test's own and refused system calls have no safe form")]

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::api::{Api, CommandLine};
use crate::sink::Sink;
use crate::support::{
    CLUSTER_ID, DEADLINE, NODE_ID, TempDir, VERSION, both, command, compile, compile_preload, files_in, ondat, run,
    server, status, succeed, wait_for,
};

/// What the host's user would have to be in a container.
const NOBODY: u32 = 65534;
const ALL: i64 = 7;

/// A host that is told what to do.
struct Host {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    /// The warnings of its log so far.
    warnings: Vec<String>,
    init: String,
}

impl Host {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut host = Self { child, input, lines, warnings: Vec::new(), init: String::new() };
        host.init = host.answer("init");
        host
    }

    /// The answer to a command: its status and a text.
    fn answer(&mut self, word: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(DEADLINE).unwrap_or_else(|why| panic!("{word}: {why}"));
            match line.strip_prefix("warning ") {
                Some(warning) => self.warnings.push(warning.to_owned()),
                None => return line.strip_prefix(word).unwrap_or_else(|| panic!("{word}: {line}")).trim().to_owned(),
            }
        }
    }

    fn says(&mut self, text: &str) -> String {
        writeln!(self.input, "{text}").unwrap();
        self.answer(text.split(' ').next().unwrap())
    }

    fn status(&mut self, text: &str) -> i64 {
        let said = self.says(text);
        said.split(' ').next().unwrap().parse().unwrap()
    }

    /// Waits until these are on.
    fn follows(&mut self, switches: i64, what: &str) {
        wait_for(what, || (self.status("switches") == switches).then_some(()));
    }

    fn crash(mut self) {
        let _ = writeln!(self.input, "segv");
        self.child.wait().unwrap();
    }

    fn end(mut self) {
        self.says("close 0");
        drop(self.input);
        assert!(self.child.wait().unwrap().success());
    }
}

/// A server for crash reports and what runs against it on one state directory.
struct Scene {
    folder: TempDir,
    told: PathBuf,
    sink: Sink,
    /// As it is configured.
    state: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Scene {
    fn new() -> Self {
        // Mounts of this thread and what it starts are seen by nobody else, and gone with it.
        // SAFETY: system calls with strings that outlive them.
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0, "needs root");
            let (none, root) = (c"none".as_ptr(), c"/".as_ptr());
            assert_eq!(libc::mount(none, root, none, libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()), 0);
        }
        let folder = TempDir::new();
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let (told, state) = (compile("told.c", &folder), folder.join("state"));
        Self { folder, told, sink: Sink::start(200), state, variables: Vec::new() }
    }

    /// With the state directory, of this mode.
    fn with_mode(mode: u32) -> Self {
        let scene = Self::new();
        make(&scene.state, mode);
        scene
    }

    fn environment(&self, command: &mut Command) {
        command.env("ONDAT_TELEMETRY_STATE_DIR", &self.state).env("ONDAT_TELEMETRY_SENTRY_DSN", self.sink.dsn());
        command.env("ONDAT_TELEMETRY_TIMEOUT_MS", "20000");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    fn host_command(&self) -> Command {
        let mut command = server(&self.told);
        self.environment(&mut command);
        command
    }

    fn host(&self) -> Host {
        Host::start(&mut self.host_command())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = ondat(words);
        self.environment(&mut command);
        command.env("ONDAT_TELEMETRY_VERSION", VERSION).env("ONDAT_TELEMETRY_CLUSTER_ID", CLUSTER_ID);
        command.env("ONDAT_TELEMETRY_NODE_ID", NODE_ID).stdin(Stdio::null());
        command
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&succeed(&mut self.command(&["status", "--json"])).stdout).unwrap()
    }

    /// How many have arrived. Where there are no locks one may arrive twice, and is one by its id.
    fn crashes(&self) -> usize {
        let bodies = self.sink.bodies();
        bodies.iter().filter_map(|body| body.lines().nth(2)).collect::<BTreeSet<_>>().len()
    }

    fn arrive(&self, crashes: usize, what: &str) {
        wait_for(what, || (self.crashes() >= crashes).then_some(()));
        assert_eq!(self.crashes(), crashes, "{what}");
    }
}

fn make(path: &Path, mode: u32) {
    fs::DirBuilder::new().mode(0o700).create(path).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn mount(words: &[&str], path: &Path) {
    succeed(crate::support::program("mount").args(words).arg(path));
}

fn fill(folder: &Path) {
    let mut file = File::create(folder.join("filling")).unwrap();
    for size in [4096, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
}

/// What an administrator sees and does where the state directory works, with the library, all commands and `serve`.
fn works(scene: &Scene, place: &Path, what: &str) {
    let mut host = scene.host();
    assert_eq!(host.init, "0", "{what}");
    assert_eq!(host.says("install"), "0", "{what}");
    assert_eq!(host.says("start"), "0", "{what}");
    let meta = fs::metadata(place).unwrap_or_else(|why| panic!("{what}: {}: {why}", place.display()));
    assert_eq!(meta.mode() & 0o7022, 0, "{what}");
    assert_eq!(meta.uid(), nix::unistd::geteuid().as_raw(), "{what}");

    let told = run(&mut scene.command(&["disable", "daily-report"]));
    assert!(told.status.success(), "{what}: {}", both(&told));
    host.follows(5, what);
    succeed(&mut scene.command(&["enable", "daily-report"]));
    host.follows(ALL, what);

    let status = scene.status();
    assert_eq!(status["state_dir"], place.to_str().unwrap(), "{what}");
    assert_eq!(status["state_dir_problem"], Value::Null, "{what}");
    for words in [&["crashes", "list"][..], &["report", "history"], &["crashes", "send"]] {
        let told = run(&mut scene.command(words));
        assert!(told.status.success(), "{what}: {words:?}: {}", both(&told));
    }
    let ended = run(&mut scene.command(&["exec", "--", "sh", "-c", "exit 3"]));
    assert_eq!(ended.status.code(), Some(3), "{what}");
    scene.arrive(1, what);

    if scene.variables.is_empty() {
        let api = Api::serve(&scene.state);
        let answer = CommandLine::log_in(&api).force(&["disableVersionCheck"]);
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        host.follows(6, what);
        assert_eq!(CommandLine::log_in(&api).force(&[]).status, 200, "{what}");
        host.follows(ALL, what);
    }
    assert!(place.join("audit.jsonl").exists(), "{what}");
    host.crash();
    scene.arrive(2, what);
}

/// The same where it cannot be used: everything goes on without it, and says so once.
fn goes_on_without(scene: &Scene, why: &str, what: &str) {
    let mut host = scene.host();
    assert_eq!(host.init, "0", "{what}");
    assert_eq!(host.says("install"), "0", "{what}");
    assert_eq!(host.says("start"), "0", "{what}");
    assert_eq!(host.status("switches"), ALL, "{what}");
    let status = scene.status();
    assert!(status["state_dir_problem"].as_str().is_some_and(|said| said.contains(why)), "{what}: {status}");
    assert!(status["switches"]["crash_reports"]["on"].as_bool().unwrap(), "{what}: {status}");
    assert_eq!(host.says("exit 3"), "0", "{what}");
    assert_eq!(host.status("flush 20000"), status::OK, "{what}");
    scene.arrive(1, what);
    let ended = run(&mut scene.command(&["exec", "--", "sh", "-c", "exit 3"]));
    assert_eq!(ended.status.code(), Some(3), "{what}: {}", both(&ended));
    scene.arrive(2, what);
    let said: Vec<_> = host.warnings.iter().filter(|line| line.contains(why)).collect();
    assert!(!said.is_empty(), "{what}: {:?}", host.warnings);
    let once = said.iter().filter(|line| line.contains("until that changes")).count();
    assert_eq!(once, 1, "{what}: {:?}", host.warnings);
    host.crash();
    scene.arrive(3, what);
}

#[test]
fn missing_directories_are_made() {
    for (what, path) in [("one level", "state"), ("three levels", "a/b/state")] {
        let mut scene = Scene::new();
        scene.state = scene.folder.join(path);
        works(&scene, &scene.state.clone(), what);
        let mut above = scene.state.clone();
        while above != scene.folder.path() {
            assert_eq!(fs::metadata(&above).unwrap().mode() & 0o7777, 0o700, "{}", above.display());
            above.pop();
        }
    }
}

#[test]
fn who_only_reads_makes_nothing() {
    let mut scene = Scene::new();
    scene.state = scene.folder.join("a/state");
    let document = scene.folder.join("document.json");
    fs::write(&document, "{}").unwrap();
    for words in [
        &["status"][..],
        &["status", "--json"],
        &["crashes", "list"],
        &["report", "history"],
        &["report", "preview", document.to_str().unwrap()],
    ] {
        succeed(&mut scene.command(words));
        assert!(!scene.folder.join("a").exists(), "{words:?}");
    }
    make(&scene.folder.join("a"), 0o777);
    make(&scene.state, 0o777);
    succeed(&mut scene.command(&["status"]));
    assert_eq!(fs::read_dir(&scene.state).unwrap().count(), 0);
}

#[test]
fn where_others_may_write_it_is_a_folder_of_our_own() {
    for (mode, owner) in [(0o777, None), (0o1777, None), (0o2770, None), (0o755, Some(NOBODY)), (0o700, Some(NOBODY))] {
        let scene = Scene::with_mode(mode);
        if owner.is_some() || mode == 0o2770 {
            chown(&scene.state, owner, Some(NOBODY)).unwrap();
            fs::set_permissions(&scene.state, PermissionsExt::from_mode(mode)).unwrap();
        }
        works(&scene, &scene.state.join("ondat-telemetry-0"), &format!("{mode:o}"));
        let names: Vec<_> = fs::read_dir(&scene.state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["ondat-telemetry-0"], "{mode:o}");
    }
}

/// As another user, who may read the library and the programs.
fn as_nobody(command: &mut Command) -> &mut Command {
    // SAFETY: system calls.
    unsafe {
        command.pre_exec(|| {
            let answers = [libc::setgroups(0, std::ptr::null()), libc::setgid(NOBODY), libc::setuid(NOBODY)];
            if answers == [0; 3] { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        })
    }
}

#[test]
fn two_users_of_one_directory_do_not_meet() {
    let scene = Scene::with_mode(0o777);
    let mut roots = scene.host();
    let mut nobodys = Host::start(as_nobody(&mut scene.host_command()));
    for host in [&mut roots, &mut nobodys] {
        assert_eq!(host.init, "0");
        assert_eq!(host.says("start"), "0");
    }
    succeed(as_nobody(&mut scene.command(&["disable", "all"])));
    nobodys.follows(0, "the user's own word");
    assert_eq!(roots.status("switches"), ALL);
    succeed(&mut scene.command(&["disable", "daily-report"]));
    roots.follows(5, "root's word");
    for uid in [0, NOBODY] {
        let own = fs::metadata(scene.state.join(format!("ondat-telemetry-{uid}"))).unwrap();
        assert_eq!((own.uid(), own.mode() & 0o7777), (uid, 0o700));
    }
    roots.end();
    nobodys.end();
}

#[test]
fn a_folder_of_our_name_that_is_not_ours_is_not_used() {
    type Take = fn(&Path);
    let takes: [(&str, Take, &str); 3] = [
        ("foreign", |own| chown(own, Some(NOBODY), None).unwrap(), "belongs to uid 65534"),
        ("open", |own| fs::set_permissions(own, PermissionsExt::from_mode(0o777)).unwrap(), "can be written by others"),
        (
            "symlink",
            |own| {
                fs::rename(own, own.with_file_name("elsewhere")).unwrap();
                symlink("elsewhere", own).unwrap();
            },
            "symlink",
        ),
    ];
    for (what, take, why) in takes {
        let scene = Scene::with_mode(0o777);
        let own = scene.state.join("ondat-telemetry-0");
        make(&own, 0o700);
        take(&own);
        goes_on_without(&scene, why, what);
        assert!(files_in(&scene.state).is_empty(), "{what}: {:?}", files_in(&scene.state));
    }
}

#[test]
fn a_symlink_is_refused_in_its_place_and_followed_above() {
    let mut scene = Scene::new();
    make(&scene.folder.join("real"), 0o700);
    symlink("real", &scene.state).unwrap();
    fs::write(scene.folder.join("file"), "").unwrap();
    for (name, slash) in [("state", ""), ("state", "/"), ("file", "")] {
        scene.state = PathBuf::from(format!("{}{slash}", scene.folder.join(name).display()));
        let host = scene.host();
        assert!(host.init.starts_with("11 ") && host.init.contains("a symlink or not a directory"), "{}", host.init);
        let told = run(&mut scene.command(&["status"]));
        assert_eq!(told.status.code(), Some(8), "{}", both(&told));
    }
    scene.state = scene.folder.join("state/below");
    works(&scene, &scene.state.clone(), "a symlink above");
    assert!(scene.folder.join("real/below").is_dir());
}

#[test]
fn a_read_only_file_system_is_gone_on_without() {
    let scene = Scene::with_mode(0o700);
    mount(&["-t", "tmpfs", "-o", "ro,mode=700", "none"], &scene.state);
    goes_on_without(&scene, "is on a read-only file system", "from the start");
    mount(&["-o", "remount,rw"], &scene.state);
    let mut host = scene.host();
    // Not one that has installed the handler: the kernel keeps the disk writable for its run marker.
    assert_eq!(host.says("start"), "0");
    mount(&["-o", "remount,ro"], &scene.state);
    let before = scene.crashes();
    assert_eq!(host.says("exit 3"), "0");
    assert_eq!(host.status("flush 20000"), status::OK);
    scene.arrive(before + 1, "turned read-only");
    host.end();
    mount(&["-o", "remount,rw"], &scene.state);
    succeed(&mut scene.command(&["disable", "all"]));
    assert_eq!(scene.host().status("switches"), 0, "the switches of one that can be read are honoured");
    mount(&["-o", "remount,ro"], &scene.state);
    assert_eq!(scene.host().status("switches"), 0, "also where it cannot be written");
}

#[test]
fn a_full_disk_is_gone_on_without_and_used_once_there_is_room() {
    let scene = Scene::with_mode(0o700);
    mount(&["-t", "tmpfs", "-o", "size=256k,mode=700", "none"], &scene.state);
    fill(&scene.state);
    goes_on_without(&scene, "No space left on device", "from the start");
    let mut host = scene.host();
    assert_eq!(host.says("start"), "0");
    fs::remove_file(scene.state.join("filling")).unwrap();
    succeed(&mut scene.command(&["disable", "daily-report"]));
    host.follows(5, "room");
    wait_for("it to be used", || {
        (host.status("exit 3") == 0 && !files_in(&scene.state.join("spool")).is_empty() || scene.crashes() > 3)
            .then_some(())
    });
    assert_eq!(scene.status()["state_dir_problem"], Value::Null);
    host.end();
}

#[test]
fn a_small_disk_works() {
    let scene = Scene::with_mode(0o700);
    mount(&["-t", "tmpfs", "-o", "size=64k,mode=700", "none"], &scene.state);
    works(&scene, &scene.state.clone(), "64 KiB");
}

#[test]
fn a_file_system_that_lacks_something_is_used_all_the_same() {
    for (variable, number, said) in [
        ("FAULT_FOLDER_SYNC", libc::EINVAL, "cannot make folders durable"),
        ("FAULT_LOCK", libc::ENOLCK, "has no locks"),
        ("FAULT_LOCK", libc::EOPNOTSUPP, "has no locks"),
    ] {
        let mut scene = Scene::with_mode(0o700);
        let object = compile_preload("fault_preload.c", &scene.folder);
        scene.variables = vec![
            ("LD_PRELOAD", object.to_str().unwrap().to_owned()),
            ("FAULT_DIR", scene.state.to_str().unwrap().to_owned()),
            (variable, number.to_string()),
        ];
        works(&scene, &scene.state.clone(), said);
        let mut host = scene.host();
        assert_eq!(host.says("exit 3"), "0");
        assert_eq!(host.status("flush 20000"), status::OK);
        let once = host.warnings.iter().filter(|line| line.contains(said)).count();
        assert_eq!(once, 1, "{said}: {:?}", host.warnings);
        host.end();
    }
}

/// Everything below is answered this error by one system call.
fn refusing(command: &mut Command, call: libc::c_long, errno: i32) -> &mut Command {
    let step = |bits: u32, if_true, if_false, value| libc::sock_filter {
        code: u16::try_from(bits).unwrap(),
        jt: if_true,
        jf: if_false,
        k: value,
    };
    let refusal = libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap();
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::try_from(call).unwrap()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, refusal),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: system calls; the program lives until they have returned.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: 4, filter: steps.as_mut_ptr() };
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program);
            Ok(())
        })
    }
}

/// Each call comes back, whatever it says; `Host::says` fails the test where one does not.
#[test]
fn no_call_goes_on_for_ever_where_the_disk_refuses() {
    let calls = [
        libc::SYS_getdents64,
        libc::SYS_renameat,
        libc::SYS_renameat2,
        libc::SYS_flock,
        libc::SYS_mkdirat,
        libc::SYS_fsync,
    ];
    for call in calls {
        for errno in [libc::EIO, libc::ESTALE, libc::EPERM] {
            let scene = Scene::with_mode(0o700);
            let mut host = Host::start(refusing(&mut scene.host_command(), call, errno));
            assert_eq!(host.init, "0", "{call} {errno}");
            for words in ["install", "start", "exit 3", "flush 2000", "check 100", "set 7", "close 200"] {
                host.says(words);
            }
            let stat = fs::read_to_string(format!("/proc/{}/stat", host.child.id())).unwrap();
            let fields: Vec<u64> =
                stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2).map(|n| n.parse().unwrap()).collect();
            assert!(fields.iter().sum::<u64>() < 200, "{call} {errno}: {fields:?} ticks");
            drop(host.input);
            host.child.wait().unwrap();
            let told = run(refusing(&mut scene.command(&["status"]), call, errno));
            assert!(told.status.code().is_some_and(|code| code < 124), "{call} {errno}: {}", both(&told));
        }
    }
}

/// A disk that fails under a running host: what is on stays on, what is off stays off.
#[test]
fn a_disk_that_fails_under_a_running_host_changes_no_switch() {
    let calls = [libc::SYS_openat, libc::SYS_newfstatat, libc::SYS_getdents64, libc::SYS_renameat];
    for is_on in [true, false] {
        for call in calls {
            for errno in [libc::EIO, libc::ESTALE, libc::EPERM, libc::ENOMEM] {
                let what = format!("{call} {errno} {is_on}");
                let scene = Scene::with_mode(0o700);
                let mut host = scene.host();
                assert_eq!(host.says("start"), "0", "{what}");
                if !is_on {
                    succeed(&mut scene.command(&["disable", "all"]));
                    host.follows(0, &what);
                }
                assert_eq!(host.says(&format!("refuse {call} {errno}")), "0", "{what}");
                for words in ["exit 3", "flush 1000", "check 100"] {
                    host.says(words);
                }
                assert_eq!(host.status("switches"), if is_on { ALL } else { 0 }, "{what}");
                host.says("close 100");
                let _ = host.child.kill();
                let _ = host.child.wait();
                if !is_on {
                    assert_eq!(scene.crashes(), 0, "{what}");
                }
            }
        }
    }
}

/// A process that was stopped with a lock in its hands.
#[test]
fn a_lock_that_is_never_let_go_of_holds_nobody_beyond_its_deadline() {
    let scene = Scene::with_mode(0o700);
    let mut host = scene.host();
    assert_eq!(host.says("exit 3"), "0");
    let locks = ["crash-memory.lock", "version.lock", "report-memory.lock"].map(|name| scene.state.join(name));
    let mut holders: Vec<_> = locks
        .iter()
        .map(|lock| {
            let mut flock = server("flock");
            flock.arg(lock).args(["sh", "-c", "echo held; read -r line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut holder = flock.spawn().unwrap();
            let mut line = String::new();
            BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            holder
        })
        .collect();
    assert_eq!(host.status("flush 20000"), status::OK);
    scene.arrive(1, "with its memory locked");
    host.end();
    for holder in &mut holders {
        drop(holder.stdin.take());
        holder.wait().unwrap();
    }
}

#[test]
fn off_stays_off_whatever_becomes_of_the_directory() {
    type Lose = fn(&Scene);
    let losses: [(&str, Lose); 6] = [
        ("moved", |scene| fs::rename(&scene.state, scene.folder.join("gone")).unwrap()),
        ("removed", |scene| fs::remove_dir_all(&scene.state).unwrap()),
        ("swapped for another user's", |scene| {
            fs::rename(&scene.state, scene.folder.join("gone")).unwrap();
            make(&scene.state, 0o755);
            fs::write(scene.state.join("switches.json"), r#"{"crash_reports":true}"#).unwrap();
            chown(&scene.state, Some(NOBODY), None).unwrap();
        }),
        ("swapped for one that others may write to", |scene| {
            fs::rename(&scene.state, scene.folder.join("gone")).unwrap();
            make(&scene.state, 0o777);
            fs::write(scene.state.join("switches.json"), r#"{"crash_reports":true}"#).unwrap();
        }),
        ("swapped for a symlink", |scene| {
            fs::rename(&scene.state, scene.folder.join("gone")).unwrap();
            make(&scene.folder.join("other"), 0o700);
            symlink("other", &scene.state).unwrap();
        }),
        ("without its file", |scene| fs::remove_file(scene.state.join("switches.json")).unwrap()),
    ];
    for (what, lose) in losses {
        for is_started in [false, true] {
            let scene = Scene::with_mode(0o700);
            let mut host = scene.host();
            assert_eq!(host.says("install"), "0", "{what}");
            if is_started {
                assert_eq!(host.says("start"), "0", "{what}");
            }
            succeed(&mut scene.command(&["disable", "all"]));
            // One that was not started looks when it is about to send.
            assert_eq!(host.status("exit 3"), status::DISABLED, "{what}");
            host.follows(0, what);
            lose(&scene);
            for words in ["exit 3", "check 1000"] {
                assert_ne!(host.status(words), status::OK, "{what}");
            }
            assert_eq!(host.status("switches"), 0, "{what}");
            if is_started {
                host.crash();
            } else {
                host.end();
            }
            assert_eq!(scene.crashes(), 0, "{what}");
        }
    }
}

#[test]
fn off_stays_off_in_another_root_and_without_the_mount() {
    let scene = Scene::with_mode(0o700);
    mount(&["-t", "tmpfs", "-o", "mode=700", "none"], &scene.state);
    let jail = scene.folder.join("jail");
    make(&jail, 0o755);
    let mut hosts = [scene.host(), scene.host()];
    for host in &mut hosts {
        assert_eq!(host.says("start"), "0");
    }
    succeed(&mut scene.command(&["disable", "all"]));
    for host in &mut hosts {
        host.follows(0, "the word");
    }
    assert_eq!(hosts[0].says(&format!("chroot {}", jail.display())), "0");
    succeed(crate::support::program("umount").arg("-l").arg(&scene.state));
    for host in &mut hosts {
        assert_eq!(host.status("exit 3"), status::DISABLED);
        assert_eq!(host.status("switches"), 0);
    }
    // What is under the mount is ours alone as well: it is followed.
    succeed(&mut scene.command(&["enable", "all"]));
    hosts[1].follows(ALL, "the directory under the mount");
    assert_eq!(hosts[0].status("switches"), 0, "from its root nobody has said anything");
    hosts.into_iter().for_each(Host::end);
}

#[test]
fn a_directory_that_is_made_anew_is_followed() {
    type Renew = fn(&Path);
    let renewals: [(&str, Renew); 3] = [
        ("removed", |state| {
            fs::remove_dir_all(state).unwrap();
            make(state, 0o700);
        }),
        ("moved with what is above", |state| {
            let above = state.parent().unwrap();
            fs::rename(above, above.with_file_name("moved")).unwrap();
            make(above, 0o700);
            make(state, 0o700);
        }),
        ("mounted over", |state| {
            mount(&["-t", "tmpfs", "-o", "mode=700", "none"], state);
            succeed(crate::support::program("umount").arg(state));
        }),
    ];
    for (what, renew) in renewals {
        let mut scene = Scene::new();
        make(&scene.folder.join("above"), 0o700);
        scene.state = scene.folder.join("above/state");
        make(&scene.state, 0o700);
        let mut host = scene.host();
        assert_eq!(host.says("start"), "0", "{what}");
        succeed(&mut scene.command(&["disable", "daily-report"]));
        host.follows(5, what);
        renew(&scene.state);
        assert_eq!(host.status("switches"), 5, "{what}: as long as nobody has said anything, the last word holds");
        succeed(&mut scene.command(&["disable", "all"]));
        host.follows(0, what);
        succeed(&mut scene.command(&["enable", "all"]));
        host.follows(ALL, what);
        host.end();
    }
}

#[test]
fn without_descriptors_and_without_watches_the_last_word_holds_and_the_next_is_followed() {
    let scene = Scene::with_mode(0o700);
    let mut host = scene.host();
    assert_eq!((host.says("install").as_str(), host.says("start").as_str()), ("0", "0"));
    assert_eq!(host.says("leak"), "0");
    fs::write(scene.folder.join("change"), "{}").unwrap();
    fs::rename(scene.folder.join("change"), scene.state.join("notice.json")).unwrap();
    assert_eq!(host.status("exit 3"), status::OK, "in memory, for want of a descriptor");
    assert_eq!(host.status("switches"), ALL);
    host.crash();
    wait_for("its crash", || scene.sink.bodies().iter().any(|body| body.contains("SIGSEGV")).then_some(()));

    for limit in ["max_inotify_instances", "max_inotify_watches"] {
        let scene = Scene::with_mode(0o700);
        let mut command = server("unshare");
        let script = format!("echo 0 > /proc/sys/user/{limit} && exec \"$@\"");
        command.args(["--user", "--map-root-user", "sh", "-c", &script, "sh"]).arg(&scene.told);
        scene.environment(&mut command);
        let mut host = Host::start(&mut command);
        assert_eq!(host.init, "0", "{limit}");
        assert_eq!(host.says("start"), "0", "{limit}");
        succeed(&mut scene.command(&["disable", "all"]));
        host.follows(0, limit);
        host.end();
    }
}

/// A server that takes a request, says so, and answers nothing.
fn silent() -> (String, Receiver<()>, Receiver<()>) {
    let ((asks, asked), (leaves, left)) = (channel(), channel());
    let address = crate::sink::accept(move |mut stream| {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = std::io::Read::read(&mut stream, &mut bytes) {
            let _ = asks.send(());
            let _ = length;
        }
        let _ = leaves.send(());
    });
    (format!("http://key@{address}/1"), asked, left)
}

#[test]
fn everybody_who_sends_is_interrupted() {
    type Send = fn(&Scene) -> Child;
    let senders: [(&str, Send); 4] = [
        ("crashes send", |scene| {
            let mut host = scene.host();
            assert_eq!(host.says("exit 3"), "0");
            drop(host);
            scene.command(&["crashes", "send"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        }),
        ("a host that was not started", |scene| {
            let mut host = scene.host();
            assert_eq!(host.says("exit 3"), "0");
            writeln!(host.input, "flush 20000").unwrap();
            std::mem::forget(host.input);
            host.child
        }),
        ("the monitor", |scene| {
            let mut host = scene.host();
            assert_eq!(host.says("install"), "0");
            let _ = writeln!(host.input, "segv");
            host.child
        }),
        ("the supervisor", |scene| {
            scene.command(&["exec", "--crash-wait-ms", "30000", "--", "sh", "-c", "exit 3"]).spawn().unwrap()
        }),
    ];
    for (what, send) in senders {
        let (dsn, asked, left) = silent();
        let mut scene = Scene::with_mode(0o700);
        scene.variables = vec![("ONDAT_TELEMETRY_SENTRY_DSN", dsn)];
        let mut sender = send(&scene);
        asked.recv_timeout(DEADLINE).unwrap_or_else(|why| panic!("{what}: {why}"));
        succeed(&mut scene.command(&["disable", "crash-reports"]));
        left.recv_timeout(Duration::from_secs(15)).unwrap_or_else(|why| panic!("{what}: {why}"));
        wait_for(what, || files_in(&scene.state.join("spool/crashes")).is_empty().then_some(()));
        let _ = sender.kill();
        let _ = sender.wait();
    }
}

#[test]
fn turning_off_removes_what_waits_without_a_daemon_and_on_a_full_disk() {
    let scene = Scene::with_mode(0o700);
    mount(&["-t", "tmpfs", "-o", "size=256k,mode=700", "none"], &scene.state);
    let mut host = scene.host();
    assert_eq!((host.says("start").as_str(), host.says("close 0").as_str()), ("0", "0"));
    drop(host);
    for folder in ["sent", "spool", "spool/reports", "spool/crashes"] {
        let _ = fs::DirBuilder::new().mode(0o700).create(scene.state.join(folder));
    }
    for file in ["sent/2026-11-30-0.jsonl", "spool/reports/2026-11-30-0.otr", "spool/crashes/0.json"] {
        fs::write(scene.state.join(file), "{}").unwrap();
    }
    succeed(&mut scene.command(&["disable", "version-check"]));
    assert_eq!(files_in(&scene.state.join("spool")).len(), 2, "others are let alone");
    fill(&scene.state);
    let told = run(&mut scene.command(&["disable", "all"]));
    assert!(told.status.success(), "{}", both(&told));
    for folder in ["sent", "spool"] {
        assert_eq!(files_in(&scene.state.join(folder)), Vec::<PathBuf>::new());
    }
    let switches = scene.status()["switches"].clone();
    assert!(switches.as_object().unwrap().values().all(|switch| switch["on"] == false), "{switches}");
    fs::remove_file(scene.state.join("filling")).unwrap();
    succeed(&mut scene.command(&["enable", "all"]));
    let audit = fs::read_to_string(scene.state.join("audit.jsonl")).unwrap();
    let changes: VecDeque<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(changes.len(), 3, "each change has its line: {audit}");
    assert_eq!(changes[1]["changes"]["daily_report"]["to"], false, "{audit}");
}

#[test]
fn a_disk_that_was_always_full_can_be_turned_off_as_well() {
    let scene = Scene::with_mode(0o700);
    mount(&["-t", "tmpfs", "-o", "size=64k,mode=700", "none"], &scene.state);
    fill(&scene.state);
    let mut host = scene.host();
    assert_eq!(host.says("start"), "0");
    succeed(&mut scene.command(&["disable", "all"]));
    host.follows(0, "a full disk");
    host.end();
}

#[test]
fn a_flush_that_says_ok_has_left_nothing() {
    let scene = Scene::with_mode(0o700);
    let mut host = scene.host();
    for _ in 0..2 {
        assert_eq!(host.says("exit 3"), "0");
    }
    let stored = files_in(&scene.state.join("spool/crashes"));
    assert_eq!(stored.len(), 2);
    // One that cannot be opened as a file does not hold up the other, and is not forgotten.
    let bytes = fs::read(&stored[0]).unwrap();
    fs::write(&stored[0], bytes).unwrap();
    succeed(crate::support::program("chattr").arg("+i").arg(&stored[0]));
    let flushed = host.status("flush 20000");
    let left = files_in(&scene.state.join("spool/crashes"));
    succeed(crate::support::program("chattr").arg("-i").arg(&stored[0]));
    assert_eq!((flushed, left), (status::QUEUED, vec![stored[0].clone()]));
    assert_eq!(scene.crashes(), 1);
    assert_eq!(host.status("flush 20000"), status::OK);
    assert_eq!(scene.crashes(), 2);
    host.end();
    assert!(command("ondat-telemetry").exists());
}
