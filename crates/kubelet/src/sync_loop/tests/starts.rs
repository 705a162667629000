//! Containers that cannot be started.

use cri_api::Code;
use k8s_openapi::api::core::v1::{
    ConfigMapKeySelector, ContainerStateWaiting, EnvVar, EnvVarSource, HostPathVolumeSource,
    ObjectFieldSelector, Volume, VolumeMount,
};

use super::*;

/// Kubernetes kubelet, `startContainer`: an error before the runtime is asked is an event too.
#[tokio::test(start_paused = true)]
async fn a_start_that_never_reaches_the_runtime_is_told_of() {
    let mut pod = pod("a", "1", "Always");
    let spec = pod.spec.as_mut().unwrap();
    let mut mounts = spec.containers[0].clone();
    mounts.name = "a-mounts".to_owned();
    mounts.volume_mounts = Some(vec![VolumeMount {
        name: "none".to_owned(),
        ..VolumeMount::default()
    }]);
    spec.containers.push(mounts);
    spec.containers[0].env = Some(vec![EnvVar {
        name: "A".to_owned(),
        value_from: Some(EnvVarSource {
            config_map_key_ref: Some(ConfigMapKeySelector {
                name: "none".to_owned(),
                key: "a".to_owned(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }]);
    let bench = Bench::start(&[pod], ROOM);
    tokio::time::sleep(A_WHILE).await;
    let told = bench.life.told.events();
    for (container, message) in [
        ("a-main", "Error: configmap \"none\" not found"),
        (
            "a-mounts",
            "Error: cannot find volume \"none\" to mount into container \"a-mounts\"",
        ),
    ] {
        let place = format!("spec.containers{{{container}}}");
        let about = |seen: &&kubelet_core::event_ring::SeenEvent| {
            seen.event.field_path.as_ref() == Some(&place) && seen.event.reason == "Failed"
        };
        let event = &told.iter().find(about).unwrap().event;
        assert_eq!(event.type_, "Warning");
        assert_eq!(event.message, message);
    }
    assert_eq!(bench.fake.call_count(Call::CreateContainer), 0);
    bench.life.end().await;
}

/// Kubernetes kubelet, `generatePodSandboxConfig`: the kernel is not told the name of a pod on the host's network.
#[tokio::test(start_paused = true)]
async fn spec_01_a_pod_on_the_hosts_network_starts_whatever_the_length_of_its_fqdn() {
    let mut on_host = pod("a", "1", "Always");
    let spec = on_host.spec.as_mut().unwrap();
    spec.subdomain = Some("s".repeat(60));
    spec.set_hostname_as_fqdn = Some(true);
    let mut own_network = on_host.clone();
    own_network.metadata.name = Some("b".to_owned());
    own_network.metadata.uid = Some("2".to_owned());
    on_host.spec.as_mut().unwrap().host_network = Some(true);
    let bench = Bench::start(&[on_host, own_network], ROOM);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(
        (bench.phase("1").as_str(), bench.phase("2").as_str()),
        ("Running", "Pending")
    );
    bench.life.end().await;
}

fn waiting(bench: &Bench) -> ContainerStateWaiting {
    let status = bench.status("1").container_statuses.unwrap().remove(0);
    status.state.unwrap().waiting.unwrap()
}

/// Kubernetes kubelet, `getImageUser`: what keeps a container from being made is not its image.
#[tokio::test(start_paused = true)]
async fn spec_40_a_runtime_that_does_not_say_who_the_image_is_keeps_the_container_waiting() {
    let mut pod = pod("a", "1", "Always");
    let container = &mut pod.spec.as_mut().unwrap().containers[0];
    container.image_pull_policy = Some("Always".to_owned());
    let bench = Bench::start(&[], ROOM);
    bench.fake.fail(Call::ImageStatus, Code::Internal, "no");
    bench.sets.send_replace(set(&[pod]));
    tokio::time::sleep(A_WHILE).await;
    let waiting = waiting(&bench);
    assert_eq!(
        (waiting.reason.unwrap(), waiting.message.unwrap()),
        (
            "CreateContainerConfigError".to_owned(),
            "rpc error: code = Internal desc = no".to_owned()
        )
    );
    bench.fake.succeed(Call::ImageStatus);
    tokio::time::sleep(A_WHILE).await;
    assert!(bench.is_running("a"));
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn spec_31_a_container_waits_for_the_address_of_its_node_and_has_that_of_its_start() {
    let variable = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let mut pod = pod("a", "1", "Always");
    let spec = pod.spec.as_mut().unwrap();
    spec.host_network = Some(true);
    spec.containers[0].env = Some(vec![
        variable("HOST", "status.hostIP"),
        variable("HOSTS", "status.hostIPs"),
        variable("OWN", "status.podIP"),
    ]);
    let bench = Bench::start(&[pod], ROOM);
    tokio::time::sleep(A_WHILE).await;
    let waiting = waiting(&bench);
    assert_eq!(
        (waiting.reason.unwrap(), waiting.message.unwrap()),
        (
            "CreateContainerConfigError".to_owned(),
            "host IP unknown; known addresses: []".to_owned()
        )
    );
    let given = || {
        let container = bench.fake.container("a-main").unwrap();
        let variables = container.config.envs.into_iter();
        variables
            .map(|variable| (variable.key, String::from_utf8(variable.value).unwrap()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    *bench.life.host_ips.lock().unwrap() = vec!["192.0.2.1".parse().unwrap()];
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(given()["HOST"], "192.0.2.1");
    let both = vec!["192.0.2.2".parse().unwrap(), "fd00::2".parse().unwrap()];
    *bench.life.host_ips.lock().unwrap() = both;
    bench.fake.exit("a-main", 1);
    tokio::time::sleep(A_WHILE).await;
    let given = given();
    assert_eq!(
        (&*given["HOST"], &*given["HOSTS"], &*given["OWN"]),
        ("192.0.2.2", "192.0.2.2,fd00::2", "192.0.2.2")
    );
    bench.life.end().await;
}

fn with_post_start(mut pod: Pod) -> Pod {
    let hooks = with_pre_stop(pod.clone())
        .spec
        .unwrap()
        .containers
        .remove(0);
    let handler = hooks.lifecycle.unwrap().pre_stop;
    pod.spec.as_mut().unwrap().containers[0].lifecycle = Some(Lifecycle {
        post_start: handler,
        ..Lifecycle::default()
    });
    pod
}

#[tokio::test(start_paused = true)]
async fn ctr_01_an_edit_whose_volume_is_missing_leaves_alone_what_runs() {
    let bench = Bench::start(&[pod("a", "1", "Always")], ROOM);
    tokio::time::sleep(A_WHILE).await;
    let mut edited = pod("a", "1", "Always");
    let spec = edited.spec.as_mut().unwrap();
    spec.containers[0].image = Some("registry.invalid/image:2".to_owned());
    spec.containers[0].volume_mounts = Some(vec![VolumeMount {
        name: "data".to_owned(),
        mount_path: "/data".to_owned(),
        ..VolumeMount::default()
    }]);
    spec.volumes = Some(vec![Volume {
        name: "data".to_owned(),
        host_path: Some(HostPathVolumeSource {
            path: "/no/such/directory".to_owned(),
            type_: Some("Directory".to_owned()),
        }),
        ..Volume::default()
    }]);
    bench.sets.send_replace(set(&[edited]));
    tokio::time::sleep(A_WHILE).await;
    let told = bench.life.told.events();
    assert!(told.iter().any(|seen| seen.event.reason == "FailedMount"));
    assert!(bench.is_running("a"));
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn ctr_44_a_hook_that_has_begun_goes_on_though_the_pod_is_to_go() {
    let bench = Bench::start(&[], ROOM);
    bench.fake.on_exec(|_| v1::ExecSyncResponse::default());
    let hook = bench.fake.hold(Call::ExecSync);
    let pods = [with_post_start(pod("a", "1", "Always"))];
    bench.sets.send_replace(set(&pods));
    tokio::time::sleep(Duration::from_secs(5)).await;
    bench.sets.send_replace(set(&[]));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(bench.fake.call_count(Call::StopContainer), 0);
    drop(hook);
    tokio::time::sleep(A_WHILE).await;
    assert!(bench.fake.containers().is_empty());
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn ctr_44_a_failed_hook_is_shown_for_a_moment_and_then_its_back_off() {
    let bench = Bench::start(&[], ROOM);
    bench.fake.on_exec(|_| v1::ExecSyncResponse {
        exit_code: 1,
        ..v1::ExecSyncResponse::default()
    });
    let pods = [with_post_start(pod("a", "1", "Always"))];
    bench.sets.send_replace(set(&pods));
    let mut shown: Vec<(String, u32)> = Vec::new();
    // The first restart comes after a second, the second after ten.
    for _ in 0..24 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let statuses = bench.status("1").container_statuses.unwrap_or_default();
        let state = statuses.into_iter().next().and_then(|one| one.state);
        let Some(reason) = state.and_then(|state| state.waiting?.reason) else {
            continue;
        };
        match shown.last_mut().filter(|(last, _)| *last == reason) {
            Some((_, times)) => *times += 1,
            None => shown.push((reason, 1)),
        }
    }
    let reasons: Vec<_> = shown.iter().map(|(reason, _)| reason.as_str()).collect();
    let failed = "PostStartHookError";
    assert_eq!(reasons, [failed, "CrashLoopBackOff", failed]);
    // Seconds, where a container that ended by itself is shown so for most of the wait.
    assert!(shown[1].1 > 12, "{shown:?}");
    bench.life.end().await;
}

/// Kubernetes kubelet, `pruneInitContainersBeforeStart`: it is tried again at the next look.
#[tokio::test(start_paused = true)]
async fn a_dead_init_container_that_stays_is_not_removed_again_and_again_at_once() {
    let mut pod = pod("a", "1", "Always");
    let spec = pod.spec.as_mut().unwrap();
    let mut init = spec.containers[0].clone();
    init.name = "a-init".to_owned();
    spec.init_containers = Some(vec![init]);
    spec.containers[0].image = Some("registry.invalid/none:1".to_owned());
    let bench = Bench::start(&[], ROOM);
    bench
        .fake
        .refuse_pull("registry.invalid/none:1", Code::NotFound, "not found");
    bench.sets.send_replace(set(&[pod]));
    bench.fake.fail(
        Call::RemoveContainer,
        Code::Unknown,
        "device or resource busy",
    );
    tokio::time::sleep(A_WHILE).await;
    bench.fake.exit("a-init", 1);
    tokio::time::sleep(A_WHILE).await;
    bench
        .fake
        .fail(Call::StartContainer, Code::Unknown, "not now");
    bench.fake.exit("a-init", 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = bench.fake.call_count(Call::RemoveContainer);
    tokio::time::sleep(Duration::from_mins(1)).await;
    let tries = bench.fake.call_count(Call::RemoveContainer) - before;
    assert!((1..40).contains(&tries), "{tries}");
    bench.life.end().await;
}
