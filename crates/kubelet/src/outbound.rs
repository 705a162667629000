//! Requests to what runs in pods: of probes and of hooks; and the connections
//! of whoever else asks for something.

pub(crate) mod connection;
pub(crate) mod dial;
pub(crate) mod http;
pub(crate) mod proxy;
