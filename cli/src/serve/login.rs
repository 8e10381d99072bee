//! Logins. A password is checked when its turn comes. A wrong password counts even if the client no longer waits for the
//! answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use ondat_telemetry_service::places::Place;
use ondat_telemetry_service::refusal::Refusal;

use super::line::Turn;
use super::log::Level;
use super::tries::Source;
use super::{App, blocking};

impl App {
    /// Checks a user's password and returns its stored hash.
    pub(super) async fn check(
        self: &Arc<Self>,
        user: &str,
        password: String,
        from: SocketAddr,
        place: &Arc<Place>,
    ) -> Result<String, Refusal> {
        let busy =
            || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many logins at once: try again later").after(1);
        let _busy = place.busy();
        let source = Source::new(user, from.ip());
        let is_held = self.tries.over(&source, Instant::now()).is_some();
        let ticket = self.line.enter(source.clone(), self.tries.is_known(&source), place).ok_or_else(busy)?;
        let turn = ticket.turn(is_held, place).await.ok_or_else(busy)?;
        let app = Arc::clone(self);
        blocking(move || app.verify(turn, &source, &password, from, is_held)).await?
    }

    fn verify(
        &self,
        mut turn: Turn,
        source: &Source,
        password: &str,
        from: SocketAddr,
        is_held: bool,
    ) -> Result<String, Refusal> {
        let known = self.password_of(source.user());
        let is_right = turn.is_password(password, known.as_ref().unwrap_or(&self.nobodys_hash));
        drop(turn);
        let now = Instant::now();
        let address = from.ip().to_canonical();
        if let Some(hash) = known.filter(|_| is_right) {
            self.tries.right(source, now);
            self.log.say(Level::Info, &format!("{} has logged in from {address}", source.user()));
            return Ok(hash);
        }
        self.tries.wrong(source, now);
        self.say_wrong(from, now);
        if is_held {
            let seconds = self.tries.over(source, now).unwrap_or_default().as_secs() + 1;
            let why = format!("too many wrong passwords for this user from there: try again in {seconds} s");
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, why).after(seconds));
        }
        Err(Refusal::new(StatusCode::UNAUTHORIZED, "the user or the password is wrong"))
    }

    /// Records a wrong password in the log, but not as often as somebody may try one.
    fn say_wrong(&self, from: SocketAddr, now: Instant) {
        let network = Source::new("", from.ip());
        if self.said.over(&network, now).is_some() {
            return;
        }
        self.said.wrong(&network, now);
        let more = if self.said.over(&network, now).is_some() { ", and more that are not written down" } else { "" };
        self.log.say(Level::Warn, &format!("a wrong password or user from {}{more}", from.ip().to_canonical()));
    }
}
