//! The code that runs in the process that watches another one: the crash monitor, and the supervisor of
//! `ondat-telemetry exec`.

pub mod children;
pub mod jobs;
pub mod leaving;
pub mod memory_watch;
pub mod postmortem;
pub mod probe;
pub mod reporting;
pub mod supervisor;
pub mod watcher;
pub mod witnesses;
