//! The stored reports under stress: two processes at once, a full disk, one that cannot be written, files of others.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::cluster::{Cluster, document};
use crate::relay::Relay;
use crate::support::{
    NOBODY, Said, Server, bytes_of, compile, files_below, files_in, holds, program, run, server, status,
};

/// A cluster and the program that sends its reports.
struct Scene {
    cluster: Cluster,
    probe: PathBuf,
    document: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let cluster = Cluster::new("X25519");
        let (probe, document) = (compile("probe.c", &cluster.folder), cluster.write_document(&document(2)));
        Self { cluster, probe, document }
    }

    fn submit<'c>(&self, command: &'c mut Command, url: &str) -> &'c mut Command {
        self.cluster.settings(command, url, "");
        command.env_remove("ONDAT_TELEMETRY_CA_FILE").arg("submit").arg(&self.document)
    }

    fn flush<'c>(&self, command: &'c mut Command, url: &str) -> &'c mut Command {
        self.cluster.settings(command, url, "");
        command.env_remove("ONDAT_TELEMETRY_CA_FILE").arg("flush")
    }

    /// Stores a report of another cluster on the same state directory.
    fn store(&self, cluster_id: &str) -> PathBuf {
        let before = self.cluster.spool();
        let mut command = program(&self.probe);
        self.submit(&mut command, NOBODY).env("ONDAT_TELEMETRY_CLUSTER_ID", cluster_id);
        assert_eq!(Said::of(&run(&mut command)).number("submit_report"), status::QUEUED);
        let mut stored = self.cluster.spool();
        stored.retain(|path| !before.contains(path));
        let [stored] = stored.try_into().unwrap();
        stored
    }
}

/// The report's id in the name of a stored or received report.
fn id(path: &Path) -> String {
    let name = path.file_stem().unwrap().to_str().unwrap();
    name.rsplit_once('-').map_or(name, |(_, id)| id).to_owned()
}

fn ids(paths: &[PathBuf]) -> Vec<String> {
    let mut ids: Vec<String> = paths.iter().map(|path| id(path)).collect();
    ids.sort();
    ids
}

#[test]
fn two_processes_flush_one_folder_and_each_report_is_sent_once() {
    let scene = Scene::new();
    let stored: Vec<PathBuf> = (0..7).map(|number| scene.store(&format!("cluster-{number}"))).collect();
    let collector = scene.cluster.collector();
    // A process sends one after the other: two requests at a time are two processes at work.
    let relay = Relay::start(&collector.http, 2);
    let start = || -> Child {
        let mut command = program(&scene.probe);
        scene.flush(&mut command, &relay.url).stdout(std::process::Stdio::piped()).spawn().unwrap()
    };
    for process in [start(), start()] {
        let said = Said::of(&process.wait_with_output().unwrap());
        assert_eq!(said.number("flush"), status::OK, "{said:?}");
    }
    let mut puts: Vec<String> = Vec::new();
    for request in relay.requests() {
        let head = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        let path = head.strip_prefix("PUT /v1/reports/").unwrap_or_else(|| panic!("{head}"));
        puts.push(path.split(' ').next().unwrap().to_owned());
    }
    puts.sort();
    assert_eq!(puts, ids(&stored), "every report once");
    assert_eq!(ids(&collector.reports()), ids(&stored));
    assert_eq!(scene.cluster.spool(), Vec::<PathBuf>::new());
}

#[test]
fn seven_reports_wait_and_the_oldest_of_eight_is_gone() {
    let scene = Scene::new();
    let day = Duration::from_secs(86_400);
    let mut stored = Vec::new();
    for number in 0..8_u32 {
        let path = scene.store(&format!("cluster-{number}"));
        // The first is the oldest.
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - day * (8 - number)).unwrap();
        stored.push(path);
    }
    assert_eq!(ids(&scene.cluster.spool()), ids(&stored[1..]));
    let collector = scene.cluster.collector();
    let relay = Relay::start(&collector.http, 1);
    let said = Said::of(&run(scene.flush(&mut program(&scene.probe), &relay.url)));
    assert_eq!(said.number("flush"), status::OK, "{said:?}");
    let order: Vec<bool> = stored[1..]
        .iter()
        .zip(relay.requests())
        .map(|(path, request)| holds(&request, &format!("PUT /v1/reports/{} ", id(path))))
        .collect();
    assert_eq!(order, [true; 7], "the oldest first");
    assert_eq!(ids(&collector.reports()), ids(&stored[1..]));
}

#[test]
fn files_of_others_are_put_aside_and_the_reports_among_them_arrive() {
    let scene = Scene::new();
    let good = [scene.store("cluster-1"), scene.store("cluster-2"), scene.store("cluster-3")];
    // A report that was cut short. In its header, all that a collector looks at, nothing is amiss.
    let cut = scene.store("cluster-4");
    let half = bytes_of(&cut);
    std::fs::write(&cut, &half[..half.len() / 2]).unwrap();
    let folder = good[0].parent().unwrap().to_owned();
    let elsewhere = scene.cluster.folder.join("elsewhere");
    std::fs::write(&elsewhere, "not to be read").unwrap();
    let day = &good[0].file_name().unwrap().to_str().unwrap()[..10];
    let named = |id: u128| folder.join(format!("{day}-{id:032x}.otr"));

    // Not a report's name.
    std::fs::write(folder.join("core"), [0x7f, b'E', b'L', b'F', 0xff]).unwrap();
    std::fs::write(folder.join("empty.otr"), "").unwrap();
    std::fs::write(folder.join("n".repeat(255)), "the longest name there is").unwrap();
    // A report's name on what is none.
    std::fs::write(named(1), [0xff; 5000]).unwrap();
    std::fs::write(named(2), "").unwrap();
    std::fs::copy(&good[0], named(3)).unwrap();
    std::fs::File::create(named(4)).unwrap().set_len(1 << 40).unwrap();
    // No files.
    std::fs::create_dir(named(5)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, named(6)).unwrap();
    nix::unistd::mkfifo(&named(7), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // No name that a program could write down.
    std::fs::write(folder.join(OsStr::from_bytes(b"\xff.otr")), "?").unwrap();
    // All of them are before the good ones.
    for path in files_below(&folder).iter().filter(|path| !good.contains(path) && path.is_file()) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    }

    let collector = scene.cluster.collector();
    let flush = || {
        let output = run(scene.flush(&mut program(&scene.probe), &collector.http));
        let said = Said::of(&output);
        assert_eq!(said.number("flush"), status::OK, "{said:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let log = flush();
    assert_eq!(ids(&collector.reports()), ids(&good), "{log}");
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(lines("has no report's name and is set aside"), 3, "{log}");
    assert_eq!(lines("is damaged and is set aside"), 4, "{log}");
    let log = flush();
    assert!(!log.contains("set aside") && !log.contains("refused"), "said once: {log}");
    assert_eq!(bytes_of(&elsewhere), b"not to be read");

    let mut left: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut expected = vec![
        ".damaged-core".to_owned(),
        ".damaged-empty.otr".to_owned(),
        format!(".damaged-{}", "n".repeat(246)),
        format!(".damaged-{}", name(cut)),
        "\u{fffd}.otr".to_owned(),
    ];
    expected.extend([1, 2, 3, 4].map(|id| format!(".damaged-{}", name(named(id)))));
    expected.extend([5, 6, 7].map(|id| name(named(id))));
    expected.sort();
    assert_eq!(left, expected);
}

/// A small file system of its own, in a mount namespace of its own.
struct SmallDisk {
    holder: Server,
    mount_point: PathBuf,
}

impl SmallDisk {
    const BYTES: usize = 64 << 10;
    const PAGE: usize = 4 << 10;

    fn mount(mount_point: &Path) -> Self {
        let mut holder = server("unshare");
        let script = "mount -t tmpfs -o size=64k,mode=0700 tmpfs \"$0\" && echo mounted && exec sleep infinity";
        holder.args(["--mount", "sh", "-c", script]).arg(mount_point);
        let (holder, ()) = Server::start(&mut holder, |line| (line == "mounted").then_some(()));
        Self { holder, mount_point: mount_point.to_owned() }
    }

    /// A program that sees it.
    fn program(&self, path: impl AsRef<OsStr>) -> Command {
        let mut command = program("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).arg("--").arg(path);
        command
    }

    /// Where it is seen from here.
    fn path(&self) -> PathBuf {
        let seen = format!("/proc/{}/root{}", self.holder.id(), self.mount_point.display());
        PathBuf::from(seen)
    }

    /// Fills it, but for this many pages.
    fn fill_but(&self, pages: usize) {
        let mut filler = std::fs::File::create(self.path().join("filler")).unwrap();
        let page = [0xff; Self::PAGE];
        let written = (0..).take_while(|_| filler.write_all(&page).is_ok()).count();
        assert!(written <= Self::BYTES / Self::PAGE);
        filler.set_len((written.saturating_sub(pages) * Self::PAGE) as u64).unwrap();
    }

    /// Removes everything.
    fn empty(&self) {
        for entry in std::fs::read_dir(self.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
    }
}

#[test]
fn on_a_full_disk_nothing_half_written_is_ever_read() {
    let mut scene = Scene::new();
    let collector = scene.cluster.collector();
    let disk = SmallDisk::mount(&scene.cluster.state_dir);
    let spool = disk.path().join("spool/reports");
    let mut outcomes = BTreeMap::new();
    for pages in 0..8 {
        disk.empty();
        disk.fill_but(pages);
        let said = Said::of(&run(scene.submit(&mut disk.program(&scene.probe), NOBODY)));
        let outcome = said.number("submit_report");
        *outcomes.entry(outcome).or_insert(0) += 1;
        let stored = files_in(&spool);
        match outcome {
            status::IO => {
                assert!(said.text("submit_report_why").contains("No space left on device"), "{pages}: {said:?}");
                assert_eq!(stored, Vec::<PathBuf>::new(), "{pages} pages: {said:?}");
                assert_eq!(files_in(&disk.path().join("sent")), Vec::<PathBuf>::new(), "{pages} pages");
            }
            status::QUEUED => assert_eq!(stored.len(), 1, "{pages} pages: {said:?}"),
            _ => panic!("{pages} pages: {said:?}"),
        }
        if let Ok(memory) = std::fs::read(disk.path().join("report.json")) {
            serde_json::from_slice::<Value>(&memory).unwrap();
        }

        // Another process sends what is whole, and nothing else; the disk is as full as before.
        let before = collector.reports().len();
        let said = Said::of(&run(scene.flush(&mut disk.program(&scene.probe), &collector.http)));
        assert_eq!(said.number("flush"), status::OK, "{pages} pages: {said:?}");
        assert_eq!(files_in(&spool), Vec::<PathBuf>::new(), "{pages} pages");
        let is_new = usize::from(before == 0 && outcome == status::QUEUED);
        assert_eq!(collector.reports().len(), before + is_new, "{pages} pages");

        // With room, the day has its report.
        std::fs::remove_file(disk.path().join("filler")).unwrap();
        let said = Said::of(&run(scene.submit(&mut disk.program(&scene.probe), &collector.http)));
        let is_done = said.number("submit_report") == status::INVALID_STATE && outcome == status::QUEUED;
        assert!(is_done || said.number("submit_report") == status::OK, "{pages} pages: {said:?}");
    }
    assert_eq!(outcomes.keys().copied().collect::<Vec<_>>(), [status::QUEUED, status::IO], "{outcomes:?}");
    scene.cluster.opened(&collector);

    // One that is larger than the disk.
    disk.empty();
    scene.document = scene.cluster.write_document(&document(4000));
    let said = Said::of(&run(scene.submit(&mut disk.program(&scene.probe), &collector.http)));
    assert_eq!(said.number("submit_report"), status::IO, "{said:?}");
    assert!(said.text("submit_report_why").contains("No space left on device"), "{said:?}");
    let left: Vec<PathBuf> = files_below(&disk.path());
    assert!(
        matches!(left.as_slice(), [notice, lock] if notice.ends_with("notice.json") && lock.ends_with("report.lock")),
        "{left:?}"
    );
}
