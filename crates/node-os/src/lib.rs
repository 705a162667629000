//! The kernel, as this node needs it: cgroups, mounts, namespaces, `/proc`, users.
//!
//! Everything here blocks and is meant for `daemon::blocking` or a thread of its own; nothing
//! here decides. What is worth a decision is a pure function beside the one that acts, and what a
//! test wants to replace is a small trait ([`cgroups::Cgroups`], [`mounts::Mounts`]).

pub mod activation;
pub mod beneath;
pub mod cgroups;
pub mod clock;
pub mod disk_usage;
pub mod host_view;
pub mod kernel_log;
pub mod memory;
pub mod mountinfo;
pub mod mounts;
mod namespace;
pub mod netns;
pub mod proc;
mod read;
pub mod share;
pub mod sockets;
pub mod statfs;
pub mod tree;
pub mod users;
