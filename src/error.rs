//! The library's one error type. Each variant is a status code of the C interface; its text is the `errbuf` line.

use std::fmt;

use ondat_telemetry_protocol::fault::Fault;

/// Result status of every call of the C interface. Numbers are never reused or changed.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It worked.
    Ok = 0,
    /// An argument is NULL, not UTF-8, too long or out of range.
    InvalidArgument = 1,
    /// A setting is missing, malformed or contradicts another; errbuf names it.
    InvalidConfig = 2,
    /// Started twice, called from a callback or in a forked child.
    InvalidState = 3,
    /// The report document breaks a rule; errbuf names the field, the record and what was expected.
    InvalidReport = 4,
    /// The switch is off: nothing was sent or stored.
    Disabled = 5,
    /// Not delivered yet; stored and tried again.
    Queued = 6,
    /// The time given was not enough.
    TimedOut = 7,
    /// DNS, TCP, TLS or proxy failed.
    Network = 8,
    /// The server said no.
    Refused = 9,
    /// The answer is not signed by the configured key, has expired, or makes no sense.
    Untrusted = 10,
    /// The state directory could not be read or written.
    Io = 11,
    /// Not possible on this kernel or in this process; errbuf says which.
    Unsupported = 12,
    /// A bug in the library, contained.
    Internal = 13,
}

/// What went wrong, where, and what to do about it, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// An argument of a call is unusable.
    InvalidArgument(String),
    /// A setting is missing, malformed or contradicts another.
    InvalidConfig(String),
    /// The call does not fit the moment.
    InvalidState(String),
    /// The report document breaks a rule of the field list.
    InvalidReport(String),
    /// The administrator or the host turned this off.
    Disabled(String),
    /// Stored, to be delivered later.
    Queued(String),
    /// The time given was not enough.
    TimedOut(String),
    /// DNS, TCP, TLS or proxy failed.
    Network(String),
    /// The server refused for good.
    Refused(String),
    /// An answer that cannot be believed.
    Untrusted(String),
    /// The state directory could not be read or written.
    Io(String),
    /// Not possible on this kernel or in this process.
    Unsupported(String),
    /// A bug in the library.
    Internal(String),
}

impl Error {
    /// The status code of the C interface.
    pub fn status(&self) -> Status {
        match self {
            Self::InvalidArgument(_) => Status::InvalidArgument,
            Self::InvalidConfig(_) => Status::InvalidConfig,
            Self::InvalidState(_) => Status::InvalidState,
            Self::InvalidReport(_) => Status::InvalidReport,
            Self::Disabled(_) => Status::Disabled,
            Self::Queued(_) => Status::Queued,
            Self::TimedOut(_) => Status::TimedOut,
            Self::Network(_) => Status::Network,
            Self::Refused(_) => Status::Refused,
            Self::Untrusted(_) => Status::Untrusted,
            Self::Io(_) => Status::Io,
            Self::Unsupported(_) => Status::Unsupported,
            Self::Internal(_) => Status::Internal,
        }
    }

    fn detail(&self) -> &str {
        match self {
            Self::InvalidArgument(text)
            | Self::InvalidConfig(text)
            | Self::InvalidState(text)
            | Self::InvalidReport(text)
            | Self::Disabled(text)
            | Self::Queued(text)
            | Self::TimedOut(text)
            | Self::Network(text)
            | Self::Refused(text)
            | Self::Untrusted(text)
            | Self::Io(text)
            | Self::Unsupported(text)
            | Self::Internal(text) => text,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Invalid(why) => Self::InvalidReport(why),
            Fault::State(why) => Self::InvalidState(why),
            Fault::Internal(why) => Self::Internal(why),
            Fault::Unwritten(why) => Self::Io(why),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever a server or a file name put into it.
        for part in self.detail().split(|c: char| c.is_control()) {
            f.write_str(part)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl Status {
    /// The meaning of a status in a few words, for `ondat_telemetry_strerror`.
    pub fn meaning(self) -> &'static std::ffi::CStr {
        match self {
            Self::Ok => c"ok",
            Self::InvalidArgument => c"invalid argument",
            Self::InvalidConfig => c"invalid configuration",
            Self::InvalidState => c"not possible at this moment",
            Self::InvalidReport => c"invalid report document",
            Self::Disabled => c"turned off, nothing was sent or stored",
            Self::Queued => c"stored, not delivered yet",
            Self::TimedOut => c"timed out",
            Self::Network => c"network failure",
            Self::Refused => c"refused by the server",
            Self::Untrusted => c"answer cannot be trusted",
            Self::Io => c"state directory cannot be used",
            Self::Unsupported => c"not supported here",
            Self::Internal => c"internal error",
        }
    }

    /// The status with this number, if there is one.
    pub fn from_number(number: i32) -> Option<Self> {
        [
            Self::Ok,
            Self::InvalidArgument,
            Self::InvalidConfig,
            Self::InvalidState,
            Self::InvalidReport,
            Self::Disabled,
            Self::Queued,
            Self::TimedOut,
            Self::Network,
            Self::Refused,
            Self::Untrusted,
            Self::Io,
            Self::Unsupported,
            Self::Internal,
        ]
        .into_iter()
        .find(|status| *status as i32 == number)
    }
}
