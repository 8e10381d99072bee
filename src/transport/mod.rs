//! How bytes leave the machine. Nothing else opens a socket to the network, and nothing here sends without a
//! [`Permit`](crate::switches::Permit).

pub mod dns;
pub mod https;
pub mod proxy;
pub mod tcp;
pub mod tls;
pub mod wait;
