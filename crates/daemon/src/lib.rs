//! What every daemon of this system needs and none should write twice: tasks with an owner, an
//! orderly end, log lines in the formats users know, a metrics registry, files that survive a
//! crash, and sockets that appear only when they answer.
//!
//! This crate alone calls `tokio::task::spawn_blocking`; tasks are spawned through [`TaskGroup`].

pub mod atomic_file;
mod blocking;
mod error_chain;
pub mod logging;
pub mod metrics;
pub mod panics;
pub mod pflag;
mod quote;
mod readiness;
mod sd_notify;
pub mod signals;
mod task_group;
mod tidy;
pub mod unix_listener;
pub mod versioned;

#[cfg(feature = "test-util")]
pub use blocking::InlineBlocking;
pub use blocking::{blocking, on_own_thread, runtime};
pub use error_chain::ErrorChain;
pub use readiness::{Readiness, ReadyGuard};
pub use sd_notify::{Notifier, NotifyError};
pub use signals::Shutdown;
pub use task_group::{
    Job, JobError, ShutdownError, Spawner, TaskError, TaskGroup, TaskName, TaskOutput,
};
pub use tidy::Tidy;

/// Exit code of a process whose owner task panicked (DEC-46).
pub const EXIT_PANIC: u8 = 70;
