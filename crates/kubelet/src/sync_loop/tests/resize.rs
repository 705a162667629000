//! Edits of resources under the same uid (CTR-52).

use k8s_openapi::{
    api::core::v1::{PodCondition, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use super::*;

fn with_cpu(mut pod: Pod, amount: &str) -> Pod {
    let cpu = Some([("cpu".to_owned(), Quantity(amount.to_owned()))].into());
    pod.spec.as_mut().unwrap().containers[0].resources = Some(ResourceRequirements {
        requests: cpu,
        ..ResourceRequirements::default()
    });
    pod
}

fn asks_for(amount: &str) -> SourceSet {
    set(&[with_cpu(pod("a", "1", "Always"), amount)])
}

fn pending(bench: &Bench) -> Option<PodCondition> {
    let conditions = bench.status("1").conditions.unwrap_or_default();
    conditions
        .into_iter()
        .find(|condition| condition.type_ == "PodResizePending")
}

/// What the status says of resources: asked for by the container that runs, and given.
fn given(bench: &Bench) -> (String, String) {
    let status = bench.status("1").container_statuses.unwrap().remove(0);
    let cpu = |list: Option<std::collections::BTreeMap<String, Quantity>>| {
        list.unwrap_or_default().remove("cpu").unwrap().0
    };
    (
        cpu(status.resources.unwrap_or_default().requests),
        cpu(status.allocated_resources),
    )
}

fn id(bench: &Bench) -> String {
    bench.fake.container("a-main").unwrap().id
}

#[tokio::test(start_paused = true)]
async fn ctr_52_a_static_pod_is_not_resized_and_says_so() {
    let bench = Bench::start(&[], ROOM);
    bench.sets.send_replace(asks_for("1"));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(pending(&bench), None);
    let before = id(&bench);

    bench.sets.send_replace(asks_for("2"));
    tokio::time::sleep(A_WHILE).await;
    let condition = pending(&bench).unwrap();
    assert_eq!(condition.reason.as_deref(), Some("Infeasible"));
    let text = "In-place resize of static-pods is not supported";
    assert_eq!(condition.message.as_deref(), Some(text));
    assert_eq!(given(&bench), ("1".into(), "1".into()));
    assert_eq!((id(&bench), bench.phase("1")), (before, "Running".into()));
    let first = bench.status("1").conditions.unwrap().remove(0);
    assert_eq!(first.type_, "PodResizePending");
    // What was asked for is what `/pods` shows.
    let shown = bench.life.context.statuses.desired().remove(0).pod;
    let containers = &shown.spec.as_ref().unwrap().containers;
    let requests = containers[0].resources.clone().unwrap().requests.unwrap();
    assert_eq!(requests["cpu"].0, "2");
    let told = bench.life.told.events();
    assert!(
        told.iter()
            .all(|seen| !seen.event.reason.contains("Resize"))
    );

    bench.sets.send_replace(asks_for("1000m"));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(pending(&bench), None);
    bench.life.end().await;
}

/// Kubernetes kubelet, `handlePodResourcesResize`.
#[tokio::test(start_paused = true)]
async fn met_resizes_are_counted() {
    let bench = Bench::start(&[], ROOM);
    let counts = |bench: &Bench| {
        let metrics = bench.life.context.metrics.resizes.clone().unwrap();
        let increases = ["cpu", "requests", "increase"];
        (
            metrics.requested.with_label_values(&increases).get(),
            metrics.infeasible.with_label_values(&["static_pod"]).get(),
            metrics.pending.with_label_values(&["infeasible"]).get(),
        )
    };
    let sets = bench.sets.clone();
    for (amount, expected) in [
        ("1", (0, 0, 0)),
        ("2", (1, 1, 1)),
        ("3", (2, 2, 1)),
        ("1", (2, 2, 0)),
        ("2", (3, 3, 1)),
    ] {
        sets.send_replace(asks_for(amount));
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(counts(&bench), expected, "{amount}");
    }
    let bench = bench.restart(ROOM).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(counts(&bench), (0, 1, 1));
    sets.send_replace(set(&[]));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(counts(&bench), (0, 1, 0));
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn ctr_52_what_starts_after_an_edit_gets_what_the_pod_was_given() {
    let bench = Bench::start(&[], ROOM);
    bench.sets.send_replace(asks_for("1"));
    tokio::time::sleep(A_WHILE).await;
    let before = id(&bench);
    let mut edited = with_cpu(pod("a", "1", "Always"), "2");
    edited.spec.as_mut().unwrap().containers[0].image = Some("registry.invalid/image:2".to_owned());
    bench.sets.send_replace(set(&[edited]));
    tokio::time::sleep(A_WHILE).await;
    let container = bench.fake.container("a-main").unwrap();
    assert_ne!(container.id, before);
    let shares = |container: &testkit::FakeContainer| {
        container
            .config
            .linux
            .as_ref()
            .unwrap()
            .resources
            .clone()
            .unwrap()
            .cpu_shares
    };
    assert_eq!(shares(&container), 1024);
    assert!(pending(&bench).is_some());
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn ctr_52_a_restart_changes_nothing_of_it() {
    let bench = Bench::start(&[], ROOM);
    bench.sets.send_replace(asks_for("1"));
    tokio::time::sleep(A_WHILE).await;
    let before = id(&bench);
    let sets = bench.sets.clone();
    sets.send_replace(asks_for("2"));
    // Less room than it asks for now, and enough for what it has.
    let bench = bench.restart(&[("pods", "10"), ("cpu", "1")]).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!((id(&bench), bench.phase("1")), (before, "Running".into()));
    assert_eq!(given(&bench), ("1".into(), "1".into()));
    assert!(pending(&bench).is_some());
    // Gone and back again, it is another pod.
    sets.send_replace(set(&[]));
    tokio::time::sleep(A_WHILE).await;
    sets.send_replace(asks_for("500m"));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(given(&bench), ("500m".into(), "500m".into()));
    assert_eq!(pending(&bench), None);
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn dir_11_a_damaged_file_is_begun_anew() {
    let bench = Bench::start(&[], ROOM);
    bench.sets.send_replace(asks_for("1"));
    tokio::time::sleep(A_WHILE).await;
    let file = bench.life.context.dirs.allocations();
    std::fs::write(&file, "{").unwrap();
    let bench = bench.restart(ROOM).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("1"), "Running");
    assert_eq!(pending(&bench), None);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        kubelet_core::allocation::checkpoint::decode(&text)
            .unwrap()
            .len(),
        1
    );
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn dir_11_a_failed_write_is_tried_again() {
    let bench = Bench::start(&[], ROOM);
    let file = bench.life.context.dirs.allocations();
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    bench.sets.send_replace(asks_for("1"));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("1"), "Running");
    std::fs::remove_dir_all(&file).unwrap();
    tokio::time::sleep(A_WHILE).await;
    assert!(file.is_file());
    bench.life.end().await;
}
