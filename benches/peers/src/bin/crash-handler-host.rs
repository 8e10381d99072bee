//! crash-handler with a minidumper server beside it, as minidumper's example diskwrite sets them up, without its waits: the
//! server says itself when clients may come.

use std::fs::File;
use std::io::{Error, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use crash_handler::{CrashContext, CrashEventResult, CrashHandler, make_crash_event};
use minidumper::{Client, LoopAction, MinidumpBinary, Server, ServerHandler, SocketName};
use peers::{Host, folder, now_ns};

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--server") {
        return serve();
    }
    let host = Host::start();
    let program = std::env::current_exe().expect("this program");
    let start = now_ns();
    let mut server =
        Command::new(program).arg("--server").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the server");
    let mut is_ready = [0];
    server.stdout.take().expect("a pipe").read_exact(&mut is_ready).expect("a server that listens");
    let client = Client::with_name(SocketName::Path(&socket())).expect("a client");
    // SAFETY: the closure makes system calls only.
    let event = unsafe {
        make_crash_event(move |context: &CrashContext| CrashEventResult::Handled(client.request_dump(context).is_ok()))
    };
    let handler = CrashHandler::attach(event).expect("a handler");
    handler.set_ptracer(Some(server.id()));
    host.crash(now_ns() - start, Some(server.id()));
}

fn socket() -> PathBuf {
    folder().join("socket")
}

fn serve() {
    let mut server = Server::with_name(SocketName::Path(&socket())).expect("a server");
    let mut out = std::io::stdout();
    out.write_all(b"+").and_then(|()| out.flush()).expect("stdout");
    server.run(Box::new(Writer), &AtomicBool::new(false), None).expect("a server that runs");
}

struct Writer;

impl ServerHandler for Writer {
    fn create_minidump_file(&self) -> Result<(File, PathBuf), Error> {
        let path = folder().join("report");
        Ok((File::create(&path)?, path))
    }

    fn on_minidump_created(&self, result: Result<MinidumpBinary, minidumper::Error>) -> LoopAction {
        if let Ok(mut dump) = result {
            let _ = dump.file.flush();
        }
        LoopAction::Exit
    }

    fn on_message(&self, _: u32, _: Vec<u8>) {}

    fn on_client_disconnected(&self, clients: usize) -> LoopAction {
        if clients == 0 { LoopAction::Exit } else { LoopAction::Continue }
    }
}
