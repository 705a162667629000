//! Container logs on disk: rotation, the links under `/var/log/containers`, the last lines.

pub(crate) mod links;
pub(crate) mod rotate;
pub(crate) mod tail;
