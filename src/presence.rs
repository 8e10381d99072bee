//! The processes that use the state directory, and what each says about its switches and settings: nobody else knows
//! its environment, its cluster spec and its program's choices. This is written for `status` and the page; the library
//! itself bases no decision on it. A process with a report callback also has a socket here, at which it is asked.

use std::fs;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::Error;
use crate::state::{Folder, StateDir, layout};
use crate::switch::{self, Objection};
use crate::sys::clock::boot_id;
use crate::sys::descriptor::Owned;
use crate::sys::procfs;

const FOLDER: &str = layout::PROCESSES;
/// The most files that are kept: a container that is killed leaves its own behind, and another one cannot look whether it
/// lives.
const MOST: usize = 64;

/// A process that has started its schedule, by its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its part in the product.
    pub component: String,
    /// The product's version.
    pub version: String,
    /// Its number in its own PID namespace.
    pub pid: u32,
    /// When it said so, Unix seconds.
    pub at: i64,
    /// Which switches it holds off, and by whose word.
    pub off: Vec<Objection>,
    /// What [`settings`] says of it; null for one of an older version.
    pub settings: Value,
    /// The kernel's id of its boot, and its PID namespace.
    place: (String, String),
    /// What tells it from others that had or will have its number, and from the program that it may become.
    born: Option<(u64, u64)>,
}

/// Whether a process still lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Lives,
    /// It does not.
    Gone,
    /// It is in another container, and cannot be seen from here.
    Unseen,
}

impl Process {
    /// This process.
    pub fn new(component: &str, version: &str, at: i64, off: Vec<Objection>) -> Self {
        let pid = std::process::id();
        Self {
            component: component.to_owned(),
            version: version.to_owned(),
            pid,
            at,
            off,
            settings: Value::Null,
            place: here(),
            born: procfs::stat(pid).map(|stat| (stat.start_time, stat.start_stack)),
        }
    }

    /// What comes before in this order has run for longer, among those of one boot.
    pub fn age(&self) -> (u64, String) {
        (self.born.map_or(u64::MAX, |(start_time, _)| start_time), name(&self.component, self.pid))
    }

    /// Whether it lives, as far as can be seen from this process.
    pub fn life(&self) -> Life {
        let here = here();
        if self.place.0 != here.0 {
            // The machine was started anew; but there are containers that have a boot of their own (gVisor).
            return if procfs::is_first_pid_namespace(&self.place.1) { Life::Gone } else { Life::Unseen };
        }
        if self.place.1.is_empty() || self.place.1 != here.1 {
            return Life::Unseen;
        }
        let now = procfs::stat(self.pid).filter(|stat| !matches!(stat.state, 'Z' | 'X'));
        let is_the_same = now.zip(self.born).is_some_and(|(now, (start_time, start_stack))| {
            // The kernel shows no address of a process that may not be traced, proc_pid_stat(5).
            now.start_time == start_time && (now.start_stack == start_stack || now.start_stack == 0)
        });
        if is_the_same { Life::Lives } else { Life::Gone }
    }

    fn to_json(&self) -> Value {
        json!({
            "component": self.component,
            "version": self.version,
            "pid": self.pid,
            "at": self.at,
            "objections": self.off,
            "settings": self.settings,
            "boot": self.place.0,
            "pid_namespace": self.place.1,
            "born": self.born,
        })
    }

    /// Reads such a file; none where it is something else. By hand, as derived code would be several KB of the library.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(bytes).ok()?;
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let born = &json["born"];
        Some(Self {
            component: text("component")?,
            version: text("version")?,
            pid: u32::try_from(json["pid"].as_u64()?).ok()?,
            at: json["at"].as_i64()?,
            off: switch::objections(&json["objections"])?,
            settings: json["settings"].clone(),
            place: (text("boot")?, text("pid_namespace")?),
            born: born[0].as_u64().zip(born[1].as_u64()),
        })
    }
}

fn here() -> (String, String) {
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    (boot_id(), namespace.to_string_lossy().into_owned())
}

/// What this process has said, until it is dropped.
pub struct Presence {
    folder: Folder,
    name: String,
    pid: u32,
}

impl Presence {
    /// Says it, and removes what the dead have said.
    pub fn announce(dir: &StateDir, process: &Process) -> Result<Self, Error> {
        let folder = dir.folder(FOLDER);
        let presence = Self { folder, name: name(&process.component, process.pid), pid: std::process::id() };
        presence.say(process)?;
        presence.sweep();
        Ok(presence)
    }

    /// Says something else from now on.
    pub fn say(&self, process: &Process) -> Result<(), Error> {
        let bytes = serde_json::to_vec(&process.to_json());
        let bytes = bytes.map_err(|error| Error::Internal(format!("{FOLDER}/{}: {error}", self.name)))?;
        // After a power cut it is one of another boot, which means nothing.
        self.folder.write_unsynced(&self.name, &bytes)
    }

    /// Listens at its socket, as the only one from now on.
    pub fn open_door(&self) -> Result<Owned, Error> {
        self.folder.listen(&door(&self.name))
    }

    /// Whether that is there.
    pub fn has_door(&self) -> bool {
        self.folder.has_socket(&door(&self.name))
    }

    /// Leaves its removal to another process.
    pub fn leave(mut self) {
        self.pid = 0;
    }

    /// Readers skip a file that could not be removed.
    fn sweep(&self) {
        let entries = self.folder.entries().unwrap_or_default();
        let mut surplus = entries.len().saturating_sub(MOST);
        for entry in entries.iter().filter(|entry| entry.name != self.name) {
            let process = read(&self.folder, &entry.name);
            if surplus > 0 || process.is_none_or(|process| process.life() == Life::Gone) {
                let _ = self.folder.remove_unsynced(&entry.name);
                surplus = surplus.saturating_sub(1);
            }
        }
        for socket in self.folder.sockets().unwrap_or_default() {
            // A process says what it is before it listens.
            let Some(process) = socket.strip_suffix(layout::DOOR) else { continue };
            if matches!(self.folder.entry(process), Ok(None)) {
                let _ = self.folder.remove_unsynced(&socket);
            }
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // In a forked child it is the parent's.
        if std::process::id() == self.pid {
            remove(&self.folder, &self.name);
        }
    }
}

fn remove(folder: &Folder, name: &str) {
    let _ = folder.remove_unsynced(&door(name));
    let _ = folder.remove_unsynced(name);
}

fn door(name: &str) -> String {
    format!("{name}{}", layout::DOOR)
}

/// The name of this process's files. Names that begin with a dot are not listed.
pub fn name(component: &str, pid: u32) -> String {
    format!("{}-{pid}", component.trim_start_matches('.'))
}

/// Removes what a process of this name has said: it has ended. Where that fails, the next one that comes removes it.
pub fn forget(dir: &StateDir, name: &str) {
    remove(&dir.folder(FOLDER), name);
}

/// A connection to this process; none where it has no report callback, or no socket for another reason.
pub fn knock(dir: &StateDir, process: &Process, patience: Duration) -> Result<Option<UnixStream>, Error> {
    dir.folder(FOLDER).connect(&door(&name(&process.component, process.pid)), patience)
}

/// Those that live, or may live where it cannot be seen.
pub fn processes(dir: &StateDir) -> Result<Vec<Process>, Error> {
    let folder = dir.folder(FOLDER);
    let entries = folder.entries()?;
    let said = entries.iter().filter_map(|entry| read(&folder, &entry.name));
    Ok(said.filter(|process| process.life() != Life::Gone).collect())
}

fn read(folder: &Folder, name: &str) -> Option<Process> {
    Process::parse(&folder.read(name).ok()??)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::DirBuilderExt;
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::switch::{Kind, Source, Switch};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ondat-telemetry-presence-{name}-{}", std::process::id()));
            fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
            Self(path)
        }

        fn dir(&self) -> StateDir {
            StateDir::open(&self.0).unwrap()
        }

        fn listing(&self) -> Vec<String> {
            self.dir().folder(FOLDER).entries().unwrap().into_iter().map(|entry| entry.name).collect()
        }

        /// As a process of this name and number would have written it.
        fn leave(&self, process: &Process) {
            std::mem::forget(Presence::announce(&self.dir(), process).unwrap());
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn process() -> Process {
        let off = vec![Objection {
            switch: Switch::DailyReport,
            source: Source::new(Kind::Environment, "DISABLE_TELEMETRY"),
        }];
        Process::new("dataplane", "2.8.1", 1_795_478_400, off)
    }

    fn another(change: impl FnOnce(&mut Process)) -> Process {
        let mut other = process();
        other.component = "another".to_owned();
        change(&mut other);
        other
    }

    #[test]
    fn what_a_process_says_is_read_while_it_lives() {
        let scratch = Scratch::new("lives");
        let presence = Presence::announce(&scratch.dir(), &process()).unwrap();
        assert_eq!(processes(&scratch.dir()).unwrap(), [process()]);
        assert_eq!(process().life(), Life::Lives);
        let silent = Process { off: Vec::new(), ..process() };
        presence.say(&silent).unwrap();
        assert_eq!(processes(&scratch.dir()).unwrap(), [silent]);
        drop(presence);
        assert_eq!(processes(&scratch.dir()).unwrap(), []);
        assert!(scratch.listing().is_empty());
    }

    #[test]
    fn the_dead_are_not_shown_and_go_when_another_one_comes() {
        let dead: [fn(&mut Process); 4] = [
            |gone| gone.place = ("another boot".to_owned(), "pid:[4026531836]".to_owned()),
            // Its number has gone to another process.
            |gone| gone.born = Some((1, 1)),
            |gone| {
                let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
                child.wait().unwrap();
                gone.pid = child.id();
            },
            // It has become another program.
            |gone| gone.born = gone.born.map(|(time, stack)| (time, stack ^ 0x1000)),
        ];
        for (number, change) in dead.into_iter().enumerate() {
            let scratch = Scratch::new(&format!("dead-{number}"));
            scratch.leave(&another(change));
            assert_eq!(scratch.listing().len(), 1, "{number}");
            assert_eq!(processes(&scratch.dir()).unwrap(), [], "{number}");
            let _presence = Presence::announce(&scratch.dir(), &process()).unwrap();
            assert_eq!(scratch.listing(), [format!("dataplane-{}", std::process::id())], "{number}");
        }
    }

    #[test]
    fn those_of_other_containers_are_shown_and_bounded() {
        let scratch = Scratch::new("containers");
        for pid in 0..100 {
            scratch.leave(&another(|other| {
                other.pid = pid;
                other.place.1 = "pid:[1]".to_owned();
                if pid % 2 == 0 {
                    other.place.0 = "a boot of its own".to_owned();
                }
            }));
        }
        let there = processes(&scratch.dir()).unwrap();
        assert_eq!(there.len(), MOST);
        assert!(there.iter().all(|process| process.life() == Life::Unseen));
    }

    #[test]
    fn settings_are_read_as_they_were_said_and_an_older_version_has_none() {
        let scratch = Scratch::new("settings");
        let said = another(|other| other.settings = json!({ "version_zone": "z.example", "version_keys": ["k"] }));
        scratch.leave(&said);
        assert_eq!(processes(&scratch.dir()).unwrap(), std::slice::from_ref(&said));
        let mut older = said.to_json();
        older.as_object_mut().unwrap().remove("settings");
        assert_eq!(Process::parse(older.to_string().as_bytes()).unwrap().settings, Value::Null);
    }

    #[test]
    fn what_is_something_else_is_passed_over() {
        let scratch = Scratch::new("foreign");
        for bytes in ["", "[]", r#"{"component":"c","version":"1.2.3","pid":-1}"#] {
            scratch.dir().folder(FOLDER).write_unsynced("foreign", bytes.as_bytes()).unwrap();
            assert_eq!(processes(&scratch.dir()).unwrap(), [], "{bytes}");
        }
        let hidden = another(|other| other.component = "..".to_owned());
        let presence = Presence::announce(&scratch.dir(), &hidden).unwrap();
        assert_eq!(processes(&scratch.dir()).unwrap(), [hidden]);
        drop(presence);
        assert!(scratch.listing().is_empty());
    }
}
