//! The library's one error type. Each variant is a status code of the C interface; its text is the `errbuf` line.

use std::ffi::CStr;
use std::fmt;

use ondat_telemetry_protocol::fault::Fault;

/// One row for each status but OK: what it means in documents, its name and number, and what it means in a few words. Numbers are
/// never reused or changed.
macro_rules! statuses {
    ($($(#[doc = $about:literal])* $name:ident = $number:literal, $meaning:literal;)*) => {
        /// Result status of every call of the C interface.
        #[repr(i32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Status {
            /// It worked.
            Ok = 0,
            $($(#[doc = $about])* $name = $number,)*
        }

        /// What went wrong, where, and what to do about it, in one line.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Error {
            $($(#[doc = $about])* $name(String),)*
        }

        impl Error {
            /// The status code of the C interface.
            pub fn status(&self) -> Status {
                match self { $(Self::$name(_) => Status::$name,)* }
            }

            fn detail(&self) -> &str {
                match self { $(Self::$name(text))|* => text }
            }
        }

        impl Status {
            /// All of them.
            pub const ALL: &'static [Self] = &[Self::Ok, $(Self::$name,)*];

            /// The meaning of a status in a few words, for `ondat_telemetry_strerror`.
            pub fn meaning(self) -> &'static CStr {
                match self {
                    Self::Ok => c"ok",
                    $(Self::$name => $meaning,)*
                }
            }
        }
    };
}

statuses! {
    /// An argument is NULL, not UTF-8, too long or out of range.
    InvalidArgument = 1, c"invalid argument";
    /// A setting is missing, malformed or contradicts another one.
    InvalidConfig = 2, c"invalid configuration";
    /// The call does not fit the moment: started twice, called from a callback or in a forked child.
    InvalidState = 3, c"not possible at this moment";
    /// The report document breaks a rule of the field list.
    InvalidReport = 4, c"invalid report document";
    /// The administrator or the host turned this off: nothing was sent or stored.
    Disabled = 5, c"turned off, nothing was sent or stored";
    /// Not delivered yet; stored and tried again.
    Queued = 6, c"stored, not delivered yet";
    /// The time given was not enough.
    TimedOut = 7, c"timed out";
    /// DNS, TCP, TLS or proxy failed.
    Network = 8, c"network failure";
    /// The server refused for good.
    Refused = 9, c"refused by the server";
    /// An answer that cannot be believed: not signed by a configured key, expired, or malformed.
    Untrusted = 10, c"answer cannot be trusted";
    /// The state directory could not be read or written.
    Io = 11, c"state directory cannot be used";
    /// Not possible on this kernel or in this process.
    Unsupported = 12, c"not supported here";
    /// A bug in the library, contained.
    Internal = 13, c"internal error";
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
    /// The status with this number, if there is one.
    pub fn from_number(number: i32) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|status| *status as i32 == number)
    }
}
