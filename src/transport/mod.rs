//! How bytes leave the machine. Nothing else opens a socket to the network, and nothing here sends without a
//! [`Permit`](crate::switches::Permit).

pub mod certificate;
pub mod deadline;
pub mod dns;
pub mod exchange;
pub mod head;
pub mod hosts;
pub mod https;
pub mod proxy;
pub mod resolv_conf;
pub mod retry_after;
pub mod roots;
pub mod tcp;
pub mod tls;
pub mod tunnel;
pub mod wire;
