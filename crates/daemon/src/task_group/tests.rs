use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;

const SOON: Duration = Duration::from_secs(5);

/// A panic whose type is `()`, as a future's output must be.
fn boom(text: &str) {
    panic!("{text}");
}

#[tokio::test]
async fn tasks_that_obey_the_token_end_in_order() {
    let group = TaskGroup::new("test");
    let token = group.token().clone();
    group.spawn("obedient", async move { token.cancelled().await });
    assert_eq!(group.running(), ["obedient"]);
    group.shutdown(SOON).await.unwrap();
}

#[tokio::test]
async fn panic_is_a_failure_the_owner_sees() {
    let group = TaskGroup::new("test");
    group.spawn("bad", async { boom("boom 1") });
    let error = group.failed().await;
    assert!(error.is_panic());
    assert_eq!(error.to_string(), "task bad panicked: boom 1");
    group.shutdown(SOON).await.unwrap();
}

#[tokio::test]
async fn long_task_that_returns_early_is_a_failure_and_a_job_is_not() {
    let group = TaskGroup::new("test");
    group.spawn_job("job", async {});
    group.joined().await;
    group.spawn("server", async {});
    assert!(matches!(group.failed().await, TaskError::EndedEarly { task } if task == "server"));
    group.shutdown(SOON).await.unwrap();
}

#[tokio::test]
async fn returned_error_keeps_its_source() {
    let group = TaskGroup::new("test");
    group.spawn_job("disk", async { Err(io::Error::other("full")) });
    let error = group.failed().await;
    assert_eq!(
        crate::ErrorChain(&error).to_string(),
        "task disk failed: full"
    );
}

#[tokio::test]
async fn failure_that_nobody_took_is_the_result_of_the_shutdown() {
    let group = TaskGroup::new("test");
    group.spawn_job("disk", async { Err(io::Error::other("full")) });
    group.joined().await;
    let error = group.shutdown(SOON).await.unwrap_err();
    assert!(matches!(error, ShutdownError::Task { source, .. } if source.task() == "disk"));
}

#[tokio::test(start_paused = true)]
async fn deaf_tasks_are_dropped_at_the_deadline_and_named() {
    struct OnDrop(Arc<AtomicBool>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = OnDrop(Arc::clone(&dropped));
    let group = TaskGroup::new("test");
    group.spawn("deaf", async move {
        let _guard = guard;
        std::future::pending::<()>().await;
    });
    let error = group.shutdown(SOON).await.unwrap_err();
    assert_eq!(error.to_string(), "task group test: dropped after 5s: deaf");
    assert!(dropped.load(Ordering::SeqCst));
}

#[tokio::test]
async fn child_group_ends_with_its_parent_but_not_the_other_way() {
    let group = TaskGroup::new("parent");
    let child = group.child("child");
    let other = group.spawner().child("other");
    child.token().cancel();
    assert!(!group.token().is_cancelled());
    group.token().cancel();
    assert!(other.token().is_cancelled());
}

#[tokio::test]
async fn job_outlives_the_request_that_started_it() {
    let group = TaskGroup::new("test");
    let (go, wait) = oneshot::channel::<()>();
    let done = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&done);
    let job = group.run("remove", async move {
        wait.await.unwrap();
        flag.store(true, Ordering::SeqCst);
    });
    drop(job);
    go.send(()).unwrap();
    group.joined().await;
    assert!(done.load(Ordering::SeqCst));
}

#[tokio::test]
async fn panic_of_a_job_goes_to_whoever_waits_for_it() {
    let group = TaskGroup::new("test");
    let error = group
        .run("rpc", async { panic!("boom") })
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "job rpc panicked: boom");
    group.shutdown(SOON).await.unwrap();
}

#[tokio::test]
async fn panic_of_a_job_that_nobody_waits_for_is_the_groups() {
    let group = TaskGroup::new("test");
    drop(group.run("rpc", async {
        tokio::task::yield_now().await;
        boom("boom");
    }));
    assert!(group.failed().await.is_panic());
}

#[tokio::test]
async fn work_for_a_group_that_has_ended_is_dropped() {
    let group = TaskGroup::new("test");
    let spawner = group.spawner();
    group.shutdown(SOON).await.unwrap();
    let error = spawner.run("late", async { 1 }).await.unwrap_err();
    assert!(matches!(error, JobError::Dropped { .. }));
}

#[tokio::test]
async fn finished_jobs_leave_nothing_behind() {
    let group = TaskGroup::new("test");
    for _ in 0..1000 {
        group.run("job", async {}).await.unwrap();
    }
    group.joined().await;
    assert!(group.running().is_empty());
}
