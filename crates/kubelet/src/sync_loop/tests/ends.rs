//! What is done for containers and pods as they end.

use testkit::eventually_async;
use tonic::Code;

use super::*;

#[tokio::test(start_paused = true)]
async fn life_32_a_pod_without_grace_has_a_second_for_its_hook() {
    let mut pod = with_pre_stop(pod("a", "1", "Always"));
    pod.spec.as_mut().unwrap().termination_grace_period_seconds = Some(0);
    let bench = Bench::start(&[pod], ROOM);
    tokio::time::sleep(A_WHILE).await;
    bench.fake.on_exec(|_| v1::ExecSyncResponse::default());
    bench.sets.send_replace(set(&[]));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.fake.call_count(Call::ExecSync), 1);
    assert!(bench.fake.containers().is_empty());
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_grace_without_end_ends_with_the_container() {
    let mut pod = with_pre_stop(pod("a", "1", "Always"));
    pod.spec.as_mut().unwrap().termination_grace_period_seconds = Some(i64::MAX);
    let bench = Bench::start(&[pod], ROOM);
    tokio::time::sleep(A_WHILE).await;
    bench.fake.on_exec(|_| v1::ExecSyncResponse::default());
    bench.sets.send_replace(set(&[]));
    tokio::time::sleep(A_WHILE).await;
    assert!(bench.fake.containers().is_empty());
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_of_a_pod_holds_its_successor_back_no_longer() {
    let bench = Bench::start(&[with_port(pod("a", "1", "Always"), 80)], ROOM);
    tokio::time::sleep(A_WHILE).await;
    let busy = "device or resource busy";
    bench.fake.fail(Call::RemoveContainer, Code::Unknown, busy);
    let next = with_port(pod("a", "2", "Always"), 80);
    bench.sets.send_replace(set(&[next]));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("2"), "Running");
    let states = || -> Vec<bool> {
        let running = v1::ContainerState::ContainerRunning;
        let all = bench.fake.containers().into_iter();
        all.map(|container| container.state == running).collect()
    };
    assert_eq!(states(), [false, true]);
    bench.fake.succeed(Call::RemoveContainer);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(states(), [true]);
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_keeps_its_uid_and_changes_its_name_is_another() {
    let bench = Bench::start(&[pod("a", "1", "Always")], ROOM);
    tokio::time::sleep(A_WHILE).await;
    bench.sets.send_replace(set(&[pod("b", "1", "Always")]));
    tokio::time::sleep(A_WHILE).await;
    assert!(bench.fake.container("a-main").is_none() && bench.is_running("b"));
    // The same over a restart.
    let renamed = set(&[pod("c", "1", "Always")]);
    let rename = |_: &FakeCri, sets: &watch::Sender<SourceSet>| drop(sets.send_replace(renamed));
    let bench = bench.restart_after(ROOM, rename).await;
    tokio::time::sleep(A_WHILE).await;
    assert!(bench.fake.container("b-main").is_none() && bench.is_running("c"));
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn cri_80_the_log_of_a_container_that_ended_at_once_is_linked() {
    let (fake, root) = (FakeCri::start(), tempfile::tempdir().unwrap());
    fake.exit_on_start("a-main", 0);
    let sets = watch::Sender::new(set(&[pod("a", "1", "Never")]));
    let life = begin(&fake, root.path(), ROOM, &sets);
    tokio::time::sleep(A_WHILE).await;
    let links = std::fs::read_dir(root.path().join("links")).unwrap();
    let names: Vec<_> = links.map(|entry| entry.unwrap().file_name()).collect();
    let id = fake.container("a-main").unwrap().id;
    assert_eq!(names, [format!("a_default_a-main-{id}.log").as_str()]);
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn spec_20_a_malformed_resolver_file_keeps_the_sandbox_from_being_made() {
    let (fake, root) = (FakeCri::start(), tempfile::tempdir().unwrap());
    std::fs::write(root.path().join("resolv.conf"), "nameserver\n").unwrap();
    let sets = watch::Sender::new(set(&[pod("a", "1", "Always")]));
    let life = begin(&fake, root.path(), ROOM, &sets);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(fake.call_count(Call::RunPodSandbox), 0);
    let told = life.told.events();
    let failed = told
        .iter()
        .find(|seen| seen.event.reason == "FailedCreatePodSandBox");
    assert_eq!(
        failed.unwrap().event.message,
        "Failed to create pod sandbox: Encountered error while parsing resolv conf file. Error: \
         nameserver list is empty "
    );
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn ctr_43_a_hook_that_runs_is_not_run_again_when_the_manifest_goes_meanwhile() {
    let bench = Bench::start(&[with_pre_stop(pod("a", "1", "Always"))], ROOM);
    tokio::time::sleep(A_WHILE).await;
    bench.fake.on_exec(|_| v1::ExecSyncResponse::default());
    let hook = bench.fake.hold(Call::ExecSync);
    let mut changed = with_pre_stop(pod("a", "1", "Always"));
    changed.spec.as_mut().unwrap().containers[0].image =
        Some("registry.invalid/image:2".to_owned());
    bench.fake.add_image("registry.invalid/image:2");
    bench.sets.send_replace(set(&[changed]));
    // The paused clock may run on before the call is there.
    eventually_async(A_WHILE, async || {
        match bench.fake.call_count(Call::ExecSync) {
            1 => Ok(()),
            count => Err(format!("{count} hooks")),
        }
    })
    .await;
    // Nor does it wait for the word that goes to the worker: for that, true time.
    tokio::time::resume();
    bench.sets.send_replace(set(&[]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    tokio::time::pause();
    drop(hook);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.fake.call_count(Call::ExecSync), 1);
    assert!(bench.fake.containers().is_empty());
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn how_containers_ended_is_on_record_before_what_their_pod_held_is_given_back() {
    let mut pod = pod("a", "1", "Never");
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(30);
    let bench = Bench::start(&[pod], ROOM);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(bench.is_running("a"));
    bench.fake.fail(Call::StopPodSandbox, Code::Unknown, "busy");
    tokio::time::sleep(A_WHILE).await;
    let state = |bench: &Bench| {
        let mut containers = bench.status("1").container_statuses.unwrap_or_default();
        containers
            .remove(0)
            .state
            .and_then(|state| state.terminated)
    };
    let ended = state(&bench).expect("it was stopped");
    assert!(ended.container_id.is_some(), "{ended:?}");
    let bench = bench.restart_after(ROOM, |fake, _| fake.prune()).await;
    tokio::time::sleep(A_WHILE).await;
    assert!(bench.fake.containers().is_empty());
    assert_eq!(bench.reason("1"), "DeadlineExceeded");
    assert_eq!(state(&bench), Some(ended));
    bench.life.end().await;
}
