//! The gate: what all sources together leave on, and the [`Permit`] without which nothing is sent.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ondat_telemetry_protocol::json::read_object;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::state::{Look, StateDir, layout};
use crate::switch::{Kind, Objection, Source, Switch, objections};

/// The name of the administrator's file in the state directory.
pub const FILE: &str = layout::SWITCHES;

/// Under which name the file has the words of each of the two, beside what is off by either. A file of an older version has none
/// of it: what it says is the administrator's word.
pub const WORDS: &str = "words";
/// Their names there.
pub const WORD_OF_ADMINISTRATOR: &str = "administrator";
/// Likewise.
pub const WORD_OF_API_CLIENT: &str = "api";

/// The content of the administrator's file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Administrator {
    /// There never was a file: no objection.
    Silent,
    /// These switches are off.
    Off(Vec<Objection>),
    /// The file cannot be read: everything counts as off.
    Unreadable(String),
}

/// What is known of the file. Only a file that can be read changes it: if the file or the directory is gone, the last state
/// stays in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Heard {
    /// The last state; none as long as nothing was read.
    word: Option<Administrator>,
    /// Why it cannot be read, if everything counts as off for that reason.
    barrier: Option<String>,
    /// Whether the state was read just now.
    is_fresh: bool,
}

impl Heard {
    /// After another look.
    fn after(self, look: Look) -> Self {
        let heard = |word| Self { word: Some(word), barrier: None, is_fresh: false };
        match look {
            Look::Bytes(bytes) => match parse(&bytes) {
                Ok(off) => Self { is_fresh: true, ..heard(Administrator::Off(off)) },
                Err(why) => heard(Administrator::Unreadable(why)),
            },
            Look::Unreadable(why) => heard(Administrator::Unreadable(why)),
            Look::NoFile => heard(self.word.unwrap_or(Administrator::Silent)),
            Look::NoFolder if self == Self::default() => heard(Administrator::Silent),
            Look::Denied(why) => Self { barrier: Some(why), is_fresh: false, ..self },
            // Nothing is known yet: off until something is.
            Look::Unknown(why) if self.word.is_none() => Self { barrier: Some(why), ..self },
            Look::NoFolder | Look::Unknown(_) => Self { is_fresh: false, ..self },
        }
    }

    fn complaint(&self) -> Option<&String> {
        self.barrier.as_ref().or(match &self.word {
            Some(Administrator::Unreadable(why)) => Some(why),
            _ => None,
        })
    }
}

/// The switches that a switches.json turns off; the error says why it cannot be read. A privacy switch fails closed: an unknown
/// name may be a misspelt switch.
pub fn parse(bytes: &[u8]) -> Result<Vec<Objection>, String> {
    // Strict: if a switch occurs twice, it is unknown which value is meant.
    let file = read_object(bytes).map_err(|error| format!("{FILE}: {error}"))?;
    let unreadable = |name: &str| format!("{FILE}: {name} cannot be read");
    let mut off = Vec::new();
    if let Some(words) = file.get(WORDS) {
        for (name, word) in words.as_object().ok_or_else(|| unreadable(WORDS))? {
            let source = match name.as_str() {
                WORD_OF_ADMINISTRATOR => Kind::Administrator.into(),
                WORD_OF_API_CLIENT => Kind::ApiClient.into(),
                // A newer version may know another author.
                _ => Source::new(Kind::Other, name),
            };
            read_word(word.as_object().ok_or_else(|| unreadable(WORDS))?, &source, &mut off)?;
        }
    }
    // What is off by any of them stands here, for older versions; what is off by none of them, an older version or a hand has
    // turned off.
    let mut by_either = Vec::new();
    read_word(&file, &Kind::Administrator.into(), &mut by_either)?;
    by_either.retain(|new| off.iter().all(|known| known.switch != new.switch));
    off.extend(by_either);
    if let Some(taken_over) = file.get(OBJECTIONS) {
        off.extend(objections(taken_over).ok_or_else(|| unreadable(OBJECTIONS))?);
    }
    Ok(off)
}

/// Adds the switches that one author turns off.
fn read_word(word: &Map<String, Value>, source: &Source, off: &mut Vec<Objection>) -> Result<(), String> {
    for (name, value) in word {
        match (Switch::of_name(name), value) {
            (Some(switch), Value::Bool(on)) => {
                if !on {
                    off.push(Objection { switch, source: source.clone() });
                }
            }
            (None, Value::Bool(_)) => return Err(format!("{FILE}: {name} is no switch")),
            (Some(_), _) => return Err(format!("{FILE}: {name} is not true or false")),
            (None, _) => {}
        }
    }
    Ok(())
}

/// The member with the objections adopted from other sources, such as the cluster spec.
const OBJECTIONS: &str = "objections";

/// The state of the three switches in one process.
pub struct Switches {
    host: AtomicU32,
    objections: Vec<Objection>,
    state_dir: Option<StateDir>,
    administrator: Mutex<Heard>,
    /// Held while the file is read, so that an older state never replaces a newer one.
    look: Mutex<()>,
    /// What is on, all sources counted: kept so that asking costs one load.
    on: AtomicU32,
    permits: Mutex<Vec<(Switch, Weak<Revocation>)>>,
}

impl Switches {
    /// Switches with the host's word (a mask of bits), the objections found so far, and the place of the
    /// administrator's file.
    pub fn new(host: u32, objections: Vec<Objection>, state_dir: Option<StateDir>) -> Self {
        let switches = Self::unread(host, objections, state_dir);
        switches.refresh();
        switches
    }

    /// The same before the administrator's file was looked at: everything is off until then.
    pub fn unread(host: u32, objections: Vec<Objection>, state_dir: Option<StateDir>) -> Self {
        Self {
            host: AtomicU32::new(host),
            objections,
            administrator: Mutex::default(),
            look: Mutex::default(),
            state_dir,
            on: AtomicU32::new(0),
            permits: Mutex::new(Vec::new()),
        }
    }

    /// What is on, as a mask of bits.
    pub fn on(&self) -> u32 {
        self.on.load(Ordering::Acquire)
    }

    /// Whether this one is on.
    pub fn is_on(&self, switch: Switch) -> bool {
        self.on() & switch.bit() != 0
    }

    /// Changes the host's word.
    pub fn set_host(&self, on: u32) {
        self.host.store(on, Ordering::Release);
        self.count_sources();
    }

    /// Reads the administrator's file anew. Returns why everything is off where the file has become unreadable.
    pub fn refresh(&self) -> Option<String> {
        let turn = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let look = self.state_dir.as_ref().map_or(Look::NoFolder, |dir| match dir.root().look(FILE) {
            Look::Bytes(_) | Look::NoFile if dir.may_have_another_identity() => {
                Look::Denied(format!("{} was not readable when this process started: restart it", layout::IDENTITY_KEY))
            }
            look => look,
        });
        let mut known = self.administrator.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.complaint().cloned();
        *known = std::mem::take(&mut *known).after(look);
        let complaint = known.complaint().filter(|why| before.as_ref() != Some(why)).cloned();
        drop(known);
        self.count_sources();
        drop(turn);
        complaint
    }

    /// Why the administrator's file cannot be read, if it cannot.
    pub fn complaint(&self) -> Option<String> {
        self.administrator.lock().unwrap_or_else(PoisonError::into_inner).complaint().cloned()
    }

    /// Whether what is stored for this switch is to be removed: somebody says that it is off. A word that is not known, or
    /// that holds from before, removes nothing.
    pub fn is_said_off(&self, switch: Switch) -> bool {
        let is_against = |objection: &Objection| objection.switch == switch;
        let heard = self.administrator.lock().unwrap_or_else(PoisonError::into_inner);
        let by_administrator = match &heard.word {
            Some(Administrator::Off(off)) => heard.is_fresh && off.iter().any(is_against),
            _ => false,
        };
        by_administrator || self.own_objections().iter().any(is_against)
    }

    /// Permission to send once, or [`Error::Disabled`] with the source that turned it off. Reads the administrator's file first.
    pub fn permit(&self, switch: Switch) -> Result<Permit, Error> {
        self.refresh();
        self.permit_by_last_word(switch)
    }

    /// The same without reading the file, for callers that must not wait for a disk.
    pub fn permit_by_last_word(&self, switch: Switch) -> Result<Permit, Error> {
        let revocation = Arc::new(Revocation::default());
        {
            let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
            permits.retain(|(_, permit)| permit.strong_count() > 0);
            permits.push((switch, Arc::downgrade(&revocation)));
        }
        // Registered before it is looked at: a switch that goes off in between finds the permit in the list.
        if self.is_on(switch) {
            return Ok(Permit { revocation });
        }
        let sources = in_words(&self.sources_against(switch)).join(", ");
        Err(Error::Disabled(format!("{} is turned off by {sources}; nothing was sent or stored", switch.name())))
    }

    /// Ends whatever is being sent, of any kind: the client is closing.
    pub fn interrupt_all(&self) {
        for (_, permit) in self.permits.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if let Some(revocation) = permit.upgrade() {
                revocation.revoke();
            }
        }
    }

    /// Each switch, on or off, and by which sources: for people and programs.
    pub fn explain(&self) -> Value {
        // Not collected: that would be a sort of its own in the library, of 4 KB.
        let mut explained = Map::new();
        for switch in Switch::ALL {
            let sources = self.sources_against(switch);
            let member = json!({
                "on": sources.is_empty(),
                "off_by": in_words(&sources),
                "sources": sources.iter().map(Source::to_json).collect::<Vec<_>>(),
            });
            explained.insert(switch.name().to_owned(), member);
        }
        Value::Object(explained)
    }

    /// The objections known from the start, to be handed to the monitor.
    pub fn objections(&self) -> &[Objection] {
        &self.objections
    }

    /// The host's word.
    pub fn host(&self) -> u32 {
        self.host.load(Ordering::Acquire)
    }

    /// The host's word and the objections known from the start: what this process knows and no other one.
    pub fn own_objections(&self) -> Vec<Objection> {
        let is_host_against = |switch: &Switch| self.host() & switch.bit() == 0;
        let by_host = Switch::ALL.into_iter().filter(is_host_against);
        let by_host = by_host.map(|switch| Objection { switch, source: Kind::Host.into() });
        by_host.chain(self.objections.iter().cloned()).collect()
    }

    /// The sources that turn it off.
    pub fn sources_against(&self, switch: Switch) -> Vec<Source> {
        let own = self.own_objections().into_iter().filter(|objection| objection.switch == switch);
        let mut sources: Vec<_> = own.map(|objection| objection.source).collect();
        let heard = self.administrator.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &heard.barrier {
            sources.push(Source::new(Kind::Unreadable, why));
        }
        match &heard.word {
            Some(Administrator::Off(off)) => {
                // The cluster spec may be known twice: from the start, and taken over by the administrator.
                for Objection { switch: of, source } in off {
                    if *of == switch && !sources.contains(source) {
                        sources.push(source.clone());
                    }
                }
            }
            Some(Administrator::Unreadable(why)) => sources.push(Source::new(Kind::Unreadable, why)),
            Some(Administrator::Silent) | None => {}
        }
        sources
    }

    /// Counts all sources and revokes what is under way for switches that have gone off.
    fn count_sources(&self) {
        let is_on = |switch: &Switch| self.sources_against(*switch).is_empty();
        let on = Switch::ALL.iter().filter(|switch| is_on(switch)).fold(0, |bits, switch| bits | switch.bit());
        self.on.store(on, Ordering::Release);
        let permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        for (switch, permit) in permits.iter() {
            if on & switch.bit() == 0
                && let Some(revocation) = permit.upgrade()
            {
                revocation.revoke();
            }
        }
    }
}

/// Sources as people read them.
pub fn in_words(sources: &[Source]) -> Vec<String> {
    sources.iter().map(Source::to_string).collect()
}

/// Leave to send one request. A transport takes it by value, so code that sends without asking does not compile.
pub struct Permit {
    revocation: Arc<Revocation>,
}

impl Permit {
    /// Runs `interrupt` when the switch goes off while the request is under way, at once if it already has.
    pub fn on_revoke(&self, interrupt: impl FnOnce() + Send + 'static) {
        let mut state = self.revocation.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            RevocationState::Valid(slot) => *slot = Some(Box::new(interrupt)),
            RevocationState::Revoked => {
                drop(state);
                interrupt();
            }
        }
    }

    /// Whether the switch has gone off since.
    pub fn is_revoked(&self) -> bool {
        matches!(&*self.revocation.state.lock().unwrap_or_else(PoisonError::into_inner), RevocationState::Revoked)
    }
}

#[derive(Default)]
struct Revocation {
    state: Mutex<RevocationState>,
}

enum RevocationState {
    Valid(Option<Box<dyn FnOnce() + Send>>),
    Revoked,
}

impl Default for RevocationState {
    fn default() -> Self {
        Self::Valid(None)
    }
}

impl Revocation {
    fn revoke(&self) {
        let before = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *state, RevocationState::Revoked)
        };
        if let RevocationState::Valid(Some(interrupt)) = before {
            interrupt();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_administrators_file_turns_off_what_it_names() {
        let off = |text: &str| {
            parse(text.as_bytes()).map(|off| off.into_iter().map(|o| (o.switch, o.source.to_string())).collect())
        };
        assert_eq!(off(r#"{"version_check":true,"revision":7,"log_level":"info"}"#), Ok(vec![]));
        assert_eq!(
            off(r#"{"daily_report":false}"#),
            Ok(vec![(Switch::DailyReport, Source::from(Kind::Administrator).to_string())])
        );
        let taken_over = r#"{"objections":[{"switch":"crash_reports","source":"cluster spec disableTelemetry"}]}"#;
        let spec = "cluster spec disableTelemetry".to_owned();
        assert_eq!(off(taken_over), Ok(vec![(Switch::CrashReports, spec)]));
    }

    #[test]
    fn a_switch_is_off_if_any_word_says_so() {
        let off = |text: &str| {
            let off = parse(text.as_bytes()).unwrap().into_iter().filter(|off| off.switch == Switch::DailyReport);
            off.map(|off| off.source.to_string()).collect::<Vec<_>>()
        };
        let [person, api] = [Kind::Administrator, Kind::ApiClient].map(|kind| Source::from(kind).to_string());
        for (text, by) in [
            (r#"{"words":{}}"#, vec![]),
            (
                r#"{"daily_report":true,"words":{"administrator":{"daily_report":true},"api":{"daily_report":true}}}"#,
                vec![],
            ),
            // A switch that either turns off is false at the top, for older versions; that makes it no third choice.
            (
                r#"{"daily_report":false,"words":{"administrator":{"daily_report":true},"api":{"daily_report":false}}}"#,
                vec![api.clone()],
            ),
            (r#"{"daily_report":false,"words":{"administrator":{"daily_report":false}}}"#, vec![person.clone()]),
            (
                r#"{"words":{"administrator":{"daily_report":false},"api":{"daily_report":false}}}"#,
                vec![person.clone(), api.clone()],
            ),
            // An older command has turned it off, or on.
            (r#"{"daily_report":false,"words":{"api":{"daily_report":true}}}"#, vec![person]),
            (r#"{"daily_report":true,"words":{"api":{"daily_report":false}}}"#, vec![api]),
            (r#"{"words":{"fleet":{"daily_report":false,"since":7}}}"#, vec!["fleet".to_owned()]),
        ] {
            assert_eq!(off(text), by, "{text}");
        }
    }

    #[test]
    fn a_foreign_file_is_not_read_as_consent() {
        for text in [
            "",
            "[]",
            "{\"daily_report\":fal",
            r#"{"daily_report":false,"daily_report":true}"#,
            r#"{"daily_report":"false"}"#,
            r#"{"daily-report":false}"#,
            r#"{"telemetryEnabled":true}"#,
            r#"{"objections":["daily_report"]}"#,
            r#"{"words":true}"#,
            r#"{"words":[]}"#,
            r#"{"words":{"api":null}}"#,
            r#"{"words":{"api":{"daily_report":"false"}}}"#,
            r#"{"words":{"api":{"telemetry":false}}}"#,
            r#"{"words":{"api":{"daily_report":true},"api":{"daily_report":false}}}"#,
            r#"{"objections":[{"switch":"telemetry","source":"x"}]}"#,
        ] {
            assert!(parse(text.as_bytes()).unwrap_err().starts_with(FILE), "{text}");
        }
    }

    fn after(looks: Vec<Look>) -> Heard {
        looks.into_iter().fold(Heard::default(), Heard::after)
    }

    fn file(text: &str) -> Look {
        Look::Bytes(text.as_bytes().to_vec())
    }

    fn is_off(heard: &Heard) -> bool {
        let said = matches!(&heard.word, Some(Administrator::Off(off)) if !off.is_empty());
        said || heard.complaint().is_some()
    }

    #[test]
    fn what_cannot_be_known_keeps_the_last_word() {
        let unknown = || [Look::NoFile, Look::NoFolder, Look::Unknown("no memory".to_owned())];
        let (off, on) = (r#"{"daily_report":false}"#, r#"{"daily_report":true}"#);
        for look in unknown() {
            assert!(is_off(&after(vec![file(off), look])));
        }
        for look in unknown() {
            let heard = after(vec![file(on), look]);
            assert!(!is_off(&heard) && !heard.is_fresh);
        }
        for look in unknown() {
            assert!(is_off(&after(vec![file("?"), look])), "a damaged file that is gone turns nothing on");
        }
        let all = unknown().into_iter().chain([file(on)]).collect();
        assert!(!is_off(&after([vec![file(off)], all].concat())), "only a word turns it on");
    }

    #[test]
    fn where_nothing_was_ever_known_what_bars_the_way_is_off_until_it_is_gone() {
        for barrier in [Look::Denied("no".to_owned()), Look::Unknown("EIO".to_owned())] {
            assert!(is_off(&after(vec![barrier.clone()])));
            assert!(is_off(&after(vec![barrier.clone(), Look::NoFolder])), "the disk has gone altogether");
            assert!(!is_off(&after(vec![barrier, Look::NoFile])));
        }
        assert!(!is_off(&after(vec![Look::NoFolder])) && !is_off(&after(vec![Look::NoFile])));
        let (on, denied) = (file(r#"{"daily_report":true}"#), Look::Denied("no".to_owned()));
        assert!(is_off(&after(vec![on.clone(), denied.clone()])), "a privacy switch fails closed");
        assert!(!is_off(&after(vec![on, denied, Look::NoFile])));
    }

    #[test]
    fn only_a_word_that_was_read_removes_what_is_stored() {
        let off = r#"{"daily_report":false}"#;
        let said = |looks| {
            let switches = Switches::new(Switch::ALL_BITS, Vec::new(), None);
            *switches.administrator.lock().unwrap() = after(looks);
            switches.count_sources();
            assert!(!switches.is_on(Switch::DailyReport));
            switches.is_said_off(Switch::DailyReport)
        };
        assert!(said(vec![file(off)]));
        for look in [Look::NoFile, Look::NoFolder, Look::Unknown(String::new()), Look::Denied(String::new()), file("?")]
        {
            assert!(!said(vec![file(off), look]));
        }
    }

    #[test]
    fn off_wins_and_names_its_source() {
        let objection =
            Objection { switch: Switch::DailyReport, source: Source::new(Kind::Environment, "DO_NOT_TRACK") };
        let switches = Switches::new(Switch::ALL_BITS, vec![objection], None);
        assert_eq!(switches.on(), 5);
        let error = switches.permit(Switch::DailyReport).err().unwrap();
        assert!(error.to_string().contains("environment DO_NOT_TRACK"), "{error}");
        switches.set_host(0);
        assert_eq!(switches.on(), 0);
        assert_eq!(switches.explain()["daily_report"]["off_by"][0], "the host program");
    }

    #[test]
    fn going_off_interrupts_what_is_under_way() {
        let switches = Switches::new(Switch::ALL_BITS, Vec::new(), None);
        let permit = switches.permit(Switch::VersionCheck).unwrap();
        let interrupted = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&interrupted);
        permit.on_revoke(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        switches.set_host(Switch::DailyReport.bit());
        assert_eq!(interrupted.load(Ordering::SeqCst), 1);
        assert!(permit.is_revoked());
    }
}
