//! For tests only: waiting for a level instead of sleeping, a Docker Engine of our own, an image
//! that needs no registry, and fakes that speak the real protocol on real sockets.
//!
//! Everything here panics with a text that says what is missing and how to get it: a test that
//! cannot run is a failed test, except where [`prerequisite`] says so.

mod engine;
mod eventually;
mod fake_cri;
mod image;
mod prerequisite;
mod replay;

pub use engine::{DockerEngine, EngineOptions, Reply};
pub use eventually::{allowance, at_once, eventually, eventually_async};
pub use fake_cri::{
    Call, CallRecord, FakeContainer, FakeCri, FakeSandbox, Held, InProcess, OnStop,
};
pub use image::{TEST_IMAGE, test_image};
pub use prerequisite::prerequisite;
pub use replay::{Random, Replay, now, random};
