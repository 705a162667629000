//! Every decision of the kubelet and none of the effects: no I/O, no clock, no async runtime.

pub mod actions;
pub mod backoff;
pub mod diff;
pub mod hash;
pub mod ids;
pub mod image_name;
pub mod manifest;
pub mod observed;
pub mod quantity;
pub mod reasons;
pub mod spec;
pub mod worker;
pub mod yaml;
