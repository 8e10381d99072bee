//! What the operator's command and the collector have in common: how a wrong command line is refused, which exit status a
//! failure has, completions and manual pages, and output in which nothing steers a terminal.

pub mod exit;
pub mod manual;
pub mod plain;
pub mod refusal;
