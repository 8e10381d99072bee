//! What the HTTP servers of the operator's command and of the collector have in common: how they listen, whom they let in and
//! for how long, TLS, how a body is received, what a refusal looks like, and which signals they follow. What is served, and
//! within which limits, each says for itself.

pub mod answer;
pub mod body;
mod door;
pub mod listen;
pub mod places;
pub mod refusal;
pub mod signals;
mod stream;
pub mod terms;
pub mod tls;
