//! What every connection is held to.

use std::time::Duration;

/// What every connection is held to.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// For the first byte of TLS, where it is looked at, and again for the handshake.
    pub handshake_time: Duration,
    /// For the first request to begin, TLS excepted.
    pub first_time: Option<Duration>,
    /// For a request's head, and for an idle connection.
    pub head_time: Duration,
    /// For everything on one connection.
    pub connection_time: Option<Duration>,
    /// The longest head of a request, in bytes.
    pub longest_head: usize,
    /// The most fields in it.
    pub most_fields: usize,
    /// Whether the names of fields in answers begin with capitals.
    pub has_title_case: bool,
    /// Whether who speaks HTTP where TLS is spoken is told so in HTTP, not by an alert of TLS.
    pub says_tls: bool,
}
