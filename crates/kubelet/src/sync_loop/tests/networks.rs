//! What a pod holds of its network, and what happens while there is none.

use cri_api::Code;

use super::*;

/// The sandboxes that were stopped, in order.
fn stopped(fake: &FakeCri) -> Vec<String> {
    let calls = fake.calls().into_iter();
    calls
        .filter(|record| record.call == Call::StopPodSandbox)
        .map(|record| record.object)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn cri_17_a_sandbox_that_died_is_stopped_before_another_is_made() {
    let bench = Bench::start(&[pod("a", "1", "Always")], ROOM);
    tokio::time::sleep(A_WHILE).await;
    let first = bench.fake.sandboxes()[0].id.clone();
    bench
        .fake
        .fail_times(Call::StopPodSandbox, 1, Code::Internal, "no plugin");
    bench.fake.forget_calls();
    bench.fake.kill_sandbox(&first);
    tokio::time::sleep(A_WHILE).await;
    assert!(bench.is_running("a"));
    let calls = bench.fake.calls();
    let made = calls
        .iter()
        .position(|record| record.call == Call::RunPodSandbox);
    let before: Vec<_> = calls[..made.unwrap()]
        .iter()
        .filter(|record| record.call == Call::StopPodSandbox)
        .collect();
    assert_eq!(
        before.len(),
        2,
        "tried again, and no sandbox made meanwhile"
    );
    assert!(before.iter().all(|record| record.object == first));
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn cri_17_the_dead_sandbox_of_a_finished_pod_is_stopped() {
    let bench = Bench::start(&[pod("a", "1", "Never")], ROOM);
    tokio::time::sleep(A_WHILE).await;
    let first = bench.fake.sandboxes()[0].id.clone();
    bench.fake.kill_sandbox(&first);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("1"), "Failed");
    assert_eq!(stopped(&bench.fake), [first]);
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn life_06_nothing_is_stopped_while_its_successor_would_have_no_network() {
    let bench = Bench::start(&[pod("a", "1", "Always")], ROOM);
    tokio::time::sleep(A_WHILE).await;
    bench
        .fake
        .set_condition("NetworkReady", false, "NetworkPluginNotReady", "no config");
    tokio::time::sleep(A_WHILE).await;
    let old = bench.fake.container("a-main").unwrap().id;
    let mut changed = pod("a", "1", "Always");
    changed.spec.as_mut().unwrap().containers[0].image =
        Some("registry.invalid/image:2".to_owned());
    bench.fake.add_image("registry.invalid/image:2");
    bench.sets.send_replace(set(&[changed]));
    tokio::time::sleep(A_WHILE).await;
    let now = bench.fake.container("a-main").unwrap();
    assert!(now.id == old && bench.is_running("a"));
    let told = bench.life.told.events();
    let told = told
        .iter()
        .find(|seen| seen.event.reason == "NetworkNotReady");
    assert_eq!(
        told.unwrap().event.message,
        "network is not ready: container runtime network not ready: NetworkReady=false \
         reason:NetworkPluginNotReady message:no config"
    );
    bench.fake.set_condition("NetworkReady", true, "", "");
    tokio::time::sleep(A_WHILE).await;
    assert!(bench.is_running("a"));
    assert_ne!(bench.fake.container("a-main").unwrap().id, old);
    bench.life.end().await;
}

/// FLAG-06: `::` gives no address and yet the family, of name servers too where there is no file (SPEC-23).
#[tokio::test(start_paused = true)]
async fn stat_20_node_ip_without_an_address_still_chooses_the_family() {
    let (fake, root) = (FakeCri::start(), tempfile::tempdir().unwrap());
    let sets = watch::Sender::new(set(&[pod("a", "1", "Always")]));
    let flags = ["--node-ip=::", "--resolv-conf="];
    let life = Life::begin_with(
        &fake,
        root.path(),
        node(ROOM),
        vec![sets.subscribe()],
        &flags,
    );
    tokio::time::sleep(A_WHILE).await;
    let dns = fake.sandboxes()[0].config.dns_config.clone().unwrap();
    assert_eq!(dns.servers, ["::1"]);
    let family = life.context.node.primary_family();
    assert_eq!(family, kubelet_core::status::IpFamily::V6);
    life.end().await;
}
