//! Panics as log lines, and as the end of the process in order (DEC-46).
//!
//! A panic in an owner task is [`crate::TaskError::Panicked`] for the owner, who shuts down and
//! exits with [`crate::EXIT_PANIC`]. The hook here only makes sure that every panic leaves one log
//! line with its place, in the log's own format, and is counted.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::task_group::panic_text;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Logs every panic at error level and counts it, instead of printing it in the default format.
/// Install once, after logging.
pub fn install_hook() {
    std::panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        tracing::error!(
            error = panic_text(info.payload()),
            place,
            thread = thread.name().unwrap_or("?"),
            "panic"
        );
    }));
}

/// Panics since the hook was installed; metric `panics_total`.
pub fn count() -> u64 {
    PANICS.load(Ordering::Relaxed)
}
