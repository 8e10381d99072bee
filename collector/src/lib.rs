//! The receiving side of ondat-telemetry.
//!
//! `serve` receives version queries (DNS), sealed daily reports (HTTPS) and crash reports (Sentry's protocol over
//! HTTPS), and never holds a private key. `open` runs elsewhere, with the private key, and reads the reports. `show`
//! lists what was received.

pub use command_line::run;

mod budget;
mod command_line;
mod complaints;
mod counters;
mod dns;
mod dns_rate;
mod dns_tcp;
mod fault;
mod forward;
mod keeping;
mod key_rules;
mod layout;
mod limits;
mod open;
mod operations;
mod published;
mod received;
mod reports;
mod sentry;
mod serve;
mod show;
mod storage;
mod store;
mod table;
mod tls;
mod zone;
