//! Sockets with a name in the state directory, by which its administrator asks the processes that use it. They do not
//! lead to another machine.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, setsockopt, socket,
};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::time::TimeVal;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::file::{Folder, is_kind};
use crate::error::Error;
use crate::sys::descriptor::{self, Owned};

/// How many connections may wait at a socket. Later ones wait in their own process, or are told to come again.
const WAITING: i32 = 8;

impl Folder {
    /// Listens under this name, in the place of whatever bears it. The socket does not block.
    pub fn listen(&self, name: &str) -> Result<Owned, Error> {
        let (folder, _) = self.handle_or_make()?;
        let listening = || {
            match unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
            let socket = new_socket(SockFlag::SOCK_NONBLOCK)?;
            // From it the file takes its mode, less the umask.
            fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
            bind(socket.as_raw_fd(), &address(&folder, name)?)?;
            listen(&socket, Backlog::new(WAITING)?)?;
            Ok(socket)
        };
        let listening = listening().map_err(Into::into).and_then(Owned::new);
        listening.map_err(|error| self.failed(name, &error))
    }

    /// Connects to the process that listens under this name; none if none does. [`Error::TimedOut`] if too many others wait.
    pub fn connect(&self, name: &str, patience: Duration) -> Result<Option<UnixStream>, Error> {
        let Some(folder) = self.existing_handle()? else { return Ok(None) };
        let connecting = || {
            let socket = new_socket(SockFlag::empty())?;
            let patience = i64::try_from(patience.as_millis().max(1)).unwrap_or(i64::MAX);
            setsockopt(&socket, SendTimeout, &TimeVal::new(patience / 1000, patience % 1000 * 1000))?;
            connect(socket.as_raw_fd(), &address(&folder, name)?)?;
            Ok(UnixStream::from(socket))
        };
        match connecting() {
            Ok(stream) => Ok(Some(stream)),
            // It was never there, or its process has ended.
            Err(Errno::ENOENT | Errno::ECONNREFUSED) => Ok(None),
            Err(Errno::EAGAIN) => Err(Error::TimedOut(format!("{name}: too many others ask it: try again later"))),
            Err(error) => Err(self.failed(name, &error.into())),
        }
    }

    /// Whether a socket of this name is there.
    pub fn has_socket(&self, name: &str) -> bool {
        let folder = self.existing_handle().ok().flatten();
        folder.is_some_and(|folder| is_kind(&folder, name, libc::S_IFSOCK))
    }

    /// The names of the sockets in it.
    pub fn sockets(&self) -> Result<Vec<String>, Error> {
        self.names_of(libc::S_IFSOCK)
    }
}

fn new_socket(flags: SockFlag) -> nix::Result<OwnedFd> {
    descriptor::make(|| socket(AddressFamily::Unix, SockType::Stream, flags | SockFlag::SOCK_CLOEXEC, None))
}

/// An address has room for 107 bytes, and the path of a state directory may be longer: its descriptor stands for it.
fn address(folder: &OwnedFd, name: &str) -> nix::Result<UnixAddr> {
    let path = CString::new(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()));
    UnixAddr::new(path.map_err(|_| Errno::EINVAL)?.as_c_str())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    use std::path::PathBuf;

    use super::*;
    use crate::state::StateDir;

    const PATIENCE: Duration = Duration::from_secs(60);

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ondat-telemetry-socket-{name}-{}", std::process::id()));
            std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
            Self(path)
        }

        fn folder(&self, below: &str) -> Folder {
            StateDir::open(&self.0.join(below)).unwrap().folder("x")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn talk(folder: &Folder, name: &str, listener: &Owned) {
        let mut asker = folder.connect(name, PATIENCE).unwrap().unwrap();
        let asked = descriptor::accept(listener.get().unwrap()).unwrap().unwrap();
        asker.write_all(b"?").unwrap();
        let mut byte = [0];
        UnixStream::from(asked).read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"?");
        assert!(descriptor::accept(listener.get().unwrap()).unwrap().is_none());
    }

    #[test]
    fn a_state_directory_with_a_path_longer_than_an_address_has_sockets() {
        let scratch = Scratch::new("long");
        let folder = scratch.folder(&["d".repeat(100), "e".repeat(100)].join("/"));
        let name = format!("{}-4194304.ask", "c".repeat(64));
        let listener = folder.listen(&name).unwrap();
        assert_eq!(std::fs::metadata(folder.path().join(&name)).unwrap().permissions().mode() & 0o777, 0o600);
        talk(&folder, &name, &listener);
        assert!(folder.has_socket(&name) && folder.sockets().unwrap() == [name]);
    }

    #[test]
    fn who_listens_takes_the_place_of_the_dead_and_of_whatever_else_is_there() {
        let scratch = Scratch::new("stale");
        let folder = scratch.folder("");
        drop(folder.listen("a").unwrap());
        assert!(folder.has_socket("a") && folder.connect("a", PATIENCE).unwrap().is_none(), "nobody listens");
        folder.write("b", b"a file").unwrap();
        std::os::unix::fs::symlink("b", folder.path().join("c")).unwrap();
        for name in ["a", "b", "c"] {
            let listener = folder.listen(name).unwrap();
            talk(&folder, name, &listener);
        }
        assert!(folder.connect("d", PATIENCE).unwrap().is_none());
        assert!(matches!(folder.listen("no/folder"), Err(Error::Io(_))));
    }

    #[test]
    fn one_too_many_is_told_so() {
        let scratch = Scratch::new("full");
        let folder = scratch.folder("");
        let _listener = folder.listen("a").unwrap();
        let waiting = (0..100).map(|_| folder.connect("a", Duration::from_millis(1)));
        let outcomes: Vec<_> = waiting.collect();
        let let_in = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Some(_)))).count();
        assert!((1..20).contains(&let_in), "{let_in}");
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Some(_)) | Err(Error::TimedOut(_)))));
    }
}
