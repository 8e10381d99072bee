//! Thin wrappers of system calls: each has its fallback, none has a policy.

pub mod altstack;
pub mod cancellation;
pub mod clock;
pub mod descriptor;
pub mod fork;
pub mod held_signals;
pub mod library;
pub mod memory_limit;
pub mod page;
pub mod pidfd;
pub mod prctl;
pub mod privilege;
pub mod procfs;
pub mod program;
pub mod reaper;
pub mod signals;
pub mod spawn;
pub mod thread;
pub mod waiter;
