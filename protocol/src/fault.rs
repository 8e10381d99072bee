//! Why a report cannot be written.

use std::fmt;

/// Why a record or a report is not taken. The text is one line that names the place and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It breaks a rule of the field list, or is no JSON.
    Invalid(String),
    /// The call does not fit what was written before.
    State(String),
    /// There is no memory for it, or a bug has lost a part of it.
    Internal(String),
    /// It could not be written to where it goes.
    Unwritten(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Invalid(why) | Self::State(why) | Self::Internal(why) | Self::Unwritten(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for Fault {}
