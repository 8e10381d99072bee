//! `serve`: the administrator's API and page, from its options to its end.

mod body;
mod gate;
mod listen;
mod log;
mod next;
mod own;
mod page;
mod product;
mod refusal;
mod sessions;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use clap::Args;
use data_encoding::HEXLOWER;
use hyper_util::rt::TokioTimer;
use ondat_telemetry::error::Error;
use ondat_telemetry::state::{StateDir, layout};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;

use self::listen::Door;
use self::log::{Level, Log};
use self::refusal::Refusal;
use self::sessions::{Sessions, Tries};
use crate::administration;
use crate::settings::{Options, Settings, Warnings};
use crate::users::{self, DEFAULT_USER, Users};
use crate::{Output, print};

/// The end of `--help`.
pub(crate) const HELP: &str = "\
It serves a page at /, its own calls at /v1 (described at /v1/openapi.json) and the product's at /v2. Whoever changes
something logs in; `ondat-telemetry password` sets a password. Without one, on this machine alone, user admin has a password
for this run, which stands in STATE_DIR/serve.password. When it listens, it prints a line of JSON with its URL. SIGHUP reads
the certificate anew, SIGTERM and SIGINT end it. Changes are written to STATE_DIR/audit.jsonl.";

/// The password of one run.
const RUN_PASSWORD: &str = layout::RUN_PASSWORD;
/// For a connection's first request to begin, a request's header, and an idle connection.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// For requests in progress when the program ends.
const GOODBYE_TIME: Duration = Duration::from_secs(5);
/// Passwords that are checked at once: each takes a processor and 19 MiB while it is.
const CHECKS: usize = 2;
/// Those that may wait for it.
const WAITING_CHECKS: usize = 16;

/// Threads that answer, and those that read and write the disk: administrators are few, and machines may have many
/// processors.
const WORKERS: usize = 2;
const READERS: usize = 16;

/// How it listens.
#[derive(Args, Clone)]
pub(crate) struct Arguments {
    /// Where it listens; port 0 is any free port. Beyond this machine it takes a certificate and a password
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5705")]
    listen: SocketAddr,
    /// The server's certificate and those above it, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// A name under which it is reached, besides localhost and addresses; may be repeated
    #[arg(long = "host-name", value_name = "NAME")]
    host_names: Vec<String>,
}

/// What all requests share.
pub(crate) struct App {
    options: Options,
    settings: Mutex<Arc<Settings>>,
    dir: StateDir,
    host_names: Vec<String>,
    has_tls: bool,
    sessions: Sessions,
    tries: Tries,
    checks: Semaphore,
    waiting_checks: Semaphore,
    /// Where there is no users.json.
    run_users: Option<Users>,
    /// Checked for users that are not there, so that both take as long.
    nobodys_hash: String,
    log: Log,
}

impl App {
    /// What is true now: the cluster spec and the identity may change while this runs. Where they cannot be read any more, what
    /// was true before: turning off must not depend on them.
    fn settings(&self) -> Arc<Settings> {
        let mut known = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        match Settings::load(&self.options, &Warnings::default()) {
            Ok(settings) => *known = Arc::new(settings),
            Err(error) => self.log.say(Level::Error, &format!("the settings of before stay: {error}")),
        }
        Arc::clone(&known)
    }

    /// The hash of this user's password.
    fn password_of(&self, user: &str) -> Option<String> {
        match Users::read(&self.dir) {
            Ok(users) if users.is_empty() => self.run_users.as_ref()?.hash_of(user).map(str::to_owned),
            Ok(users) => users.hash_of(user).map(str::to_owned),
            Err(error) => {
                self.log.say(Level::Error, &error.to_string());
                None
            }
        }
    }

    /// The hash of the password, if it is the user's.
    async fn check(self: &Arc<Self>, user: String, password: String, from: SocketAddr) -> Result<String, Refusal> {
        let busy =
            || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many logins at once: try again later").after(1);
        self.tries.take(from.ip(), std::time::Instant::now()).map_err(|wait| {
            let seconds = wait.as_secs() + 1;
            let why = format!("too many wrong passwords: try again in {seconds} s");
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, why).after(seconds)
        })?;
        let _waiting = self.waiting_checks.try_acquire().map_err(|_| busy())?;
        let _checking = self.checks.acquire().await.map_err(|_| busy())?;
        let app = Arc::clone(self);
        let named = user.clone();
        let checked = blocking(move || {
            let known = app.password_of(&user);
            let hash = known.as_ref().unwrap_or(&app.nobodys_hash);
            (users::is_password(&password, hash) && known.is_some()).then(|| hash.clone())
        });
        let from_ip = from.ip().to_canonical();
        match checked.await? {
            Some(hash) => {
                self.tries.give_back(from.ip());
                self.log.say(Level::Info, &format!("{named} has logged in from {from_ip}"));
                Ok(hash)
            }
            None => {
                self.log.say(Level::Warn, &format!("a wrong password or user from {from_ip}"));
                Err(Refusal::new(StatusCode::UNAUTHORIZED, "the user or the password is wrong"))
            }
        }
    }
}

/// Runs what waits for the disk where it holds up nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "a bug: see the log"))
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(arguments: &Arguments, options: &Options, settings: Settings) -> Result<Output, Error> {
    let dir = settings.state_dir("what the page and the API change is in the state directory")?.clone();
    let tls = match (&arguments.tls_certificate, &arguments.tls_key) {
        (Some(certificate), Some(key)) => Some(RustlsConfig::from_config(listen::tls(certificate, key)?)),
        _ => None,
    };
    // Also on a full disk everything can be turned off.
    let problem = dir.make().err();
    administration::settle(&dir);
    let run_password = run_password(arguments, &dir)?;
    let word = administration::read(&dir);
    let app = Arc::new(App {
        options: options.clone(),
        settings: Mutex::new(Arc::new(settings)),
        dir,
        host_names: arguments.host_names.clone(),
        has_tls: tls.is_some(),
        sessions: Sessions::default(),
        tries: Tries::default(),
        checks: Semaphore::new(CHECKS),
        waiting_checks: Semaphore::new(WAITING_CHECKS),
        run_users: run_password.as_ref().map(|password| Users::of_one(DEFAULT_USER, password.hash.clone())),
        nobodys_hash: users::hash("nobody's password")?,
        log: Log::new(word.as_ref().ok()),
    });
    if let Some(why) = problem {
        app.log.say(Level::Warn, &why.to_string());
    }
    if let Err(why) = &word {
        app.log.say(Level::Error, &administration::unreadable(why));
    }
    if let Some(password) = &run_password {
        let path = password.dir.path().join(RUN_PASSWORD);
        app.log.say(
            Level::Warn,
            &format!("no password is set: user {DEFAULT_USER}'s for this run is in {}", path.display()),
        );
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(WORKERS).max_blocking_threads(READERS).enable_all().build();
    let runtime = runtime.map_err(|error| Error::Internal(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(serve(arguments, &app, tls));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome.map(|()| Output::text(String::new()))
}

/// Refuses what would be open to others, and makes the password of one run where there is none.
fn run_password(arguments: &Arguments, dir: &StateDir) -> Result<Option<RunPassword>, Error> {
    let has_users = !Users::read(dir)?.is_empty();
    let listen = arguments.listen;
    if listen.ip().to_canonical().is_loopback() {
        return if has_users { Ok(None) } else { RunPassword::make(dir).map(Some) };
    }
    let lacks = match (arguments.tls_certificate.is_some(), has_users) {
        (true, true) => return Ok(None),
        (false, _) => "a certificate: --tls-certificate and --tls-key",
        (true, false) => "a password: set one with `ondat-telemetry password`",
    };
    Err(Error::InvalidConfig(format!("{listen} can be reached from other machines, which takes {lacks}")))
}

/// The password of one run, in a file that goes with it.
struct RunPassword {
    dir: StateDir,
    hash: String,
}

impl RunPassword {
    fn make(dir: &StateDir) -> Result<Self, Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)
            .map_err(|error| Error::Internal(format!("no randomness for a password: {error}")))?;
        let password = HEXLOWER.encode(&random);
        dir.root().write(RUN_PASSWORD, format!("{password}\n").as_bytes())?;
        Ok(Self { dir: dir.clone(), hash: users::hash(&password)? })
    }
}

impl Drop for RunPassword {
    fn drop(&mut self) {
        // It opens nothing any more.
        let _ = self.dir.root().remove(RUN_PASSWORD);
    }
}

async fn serve(arguments: &Arguments, app: &Arc<App>, tls: Option<RustlsConfig>) -> Result<(), Error> {
    // First, so that an early signal is not lost.
    let mut signals = Signals::new()?;
    let address = arguments.listen;
    let listener = TcpListener::bind(address);
    let listener =
        listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener)).map_err(|error| {
            Error::InvalidConfig(format!("cannot listen on {address}: {error}; choose another address with --listen"))
        })?;
    let failed = |error: io::Error| Error::Internal(format!("the server failed: {error}"));
    let address = listener.local_addr().map_err(failed)?;
    let mut server = axum_server::from_tcp(listener).map_err(failed)?.http1_only().first_request_timeout(HEADER_TIME);
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(64 << 10);
    let handle = Handle::new();
    let door = Door::new(tls.is_some());
    let routes = routes(app).into_make_service_with_connect_info::<SocketAddr>();
    let task = match tls.clone() {
        None => tokio::spawn(server.handle(handle.clone()).acceptor(door).serve(routes)),
        Some(config) => {
            let acceptor = RustlsAcceptor::new(config).handshake_timeout(HEADER_TIME).acceptor(door);
            tokio::spawn(server.handle(handle.clone()).acceptor(acceptor).serve(routes))
        }
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    print(format!("{}\n", json!({ "ready": true, "url": format!("{scheme}://{address}") })).as_bytes())?;
    app.log.say(Level::Info, &format!("listening on {address}"));
    while signals.next().await == Asked::Reload {
        if let (Some(config), Some(certificate), Some(key)) = (&tls, &arguments.tls_certificate, &arguments.tls_key) {
            match listen::tls(certificate, key) {
                Ok(new) => {
                    config.reload_from_config(new);
                    app.log.say(Level::Info, "the certificate was read anew");
                }
                Err(error) => app.log.say(Level::Error, &format!("the certificate of before stays: {error}")),
            }
        }
    }
    handle.graceful_shutdown(Some(GOODBYE_TIME));
    task.await.map_err(|error| Error::Internal(format!("the server failed: {error}")))?.map_err(failed)
}

fn routes(app: &Arc<App>) -> Router {
    let inside = Router::new()
        .route("/v1/session", get(own::session).delete(own::log_out))
        .route("/v1/status", get(own::status))
        .route("/v1/version", get(own::version))
        .route("/v1/report/preview", get(own::preview))
        .route("/v1/report/next", get(next::report))
        .route("/v1/reports", get(own::reports))
        .route("/v1/crashes", get(own::crashes))
        .route("/v1/switches", get(own::switches).put(own::set_switches))
        .route("/v2/auth/refresh", post(product::refresh))
        .route("/v2/cluster", get(product::cluster).put(product::update_cluster))
        .route("/v2/nodes", get(product::nodes))
        .route_layer(from_fn_with_state(Arc::clone(app), gate::log_in));
    Router::new()
        .route("/v1/session", post(own::begin_session))
        .route("/v1/openapi.json", get(own::openapi))
        .route("/v2/auth/login", post(product::log_in))
        .merge(page::routes())
        .merge(inside)
        .fallback(async || {
            Refusal::new(StatusCode::NOT_FOUND, "there is nothing here; /v1/openapi.json lists the calls")
        })
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path has other methods; /v1/openapi.json lists the calls",
            )
        })
        .layer(from_fn_with_state(Arc::clone(app), gate::enter))
        .with_state(Arc::clone(app))
}

/// What a signal asks for.
#[derive(PartialEq, Eq)]
enum Asked {
    Reload,
    End,
}

struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let watch = |kind: SignalKind| {
            signal(kind).map_err(|error| Error::Internal(format!("cannot watch for signals: {error}")))
        };
        Ok(Self {
            hang_up: watch(SignalKind::hangup())?,
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
        }
    }
}
