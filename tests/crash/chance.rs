//! Any scenario, any moment: a monitor that is killed or stopped while its host ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::process::Process;
use crate::sink::Sink;
use crate::support::TempDir;
use crate::victim::{Around, Victim, end_without, events, sent_by_next_run, state_variable};

const RUNS: usize = 40;
/// Longer than a host takes to end, in microseconds.
const LATEST: u64 = 6_000;
/// The seed of an earlier run, to repeat it.
const SEED: &str = "ONDAT_TELEMETRY_SEED";

/// Marsaglia's xorshift.
struct Chance(AtomicU64);

impl Chance {
    fn below(&self, end: u64) -> u64 {
        let mut state = self.0.load(Ordering::Relaxed);
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.store(state, Ordering::Relaxed);
        state % end
    }

    fn of<T: Copy>(&self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

#[test]
#[allow(clippy::print_stdout, reason = "a run that hangs is to be repeated too")]
fn whatever_becomes_of_the_monitor_the_host_ends_as_without_it_and_is_reported_at_most_once() {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed: u64 = seed.unwrap_or_else(|| u64::from(now.subsec_nanos()) | 1);
    println!("{SEED}={seed}");
    let chance = Chance(AtomicU64::new(seed));
    let around = Around { environment: vec![("THREADS".to_owned(), "8".to_owned())], ..Around::default() };
    for run in 0..RUNS {
        let scenario = chance.of(&["segv", "segv_thread", "abort", "raise_segv", "exit_3", "exit_0", "segv_threads"]);
        let signal = chance.of(&[libc::SIGKILL, libc::SIGSTOP]);
        let moment = Duration::from_micros(chance.below(LATEST));
        let what = format!("{SEED}={seed} run {run}: {scenario}, signal {signal} after {moment:?}");

        let (dir, sink) = (TempDir::new(), Sink::start(200));
        let (name, state) = state_variable(&dir);
        let dsn = sink.dsn();
        let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
        let mut victim = Victim::start(scenario, Some(&library), dir.path(), &around);
        let monitor = victim.monitor.take().unwrap();
        victim.go();
        // No event to be awaited: any moment is meant.
        std::thread::sleep(moment);
        monitor.signal(signal);
        Process::open(victim.pid).wait();
        monitor.signal(libc::SIGCONT);
        monitor.wait();
        let (status, _) = victim.end();
        assert_eq!(status, end_without(scenario, &around).0, "{what}");
        let reports = [events(&sink), sent_by_next_run(&state)].concat();
        let mut ids: Vec<String> = reports.iter().map(|event| event["event_id"].to_string()).collect();
        ids.sort();
        ids.dedup();
        assert!(ids.len() <= 1, "{what}: {reports:?}");
    }
}
