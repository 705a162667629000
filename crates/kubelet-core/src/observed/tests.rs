use std::collections::BTreeMap;

use cri_api::v1;

use super::*;
use crate::ids::PodUid;

fn labels(uid: &str, container: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (LABEL_POD_NAME.to_owned(), "web-node".to_owned()),
        (LABEL_POD_NAMESPACE.to_owned(), "default".to_owned()),
        (LABEL_POD_UID.to_owned(), uid.to_owned()),
    ]);
    if let Some(name) = container {
        labels.insert(LABEL_CONTAINER_NAME.to_owned(), name.to_owned());
    }
    labels
}

fn status() -> v1::ContainerStatus {
    v1::ContainerStatus {
        id: "c1".to_owned(),
        metadata: Some(v1::ContainerMetadata {
            name: "app".to_owned(),
            attempt: 3,
        }),
        labels: labels("u1", Some("app")),
        ..Default::default()
    }
}

#[test]
fn cri_56_annotations_tell_what_the_container_was_made_with() {
    let mut status = status();
    for (key, value) in [
        (ANNOTATION_HASH, "8e45cbd0"),
        (ANNOTATION_RESTART_COUNT, "7"),
        (ANNOTATION_GRACE, "30"),
        (ANNOTATION_DELETION_GRACE, "5"),
        // As in the manifest: below the root.
        (ANNOTATION_MESSAGE_PATH, "dev/termination-log"),
        (ANNOTATION_MESSAGE_POLICY, "File"),
        (
            ANNOTATION_PRE_STOP,
            r#"{"exec":{"command":["/bin/sleep","5"]}}"#,
        ),
        (
            ANNOTATION_PORTS,
            r#"[{"name":"http","containerPort":80,"protocol":"TCP"}]"#,
        ),
    ] {
        status.annotations.insert(key.to_owned(), value.to_owned());
    }
    status.mounts.push(v1::Mount {
        container_path: "/dev/termination-log".to_owned(),
        host_path: "/var/lib/kubelet/pods/u1/containers/app/0a1b2c3d".to_owned(),
        ..Default::default()
    });
    let container = container_from_status(&status, Some(SandboxId::from("s1"))).unwrap();
    assert_eq!(container.hash, 0x8e45_cbd0);
    assert_eq!(container.restart_count, 7);
    assert_eq!(container.grace_seconds, Some(30));
    assert_eq!(container.deletion_grace_seconds, Some(5));
    assert!(container.pre_stop.unwrap().exec.is_some());
    assert_eq!(container.ports[0].container_port, 80);
    assert_eq!(
        container.termination_message_host_path.as_deref(),
        Some("/var/lib/kubelet/pods/u1/containers/app/0a1b2c3d")
    );
}

#[test]
fn broken_or_missing_annotations_fall_back_to_the_metadata() {
    let mut status = status();
    status
        .annotations
        .insert(ANNOTATION_RESTART_COUNT.to_owned(), "many".to_owned());
    status
        .annotations
        .insert(ANNOTATION_HASH.to_owned(), "xyz".to_owned());
    status
        .annotations
        .insert(ANNOTATION_PRE_STOP.to_owned(), "{".to_owned());
    status.labels.remove(LABEL_CONTAINER_NAME);
    let container = container_from_status(&status, None).unwrap();
    assert_eq!(container.restart_count, 3);
    assert_eq!(container.hash, 0);
    assert_eq!(container.pre_stop, None);
    assert_eq!(container.name, ContainerName::from("app"));
}

/// Kubernetes kubelet, `toKubeContainerStatus`: containerd says 0 of a container that never ran, the original
/// cri-dockerd Go's zero time as it comes.
#[test]
fn times_are_what_the_runtime_says_though_nothing_can_have_been_then() {
    let mut status = status();
    status.state = v1::ContainerState::ContainerExited as i32;
    status.created_at = 1_700_000_000_123_456_789;
    status.started_at = -6_795_364_578_871_345_152;
    status.finished_at = 0;
    let container = container_from_status(&status, None).unwrap();
    let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
    assert_eq!(
        text(container.started_at).as_deref(),
        Some("1754-08-30T22:43:41.128654848Z")
    );
    assert_eq!(
        text(container.finished_at).as_deref(),
        Some("1970-01-01T00:00:00Z")
    );
    let created = container.created_at;
    assert_eq!(created.unwrap().as_nanosecond(), 1_700_000_000_123_456_789);
    // Such an end saves nobody from waiting.
    let name = container.name.to_string();
    let pod = ObservedPod::new(container.pod_uid.clone(), Vec::new(), vec![container]);
    assert_eq!(pod.latest_end(&name), created);
}

#[test]
fn older_runtimes_without_image_id_report_the_reference() {
    let mut status = status();
    status.image_ref = "docker://sha256:abc".to_owned();
    assert_eq!(
        container_from_status(&status, None).unwrap().image_id,
        "docker://sha256:abc"
    );
}

#[test]
fn unknown_state_numbers_are_unknown() {
    let mut status = status();
    status.state = 77;
    assert_eq!(
        container_from_status(&status, None).unwrap().state,
        ContainerState::Unknown
    );
}

#[test]
fn cri_02_incomplete_messages_are_refused() {
    assert_eq!(
        container_from_status(&v1::ContainerStatus::default(), None),
        Err(ObserveError::ContainerWithoutId)
    );
    let mut status = status();
    status.metadata = None;
    assert_eq!(
        container_from_status(&status, None),
        Err(ObserveError::NoMetadata {
            id: "c1".to_owned()
        })
    );
    assert_eq!(
        sandbox_from_status(&v1::PodSandboxStatus::default()),
        Err(ObserveError::SandboxWithoutId)
    );
}

#[test]
fn sandbox_network_tells_missing_network_from_missing_address() {
    let mut status = v1::PodSandboxStatus {
        id: "s1".to_owned(),
        metadata: Some(v1::PodSandboxMetadata {
            attempt: 2,
            ..Default::default()
        }),
        ..Default::default()
    };
    let sandbox = sandbox_from_status(&status).unwrap();
    assert_eq!((sandbox.network_mode, sandbox.ips), (None, None));
    status.network = Some(v1::PodSandboxNetworkStatus::default());
    assert_eq!(sandbox_from_status(&status).unwrap().ips, Some(vec![]));
    status.network = Some(v1::PodSandboxNetworkStatus {
        ip: "10.0.0.1".to_owned(),
        additional_ips: vec![v1::PodIp {
            ip: "fd00::1".to_owned(),
        }],
    });
    let ips = sandbox_from_status(&status).unwrap().ips.unwrap();
    assert_eq!(
        ips,
        [
            "10.0.0.1".parse::<IpAddr>().unwrap(),
            "fd00::1".parse().unwrap()
        ]
    );
}

#[test]
fn cri_05_groups_by_label_and_leaves_strangers_alone() {
    let sandbox = |id: &str, uid: Option<&str>, created_at: i64| v1::PodSandbox {
        id: id.to_owned(),
        metadata: Some(v1::PodSandboxMetadata::default()),
        created_at,
        labels: uid.map(|uid| labels(uid, None)).unwrap_or_default(),
        ..Default::default()
    };
    let container = v1::Container {
        id: "c1".to_owned(),
        pod_sandbox_id: "s2".to_owned(),
        metadata: Some(v1::ContainerMetadata::default()),
        labels: labels("u1", Some("app")),
        ..Default::default()
    };
    let (pods, errors) = group_by_pod(
        &[
            sandbox("s1", Some("u1"), 1),
            sandbox("s2", Some("u1"), 2),
            sandbox("x", None, 3),
        ],
        &[container],
    );
    assert!(errors.is_empty());
    assert_eq!(pods.len(), 1);
    let pod = &pods["u1"];
    assert_eq!(pod.key.to_string(), "default/web-node");
    let ids: Vec<_> = pod
        .observed
        .sandboxes
        .iter()
        .map(|sandbox| sandbox.id.as_str())
        .collect();
    assert_eq!(ids, ["s2", "s1"]);
    assert_eq!(
        pod.observed.containers[0].sandbox_id,
        Some(SandboxId::from("s2"))
    );
}

#[test]
fn foreign_containers_are_dropped_when_a_pod_is_put_together() {
    let mine = container_from_status(&status(), None).unwrap();
    let mut other = mine.clone();
    other.pod_uid = PodUid::from("u2");
    let pod = ObservedPod::new(PodUid::from("u1"), vec![], vec![other, mine.clone()]);
    assert_eq!(pod.containers, [mine]);
}

#[test]
fn a_clock_that_was_set_back_makes_no_old_container_or_sandbox_the_newest() {
    let at = |second: i64| Timestamp::from_second(second).ok();
    let container = |id: &str, restart_count: u32, second: i64| {
        let mut container = container_from_status(&status(), None).unwrap();
        container.id = ContainerId::from(id);
        container.restart_count = restart_count;
        container.created_at = at(second);
        container
    };
    let sandbox = |id: &str, attempt: u32, second: i64| {
        let mut made = v1::PodSandbox {
            id: id.to_owned(),
            metadata: Some(v1::PodSandboxMetadata {
                name: "web".to_owned(),
                uid: "u1".to_owned(),
                namespace: "default".to_owned(),
                attempt,
            }),
            ..v1::PodSandbox::default()
        };
        made.created_at = second * 1_000_000_000;
        sandbox_from_item(&made).unwrap()
    };
    // Made an hour ahead, then the clock went back.
    let (old, new) = (container("old", 3, 7_200), container("new", 4, 3_601));
    let name = old.name.as_str().to_owned();
    let pod = ObservedPod::new(
        old.pod_uid.clone(),
        vec![sandbox("old", 0, 7_200), sandbox("new", 1, 3_601)],
        vec![old, new],
    );
    assert_eq!(pod.latest(&name).unwrap().id.as_str(), "new");
    assert_eq!(pod.sandboxes[0].id.as_str(), "new");
}
