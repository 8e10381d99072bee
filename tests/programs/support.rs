//! Built artefacts, compilers, and temporary folders.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

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

/// Compiles `source`, a C file or a folder of them, with these arguments and links it to the shared library.
pub(crate) fn compile(compiler: &str, source: &Path, program: &Path, arguments: &[&str]) -> PathBuf {
    let folder = built("libondat_telemetry.so").parent().unwrap().to_owned();
    built("libondat_telemetry.so.0");
    let mut sources = vec![source.to_owned()];
    if source.is_dir() {
        sources = std::fs::read_dir(source).unwrap().map(|entry| entry.unwrap().path()).collect();
        sources.retain(|file| file.extension().is_some_and(|extension| extension == "c"));
    }
    let mut command = Command::new(compiler);
    command.args(arguments).arg("-I").arg(root().join("include")).args(sources).arg("-o").arg(program);
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
