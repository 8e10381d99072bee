//! What the programs that crash have in common: benches/crash_host.c says what each is asked and what it answers.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Where the peer writes.
pub fn folder() -> PathBuf {
    std::env::var_os("ONDAT_TELEMETRY_STATE_DIR").expect("ONDAT_TELEMETRY_STATE_DIR").into()
}

/// CLOCK_MONOTONIC, in nanoseconds.
pub fn now_ns() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a local.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let now = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
    now.as_nanos() as i64
}

/// A program with so much memory and so many busy threads, which installs a crash reporter and faults when it is told to.
pub struct Host {
    fault: *mut AtomicI64,
}

impl Host {
    /// Takes `MIB look|- THREADS` from the command line.
    pub fn start() -> Self {
        let words: Vec<_> = std::env::args().skip(1).collect();
        let [mib, _, threads] = words.as_slice() else { panic!("usage: MIB look|- THREADS") };
        // SAFETY: a mapping of its own, whose result is checked.
        let fault =
            unsafe { libc::mmap(ptr::null_mut(), 8, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, 3, 0) };
        assert_ne!(fault, libc::MAP_FAILED, "descriptor 3");
        hold(mib.parse::<usize>().expect("MIB") + 1);
        for _ in 0..threads.parse().expect("THREADS") {
            std::thread::spawn(|| {
                let mut number = 0_u64;
                loop {
                    number = std::hint::black_box(number.wrapping_add(1));
                }
            });
        }
        Self { fault: fault.cast() }
    }

    /// Says that everything is installed, in this time and beside this process, waits for its turn and faults.
    pub fn crash(&self, calls_ns: i64, helper: Option<u32>) {
        let mut out = std::io::stdout().lock();
        if let Some(helper) = helper {
            writeln!(out, "helper {helper}").expect("stdout");
        }
        writeln!(out, "calls_ns {calls_ns}\nready").expect("stdout");
        out.flush().expect("stdout");
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line).expect("stdin") == 0 {
            return;
        }
        let nowhere: *mut u8 = std::hint::black_box(ptr::null_mut());
        // SAFETY: the page mapped in `start`; then a fault, as wanted, by an instruction that the compiler does not judge.
        unsafe {
            (*self.fault).store(now_ns(), Ordering::Relaxed);
            #[cfg(target_arch = "x86_64")]
            std::arch::asm!("mov byte ptr [{}], 1", in(reg) nowhere);
            #[cfg(target_arch = "aarch64")]
            std::arch::asm!("strb wzr, [{}]", in(reg) nowhere);
        }
    }
}

/// Memory of small pages, all of it in use.
fn hold(mib: usize) {
    let bytes = mib << 20;
    // SAFETY: a mapping of its own, checked, and written to within its bounds.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let memory = libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(memory, libc::MAP_FAILED, "memory");
        assert_eq!(libc::madvise(memory, bytes, libc::MADV_NOHUGEPAGE), 0, "memory");
        for at in (0..bytes).step_by(4096) {
            memory.cast::<u8>().add(at).write_volatile(1);
        }
    }
}
