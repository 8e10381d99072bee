//! Built artefacts, compilers, temporary folders, and a server that takes envelopes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long anything may take before a test fails: far above what it takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where `make` has put the libraries and programs.
pub(crate) fn built(name: &str) -> PathBuf {
    let folder = std::env::var_os("ONDAT_TELEMETRY_BUILD").map_or_else(|| root().join("target/release"), PathBuf::from);
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: run make first", path.display());
    path
}

/// A folder that is gone when the test is over.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("ondat-telemetry-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Compiles `source` with these arguments and links it to the shared library.
pub(crate) fn compile(compiler: &str, source: &Path, program: &Path, arguments: &[&str]) -> PathBuf {
    let folder = built("libondat_telemetry.so").parent().unwrap().to_owned();
    built("libondat_telemetry.so.0");
    let mut command = Command::new(compiler);
    command.args(arguments).arg("-I").arg(root().join("include")).arg(source).arg("-o").arg(program);
    command
        .arg("-L")
        .arg(&folder)
        .arg("-londat_telemetry")
        .arg(format!("-Wl,-rpath,{}", folder.display()))
        .arg("-pthread");
    succeed(&mut command);
    program.to_owned()
}

/// Runs to success; the output is shown where it fails.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A process's descriptor, to wait for its end without being its parent.
pub(crate) struct Process {
    pub(crate) pid: u32,
    descriptor: OwnedFd,
}

impl Process {
    pub(crate) fn open(pid: u32) -> Self {
        // SAFETY: a system call on numbers, whose result is checked; the kernel has just made the descriptor.
        let descriptor = unsafe {
            let number = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            assert!(number >= 0, "pidfd_open {pid}: {}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(i32::try_from(number).unwrap())
        };
        Self { pid, descriptor }
    }

    pub(crate) fn wait(&self) {
        let mut fds = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::try_from(DEADLINE).unwrap()).unwrap();
        assert_eq!(ready, 1, "process {} did not end", self.pid);
    }
}

/// A server that answers every POST with one status and keeps the bodies.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<String>>>,
}

impl Sink {
    pub(crate) fn start(status: u16) -> Self {
        Self::with_headers(status, "")
    }

    /// Its answers have these header lines too.
    pub(crate) fn with_headers(status: u16, headers: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                let (mut line, mut length) = (String::new(), 0);
                while reader.read_line(&mut line).unwrap_or(0) > 2 {
                    if let Some((name, value)) = line.split_once(':')
                        && name.eq_ignore_ascii_case("content-length")
                    {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                if reader.read_exact(&mut body).is_err() {
                    continue;
                }
                kept.lock().unwrap().push(String::from_utf8(body).unwrap());
                let answer =
                    format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}");
                let _ = reader.get_mut().write_all(answer.as_bytes());
            }
        });
        Self { address, received }
    }

    pub(crate) fn dsn(&self) -> String {
        format!("http://key@{}/1", self.address)
    }

    /// The bodies received so far.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }
}
