//! Facts about a process from /proc/PID/stat, proc(5).

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::descriptor;

/// include/linux/sched.h.
const PF_EXITING: u64 = 0x4;
/// `PF_EXITING`, `PF_DUMPCORE` and `PF_SIGNALED` of the same: a thread that a signal is ending.
const PF_DYING: u64 = 0x4 | 0x200 | 0x400;
/// Bytes of a program's name, prctl(2), PR_SET_NAME; without the NUL.
const NAME_BYTES: usize = 15;
/// The longest line of /proc/PID/stat: 52 numbers of at most 20 digits, and the name.
const STAT_BYTES: usize = 52 * 21 + 64;
/// The most that is read of /proc/PID/maps, in bytes: some hundred thousand mappings.
const MAPS_BYTES: u64 = 64 << 20;
/// `PROC_PID_INIT_INO` of include/linux/proc_ns.h: the PID namespace in which the machine began.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// What is read of a process.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Stat {
    /// `Z` for a zombie.
    pub state: char,
    /// Whether the process is on its way out (`PF_EXITING` of the kernel's flags).
    pub is_exiting: bool,
    /// Start time in clock ticks since boot: tells two processes of one pid apart.
    pub start_time: u64,
    /// Where the stack began: changes with exec, unless addresses are not randomised. 0 if the reader may not know it.
    pub start_stack: u64,
    /// Where the code began: likewise.
    pub start_code: u64,
    /// The wait status, as soon as the process is on its way out.
    pub exit_code: i32,
    /// How many threads it has.
    pub threads: u32,
    /// The beginning of the program's name, filled with zeros.
    pub name: [u8; NAME_BYTES],
}

impl Stat {
    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Whether another program runs in this process now, as far as this tells. Nothing tells it where a program becomes
    /// itself anew and addresses are not randomised.
    pub fn is_of_another_program(&self, born: &Self) -> bool {
        // If the addresses may not be read any more, it is a program that this user may not read.
        let differs = |was: u64, is: u64| was != 0 && was != is;
        self.name != born.name
            || differs(born.start_stack, self.start_stack)
            || differs(born.start_code, self.start_code)
    }
}

/// The file for one process, opened once: reading it finds that process or fails, even if its pid is reused.
pub struct StatFile(File);

impl StatFile {
    /// Opens it; none when the process is gone or /proc is not there.
    pub fn open(pid: u32) -> Option<Self> {
        File::open(format!("/proc/{pid}/stat")).ok().map(Self)
    }

    /// Reads it; none when the process has been reaped.
    pub fn read(&self) -> Option<Stat> {
        let mut bytes = [0; STAT_BYTES];
        let length = self.0.read_at(&mut bytes, 0).ok()?;
        parse(&bytes[..length])
    }
}

/// Reads it; none when the process is gone or /proc is not there.
pub fn stat(pid: u32) -> Option<Stat> {
    parse(&descriptor::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Whether the kernel shows zeros in place of a process's wait status and addresses, because this process may not trace
/// it: it may not be dumped, or is another user's (proc_pid_stat(5), ptrace(2)).
pub fn is_hidden(pid: u32) -> bool {
    // Guarded by the same check, and readable of a zombie too.
    fs::read_link(format!("/proc/{pid}/ns/user")).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// Reads the file's one line.
pub fn parse(line: &[u8]) -> Option<Stat> {
    // The second field is the program's name in parentheses and may hold anything, parts of characters too: it is cut
    // off after 15 bytes.
    let name_end = line.iter().rposition(|byte| *byte == b')')?;
    let name_start = line.iter().position(|byte| *byte == b'(')? + 1;
    let mut name = [0; NAME_BYTES];
    for (kept, byte) in name.iter_mut().zip(line.get(name_start..name_end)?) {
        *kept = *byte;
    }
    let rest = std::str::from_utf8(&line[name_end + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Numbered as in proc(5), where the state is field 3.
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        state: field(3)?.chars().next()?,
        is_exiting: flags(line)? & PF_EXITING != 0,
        start_time: field(22)?.parse().ok()?,
        start_stack: field(28)?.parse().ok()?,
        start_code: field(26)?.parse().ok()?,
        exit_code: field(52)?.parse().ok()?,
        threads: field(20)?.parse().ok()?,
        name,
    })
}

/// The kernel's flags of a process or a thread, of its stat file's line.
fn flags(line: &[u8]) -> Option<u64> {
    let name_end = line.iter().rposition(|byte| *byte == b')')?;
    let mut fields = line[name_end + 1..].split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    // Field 9, where the first one here is field 3.
    std::str::from_utf8(fields.nth(9 - 3)?).ok()?.parse().ok()
}

/// Whether a file of this inode is mapped as shared memory in a process; none where that may not be known.
pub fn has_mapped(pid: u32, inode: u64) -> Option<bool> {
    let maps = BufReader::new(File::open(format!("/proc/{pid}/maps")).ok()?.take(MAPS_BYTES));
    let wanted = inode.to_string();
    let mut is_empty = true;
    for line in maps.split(b'\n') {
        let line = line.ok()?;
        is_empty = false;
        let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        // address, permissions, offset, device, inode, path: proc_pid_maps(5).
        if words.nth(4) == Some(wanted.as_bytes()) && words.next().is_some_and(|path| path.starts_with(b"/memfd:")) {
            return Some(true);
        }
    }
    // A process that is on its way out has no memory any more, and says nothing of whose it was.
    (!is_empty).then_some(false)
}

/// The program's file, by device and inode; none where that may not be known.
pub fn program_of(pid: u32) -> Option<(u64, u64)> {
    fs::metadata(format!("/proc/{pid}/exe")).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Whether a thread may still come to its end by this signal: its handler runs, which blocks it, the signal waits for the thread,
/// or the thread is dying of one, while a core is written too.
pub fn is_acting_on(pid: u32, thread: u32, signal: i32) -> bool {
    let folder = format!("/proc/{pid}/task/{thread}");
    let status = fs::read_to_string(format!("{folder}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let has_signal = |name: &str| {
        let mask = field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
        u32::try_from(signal - 1).is_ok_and(|bit| mask.checked_shr(bit).unwrap_or(0) & 1 != 0)
    };
    // The flags come last: a signal that has just left the masks is in them.
    ["SigBlk:", "SigPnd:", "ShdPnd:"].into_iter().any(has_signal)
        || field("CoreDumping:") == Some("1")
        || descriptor::read(format!("{folder}/stat")).ok().and_then(|line| flags(&line)).unwrap_or(0) & PF_DYING != 0
}

/// The PID namespace of this process, as the kernel names it; empty where that may not be known.
pub fn pid_namespace() -> String {
    let name = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Whether this process is in a PID namespace that may end with one of its processes.
pub fn is_in_container() -> bool {
    let namespace = pid_namespace();
    !namespace.is_empty() && !is_first_pid_namespace(&namespace)
}

/// Whether this is the PID namespace in which the machine began.
pub fn is_first_pid_namespace(namespace: &str) -> bool {
    namespace == FIRST_PID_NAMESPACE
}

/// The kernel's version, major and minor; 0.0 where it is not known.
pub fn kernel_version() -> (u32, u32) {
    let release = descriptor::read_text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Where the process works; none when it is gone, is another's, or /proc is not there.
pub fn cwd(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_acts_on_a_signal_while_it_blocks_it() {
        use nix::sys::signal::{SigSet, Signal};
        std::thread::spawn(|| {
            let thread = nix::unistd::gettid().as_raw().unsigned_abs();
            let is_acting = || is_acting_on(std::process::id(), thread, libc::SIGUSR2);
            assert!(!is_acting());
            let set = SigSet::from(Signal::SIGUSR2);
            set.thread_block().unwrap();
            assert!(is_acting());
            set.thread_unblock().unwrap();
            assert!(!is_acting());
        })
        .join()
        .unwrap();
        assert!(!is_acting_on(std::process::id(), u32::MAX, libc::SIGUSR2), "there is no such thread");
    }

    #[test]
    fn a_zombie_is_dying_of_its_signal() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!is_acting_on(child.id(), child.id(), libc::SIGTERM));
        child.kill().unwrap();
        // Waits for the end and leaves the zombie.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        let flags = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(nix::sys::wait::Id::Pid(pid), flags).unwrap();
        assert!(is_acting_on(child.id(), child.id(), libc::SIGTERM));
        child.wait().unwrap();
    }

    #[test]
    fn a_name_may_hold_parentheses_and_half_a_character() {
        let numbers: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        for name in [&b"a) Z (b"[..], b"datenspeicher-\xc3"] {
            let line = [b"7 (", name, b") Z ", numbers.join(" ").as_bytes(), b"\n"].concat();
            assert_eq!(
                parse(&line),
                Some(Stat {
                    state: 'Z',
                    is_exiting: false,
                    start_time: 22,
                    start_stack: 28,
                    start_code: 26,
                    exit_code: 52,
                    threads: 20,
                    name: std::array::from_fn(|at| name.get(at).copied().unwrap_or(0)),
                }),
                "{name:?}"
            );
        }
    }

    #[test]
    fn this_process_is_found() {
        let found = stat(std::process::id()).unwrap();
        assert!(found.start_time > 0);
        let again = StatFile::open(std::process::id()).unwrap().read().unwrap();
        assert!(!again.is_of_another_program(&found));
        assert!(Stat { name: [b'x'; NAME_BYTES], ..again }.is_of_another_program(&found));
        assert!(Stat { start_stack: 0, ..again }.is_of_another_program(&found), "it may not be read any more");
        assert!(!again.is_of_another_program(&Stat { start_stack: 0, start_code: 0, ..found }), "it never could");
        assert!(kernel_version() > (3, 0));
    }

    #[test]
    fn a_page_is_found_where_it_is_mapped() {
        let (_page, file) = crate::sys::page::Page::create().unwrap();
        let file = File::from(file.unwrap());
        assert_eq!(has_mapped(std::process::id(), file.metadata().unwrap().ino()), Some(true));
        assert_eq!(has_mapped(std::process::id(), u64::MAX), Some(false));
        assert_eq!(has_mapped(u32::MAX, 1), None);
    }
}
