//! What `ondat-telemetry` and the collector share: how a wrong command line is refused, the exit status of a failure,
//! completions and manual pages, and output without control codes for the terminal.

pub mod exit;
pub mod manual;
pub mod plain;
pub mod refusal;
