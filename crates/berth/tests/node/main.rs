//! Whole nodes: `berth kubelet` over `berth cri-dockerd` over a Docker Engine of the tests' own.
//!
//! A kubelet ends every pod that it does not know, so nodes take turns on the engine.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start programs and say so when one does not do as it should"
)]

mod admission;
mod conformance;
mod disks;
mod ends;
mod engine_outages;
mod faults;
mod harness;
mod lifecycle;
mod pods;
mod probes;
mod replaced;
mod supervised;
mod volumes;
