//! What runs in the process that may crash: the signal handler, and what it needs opened beforehand.

pub mod handler;
pub mod watch;
