//! The container runtime, behind CRI.

pub(crate) mod client;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod health;
pub(crate) mod observe;
pub(crate) mod pleg;
pub(crate) mod wakes;
