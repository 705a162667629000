//! Containers that cannot be started.

use k8s_openapi::api::core::v1::{ConfigMapKeySelector, EnvVar, EnvVarSource, VolumeMount};

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
