//! cri-dockerd as its clients see it: the program in a process of its own, over a real Docker
//! Engine that belongs to the tests.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod bridge;
mod cni;
mod doubt;
mod fake_engine;
mod harness;
mod lifecycle;
mod logs;
mod lost;
mod newest;
mod outage;
mod pulls;
mod quiet;
mod registry;
mod security;
mod soak;
mod stats;
mod streaming;
mod systemd;
mod truth;
