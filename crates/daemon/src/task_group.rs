//! Tasks with an owner.
//!
//! ```text
//!            spawn            token cancelled           deadline passed
//!  (nothing) ─────▶ running ─────────────────▶ ending ─────────────────▶ dropped
//!                      │                          │
//!                      └─ panic, error, early end └─ returns
//!                         ─▶ failed() tells the owner
//! ```
//!
//! A group is owned by one value. The owner hears of failures through [`TaskGroup::failed`] and ends
//! the group with [`TaskGroup::shutdown`]; dropping the group drops its tasks where they stand.

mod state;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    error::Error,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt as _, future::CatchUnwind};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use state::State;

/// The name of a task: constant for parts of a program, built for things like one pod's worker.
pub type TaskName = Cow<'static, str>;
type Source = Box<dyn Error + Send + Sync + 'static>;

/// How a task let its owner down.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It panicked; the text is the panic's own.
    #[error("task {task} panicked: {message}")]
    Panicked {
        /// The task's name.
        task: TaskName,
        /// What the panic said.
        message: String,
    },
    /// It was meant to run until the group's end and returned before.
    #[error("task {task} ended before it was asked to")]
    EndedEarly {
        /// The task's name.
        task: TaskName,
    },
    /// It returned an error.
    #[error("task {task} failed")]
    Failed {
        /// The task's name.
        task: TaskName,
        /// What it returned.
        #[source]
        source: Source,
    },
}

impl TaskError {
    /// Whether the process should end with [`crate::EXIT_PANIC`].
    pub fn is_panic(&self) -> bool {
        matches!(self, Self::Panicked { .. })
    }

    /// The name of the task.
    pub fn task(&self) -> &str {
        match self {
            Self::Panicked { task, .. } | Self::EndedEarly { task } | Self::Failed { task, .. } => {
                task
            }
        }
    }
}

/// A job's result will not come.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The job panicked.
    #[error("job {job} panicked: {message}")]
    Panicked {
        /// The job's name.
        job: TaskName,
        /// What the panic said.
        message: String,
    },
    /// The group ended first.
    #[error("job {job} was dropped: its group has ended")]
    Dropped {
        /// The job's name.
        job: TaskName,
    },
}

/// A group did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {
    /// A task failed before or while the group ended.
    #[error("task group {group} did not end in order")]
    Task {
        /// The group's name.
        group: &'static str,
        /// The first failure that nobody had taken.
        #[source]
        source: TaskError,
    },
    /// Tasks were still running at the deadline and have been dropped.
    #[error("task group {group}: dropped after {waited:?}: {}", tasks.join(", "))]
    Deadline {
        /// The group's name.
        group: &'static str,
        /// How long they had.
        waited: Duration,
        /// Their names.
        tasks: Vec<String>,
    },
}

/// What a task may return: nothing, or a result whose error is reported to the owner.
pub trait TaskOutput {
    /// The error, if it is one.
    fn into_failure(self) -> Option<Source>;
}

impl TaskOutput for () {
    fn into_failure(self) -> Option<Source> {
        None
    }
}

impl<E: Into<Source>> TaskOutput for Result<(), E> {
    fn into_failure(self) -> Option<Source> {
        self.err().map(Into::into)
    }
}

/// Owns tasks: see the module's picture.
#[derive(Debug)]
pub struct TaskGroup {
    spawner: Spawner,
}

/// Starts tasks in a group owned by somebody else. Once that group has ended, what is spawned is
/// dropped before it runs.
#[derive(Debug, Clone)]
pub struct Spawner {
    state: Arc<State>,
}

impl TaskGroup {
    /// A group with a token of its own.
    pub fn new(name: &'static str) -> Self {
        Self::under(name, &CancellationToken::new())
    }

    /// A group that is told to end when `parent` is cancelled. `parent` itself stays untouched.
    pub fn under(name: &'static str, parent: &CancellationToken) -> Self {
        Self {
            spawner: Spawner {
                state: Arc::new(State::new(name, parent.child_token())),
            },
        }
    }

    /// A group for one part of this one: told to end with it, joined by whoever holds it. Its owner
    /// should be a task of this group, so that this group's end waits for it.
    #[must_use]
    pub fn child(&self, name: &'static str) -> Self {
        self.spawner.child(name)
    }

    /// A handle for parts that start work here without owning the group.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Cancelled when the group is to end; cancel it to begin the end without waiting for it.
    pub fn token(&self) -> &CancellationToken {
        &self.spawner.state.token
    }

    /// See [`Spawner::spawn`].
    pub fn spawn<F>(&self, name: impl Into<TaskName>, future: F)
    where
        F: Future<Output: TaskOutput> + Send + 'static,
    {
        self.spawner.spawn(name, future);
    }

    /// See [`Spawner::spawn_job`].
    pub fn spawn_job<F>(&self, name: impl Into<TaskName>, future: F)
    where
        F: Future<Output: TaskOutput> + Send + 'static,
    {
        self.spawner.spawn_job(name, future);
    }

    /// See [`Spawner::run`].
    pub fn run<F>(&self, name: impl Into<TaskName>, future: F) -> Job<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.spawner.run(name, future)
    }

    /// The names of the tasks that run now.
    pub fn running(&self) -> Vec<String> {
        self.spawner.state.running()
    }

    /// Waits until a task fails and says how; pending for ever while all goes well.
    ///
    /// Cancel-safe. At most 64 failures are kept until taken (the earliest ones, which hold the
    /// cause); more are logged and dropped.
    pub async fn failed(&self) -> TaskError {
        self.spawner.state.failed().await
    }

    /// Waits until no task is left, without asking any to end. Cancel-safe.
    pub async fn joined(&self) {
        self.spawner.state.empty().await;
    }

    /// Asks all tasks to end, waits for them, and drops those that are not done after `deadline`.
    ///
    /// # Errors
    /// The first failure that nobody took with [`Self::failed`], else the names of the tasks that
    /// had to be dropped. No task is left in either case.
    pub async fn shutdown(self, deadline: Duration) -> Result<(), ShutdownError> {
        let state = &self.spawner.state;
        state.token.cancel();
        let in_time = tokio::time::timeout(deadline, state.empty()).await.is_ok();
        let late = if in_time { Vec::new() } else { state.running() };
        state.abort.cancel();
        state.empty().await;
        if let Some(source) = state.take_failure() {
            return Err(ShutdownError::Task {
                group: state.name,
                source,
            });
        }
        if late.is_empty() {
            Ok(())
        } else {
            Err(ShutdownError::Deadline {
                group: state.name,
                waited: deadline,
                tasks: late,
            })
        }
    }
}

impl Drop for TaskGroup {
    fn drop(&mut self) {
        self.spawner.state.token.cancel();
        self.spawner.state.abort.cancel();
    }
}

impl Spawner {
    /// Starts a task that runs until the group's end: returning before the group's token is
    /// cancelled is a failure ([`TaskError::EndedEarly`]).
    pub fn spawn<F>(&self, name: impl Into<TaskName>, future: F)
    where
        F: Future<Output: TaskOutput> + Send + 'static,
    {
        self.start(name.into(), future, Lifetime::UntilAsked);
    }

    /// Starts a task that ends by itself. Only a panic or a returned error is a failure.
    pub fn spawn_job<F>(&self, name: impl Into<TaskName>, future: F)
    where
        F: Future<Output: TaskOutput> + Send + 'static,
    {
        self.start(name.into(), future, Lifetime::UntilDone);
    }

    /// Starts work whose result somebody waits for, and that goes on when nobody does any more
    /// (the dropped request whose container must still be removed).
    ///
    /// A panic is given to the [`Job`]; when that is gone, it is the group's failure.
    pub fn run<F>(&self, name: impl Into<TaskName>, future: F) -> Job<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let name = name.into();
        let (sender, receiver) = oneshot::channel();
        let job = Job {
            name: name.clone(),
            receiver,
        };
        let future = apart(future);
        let work = async move {
            match future.await {
                Ok(value) => {
                    // Nobody waits for it any more: the work was the point.
                    drop(sender.send(Ok(value)));
                }
                Err(payload) => {
                    if let Err(Err(payload)) = sender.send(Err(payload)) {
                        std::panic::resume_unwind(payload);
                    }
                }
            }
        };
        self.start(name, work, Lifetime::UntilDone);
        job
    }

    /// A group told to end with this one: see [`TaskGroup::child`].
    pub fn child(&self, name: &'static str) -> TaskGroup {
        TaskGroup::under(name, &self.state.token)
    }

    /// Cancelled when the group is to end.
    pub fn token(&self) -> &CancellationToken {
        &self.state.token
    }

    fn start<F>(&self, name: TaskName, future: F, lifetime: Lifetime)
    where
        F: Future<Output: TaskOutput> + Send + 'static,
    {
        let span = tracing::debug_span!("task", task = %name);
        let entry = State::enter(&self.state, name.clone());
        let state = Arc::clone(&self.state);
        let future = apart(future);
        let task = async move {
            let _entry = entry;
            let outcome = tokio::select! {
                biased;
                // cancel-safe: dropping the task where it stands is what this branch is for.
                () = state.abort.cancelled() => return,
                outcome = future => outcome,
            };
            let failure = match outcome {
                Err(payload) => Some(TaskError::Panicked {
                    task: name,
                    message: panic_text(&*payload),
                }),
                Ok(output) => match output.into_failure() {
                    Some(source) => Some(TaskError::Failed { task: name, source }),
                    None if lifetime == Lifetime::UntilAsked && !state.token.is_cancelled() => {
                        Some(TaskError::EndedEarly { task: name })
                    }
                    None => None,
                },
            };
            if let Some(failure) = failure {
                state.fail(failure);
            }
        };
        #[expect(clippy::disallowed_methods, reason = "the one place that may")]
        drop(tokio::spawn(task.instrument(span)));
    }
}

/// A task's own work, in a place of its own, and its panics caught.
///
/// A future that waits for one it was given has room for it twice: where it was put, and where it
/// is polled. A task lives long, and there are hundreds, so what moves is a pointer.
fn apart<F: Future>(future: F) -> Pin<Box<CatchUnwind<AssertUnwindSafe<F>>>> {
    Box::pin(AssertUnwindSafe(future).catch_unwind())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lifetime {
    UntilAsked,
    UntilDone,
}

/// Waits for the result of [`Spawner::run`]. Dropping it lets the work go on.
#[derive(Debug)]
pub struct Job<T> {
    name: TaskName,
    receiver: oneshot::Receiver<std::thread::Result<T>>,
}

impl<T> Future for Job<T> {
    type Output = Result<T, JobError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.receiver).poll(context));
        let job = self.name.clone();
        Poll::Ready(match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(payload)) => Err(JobError::Panicked {
                job,
                message: panic_text(&*payload),
            }),
            Err(_) => Err(JobError::Dropped { job }),
        })
    }
}

/// What a panic said, when it said it with text.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "(no text)".to_owned()
    }
}
