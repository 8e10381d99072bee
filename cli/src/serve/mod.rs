//! `serve`, the administrator's API and page: its options, its start and its end.

mod authority;
mod body;
mod gate;
mod line;
mod log;
mod login;
mod metrics;
mod next;
mod openapi;
mod own;
mod page;
mod product;
mod refusal;
mod sessions;
mod tries;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use clap::Args;
use data_encoding::HEXLOWER;
use nix::sys::resource::{Resource, getrlimit};
use ondat_telemetry::error::Error;
use ondat_telemetry::state::{StateDir, layout};
use ondat_telemetry_service::listen::{Listening, bind};
use ondat_telemetry_service::places::{OneMore, Places};
use ondat_telemetry_service::refusal::Refusal;
use ondat_telemetry_service::signals::{Asked, Signals};
use ondat_telemetry_service::terms::Terms;
use ondat_telemetry_service::tls::Certificate;
use serde_json::json;

use self::authority::{Host, Scheme};
use self::line::Line;
use self::log::{Level, Log};
use self::sessions::Sessions;
use self::tries::Tries;
use crate::administration;
use crate::daemons::unused;
use crate::settings::{Options, Settings, Warnings};
use crate::users::{self, DEFAULT_USER, Memory, Users};
use crate::{Output, print};

/// The end of `--help`.
pub(crate) const HELP: &str = "\
It serves a page at /, its own calls at /v1 (described at /v1/openapi.json), the product's at /v2, /healthz, and figures for
Prometheus at /metrics. Whoever changes something logs in; `ondat-telemetry password` sets a password. Without one, on this
machine alone, user admin has a password for this run, which stands in STATE_DIR/serve.password. When it listens, it prints a
line of JSON with its URL. SIGHUP reads the certificate anew, SIGTERM and SIGINT end it. Changes are written to
STATE_DIR/audit.jsonl.";

/// The file with the password of one run.
const RUN_PASSWORD: &str = layout::RUN_PASSWORD;
/// The most connections at once: a quarter of the 1024 descriptors that a process usually may open.
const MOST_CONNECTIONS: usize = 256;
/// The limits of every connection.
const TERMS: Terms = Terms {
    handshake_time: Duration::from_secs(10),
    first_time: Some(Duration::from_secs(10)),
    head_time: Duration::from_secs(10),
    // An open page keeps polling, so a connection has no longest life.
    connection_time: None,
    // There must be room for all cookies that a browser has for this host.
    longest_head: 32 << 10,
    most_fields: 100,
    has_title_case: false,
    // People who type an address forget the `s` easily.
    says_tls: true,
};
/// How long requests in progress may take when the program ends.
const GOODBYE_TIME: Duration = Duration::from_secs(5);
/// How many passwords are checked at once. Each check occupies a processor, and 19 MiB are set aside for each from the start.
const CHECKS: usize = 2;

/// The warning at each start without TLS beyond this machine.
const PLAIN: &str = "http without TLS beyond this machine, as --plain-http-on-trusted-network says: whoever sees the network's \
    traffic sees passwords and tokens";

/// The most threads that read and write the disk and check passwords, beside the one thread that answers. Administrators are
/// few, machines may have many processors, and memory may be short.
const READERS: usize = 8;
const STACK: usize = 1 << 20;

/// How it listens.
#[derive(Args, Clone)]
pub(crate) struct Arguments {
    /// Where it listens; port 0 is any free port. Beyond this machine it takes a password, and a certificate or
    /// --plain-http-on-trusted-network
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5705")]
    listen: SocketAddr,
    /// The server's certificate and those above it, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Listen beyond this machine without a certificate: whoever sees the network's traffic sees the passwords
    #[arg(long, conflicts_with = "tls_certificate")]
    plain_http_on_trusted_network: bool,
    /// A name under which it is reached, besides localhost and addresses; may be repeated
    #[arg(long = "host-name", value_name = "NAME", value_parser = host_name)]
    host_names: Vec<String>,
    /// Answer /metrics without a login also beyond this machine
    #[arg(long)]
    metrics: bool,
}

impl Arguments {
    fn is_local(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }
}

/// Parses a name into the form in which names are compared.
fn host_name(text: &str) -> Result<String, String> {
    match Host::parse(text) {
        Some(Host::Name(name)) => Ok(name),
        Some(Host::Address(_)) => Err("addresses are answered to anyhow".to_owned()),
        None => Err("a host name alone, without https:// and port".to_owned()),
    }
}

/// The state that all requests share.
pub(crate) struct App {
    options: Options,
    settings: Mutex<Arc<Settings>>,
    dir: StateDir,
    host_names: Vec<String>,
    has_tls: bool,
    /// Whether other machines can reach it without TLS.
    is_plain: bool,
    sessions: Sessions,
    tries: Tries,
    /// Which wrong passwords the log has mentioned.
    said: Tries,
    line: Arc<Line>,
    /// The user of the password of one run. None: users.json exists.
    run_users: Option<Users>,
    /// A hash to check for users that do not exist, so that their refusal takes as long.
    nobodys_hash: String,
    log: Log,
}

impl App {
    /// Reads the settings anew, because the cluster spec and the identity may change while this runs. If they cannot be read
    /// any more, the earlier settings stay in force: turning off must not depend on them.
    fn settings(&self) -> Arc<Settings> {
        let mut known = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        match Settings::load(&self.options, &Warnings::default()) {
            Ok(settings) => *known = Arc::new(settings),
            Err(error) => self.log.say(Level::Error, &format!("the settings of before stay: {error}")),
        }
        Arc::clone(&known)
    }

    /// Returns the hash of this user's password. None: there is no such user.
    fn password_of(&self, user: &str) -> Option<String> {
        let known = |users: &Users, user: &str| users.hash_of(user).map(|hash| hash.map(str::to_owned));
        let hash = match Users::read(&self.dir) {
            Ok(users) if users.is_empty() => self.run_users.as_ref().map_or(Ok(None), |users| known(users, user)),
            Ok(users) => known(&users, user),
            Err(error) => Err(error),
        };
        hash.unwrap_or_else(|error| {
            self.log.say(Level::Error, &error.to_string());
            None
        })
    }
}

/// Runs work that waits for the disk on another thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "a bug: see the log"))
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(arguments: &Arguments, options: &Options, settings: Settings) -> Result<Output, Error> {
    let dir = settings.state_dir("what the page and the API change is in the state directory")?.clone();
    let tls = match (&arguments.tls_certificate, &arguments.tls_key) {
        (Some(certificate), Some(key)) => Some(Certificate::read(certificate, key)?),
        _ => None,
    };
    // Everything can be turned off on a full disk too.
    let problem = dir.make().err();
    administration::settle(&dir);
    let mut memory = memory()?;
    let run_password = run_password(arguments, &dir, &mut memory)?;
    let word = administration::read(&dir);
    let checks = memory.len();
    let app = Arc::new(App {
        options: options.clone(),
        settings: Mutex::new(Arc::new(settings)),
        dir,
        host_names: arguments.host_names.clone(),
        has_tls: tls.is_some(),
        is_plain: tls.is_none() && !arguments.is_local(),
        sessions: Sessions::default(),
        tries: Tries::default(),
        said: Tries::default(),
        line: Arc::new(Line::new(memory)),
        run_users: run_password.as_ref().map(|password| Users::of_one(DEFAULT_USER, password.hash.clone())),
        nobodys_hash: users::nobodys_hash()?,
        log: Log::new(word.as_ref().ok()),
    });
    if checks < CHECKS {
        let why = format!("there is memory to check {checks} password at a time, not {CHECKS}");
        app.log.say(Level::Warn, &why);
    }
    if app.is_plain {
        app.log.insist(Level::Warn, PLAIN);
    }
    if let Some(why) = problem {
        app.log.say(Level::Warn, &why.to_string());
    }
    if let Some(unused) = unused(&app.dir) {
        app.log.say(Level::Warn, &format!("{}: {unused}", app.dir.path().display()));
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
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.max_blocking_threads(readers()).thread_stack_size(STACK).enable_all().build();
    let runtime = runtime.map_err(|error| Error::Internal(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(serve(arguments, &app, tls.as_ref()));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome.map(|()| Output::text(String::new()))
}

/// Sets memory aside for each check. If there is not enough for all checks, there are fewer of them: a thread and the requests
/// come first.
fn memory() -> Result<Vec<Memory>, Error> {
    let first = Memory::new()?;
    let more = (1..CHECKS).map_while(|_| Memory::new().ok().filter(|_| room() >= 2 * STACK as u64));
    Ok(std::iter::once(first).chain(more).collect())
}

/// How many threads fit beside the memory of the requests.
fn readers() -> usize {
    usize::try_from(room() / STACK as u64).unwrap_or(usize::MAX).saturating_sub(1).clamp(1, READERS)
}

/// How much more memory the process may map under its RLIMIT_AS (`ulimit -v`), in bytes. Without a limit it is `u64::MAX`.
fn room() -> u64 {
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_AS) else { return u64::MAX };
    let mapped = fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    mapped.map_or(u64::MAX, |kib| limit.saturating_sub(kib * 1024))
}

/// Refuses a start that would be open to others. Creates the password of one run if there is no users.json.
fn run_password(arguments: &Arguments, dir: &StateDir, memory: &mut [Memory]) -> Result<Option<RunPassword>, Error> {
    let users = Users::read(dir)?;
    users.check()?;
    let listen = arguments.listen;
    if arguments.is_local() {
        let memory = memory.first_mut().filter(|_| users.is_empty());
        return memory.map(|memory| RunPassword::make(dir, memory)).transpose();
    }
    let is_allowed = arguments.tls_certificate.is_some() || arguments.plain_http_on_trusted_network;
    let lacks = match (is_allowed, !users.is_empty()) {
        (true, true) => return Ok(None),
        (false, _) => {
            "a certificate: --tls-certificate and --tls-key; where nobody else sees the network's traffic, \
             --plain-http-on-trusted-network does"
        }
        (true, false) => "a password: set one with `ondat-telemetry password`",
    };
    Err(Error::InvalidConfig(format!("{listen} can be reached from other machines, which takes {lacks}")))
}

/// The password of one run, in a file that is removed when this is dropped.
struct RunPassword {
    dir: StateDir,
    hash: String,
}

impl RunPassword {
    fn make(dir: &StateDir, memory: &mut Memory) -> Result<Self, Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)
            .map_err(|error| Error::Internal(format!("no randomness for a password: {error}")))?;
        let password = HEXLOWER.encode(&random);
        dir.root().write(RUN_PASSWORD, format!("{password}\n").as_bytes())?;
        Ok(Self { dir: dir.clone(), hash: memory.hash(&password)? })
    }
}

impl Drop for RunPassword {
    fn drop(&mut self) {
        // The password is no longer valid.
        let _ = self.dir.root().remove(RUN_PASSWORD);
    }
}

async fn serve(arguments: &Arguments, app: &Arc<App>, certificate: Option<&Certificate>) -> Result<(), Error> {
    // The handlers come first, so that an early signal is not lost.
    let mut signals = Signals::new()?;
    let listener = bind("--listen", arguments.listen).await?;
    let address = listener.local_addr().map_err(|error| Error::Internal(format!("the server failed: {error}")))?;
    let places = Places::new(MOST_CONNECTIONS, MOST_CONNECTIONS, OneMore::Displaces);
    let mut listening = Listening::default();
    listening.serve(listener, certificate, routes(app, arguments.is_local() || arguments.metrics), &places, TERMS);
    let scheme = if certificate.is_some() { Scheme::Https } else { Scheme::Http }.name();
    print(format!("{}\n", json!({ "ready": true, "url": format!("{scheme}://{address}") })).as_bytes())?;
    app.log.say(Level::Info, &format!("listening on {address}"));
    while signals.next().await == Asked::Reload {
        match certificate.map(Certificate::renew) {
            None => {}
            Some(Ok(())) => app.log.say(Level::Info, "the certificate was read anew"),
            Some(Err(error)) => app.log.say(Level::Error, &format!("the certificate of before stays: {error}")),
        }
    }
    listening.end(GOODBYE_TIME).await
}

fn routes(app: &Arc<App>, has_open_metrics: bool) -> Router {
    let metrics = Router::new().route("/metrics", get(metrics::metrics));
    let inside = Router::new()
        .route("/v1/session", get(own::session).delete(own::log_out))
        .route("/v1/status", get(own::status))
        .route("/v1/version", get(own::version))
        .route("/v1/report/preview", get(own::preview))
        .route("/v1/report/next", get(next::report))
        .route("/v1/reports", get(own::reports))
        .route("/v1/crashes", get(own::crashes))
        .route("/v1/diagnostics", get(own::diagnostics))
        .route("/v1/switches", get(own::switches).put(own::set_switches))
        .route("/v2/auth/refresh", post(product::refresh))
        .route("/v2/cluster", get(product::cluster).put(product::update_cluster))
        .route("/v2/nodes", get(product::nodes));
    let (outside, inside) = if has_open_metrics { (metrics, inside) } else { (Router::new(), inside.merge(metrics)) };
    let inside = inside.route_layer(from_fn_with_state(Arc::clone(app), gate::log_in));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/v1/session", post(own::begin_session))
        .route("/v1/openapi.json", get(openapi::all))
        .route("/v2/openapi", get(openapi::of_product))
        .route("/v2/auth/login", post(product::log_in))
        .merge(page::routes())
        .merge(outside)
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
