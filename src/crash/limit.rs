//! How many crash reports of one kind are sent: a process that crashes in a loop is reported five times an hour, with
//! the number of the other crashes.

use std::collections::BTreeMap;

use ondat_telemetry_protocol::event::Crash;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::crash::witness::Witness;
use crate::error::Error;
use crate::schedule::Timer;
use crate::state::record::{PATIENCE, load, store, to_bytes};
use crate::state::{StateDir, layout};
use crate::sys::clock::Moment;

/// The most reports of one kind within [`WINDOW`].
const REPORTS: usize = 5;
/// The most reports of one component within [`WINDOW`], whatever their kinds.
const COMPONENT_REPORTS: usize = 20;
/// An hour, in seconds.
const WINDOW: i64 = 3_600;
/// The most kinds that are told apart; further ones of a component are one.
const KINDS: usize = 32;

/// `crash.json`: what was sent of late, and what is held back.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct CrashLimits {
    /// The kinds of crash by fingerprint.
    kinds: BTreeMap<String, Kind>,
    /// The pause that the server asked for.
    pause: Option<Timer>,
    /// How the last process ended whose end was seen, for `status`.
    last: Option<LastEnding>,
}

/// An ending as `status` shows it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct LastEnding {
    /// The component that ended.
    pub component: String,
    /// The signal's name or the exit code.
    pub ending: String,
    /// The evidence: a name of [`Witness`](super::witness::Witness).
    pub told_by: String,
    /// When, Unix seconds.
    pub at: i64,
}

impl LastEnding {
    /// The ending of a crash that is reported.
    pub fn new(component: &str, crash: &Crash<'_>, witness: Witness) -> Self {
        let (component, ending) = (component.to_owned(), crash.ending.name());
        Self { component, ending, told_by: witness.as_str().to_owned(), at: crash.at }
    }
}

/// One kind of crash: those of one fingerprint.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
struct Kind {
    /// When reports were let through, the oldest first.
    sent: Vec<Moment>,
    /// How many were held back since then.
    held: u32,
    /// The last of them.
    event: Option<Value>,
}

/// The component in the text of a fingerprint, quotes included: a JSON list of strings, of which that is the first. Names of
/// components hold neither commas nor brackets.
fn component_of(fingerprint: &str) -> &str {
    fingerprint.get(1..).and_then(|rest| rest.split([',', ']']).next()).unwrap_or_default()
}

impl CrashLimits {
    /// The event to send, which also says how many were held back before it; none where it is held back itself.
    pub fn admit(&mut self, event: Value, now: &Moment) -> Option<Value> {
        self.forget_old(now);
        let component = event["fingerprint"][0].to_string();
        let fingerprint = self.kind_of(event["fingerprint"].to_string(), &component);
        let has_room = self.has_room(&component);
        let kind = self.kinds.entry(fingerprint).or_default();
        if has_room && kind.sent.len() < REPORTS {
            kind.sent.push(now.clone());
            kind.event = None;
            return Some(counting(event, std::mem::take(&mut kind.held)));
        }
        kind.held = kind.held.saturating_add(1);
        kind.event = Some(event);
        None
    }

    /// What was held back and may be sent by now: of each kind the last, which counts the others.
    pub fn release(&mut self, now: &Moment) -> Vec<Value> {
        self.forget_old(now);
        let mut released = Vec::new();
        let waiting: Vec<String> =
            self.kinds.iter().filter(|(_, kind)| kind.event.is_some()).map(|(name, _)| name.clone()).collect();
        for name in waiting {
            let has_room = self.has_room(component_of(&name));
            let Some(kind) = self.kinds.get_mut(&name).filter(|kind| has_room && kind.sent.len() < REPORTS) else {
                continue;
            };
            if let Some(event) = kind.event.take() {
                kind.sent.push(now.clone());
                released.push(counting(event, std::mem::take(&mut kind.held).saturating_sub(1)));
            }
        }
        released
    }

    /// Under which name a crash is counted. Where there are too many kinds, a component's further ones are one, and where
    /// there are too many components, so are theirs: a program may put something new into each of its texts.
    fn kind_of(&self, fingerprint: String, component: &str) -> String {
        let names = [(fingerprint, KINDS), (format!("[{component}]"), 2 * KINDS)];
        let is_free = |name: &String, most| self.kinds.len() < most || self.kinds.contains_key(name);
        names.into_iter().find(|(name, most)| is_free(name, *most)).map_or_else(|| "[]".to_owned(), |(name, _)| name)
    }

    fn forget_old(&mut self, now: &Moment) {
        self.kinds.retain(|_, kind| {
            kind.sent.retain(|at| now.seconds_since(at).is_some_and(|seconds| seconds < WINDOW));
            !kind.sent.is_empty() || kind.event.is_some()
        });
    }

    /// When the last reports of a component were let through.
    fn sent_of<'a>(&'a self, component: &'a str) -> impl Iterator<Item = &'a Moment> {
        let its = self.kinds.iter().filter(move |(name, _)| component_of(name) == component);
        its.flat_map(|(_, kind)| &kind.sent)
    }

    /// Whether one more report of this component may be sent, as far as its number goes.
    fn has_room(&self, component: &str) -> bool {
        self.sent_of(component).count() < COMPONENT_REPORTS
    }

    /// When something that is held back may be sent, in Unix seconds.
    pub fn next_release(&self, now: &Moment) -> Option<i64> {
        let ends = |since: &Moment| Timer { since: since.clone(), wait: WINDOW }.due(now);
        let waiting = self.kinds.iter().filter(|(_, kind)| kind.event.is_some());
        let due = |(name, kind): (&String, &Kind)| {
            let component = component_of(name);
            // The oldest of the kind, and of the component, has to be an hour ago where there are as many as may be.
            let of_kind = if kind.sent.len() < REPORTS { None } else { kind.sent.first().map(ends) };
            let of_component = if self.has_room(component) { None } else { self.sent_of(component).map(ends).min() };
            of_kind.max(of_component).unwrap_or(now.unix)
        };
        waiting.map(due).min()
    }

    /// How the last process ended whose end was reported.
    pub fn last(&self) -> Option<&LastEnding> {
        self.last.as_ref()
    }

    /// Remembers it.
    pub fn set_last(&mut self, last: LastEnding) {
        self.last = Some(last);
    }

    /// How many are held back.
    pub fn held(&self) -> u32 {
        self.kinds.values().map(|kind| kind.held).fold(0, u32::saturating_add)
    }

    /// Nothing is to be sent for so many seconds: the server says so.
    pub fn pause(&mut self, now: &Moment, seconds: i64) {
        if self.paused_until(now) < now.unix.saturating_add(seconds) {
            self.pause = Some(Timer { since: now.clone(), wait: seconds });
        }
    }

    /// Until when the server asked to wait, in Unix seconds; in the past where it did not.
    pub fn paused_until(&self, now: &Moment) -> i64 {
        self.pause.as_ref().map_or(0, |pause| pause.due(now))
    }
}

/// What is remembered of crash reports; nothing where it cannot be read.
pub fn read(dir: &StateDir) -> CrashLimits {
    let bytes = dir.root().read(layout::CRASH).ok().flatten();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Forgets it: the switch has gone off.
pub fn forget(dir: &StateDir) -> Result<(), Error> {
    if dir.root().read(layout::CRASH)?.is_some() { dir.root().remove(layout::CRASH) } else { Ok(()) }
}

/// Changes what is remembered of crash reports, for all processes on the state directory. What cannot be remembered
/// limits nothing; the text then says why.
pub fn change<T>(dir: &StateDir, change: impl FnOnce(&mut CrashLimits) -> T) -> (T, Option<String>) {
    let locked = dir.root().lock_within(layout::CRASH_LOCK, PATIENCE);
    let (mut limits, damaged): (CrashLimits, _) = load(dir, layout::CRASH).unwrap_or_default();
    let before = limits.clone();
    let outcome = change(&mut limits);
    let stored = if limits == before {
        Ok(())
    } else if limits.held() > before.held() {
        store(dir, layout::CRASH, &limits)
    } else {
        // A report waits to be sent; forgotten in a power cut, this limits too little.
        to_bytes(dir, layout::CRASH, &limits).and_then(|bytes| dir.root().write_unsynced(layout::CRASH, &bytes))
    };
    drop(locked);
    let complaint = stored.err().map(|error| format!("what was sent of crash reports is not remembered: {error}"));
    (outcome, complaint.or(damaged))
}

/// The event with the closing line that counts the others.
fn counting(mut event: Value, others: u32) -> Value {
    if others > 0
        && let Some(value) = event.pointer_mut("/exception/values/0/value")
        && let Some(sentence) = value.as_str()
    {
        *value = format!("{sentence}, and {others} more like it that were not sent").into();
    }
    event
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sys::clock::Uptime;

    fn at(seconds: i64) -> Moment {
        Moment { unix: 1_000_000 + seconds, boot: Some(Uptime { id: "boot".to_owned(), seconds }) }
    }

    fn event(kind: &str, number: i64) -> Value {
        json!({"event_id": number, "fingerprint": [kind], "exception": {"values": [{"value": "it crashed"}]}})
    }

    fn sentence(event: &Value) -> &str {
        event["exception"]["values"][0]["value"].as_str().unwrap()
    }

    #[test]
    fn a_crash_loop_is_five_reports_an_hour_and_none_is_uncounted() {
        let (mut limits, mut sent) = (CrashLimits::default(), Vec::new());
        for second in 0..3 * WINDOW {
            if second % 30 == 0 {
                sent.extend(limits.admit(event("loop", second), &at(second)).map(|event| (second, event)));
            }
            sent.extend(limits.release(&at(second)).into_iter().map(|event| (second, event)));
        }
        // Another hour without a crash: what is held back goes out by itself.
        let due = limits.next_release(&at(3 * WINDOW)).unwrap() - 1_000_000;
        assert_eq!(limits.release(&at(due - 1)), Vec::<Value>::new());
        sent.extend(limits.release(&at(due)).into_iter().map(|event| (due, event)));
        assert_eq!((limits.held(), limits.next_release(&at(due))), (0, None));
        let counted: u32 = sent
            .iter()
            .map(|(_, event)| {
                let others = sentence(event).split_once(", and ").map(|(_, rest)| rest.split(' ').next().unwrap());
                1 + others.map_or(0, |others| others.parse::<u32>().unwrap())
            })
            .sum();
        assert_eq!(counted, 360);
        assert!((15..=21).contains(&sent.len()), "{}", sent.len());
        for (second, _) in &sent {
            let within_an_hour = sent.iter().filter(|(other, _)| (*second..second + WINDOW).contains(other)).count();
            assert!(within_an_hour <= REPORTS, "{within_an_hour} from {second}");
        }
    }

    #[test]
    fn kinds_do_not_hold_each_other_back() {
        let mut limits = CrashLimits::default();
        for number in 0..5 {
            assert!(limits.admit(event("one", number), &at(number)).is_some());
        }
        assert_eq!(limits.admit(event("one", 5), &at(5)), None);
        assert!(limits.admit(event("two", 6), &at(6)).is_some());
        assert_eq!(limits.held(), 1);
        let later = limits.admit(event("one", 7), &at(WINDOW + 7)).unwrap();
        assert_eq!(sentence(&later), "it crashed, and 1 more like it that were not sent");
    }

    /// Of this component, with a text of its own.
    fn event_of(component: &str, number: i64) -> Value {
        json!({
            "event_id": number,
            "fingerprint": [component, "3", format!("exited: [text] {number}")],
            "exception": {"values": [{"value": "it crashed"}]},
        })
    }

    #[test]
    fn a_component_sends_twenty_an_hour_whatever_it_says_and_none_is_uncounted() {
        let (mut limits, mut sent) = (CrashLimits::default(), Vec::new());
        for number in 0..1_000 {
            sent.extend(limits.admit(event_of("one", number), &at(number)).map(|event| (number, event)));
        }
        assert_eq!(sent.len(), COMPONENT_REPORTS);
        assert!(limits.kinds.len() <= KINDS + 1, "{}", limits.kinds.len());
        assert!(limits.admit(event_of("two", 0), &at(1_000)).is_some(), "another component is not held back");
        // Without a further crash, what is held back goes out by itself.
        let mut now = 1_000;
        while limits.held() > 0 {
            let due = limits.next_release(&at(now)).unwrap() - 1_000_000;
            assert!(due >= now, "{due} before {now}");
            assert!(due == now || limits.release(&at(due - 1)).is_empty());
            let released = limits.release(&at(due));
            assert!(!released.is_empty(), "nothing at {due}");
            sent.extend(released.into_iter().map(|event| (due, event)));
            now = due;
        }
        let others = |event: &Value| {
            let others = sentence(event).split_once(", and ").map(|(_, rest)| rest.split(' ').next().unwrap());
            others.map_or(0, |others| others.parse::<i64>().unwrap())
        };
        assert_eq!(sent.iter().map(|(_, event)| 1 + others(event)).sum::<i64>(), 1_000);
        for (second, _) in &sent {
            let within_an_hour = sent.iter().filter(|(other, _)| (*second..second + WINDOW).contains(other)).count();
            assert!(within_an_hour <= COMPONENT_REPORTS, "{within_an_hour} from {second}");
        }
    }

    #[test]
    fn many_kinds_and_components_take_bounded_memory() {
        let mut limits = CrashLimits::default();
        for number in 0..1_000 {
            limits.admit(event_of(&format!("component {number}"), number), &at(0));
        }
        assert_eq!(limits.kinds.len(), 2 * KINDS + 1);
        assert_eq!(limits.held(), 1_000 - 2 * u32::try_from(KINDS).unwrap() - u32::try_from(REPORTS).unwrap());
    }

    #[test]
    fn a_pause_is_as_long_as_the_longest_that_was_asked_for() {
        let mut limits = CrashLimits::default();
        assert!(limits.paused_until(&at(0)) <= at(0).unix);
        limits.pause(&at(0), 600);
        limits.pause(&at(10), 60);
        assert_eq!(limits.paused_until(&at(20)), at(600).unix);
    }
}
