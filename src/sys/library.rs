//! Where this library's code was loaded from, and how much of it stays in memory.
#![allow(unsafe_code, reason = "dladdr(3), dl_iterate_phdr(3) and madvise(2) have no safe form")]

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::descriptor;

/// The file that holds this code: the shared library, or the program it is linked into. A static program has no loader that
/// could say so.
pub fn path() -> Option<PathBuf> {
    // A program started by a bare name is recorded under that name, and in one that is linked with -static nothing is
    // recorded: then the kernel knows better.
    let recorded =
        recorded_path().and_then(|path| if path.is_absolute() { Some(path) } else { path.canonicalize().ok() });
    recorded.or_else(|| std::env::current_exe().ok())
}

/// The path as the loader has recorded it.
fn recorded_path() -> Option<PathBuf> {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    let here: fn() -> Option<PathBuf> = recorded_path;
    // SAFETY: an address of this code; the loader fills `info`, whose name lives as long as the library.
    unsafe {
        if libc::dladdr(here as *const libc::c_void, info.as_mut_ptr()) == 0 {
            return None;
        }
        let name = info.assume_init().dli_fname;
        (!name.is_null()).then(|| PathBuf::from(OsStr::from_bytes(CStr::from_ptr(name).to_bytes())))
    }
}

/// Whose code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The shared library's; nothing where this code is part of the program.
    Library,
    /// The whole process's.
    Process,
}

/// Gives back the memory of code and constants that starting has touched and waiting does not need: they are still in the
/// file, from which the kernel reads what is used again. Pages that were changed, as debuggers do for a breakpoint, stay.
pub fn give_back(whose: Whose) {
    /// Of an entry of pagemap, proc_pid_pagemap(5): in memory, swapped out, and as the file has it.
    const IN_MEMORY: u64 = 1 << 63;
    const SWAPPED_OUT: u64 = 1 << 62;
    const AS_IN_FILE: u64 = 1 << 61;
    let Ok(pagemap) = descriptor::make(|| File::open("/proc/self/pagemap")).map(File::from) else { return };
    // SAFETY: a query.
    let Ok(page) = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) else { return };
    for segment in read_only_segments(whose) {
        let pages = segment.start / page..segment.end.div_ceil(page);
        let mut entries = vec![0; pages.len() * size_of::<u64>()];
        if pagemap.read_exact_at(&mut entries, (pages.start * size_of::<u64>()) as u64).is_err() {
            continue;
        }
        let (entries, _) = entries.as_chunks();
        let is_changed = |entry: &[u8; 8]| {
            let entry = u64::from_ne_bytes(*entry);
            entry & SWAPPED_OUT != 0 || entry & (IN_MEMORY | AS_IN_FILE) == IN_MEMORY
        };
        let mut at = pages.start;
        // Mostly one run, with what is not in memory in between: each call costs more than the pages do.
        for run in entries.chunk_by(|a, b| is_changed(a) == is_changed(b)) {
            if !is_changed(&run[0]) {
                // SAFETY: pages of a file that is mapped read-only, with nothing of their own: reading them gives the
                // same as before.
                unsafe { libc::madvise((at * page) as *mut libc::c_void, run.len() * page, libc::MADV_DONTNEED) };
            }
            at += run.len();
        }
    }
}

/// The addresses of what was loaded from files and is not for writing.
fn read_only_segments(whose: Whose) -> Vec<Range<usize>> {
    /// The segments so far, whose are wanted, and whether the program itself was among the objects, which comes first.
    type Found = (Vec<Range<usize>>, Whose, bool);

    unsafe extern "C" fn collect(info: *mut libc::dl_phdr_info, _: usize, found: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the loader gives a valid object with that many headers; `found` is the caller's, alive until the end.
        let (base, headers, (segments, whose, has_program)) = unsafe {
            let headers = std::slice::from_raw_parts((*info).dlpi_phdr, usize::from((*info).dlpi_phnum));
            ((*info).dlpi_addr as usize, headers, &mut *found.cast::<Found>())
        };
        let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD).map(|header| {
            let start = base + header.p_vaddr as usize;
            (start..start + header.p_memsz as usize, header.p_flags & libc::PF_W == 0)
        });
        let here = read_only_segments as *const () as usize;
        let is_program = !std::mem::replace(has_program, true);
        let is_ours = !is_program && loaded.clone().any(|(addresses, _)| addresses.contains(&here));
        if *whose == Whose::Process || is_ours {
            segments.extend(loaded.filter(|(_, is_read_only)| *is_read_only).map(|(addresses, _)| addresses));
        }
        0
    }

    let mut found: Found = (Vec::new(), whose, false);
    // SAFETY: `collect` is given `found`, and does not unwind: it calls nothing that panics.
    unsafe { libc::dl_iterate_phdr(Some(collect), (&raw mut found).cast()) };
    found.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of this process's memory, what is there as in files, in KiB.
    fn resident_of_files() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim_end_matches("kB").trim().parse().unwrap()
    }

    #[test]
    fn a_program_gives_back_its_code_and_runs_on() {
        assert!(read_only_segments(Whose::Library).is_empty(), "in a test it is part of the program");
        let segments = read_only_segments(Whose::Process);
        assert!(segments.iter().any(|segment| segment.contains(&(give_back as *const () as usize))));
        // All of its code is touched first.
        for segment in &segments {
            for at in segment.clone().step_by(4096) {
                // SAFETY: an address of a segment that is mapped for reading.
                std::hint::black_box(unsafe { (at as *const u8).read_volatile() });
            }
        }
        let before = resident_of_files();
        give_back(Whose::Process);
        let after = resident_of_files();
        assert!(after + 1024 < before, "{before} KiB, then {after} KiB");
    }
}
