//! A report as JSON lines: the first has the cluster fields, then come row groups of nodes and of volumes, each column by
//! column, and a closing line with their numbers.
//!
//! The list of fields may grow at the end of each level. A reader takes the fields that it knows, keeps others by name, and
//! takes absent ones as null. The schema's name changes only when a field goes or changes its meaning.

pub mod reader;
mod row;
pub mod writer;

/// The name of this form.
pub const SCHEMA: &str = "ondat-report/1";
