//! The runtime of a daemon and its small pool for blocking work.

use std::{
    io,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Threads that may block at once. Work beyond it waits its turn: a sweep of `/proc` or a file
/// tree is one call, so a queue here means the disk is slow, and more threads would not help.
const BLOCKING_THREADS: usize = 8;
/// Enough for the deepest HTTP and gRPC call chains; glibc's default of 8 MiB is address space only,
/// but pages once touched stay resident.
const STACK_BYTES: usize = 1024 * 1024;
/// How long an idle blocking thread is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Runs a closure that blocks (files, `/proc`, cgroups, name lookups) away from the async threads.
///
/// A panic in `f` continues in the caller. Dropping the future does not stop `f`: it runs to its
/// end, unobserved.
pub async fn blocking<T, F>(f: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    #[cfg(feature = "test-util")]
    if inline::is_on() {
        let value = f();
        tokio::task::yield_now().await;
        return value;
    }
    let span = tracing::Span::current();
    #[expect(clippy::disallowed_methods, reason = "the one place that may")]
    let handle = tokio::task::spawn_blocking(move || span.in_scope(f));
    match handle.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => std::panic::resume_unwind(payload),
            // Only a runtime that is going away cancels blocking work, and it drops us next.
            Err(_) => std::future::pending().await,
        },
    }
}

/// As [`blocking`], on a thread of its own: for paths that lead to disks of others, where a call may never come back
/// (a dead NFS server). What hangs there holds up nobody else.
pub async fn on_own_thread<T, F>(f: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    // A paused clock waits for blocking work, and for no other thread.
    #[cfg(feature = "test-util")]
    if tokio::runtime::Handle::current().runtime_flavor()
        == tokio::runtime::RuntimeFlavor::CurrentThread
    {
        return blocking(f).await;
    }
    let span = tracing::Span::current();
    let (done, result) = tokio::sync::oneshot::channel();
    // Comes back where there is no thread to be had.
    let work = Arc::new(Mutex::new(Some(f)));
    let take = |work: &Mutex<Option<F>>| work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let theirs = Arc::clone(&work);
    let thread = std::thread::Builder::new()
        .name("host-path".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let Some(f) = take(&theirs) else { return };
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| span.in_scope(f)));
            // Nobody may wait any more.
            let _ = done.send(outcome);
        });
    if let Err(error) = thread {
        tracing::debug!(%error, "no thread for work on the host's paths");
        if let Some(f) = take(&work) {
            return blocking(f).await;
        }
    }
    match result.await {
        Ok(Ok(value)) => value,
        Ok(Err(payload)) => std::panic::resume_unwind(payload),
        // The thread sends before it ends.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(feature = "test-util")]
mod inline {
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn is_on() -> bool {
        ON.get()
    }

    /// [`super::blocking`] runs its closures on this very thread until this is dropped: nothing of a test then
    /// depends on when another thread is done.
    #[derive(Debug)]
    #[must_use = "dropping it ends it"]
    pub struct InlineBlocking(());

    impl InlineBlocking {
        /// From now on.
        pub fn begin() -> Self {
            ON.set(true);
            Self(())
        }
    }

    impl Drop for InlineBlocking {
        fn drop(&mut self) {
            ON.set(false);
        }
    }
}
#[cfg(feature = "test-util")]
pub use inline::InlineBlocking;

/// Builds a runtime whose threads are called `name`: `workers` of them (1 runs everything on the
/// calling thread) and a blocking pool of eight (DEC-42).
///
/// # Errors
/// When the kernel refuses a thread or an epoll instance.
pub fn runtime(workers: usize, name: &str) -> io::Result<tokio::runtime::Runtime> {
    let mut builder = if workers <= 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(workers);
        builder
    };
    builder
        .enable_all()
        .thread_name(name)
        .thread_stack_size(STACK_BYTES)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(KEEP_ALIVE)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_runtime_run_blocking_work_on_other_threads() {
        for workers in [1, 2] {
            let runtime = runtime(workers, "daemon-test").unwrap();
            let here = std::thread::current().id();
            let there = runtime.block_on(blocking(|| std::thread::current().id()));
            assert_ne!(here, there);
        }
    }

    #[test]
    fn work_that_hangs_on_threads_of_its_own_holds_up_nobody() {
        let runtime = runtime(2, "daemon-test").unwrap();
        let (release, hung) = std::sync::mpsc::channel::<()>();
        let hung = Arc::new(Mutex::new(hung));
        runtime.block_on(async {
            for _ in 0..4 * BLOCKING_THREADS {
                let hung = Arc::clone(&hung);
                let hangs = on_own_thread(move || hung.lock().unwrap().recv());
                let given_up = tokio::time::timeout(Duration::from_millis(1), hangs).await;
                assert!(given_up.is_err());
            }
            assert_eq!(on_own_thread(|| 1).await + blocking(|| 1).await, 2);
        });
        drop(release);
    }

    #[cfg(feature = "test-util")]
    #[test]
    fn blocking_work_can_be_kept_on_its_own_thread() {
        let runtime = runtime(1, "daemon-test").unwrap();
        let here = std::thread::current().id();
        let there = || runtime.block_on(blocking(|| std::thread::current().id()));
        let inline = InlineBlocking::begin();
        assert_eq!(there(), here);
        drop(inline);
        assert_ne!(there(), here);
    }

    #[test]
    fn panic_in_blocking_work_continues_in_the_caller() {
        let runtime = runtime(1, "daemon-test").unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(blocking(|| panic!("boom")));
        }));
        assert_eq!(*outcome.unwrap_err().downcast::<&str>().unwrap(), "boom");
    }
}
