//! What we know of our sandboxes and containers, in memory (PRF-20..23).
//!
//! [`Record`] is one container as Docker described it; [`Cache`] holds the newest of each. Order is
//! kept by tickets: a ticket is drawn before Docker is asked, and an answer is taken only if no
//! answer (or removal) with a later ticket is in already. So an inspect that was slow, or an event
//! that came late, never rolls a container back.
//!
//! Everything here is synchronous and free of I/O; `hub` feeds it.

mod cache;
mod record;
mod signal;
mod sketch;
#[cfg(test)]
pub(crate) mod tests;
mod view;

pub(crate) use cache::{Cache, Change, Ticket};
#[cfg(test)]
pub(crate) use record::Role;
pub(crate) use record::{Life, Record};
pub(crate) use sketch::with_sketches;
pub(crate) use view::{
    WHOLE_ID, container_item, container_status, event, matches_container, matches_sandbox,
    only_pod, sandbox_item, sandbox_status,
};
