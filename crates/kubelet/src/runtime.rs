//! The container runtime, behind CRI.

pub(crate) mod client;
pub(crate) mod health;
pub(crate) mod observe;
pub(crate) mod pleg;
pub(crate) mod wakes;
