//! The line of logins whose passwords are to be checked, and whose turn it is. So many are checked at a time as there is
//! memory for; a turn goes with the work, not with the connection that asked for it.
//!
//! Turns go round the networks that logins come from. A user who had the right password from a network before has turns of
//! his own there. What is given up leaves the line, and where it is full the youngest login of the network with the most
//! goes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::listen::{Busy, Place};
use super::tries::Source;
use crate::users::Memory;

/// The most logins in the line: half of the connections that may be there at once.
pub(crate) const LONGEST: usize = 128;
/// How long a login is held back whose source has tried too many wrong passwords: one after the other. Those who are there at
/// the same time do not wait for more than two others, so that a right password among them is through in time.
const HOLD: Duration = Duration::from_secs(1);
const MOST_HOLDS_MORE: u32 = 2;

/// The line.
pub(crate) struct Line {
    state: Mutex<State>,
}

struct State {
    /// What is not in use.
    free: Vec<Memory>,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
    entered: u64,
    /// The round of the last turn.
    round: u64,
}

struct Waiting {
    number: u64,
    source: Source,
    is_known: bool,
    place: Arc<Place>,
    /// The round in which it has its turn; none while it is held back.
    round: Option<u64>,
    call: oneshot::Sender<Turn>,
}

impl Waiting {
    fn shares_turns_with(&self, source: &Source, is_known: bool) -> bool {
        let is_same = if is_known { self.source == *source } else { self.source.network() == source.network() };
        is_same && self.is_known == is_known
    }
}

impl Line {
    /// Nobody waits.
    pub(crate) fn new(free: Vec<Memory>) -> Self {
        Self { state: Mutex::new(State { free, waiting: Vec::new(), entered: 0, round: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets in line; none where it is full.
    pub(crate) fn enter(self: &Arc<Self>, source: Source, is_known: bool, place: &Arc<Place>) -> Option<Ticket> {
        let state = &mut *self.state();
        if !state.make_room(&source, is_known) {
            return None;
        }
        let number = state.entered;
        state.entered += 1;
        let (call, called) = oneshot::channel();
        state.waiting.push(Waiting { number, source, is_known, place: Arc::clone(place), round: None, call });
        Some(Ticket { line: Arc::clone(self), number, called, _busy: place.busy() })
    }

    /// Those of the same source who have been held back for longer.
    fn held_before(&self, number: u64) -> u32 {
        let state = self.state();
        let Some(this) = state.waiting.iter().find(|waiting| waiting.number == number) else { return 0 };
        let is_before = |other: &&Waiting| {
            other.number < number && other.round.is_none() && other.source == this.source && !other.place.is_gone()
        };
        u32::try_from(state.waiting.iter().filter(is_before).count()).unwrap_or(u32::MAX)
    }

    /// This one is not held back any more.
    fn join(self: &Arc<Self>, number: u64) {
        let state = &mut *self.state();
        let Some(this) = state.waiting.iter().position(|waiting| waiting.number == number) else { return };
        let Waiting { source, is_known, .. } = &state.waiting[this];
        let sharing = state.waiting.iter().filter(|other| other.shares_turns_with(source, *is_known));
        let last = sharing.filter_map(|other| other.round).max();
        let round = last.map_or(state.round, |last| (last + 1).max(state.round));
        state.waiting[this].round = Some(round);
        self.call_next(state);
    }

    /// Gives turns while there is memory.
    fn call_next(self: &Arc<Self>, state: &mut State) {
        while let Some(memory) = state.free.pop() {
            let in_line = state.waiting.iter().enumerate().filter_map(|(at, waiting)| {
                waiting.round.map(|round| (round, waiting.number, at))
            });
            let Some((round, _, at)) = in_line.min() else {
                state.free.push(memory);
                return;
            };
            let next = state.waiting.remove(at);
            let mut turn = Turn { line: Arc::clone(self), memory: Some(memory) };
            if !next.place.is_gone() {
                state.round = round;
                match next.call.send(turn) {
                    Ok(()) => continue,
                    Err(unused) => turn = unused,
                }
            }
            // Given up: the next one has it.
            state.free.extend(turn.memory.take());
        }
    }
}

impl State {
    /// Whether there is a place in the line for one more of this source, after another one had to go if need be.
    fn make_room(&mut self, source: &Source, is_known: bool) -> bool {
        if self.waiting.len() < LONGEST {
            return true;
        }
        self.waiting.retain(|waiting| !waiting.place.is_gone());
        if self.waiting.len() < LONGEST {
            return true;
        }
        let size = |source: &Source, is_known: bool| {
            self.waiting.iter().filter(|other| other.shares_turns_with(source, is_known)).count()
        };
        let weights = self.waiting.iter().enumerate().map(|(at, waiting)| {
            let more = usize::from(waiting.shares_turns_with(source, is_known));
            (size(&waiting.source, waiting.is_known) + more, !waiting.is_known, at)
        });
        let heaviest = weights.max().filter(|heaviest| *heaviest > (size(source, is_known) + 1, !is_known, LONGEST));
        heaviest.map(|(.., at)| self.waiting.remove(at)).is_some()
    }
}

/// A place in the line, which is free when this goes.
pub(crate) struct Ticket {
    line: Arc<Line>,
    number: u64,
    called: oneshot::Receiver<Turn>,
    _busy: Busy,
}

impl Ticket {
    /// Waits for the turn, held back before if so. None where another one needed the place more.
    pub(crate) async fn turn(mut self, is_held: bool) -> Option<Turn> {
        if is_held {
            self.hold(HOLD).await?;
            // Only those count who have waited as long: what is given up at once holds up nobody.
            let before = self.line.held_before(self.number);
            self.hold(HOLD * before.min(MOST_HOLDS_MORE)).await?;
        }
        self.line.join(self.number);
        (&mut self.called).await.ok()
    }

    async fn hold(&mut self, time: Duration) -> Option<()> {
        tokio::select! {
            () = sleep(time) => Some(()),
            _ = &mut self.called => None,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.line.state().waiting.retain(|waiting| waiting.number != self.number);
    }
}

/// The right to check a password now, and what that takes. It is the next one's when this goes.
pub(crate) struct Turn {
    line: Arc<Line>,
    memory: Option<Memory>,
}

impl Turn {
    /// Checks a password.
    pub(crate) fn is_password(&mut self, password: &str, hash: &str) -> bool {
        self.memory.as_mut().is_some_and(|memory| memory.is_password(password, hash))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            let state = &mut *self.line.state();
            state.free.push(memory);
            self.line.call_next(state);
        }
    }
}
