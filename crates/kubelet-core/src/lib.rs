//! Every decision of the kubelet and none of the effects: no I/O, no clock, no async runtime.

pub mod image_name;
pub mod quantity;
pub mod yaml;
