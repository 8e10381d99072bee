//! The code that runs in the process that may crash: the signal handler, and what must be opened for it beforehand.

pub mod handler;
pub mod watch;
