//! CRI v1 (Kubernetes 1.34): messages, clients and servers.
//!
//! The protocol is `proto/runtime.proto`; `src/generated.rs` is made from it by
//! `BLESS=1 cargo test -p cri-api --test generated`, and the same test without `BLESS` fails when
//! the two have drifted apart.

mod endpoint;
mod status;
#[expect(missing_docs, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated: documented in proto/runtime.proto")]
#[rustfmt::skip]
mod generated;

pub use endpoint::{ConnectError, Endpoint, EndpointError, connect};
pub use status::{Code, RpcError};

/// The messages, clients and servers of package `runtime.v1`.
pub mod v1 {
    pub use crate::generated::*;
}

/// Largest gRPC message either side sends or takes, in bytes (cri-dockerd BLD-06, kubelet CRI-01).
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
