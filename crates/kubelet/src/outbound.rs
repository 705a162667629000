//! Requests to what runs in pods: of probes and of hooks.

pub(crate) mod dial;
pub(crate) mod http;
