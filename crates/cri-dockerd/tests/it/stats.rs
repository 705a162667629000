//! Statistics of running containers, from the kernel and without a word to Docker.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use cri_api::v1;
use cri_api::v1::image_service_client::ImageServiceClient;
use testkit::{DockerEngine, eventually_async};

use crate::harness::{Pod, SOON, Server, engine_with_image, start};

const WRITTEN: u64 = 3 << 20;

/// Whether the kernel measures the pressure of groups: version 2, unless it was told not to.
fn has_pressure() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
        && fs::read("/proc/pressure/cpu").is_ok()
}

/// Microseconds in which something waited.
fn waited(psi: Option<v1::PsiStats>) -> u64 {
    psi.unwrap().some.unwrap().total
}

fn value(value: Option<v1::UInt64Value>) -> u64 {
    value.map(|value| value.value).unwrap_or_default()
}

async fn of_pod(server: &Server, pod: &str) -> v1::PodSandboxStats {
    let request = v1::PodSandboxStatsRequest {
        pod_sandbox_id: pod.to_owned(),
    };
    let answer = server.client.clone().pod_sandbox_stats(request).await;
    answer.unwrap().into_inner().stats.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_those_of_the_running_container() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let mut config = Pod::config("stats");
    config.linux = Some(v1::LinuxPodSandboxConfig {
        cgroup_parent: format!("/berth-test-stats-{}", std::process::id()),
        ..Default::default()
    });
    let pod = Pod::run(&mut server, config).await;
    // More than there are processors, where some are to wait.
    let loops = if has_pressure() {
        std::thread::available_parallelism().unwrap().get() + 1
    } else {
        1
    };
    let script = format!(
        "head -c {WRITTEN} /dev/urandom > /written; ping -c 3 127.0.0.1 >/dev/null; \
         for i in $(seq {loops}); do while :; do :; done & done; wait"
    );
    let id = pod.create(&mut server, "busy", &script).await;

    // Created: an entry with times and zeros.
    let request = v1::ContainerStatsRequest {
        container_id: id.clone(),
    };
    let answer = server
        .client
        .container_stats(request.clone())
        .await
        .unwrap();
    let stats = answer.into_inner().stats.unwrap();
    assert_eq!(stats.attributes.unwrap().id, id);
    assert!(stats.cpu.unwrap().timestamp > 0 && stats.memory.unwrap().timestamp > 0);

    start(&mut server, &id).await;
    // Two readings make a rate.
    let busy = eventually_async(SOON, || async {
        let pod = of_pod(&server, &pod.id).await;
        let linux = pod.linux.clone().unwrap();
        let cpu = linux.containers[0].cpu.unwrap();
        if value(cpu.usage_nano_cores) > 100_000_000 {
            Ok(linux)
        } else {
            Err(format!("{cpu:?}"))
        }
    })
    .await;
    let container = &busy.containers[0];
    let memory = container.memory.as_ref().unwrap();
    assert!(value(memory.working_set_bytes) > 0);
    assert!(value(memory.working_set_bytes) <= value(memory.usage_bytes));
    let pods = busy.cpu.as_ref().unwrap();
    let own = container.cpu.as_ref().unwrap();
    assert!(value(pods.usage_core_nano_seconds) >= value(own.usage_core_nano_seconds) / 2);
    assert!(
        value(busy.process.unwrap().process_count) >= 2,
        "pause and the loop"
    );
    let network = busy.network.unwrap().default_interface.unwrap();
    assert_eq!(network.name, "eth0");

    if has_pressure() {
        eventually_async(SOON, || async {
            let pod = of_pod(&server, &pod.id).await.linux.unwrap();
            let container = &pod.containers[0];
            waited(container.memory.as_ref().unwrap().psi);
            waited(container.io.as_ref().unwrap().psi);
            waited(pod.memory.unwrap().psi);
            waited(pod.io.unwrap().psi);
            let of_container = waited(container.cpu.as_ref().unwrap().psi);
            let of_pod = waited(pod.cpu.unwrap().psi);
            if of_container > 0 && of_pod > 0 {
                Ok(())
            } else {
                Err(format!("container {of_container}, pod {of_pod}"))
            }
        })
        .await;
    }

    let listed = eventually_async(SOON, || async {
        let request = v1::ListContainerStatsRequest::default();
        let answer = server.client.clone().list_container_stats(request).await;
        let all = answer.unwrap().into_inner().stats;
        let ours = all
            .into_iter()
            .find(|stats| stats.attributes.as_ref().unwrap().id == id)
            .unwrap();
        match &ours.writable_layer {
            Some(layer) if value(layer.used_bytes) >= WRITTEN => Ok(ours.clone()),
            other => Err(format!("{other:?}")),
        }
    });
    let layer = listed.await.writable_layer.unwrap();
    assert!(value(layer.inodes_used) >= 2);
    // With containerd's image store the layers are containerd's.
    let info =
        tokio::task::block_in_place(|| engine.json("GET", "/info", &serde_json::Value::Null));
    let store = info["DriverStatus"].to_string();
    let root = if store.contains("io.containerd.snapshotter") {
        engine.data_root().join("containerd/daemon")
    } else {
        engine.data_root()
    };
    let root = root.display().to_string();
    assert_eq!(layer.fs_id.unwrap().mountpoint, root);

    let mut images = ImageServiceClient::new(server.channel().await);
    let answer = images.image_fs_info(v1::ImageFsInfoRequest {}).await;
    let info = answer.unwrap().into_inner();
    for usage in [&info.image_filesystems[0], &info.container_filesystems[0]] {
        assert_eq!(usage.fs_id.as_ref().unwrap().mountpoint, root);
        assert!(usage.timestamp > 0 && value(usage.used_bytes) > 0);
    }
    assert!(value(info.container_filesystems[0].used_bytes) >= WRITTEN);
    pod.remove(&mut server).await;
    let missing = server.client.container_stats(request).await.unwrap_err();
    assert_eq!(missing.code(), tonic::Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_the_descriptors_that_the_kubelet_reads_first() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("metrics")).await;
    let id = pod.create(&mut server, "web", "sleep 1000").await;
    start(&mut server, &id).await;
    let request = v1::ListMetricDescriptorsRequest {};
    let answer = server.client.list_metric_descriptors(request).await;
    let known: HashSet<String> = answer
        .unwrap()
        .into_inner()
        .descriptors
        .into_iter()
        .map(|descriptor| descriptor.name)
        .collect();
    let request = v1::ListPodSandboxMetricsRequest {};
    let answer = server.client.list_pod_sandbox_metrics(request).await;
    let pods = answer.unwrap().into_inner().pod_metrics;
    let ours = pods
        .iter()
        .find(|metrics| metrics.pod_sandbox_id == pod.id)
        .unwrap();
    assert!(
        ours.metrics
            .iter()
            .any(|m| m.name == "container_network_receive_bytes_total")
    );
    let container = &ours.container_metrics[0];
    assert_eq!(container.container_id, id);
    assert!(
        container
            .metrics
            .iter()
            .all(|metric| known.contains(&metric.name))
    );
    let figure = |name: &str| {
        let metric = container.metrics.iter().find(|metric| metric.name == name);
        metric
            .and_then(|metric| metric.value)
            .map(|value| value.value)
    };
    assert_eq!(figure("container_processes"), Some(1));
    assert!(figure("container_file_descriptors").unwrap() >= 3);
    assert!(figure("container_memory_working_set_bytes").unwrap() > 0);
    assert!(figure("container_start_time_seconds").unwrap() > 1_700_000_000);
    let labels = &container.metrics[0].label_values;
    assert_eq!(
        (labels[0].as_str(), labels[4].as_str(), labels[5].as_str()),
        ("web", "it", "metrics")
    );
    assert!(labels[1].ends_with(&id), "{labels:?}");
    pod.remove(&mut server).await;
}
