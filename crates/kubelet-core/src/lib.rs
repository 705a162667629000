//! Every decision of the kubelet and none of the effects: no I/O, no clock, no async runtime.

pub mod actions;
pub mod admission;
pub mod backoff;
pub mod cgroup_name;
pub mod dns;
pub mod env;
pub mod hash;
pub mod hostname;
pub mod hosts;
pub mod ids;
pub mod image_name;
pub mod log_paths;
pub mod manifest;
pub mod observed;
pub mod pod_set;
pub mod probes;
pub mod qos;
pub mod quantity;
pub mod reasons;
pub mod resources;
pub mod spec;
pub mod status;
pub mod termination;
pub mod translate;
pub mod yaml;
