//! The queue of logins whose passwords are to be checked. As many are checked at a time as there is memory for. A place
//! is held by the check, not by the connection that asked for it.
//!
//! The networks that logins come from take turns. Every second turn is for users who have logged in from the same
//! network before, and these take turns, too. A login that is given up leaves the queue. If the queue is full, the
//! youngest login of the network with the most logins is dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ondat_telemetry_service::places::Place;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::tries::Source;
use crate::users::Memory;

/// The most logins in the queue: half of the connections that may be open at once.
pub(crate) const LONGEST: usize = 128;
/// How long a login is held back if its source has tried too many wrong passwords. Logins of one source are held back one after
/// the other. A login waits for at most two others that came before it, so that a right password among many gets through in
/// time.
const HOLD: Duration = Duration::from_millis(750);
const MOST_HOLDS_MORE: u32 = 2;
/// How often a waiting login checks whether its client is still connected. The kernel does not always report that the client
/// has gone.
const LOOK_TIME: Duration = Duration::from_millis(100);

/// The queue.
pub(crate) struct Line {
    state: Mutex<State>,
}

struct State {
    /// The memory that no check uses now.
    free: Vec<Memory>,
    /// The waiting logins in the order in which they came.
    waiting: Vec<Waiting>,
    entered: u64,
    /// The round of the last turn of the unknown users, and of the known users.
    rounds: [u64; 2],
    /// Whether the last turn went to a known user.
    was_known: bool,
}

struct Waiting {
    number: u64,
    source: Source,
    is_known: bool,
    place: Arc<Place>,
    /// The round of its turn. None: the login is still held back.
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
    /// Creates an empty queue with the memory for the checks.
    pub(crate) fn new(free: Vec<Memory>) -> Self {
        Self { state: Mutex::new(State { free, waiting: Vec::new(), entered: 0, rounds: [0; 2], was_known: false }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a login to the queue. None: the queue is full.
    pub(crate) fn enter(self: &Arc<Self>, source: Source, is_known: bool, place: &Arc<Place>) -> Option<Ticket> {
        let state = &mut *self.state();
        if !state.make_room(&source, is_known) {
            return None;
        }
        let number = state.entered;
        state.entered += 1;
        let (call, called) = oneshot::channel();
        state.waiting.push(Waiting { number, source, is_known, place: Arc::clone(place), round: None, call });
        Some(Ticket { line: Arc::clone(self), number, called })
    }

    /// Counts the logins of the same source that have been held back for longer.
    fn held_before(&self, number: u64) -> u32 {
        let state = self.state();
        let Some(this) = state.waiting.iter().find(|waiting| waiting.number == number) else { return 0 };
        let is_before = |other: &&Waiting| {
            other.number < number && other.round.is_none() && other.source == this.source && !other.place.is_gone()
        };
        u32::try_from(state.waiting.iter().filter(is_before).count()).unwrap_or(u32::MAX)
    }

    /// Ends the holding back of this login, which now waits for its turn.
    fn join(self: &Arc<Self>, number: u64) {
        let state = &mut *self.state();
        let Some(this) = state.waiting.iter().position(|waiting| waiting.number == number) else { return };
        let Waiting { source, is_known, .. } = &state.waiting[this];
        let sharing = state.waiting.iter().filter(|other| other.shares_turns_with(source, *is_known));
        let last = sharing.filter_map(|other| other.round).max();
        let now = state.rounds[usize::from(*is_known)];
        let round = last.map_or(now, |last| now.max(last + 1));
        state.waiting[this].round = Some(round);
        self.call_next(state);
    }

    /// Gives turns as long as there is memory for a check.
    fn call_next(self: &Arc<Self>, state: &mut State) {
        while let Some(memory) = state.free.pop() {
            let Some(next) = state.next() else {
                state.free.push(memory);
                return;
            };
            let mut turn = Turn { line: Arc::clone(self), memory: Some(memory) };
            if !next.place.is_gone() {
                match next.call.send(turn) {
                    Ok(()) => continue,
                    Err(unused) => turn = unused,
                }
            }
            // The client has given up, so the memory is free for the next login.
            state.free.extend(turn.memory.take());
        }
    }
}

impl State {
    /// Removes the login whose turn is next from the queue.
    fn next(&mut self) -> Option<Waiting> {
        let turns = self.waiting.iter().enumerate();
        let turns =
            turns.filter_map(|(at, next)| Some((next.is_known == self.was_known, next.round?, next.number, at)));
        let (_, round, _, at) = turns.min()?;
        let next = self.waiting.remove(at);
        self.was_known = next.is_known;
        self.rounds[usize::from(next.is_known)] = round;
        Some(next)
    }

    /// Whether the queue has room for one more login of this source. If it is full, another login may have to go first.
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

/// A place in the queue. Dropping it frees the place.
pub(crate) struct Ticket {
    line: Arc<Line>,
    number: u64,
    called: oneshot::Receiver<Turn>,
}

impl Ticket {
    /// Waits for the login's turn, after holding it back if `is_held`. None: another login took the place, or the client has
    /// gone.
    pub(crate) async fn turn(mut self, is_held: bool, place: &Place) -> Option<Turn> {
        let gone = async {
            while !place.is_gone() {
                sleep(LOOK_TIME).await;
            }
        };
        tokio::select! {
            turn = self.call(is_held) => turn,
            () = gone => None,
        }
    }

    async fn call(&mut self, is_held: bool) -> Option<Turn> {
        if is_held {
            self.hold(HOLD).await?;
            // Only logins that have waited as long count, so that a login that is given up at once delays nobody.
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

/// The right to check a password now, with the memory for it. Dropping it gives both to the next login.
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

#[cfg(test)]
mod tests {
    use ondat_telemetry_service::places::{OneMore, Places};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    /// The connections of one listener and a queue without memory, so that no login has a turn before `serve` gives one.
    struct Server {
        listener: TcpListener,
        places: Arc<Places>,
        line: Arc<Line>,
    }

    impl Server {
        async fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let places = Places::new(2, 2, OneMore::Displaces);
            Self { listener, places, line: Arc::new(Line::new(Vec::new())) }
        }

        async fn connect(&self) -> (TcpStream, Arc<Place>) {
            let client = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
            let (stream, address) = self.listener.accept().await.unwrap();
            (client, self.places.enter(stream, address.ip()).unwrap())
        }

        /// Adds a login that is not held back.
        fn enter(&self, user: &str, address: &str, is_known: bool, place: &Arc<Place>) -> Option<Ticket> {
            let ticket = self.line.enter(Source::new(user, address.parse().unwrap()), is_known, place)?;
            self.line.join(ticket.number);
            Some(ticket)
        }

        /// Gives one turn after the other and returns whose they were.
        fn serve(&self, tickets: &mut Vec<(&'static str, Ticket)>) -> Vec<&'static str> {
            let mut memory = Some(Memory::new().unwrap());
            let mut order = Vec::new();
            while !tickets.is_empty() {
                let state = &mut *self.line.state();
                state.free.extend(memory.take());
                self.line.call_next(state);
                let Some((at, mut turn)) = tickets
                    .iter_mut()
                    .enumerate()
                    .find_map(|(at, (_, ticket))| Some((at, ticket.called.try_recv().ok()?)))
                else {
                    break;
                };
                memory = turn.memory.take();
                order.push(tickets[at].0);
                // Its place in the queue is free already.
                state.waiting.retain(|waiting| waiting.number != tickets[at].1.number);
                std::mem::forget(tickets.swap_remove(at).1);
            }
            order
        }
    }

    #[tokio::test]
    async fn turns_go_round_networks_and_known_users() {
        let server = Server::new().await;
        let (_client, place) = server.connect().await;
        let mut tickets = Vec::new();
        for name in ["a1", "a2", "a3", "a4"] {
            tickets.push((name, server.enter(name, "192.0.2.1", false, &place).unwrap()));
        }
        tickets.push(("b1", server.enter("b", "192.0.2.2", false, &place).unwrap()));
        tickets.push(("known", server.enter("admin", "192.0.2.1", true, &place).unwrap()));
        tickets.push(("known2", server.enter("admin", "192.0.2.1", true, &place).unwrap()));
        assert_eq!(server.serve(&mut tickets), ["known", "a1", "known2", "b1", "a2", "a3", "a4"]);
    }

    #[tokio::test]
    async fn what_is_given_up_has_no_turn() {
        let server = Server::new().await;
        let (client, place) = server.connect().await;
        let (_other, other_place) = server.connect().await;
        let dropped = server.enter("dropped", "192.0.2.1", false, &other_place).unwrap();
        let mut tickets = vec![
            ("gone", server.enter("gone", "192.0.2.1", false, &place).unwrap()),
            ("there", server.enter("there", "192.0.2.1", false, &other_place).unwrap()),
        ];
        drop(dropped);
        // The bytes stay unread, as hyper leaves them.
        client.try_write(b"more").unwrap();
        drop(client);
        while !place.is_gone() {
            tokio::task::yield_now().await;
        }
        assert_eq!(server.serve(&mut tickets), ["there"]);
    }

    #[tokio::test]
    async fn a_full_line_makes_room_for_who_needs_it_more() {
        let server = Server::new().await;
        let (_client, place) = server.connect().await;
        let mut flood: Vec<_> =
            (0..LONGEST).map(|_| server.enter("x", "2001:db8::1", false, &place).unwrap()).collect();
        assert!(server.enter("y", "2001:db8::2", false, &place).is_none(), "the same network has the most");
        let mut other = server.enter("admin", "192.0.2.1", false, &place).unwrap();
        let mut known = server.enter("admin", "2001:db8::1", true, &place).unwrap();
        let is_closed = |ticket: &mut Ticket| matches!(ticket.called.try_recv(), Err(TryRecvError::Closed));
        let closed: Vec<_> = flood.iter_mut().map(is_closed).collect();
        assert_eq!(closed.iter().filter(|closed| **closed).count(), 2);
        assert!(closed.ends_with(&[true, true]), "the youngest: {closed:?}");
        // Any number of networks takes no place from known users.
        drop(flood);
        let networks: Vec<_> = (0..LONGEST * 2)
            .filter_map(|number| server.enter("x", &format!("2001:db8:0:{number:x}::1"), false, &place))
            .collect();
        assert_eq!(networks.len(), LONGEST - 2);
        for ticket in [&mut other, &mut known] {
            assert!(matches!(ticket.called.try_recv(), Err(TryRecvError::Empty)));
        }
        assert!(server.enter("admin", "192.0.2.9", true, &place).is_some());
    }

    #[tokio::test]
    async fn who_guesses_waits_for_those_before_him_and_not_for_who_has_given_up() {
        let server = Server::new().await;
        let (_client, place) = server.connect().await;
        let (client, gone) = server.connect().await;
        let enter = |user, place| server.line.enter(Source::new(user, [127, 0, 0, 1].into()), false, place).unwrap();
        let given_up = enter("admin", &gone);
        drop(client);
        while !gone.is_gone() {
            tokio::task::yield_now().await;
        }
        let held: Vec<_> = (0..3).map(|_| enter("admin", &place)).collect();
        let other = enter("other", &place);
        let before = |ticket: &Ticket| server.line.held_before(ticket.number);
        assert_eq!(held.iter().map(before).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(before(&other), 0, "another user");
        server.line.join(held[0].number);
        assert_eq!(before(&held[2]), 1, "the first is held back no more");
        drop(given_up);
    }
}
