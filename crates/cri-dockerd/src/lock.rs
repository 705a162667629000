//! Short locks of plain data.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a map for a moment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data is plain maps: a panic between two statements leaves them usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
