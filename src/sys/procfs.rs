//! Facts about a process from /proc/PID/stat, proc(5).

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// include/linux/sched.h.
const PF_EXITING: u64 = 0x4;

/// What is read of a process.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Stat {
    /// `Z` for a zombie.
    pub state: char,
    /// Whether the process is on its way out (`PF_EXITING` of the kernel's flags).
    pub is_exiting: bool,
    /// Start time in clock ticks since boot: tells two processes of one pid apart.
    pub start_time: u64,
    /// Where the stack began: changes with exec.
    pub start_stack: u64,
    /// The wait status, once the process is a zombie.
    pub exit_code: i32,
}

/// Reads it; none when the process is gone or /proc is not there.
pub fn stat(pid: u32) -> Option<Stat> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
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
    let rest = std::str::from_utf8(&line[name_end + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Numbered as in proc(5), where the state is field 3.
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        state: field(3)?.chars().next()?,
        is_exiting: field(9)?.parse::<u64>().ok()? & PF_EXITING != 0,
        start_time: field(22)?.parse().ok()?,
        start_stack: field(28)?.parse().ok()?,
        exit_code: field(52)?.parse().ok()?,
    })
}

/// Where the process works; none when it is gone, is another's, or /proc is not there.
pub fn cwd(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// How many processes the kernel has killed for the memory limit of this process's cgroup: `oom_kill` of memory.events
/// (cgroup v2) or memory.oom_control (v1). None where neither is there.
pub fn oom_kills() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|group| {
        let (_, group) = group.split_once(':')?;
        let counts = match group.split_once(':')? {
            ("", path) => format!("/sys/fs/cgroup{path}/memory.events"),
            ("memory", path) => format!("/sys/fs/cgroup/memory{path}/memory.oom_control"),
            _ => return None,
        };
        let counts = fs::read_to_string(counts).ok()?;
        counts.lines().find_map(|line| line.strip_prefix("oom_kill "))?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_parentheses_and_half_a_character() {
        let numbers: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        for name in [&b"a) Z (b"[..], b"datenspeicher-\xc3"] {
            let line = [b"7 (", name, b") Z ", numbers.join(" ").as_bytes(), b"\n"].concat();
            assert_eq!(
                parse(&line),
                Some(Stat { state: 'Z', is_exiting: false, start_time: 22, start_stack: 28, exit_code: 52 }),
                "{name:?}"
            );
        }
    }

    #[test]
    fn this_process_is_found() {
        let found = stat(std::process::id()).unwrap();
        assert!(found.start_time > 0);
    }
}
