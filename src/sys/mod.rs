//! System calls, thin: each with its fallback, none with a policy.

pub mod altstack;
pub mod clock;
pub mod library;
pub mod pidfd;
pub mod procfs;
pub mod signals;
pub mod spawn;
pub mod waiter;
