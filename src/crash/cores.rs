//! Where core files are. If core_pattern is a plain path, core(5), the kernel writes a file and tells nobody. The
//! administrator is told where it is, and can limit how many are kept. Only the number of core files is ever sent.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use ondat_telemetry_protocol::ending::{CoreDump, Ending};
use serde::Serialize;
use serde_json::Value;

use super::setup::{Retention, Setup};
use crate::error::Error;
use crate::state::record::{PATIENCE, load, store};
use crate::state::{StateDir, layout};
use crate::sys::clock::unix_now;
use crate::sys::descriptor;

/// A core that was last written longer ago than this, in seconds, when its process is found dead is not its core: the
/// kernel is done with the file just before.
const FRESH: i64 = 60;
/// The most core files that are known of, and the most entries of a folder that are looked at.
const CORES: usize = 1_000;
const ENTRIES: usize = 100_000;

/// `cores.json`: the core files of watched processes, the oldest first.
#[derive(Debug, Default, Serialize)]
pub struct Cores {
    cores: Vec<Core>,
}

/// A core file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Core {
    /// Where it is.
    pub path: PathBuf,
    /// Whose it is.
    pub component: String,
    /// The signal's name.
    pub signal: String,
    /// When it was written, Unix seconds.
    pub at: i64,
    /// Bytes on disk; a core has holes.
    pub bytes: u64,
    device: u64,
    inode: u64,
    /// Whether the log has told of it.
    is_told: bool,
}

impl Core {
    fn from_json(json: &Value) -> Option<Self> {
        let text = |name: &str| json[name].as_str();
        Some(Self {
            path: text("path")?.into(),
            component: text("component")?.to_owned(),
            signal: text("signal")?.to_owned(),
            at: json["at"].as_i64()?,
            bytes: json["bytes"].as_u64()?,
            device: json["device"].as_u64()?,
            inode: json["inode"].as_u64()?,
            is_told: json["is_told"].as_bool()?,
        })
    }

    /// Whether it is still there, and the same file.
    pub fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|meta| self.is(meta.dev(), meta.ino(), meta.mtime()))
    }

    fn is(&self, device: u64, inode: u64, modified: i64) -> bool {
        (self.device, self.inode, self.at) == (device, inode, modified)
    }

    /// Removes it, where it is still the same file.
    fn remove(&self) -> nix::Result<()> {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else { return Err(Errno::EINVAL) };
        let folder = openat(AT_FDCWD, folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let meta = fstatat(folder.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if !self.is(meta.st_dev, meta.st_ino, meta.st_mtime) {
            return Err(Errno::ENOENT);
        }
        unlinkat(folder.as_fd(), name, UnlinkatFlags::NoRemoveDir)
    }
}

impl std::fmt::Display for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "core file of {} ({}): {}, {} bytes", self.component, self.signal, self.path.display(), self.bytes)
    }
}

impl Cores {
    /// Reads it; what is no core file's entry is passed over. By hand, as derived code would be 20 KB of the library.
    pub fn from_json(json: &Value) -> Self {
        let cores = json["cores"].as_array().into_iter().flatten();
        Self { cores: cores.filter_map(Core::from_json).collect() }
    }

    /// The core files that are still there, the oldest first.
    pub fn present(&self) -> impl Iterator<Item = &Core> {
        self.cores.iter().filter(|core| core.is_there())
    }

    /// Adds one and removes those that are then too many, the oldest first.
    pub fn add(&mut self, core: Core, retention: Retention) {
        // The kernel reuses a name without a number in it, and a file system the number of a removed file.
        self.cores.retain(|known| known.path != core.path && known.is_there());
        self.cores.push(core);
        while self.is_too_much(retention) {
            // A file that cannot be removed belongs to somebody else by now.
            let _ = self.cores.remove(0).remove();
        }
    }

    fn is_too_much(&self, retention: Retention) -> bool {
        let files = retention.files.map_or(CORES, |files| files as usize).min(CORES);
        let bytes: u64 = self.cores.iter().map(|core| core.bytes).sum();
        self.cores.len() > files || (!self.cores.is_empty() && retention.bytes.is_some_and(|most| bytes > most))
    }

    /// Whether there are some that the log has not told of yet.
    pub fn has_untold(&self) -> bool {
        self.cores.iter().any(|core| !core.is_told)
    }

    /// The core files that the log has not mentioned yet. They count as mentioned from now on.
    pub fn take_untold(&mut self) -> Vec<Core> {
        let untold = self.cores.iter().filter(|core| !core.is_told && core.is_there()).cloned().collect();
        self.cores.iter_mut().for_each(|core| core.is_told = true);
        untold
    }
}

/// The core files that are known of, of all processes on the state directory; none where none ever was, or it cannot be
/// read.
pub fn read(dir: &StateDir) -> Option<Cores> {
    let bytes = dir.root().read(layout::CORES).ok().flatten();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).map(|json| Cores::from_json(&json))
}

/// Changes what is known of core files, for all processes on the state directory.
pub fn change<T>(dir: &StateDir, change: impl FnOnce(&mut Cores) -> T) -> Result<T, Error> {
    let locked = dir.root().lock_within(layout::CORES_LOCK, PATIENCE)?;
    let (json, _): (Value, _) = load(dir, layout::CORES)?;
    let mut cores = Cores::from_json(&json);
    let outcome = change(&mut cores);
    store(dir, layout::CORES, &cores)?;
    drop(locked);
    Ok(outcome)
}

/// Whether the kernel writes core files itself, under a name that can be found again.
pub fn are_files() -> bool {
    pattern().is_some_and(|pattern| !matches!(pattern.first(), Some(b'|' | b'@')))
}

fn pattern() -> Option<Vec<u8>> {
    let pattern = descriptor::read("/proc/sys/kernel/core_pattern").ok()?;
    Some(pattern.trim_ascii_end().to_vec()).filter(|pattern| !pattern.is_empty())
}

/// The core that the kernel says it has dumped, where it is a file.
pub fn find(setup: &Setup, ending: Ending) -> Option<Core> {
    let Ending::Killed { signal, core_dump: CoreDump::Yes } = ending else { return None };
    let uses_pid = fs::read("/proc/sys/kernel/core_uses_pid").is_ok_and(|value| value.trim_ascii() != b"0");
    let uid = geteuid().as_raw();
    let name = Name::of(&pattern()?, uses_pid, &Facts { pid: setup.pid, uid, signal })?;
    let folder = setup.cwd.as_deref().unwrap_or(Path::new("/")).join(&name.folder);
    let now = unix_now();
    let core = |path: PathBuf| {
        let meta = fs::symlink_metadata(&path).ok()?;
        let is_it = meta.is_file() && meta.uid() == uid && now - meta.mtime() < FRESH;
        is_it.then(|| Core {
            path,
            component: setup.component.clone(),
            signal: ondat_telemetry_protocol::signals::name(signal),
            at: meta.mtime(),
            bytes: meta.blocks() * 512,
            device: meta.dev(),
            inode: meta.ino(),
            is_told: false,
        })
    };
    if let Some(exact) = name.exact() {
        return core(folder.join(OsStr::from_bytes(&exact)));
    }
    let entries = fs::read_dir(&folder).ok()?.take(ENTRIES).flatten();
    let fitting = entries.filter(|entry| name.fits(entry.file_name().as_bytes()));
    fitting.filter_map(|entry| core(entry.path())).max_by_key(|core| core.at)
}

/// The values of core_pattern's specifiers that are known.
struct Facts {
    pid: u32,
    uid: u32,
    signal: i32,
}

/// The name of a core file, as far as it is known.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    folder: PathBuf,
    /// The parts between which anything may stand.
    parts: Vec<Vec<u8>>,
}

impl Name {
    /// The name that core_pattern gives, core(5). None if even the folder is unknown.
    fn of(pattern: &[u8], uses_pid: bool, facts: &Facts) -> Option<Self> {
        if matches!(pattern.first(), Some(b'|' | b'@')) {
            return None;
        }
        let (mut text, mut parts, mut has_pid) = (Vec::new(), Vec::new(), false);
        let mut bytes = pattern.iter();
        while let Some(&byte) = bytes.next() {
            if byte != b'%' {
                text.push(byte);
                continue;
            }
            match bytes.next() {
                None => {}
                Some(b'%') => text.push(b'%'),
                Some(b'p') => {
                    has_pid = true;
                    text.extend_from_slice(facts.pid.to_string().as_bytes());
                }
                Some(b'u' | b'g') if facts.uid == 0 => text.push(b'0'),
                Some(b'u') => text.extend_from_slice(facts.uid.to_string().as_bytes()),
                Some(b's') => text.extend_from_slice(facts.signal.to_string().as_bytes()),
                Some(b'P' | b'i' | b'I' | b'g' | b'd' | b't' | b'h' | b'e' | b'E' | b'f' | b'c' | b'C' | b'F') => {
                    parts.push(std::mem::take(&mut text));
                }
                // Dropped by the kernel.
                Some(_) => {}
            }
        }
        if uses_pid && !has_pid {
            text.extend_from_slice(format!(".{}", facts.pid).as_bytes());
        }
        parts.push(text);
        let first = parts.first_mut()?;
        let folder = match first.iter().rposition(|byte| *byte == b'/') {
            Some(end) => {
                let folder = PathBuf::from(OsStr::from_bytes(&first[..=end]));
                first.drain(..=end);
                folder
            }
            None => PathBuf::new(),
        };
        (!parts.iter().any(|part| part.contains(&b'/'))).then_some(Self { folder, parts })
    }

    /// The whole name, where nothing in it is open.
    fn exact(&self) -> Option<Vec<u8>> {
        match self.parts.as_slice() {
            [name] => Some(name.clone()),
            _ => None,
        }
    }

    fn fits(&self, name: &[u8]) -> bool {
        let [first, between @ .., last] = self.parts.as_slice() else {
            return self.parts.first().is_some_and(|only| only == name);
        };
        let Some(mut rest) = name.strip_prefix(first.as_slice()) else { return false };
        for part in between {
            let Some(at) = rest.windows(part.len().max(1)).position(|found| found.starts_with(part)) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pattern: &str, uses_pid: bool) -> Option<Name> {
        Name::of(pattern.as_bytes(), uses_pid, &Facts { pid: 77, uid: 1000, signal: 11 })
    }

    #[test]
    fn names_follow_core_5() {
        let exact = |pattern, uses_pid| {
            let name = name(pattern, uses_pid).unwrap();
            let whole = String::from_utf8(name.exact().unwrap()).unwrap();
            (name.folder.to_str().unwrap().to_owned(), whole)
        };
        assert_eq!(exact("core", false), (String::new(), "core".to_owned()));
        assert_eq!(exact("core", true), (String::new(), "core.77".to_owned()));
        assert_eq!(exact("core.%p", true), (String::new(), "core.77".to_owned()));
        assert_eq!(exact("/var/crash/%s-%u%%.%p", true), ("/var/crash/".to_owned(), "11-1000%.77".to_owned()));
        assert_eq!(exact("core%", false), (String::new(), "core".to_owned()));
        assert_eq!(name("|/usr/lib/systemd/systemd-coredump %P", false), None);
        assert_eq!(name("@/run/coredump.socket", false), None);
        assert_eq!(name("/var/crash/%h/core", false), None, "the folder is not known");
    }

    #[test]
    fn what_is_not_known_may_be_anything() {
        let name = name("/cores/core.%e.%p.%t", false).unwrap();
        assert!(name.fits(b"core.dataplane.77.1790000000"));
        assert!(!name.fits(b"core.dataplane.78.1790000000"));
        assert!(!name.fits(b"core.dataplane"));
        assert!(!name.fits(b""));
    }

    #[test]
    fn the_oldest_go_first_and_changed_files_stay() {
        let folder = std::env::temp_dir().join(format!("ondat-telemetry-cores-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let make = |name: &str| {
            let path = folder.join(name);
            fs::write(&path, vec![1; 8192]).unwrap();
            let meta = fs::metadata(&path).unwrap();
            Core {
                path,
                component: "c".to_owned(),
                signal: "SIGSEGV".to_owned(),
                at: meta.mtime(),
                bytes: meta.blocks() * 512,
                device: meta.dev(),
                inode: meta.ino(),
                is_told: false,
            }
        };
        let mut cores = Cores::default();
        let two = Retention { files: Some(2), bytes: None };
        let (first, second, third) = (make("1"), make("2"), make("3"));
        for core in [&first, &second, &third] {
            cores.add(core.clone(), two);
        }
        assert!(!first.is_there() && second.is_there() && third.is_there());
        assert_eq!(cores.present().count(), 2);

        // Another file has taken the name: it is not ours to remove.
        fs::remove_file(&second.path).unwrap();
        let foreign = make("foreign");
        fs::rename(&foreign.path, &second.path).unwrap();
        let written = serde_json::to_value(&cores).unwrap();
        assert_eq!(Cores::from_json(&written).cores, cores.cores);
        assert!(Cores::from_json(&serde_json::json!({ "cores": [7, {}] })).cores.is_empty());
        cores.add(make("4"), Retention { files: None, bytes: Some(0) });
        assert!(second.path.exists());
        assert!(!third.path.exists() && !folder.join("4").exists(), "no bytes are allowed");
        fs::remove_dir_all(&folder).unwrap();
    }
}
