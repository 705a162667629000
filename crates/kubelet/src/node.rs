//! The node that pods run on: what it has, how it is set up, and the cgroups that share it out.

pub(crate) mod addresses;
pub(crate) mod capacity;
pub(crate) mod cgroups;
pub(crate) mod info;
pub(crate) mod ready;
pub(crate) mod resolv_conf;
pub(crate) mod system;
