use k8s_openapi::api::core::v1::PodSpec;

use super::*;

fn list(amounts: &[(&str, &str)]) -> BTreeMap<String, ApiQuantity> {
    amounts
        .iter()
        .map(|(n, q)| ((*n).to_owned(), ApiQuantity((*q).to_owned())))
        .collect()
}

fn resources(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(list(requests)),
        limits: Some(list(limits)),
        ..Default::default()
    }
}

fn container(name: &str, requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Container {
    Container {
        name: name.to_owned(),
        resources: Some(resources(requests, limits)),
        ..Default::default()
    }
}

fn sidecar(name: &str, requests: &[(&str, &str)]) -> Container {
    Container {
        restart_policy: Some("Always".to_owned()),
        ..container(name, requests, &[])
    }
}

fn pod(init: Vec<Container>, containers: Vec<Container>) -> Pod {
    let spec = PodSpec {
        init_containers: Some(init),
        containers,
        ..Default::default()
    };
    Pod {
        spec: Some(spec),
        ..Default::default()
    }
}

fn settings() -> PodCgroupSettings {
    PodCgroupSettings {
        enforce_cpu_quota: true,
        cpu_period_micros: 100_000,
        pids_limit: -1,
        memory_qos: false,
    }
}

#[test]
fn adm_12_effective_request_is_the_peak_of_init_and_run_time() {
    let init = vec![
        container("i1", &[("cpu", "1")], &[]),
        sidecar("s", &[("cpu", "500m")]),
        container("i2", &[("cpu", "2"), ("memory", "64Mi")], &[]),
    ];
    let mut pod = pod(
        init,
        vec![container("c", &[("cpu", "1"), ("memory", "1Gi")], &[])],
    );
    let requests = pod_requests(&pod, Overhead::Include);
    assert_eq!(requests["cpu"].milli_value(), 2500);
    assert_eq!(requests["memory"].value(), 1 << 30);

    pod.spec.as_mut().unwrap().overhead = Some(list(&[("cpu", "250m")]));
    assert_eq!(
        pod_requests(&pod, Overhead::Include)["cpu"].milli_value(),
        2750
    );
    assert_eq!(
        pod_requests(&pod, Overhead::Exclude)["cpu"].milli_value(),
        2500
    );

    pod.spec.as_mut().unwrap().resources = Some(resources(&[("cpu", "5"), ("foo/bar", "9")], &[]));
    let requests = pod_requests(&pod, Overhead::Exclude);
    assert_eq!(requests["cpu"].milli_value(), 5000);
    assert!(!requests.contains_key("foo/bar"));
}

#[test]
fn overhead_is_added_to_limits_that_are_set() {
    let mut pod = pod(vec![], vec![container("c", &[], &[("cpu", "1")])]);
    pod.spec.as_mut().unwrap().overhead = Some(list(&[("cpu", "1"), ("memory", "1Mi")]));
    let limits = pod_limits(&pod, Overhead::Include);
    assert_eq!(limits["cpu"].milli_value(), 2000);
    assert!(!limits.contains_key("memory"));
}

#[test]
fn cri_70_and_71_numbers() {
    for (millicores, shares) in [
        (0, 2),
        (1, 2),
        (100, 102),
        (1000, 1024),
        (256_000, 262_144),
        (999_000, 262_144),
    ] {
        assert_eq!(cpu_shares(millicores), shares);
    }
    for (millicores, quota) in [
        (0, 0),
        (1, 1000),
        (10, 1000),
        (500, 50_000),
        (2000, 200_000),
    ] {
        assert_eq!(cpu_quota_micros(millicores, 100_000), quota);
    }
    for (shares, weight) in [(2, 1), (1024, 39), (262_144, 10_000), (u64::MAX, 10_000)] {
        assert_eq!(cpu_weight(shares), weight);
    }
}

#[test]
fn cg_14_to_17_pod_values_by_class() {
    let full = [("cpu", "500m"), ("memory", "128Mi")];
    let guaranteed = pod(vec![], vec![container("c", &full, &full)]);
    let values = pod_cgroup_values(
        &guaranteed,
        &PodCgroupSettings {
            pids_limit: 99,
            ..settings()
        },
    );
    assert_eq!(values.cpu_shares, Some(512));
    assert_eq!(
        (values.cpu_quota_micros, values.cpu_period_micros),
        (Some(50_000), Some(100_000))
    );
    assert_eq!(values.memory_max_bytes, Some(128 << 20));
    assert_eq!(values.pids_max, Some(99));

    let half = pod(
        vec![],
        vec![
            container("a", &[("cpu", "1")], &[("cpu", "1")]),
            container("b", &[], &[]),
        ],
    );
    let values = pod_cgroup_values(&half, &settings());
    assert_eq!(
        (values.cpu_quota_micros, values.memory_max_bytes),
        (None, None)
    );
    assert_eq!((values.cpu_shares, values.pids_max), (Some(1024), None));

    let none = pod(vec![], vec![container("a", &[], &[])]);
    assert_eq!(pod_cgroup_values(&none, &settings()).cpu_shares, Some(2));

    let unenforced = PodCgroupSettings {
        enforce_cpu_quota: false,
        ..settings()
    };
    assert_eq!(
        pod_cgroup_values(&guaranteed, &unenforced).cpu_quota_micros,
        Some(-1)
    );

    let huge = pod(
        vec![],
        vec![container("a", &[("hugepages-2Mi", "4Mi")], &[])],
    );
    let values = pod_cgroup_values(&huge, &settings());
    assert_eq!(
        values.hugepage_max_bytes,
        BTreeMap::from([(2 << 20, 4 << 20)])
    );
}

#[test]
fn cg_11_and_12_class_values() {
    let burstable = pod(vec![], vec![container("c", &[("cpu", "250m")], &[])]);
    let best_effort = pod(vec![], vec![container("c", &[], &[])]);
    let pods = [&burstable, &burstable, &best_effort];
    let values = qos_cgroup_values(pods, &settings());
    let shares = |values: ClassValues| [values.burstable, values.best_effort].map(|v| v.cpu_shares);
    assert_eq!(shares(values), [Some(512), Some(2)]);
    let values = qos_cgroup_values([], &settings());
    assert_eq!(shares(values), [Some(2), Some(2)]);
}

#[test]
fn cri_76_groups_keep_the_memory_that_their_pods_request() {
    let requests = [("memory", "64Mi")];
    let burstable = pod(vec![], vec![container("c", &requests, &[])]);
    let both = [("memory", "64Mi"), ("cpu", "1")];
    let guaranteed = pod(vec![], vec![container("c", &both, &both)]);
    let best_effort = pod(vec![], vec![container("c", &[], &[])]);
    let pods = [&burstable, &burstable, &guaranteed, &best_effort];
    let kept = |pods: &[&Pod], memory_qos| {
        let settings = PodCgroupSettings {
            memory_qos,
            ..settings()
        };
        let values = qos_cgroup_values(pods.iter().copied(), &settings);
        let own = pod_cgroup_values(&burstable, &settings);
        [values.all, values.burstable, values.best_effort, own]
            .map(|values| values.unified.get("memory.min").cloned())
    };
    let bytes = |mebibytes: u64| Some((mebibytes << 20).to_string());
    assert_eq!(kept(&pods, true), [bytes(192), bytes(128), None, bytes(64)]);
    assert_eq!(kept(&pods, false), [None, None, None, None]);
    // Nothing is kept for pods that have gone.
    assert_eq!(kept(&[], true), [bytes(0), bytes(0), None, bytes(64)]);
}

#[test]
fn cg_10_node_values_leave_out_what_is_reserved() {
    let capacity = amounts(&list(&[
        ("cpu", "4"),
        ("memory", "8Gi"),
        ("hugepages-2Mi", "2Mi"),
    ]));
    let reserved = amounts(&list(&[("cpu", "1"), ("memory", "9Gi")]));
    let values = node_cgroup_values(&capacity, &reserved, Some(1000));
    assert_eq!(values.cpu_shares, Some(3072));
    assert_eq!(values.memory_max_bytes, Some(0));
    assert_eq!(values.pids_max, Some(1000));
    assert_eq!(
        values.hugepage_max_bytes,
        BTreeMap::from([(2 << 20, 2 << 20)])
    );
}

const GIB: i64 = 1 << 30;

#[test]
fn cri_73_oom_scores() {
    let full = [("cpu", "1"), ("memory", "1Gi")];
    let guaranteed = pod(vec![], vec![container("c", &full, &full)]);
    assert_eq!(
        oom_score_adj(&guaranteed, &spec::containers(&guaranteed)[0], 8 * GIB),
        -997
    );
    let best_effort = pod(vec![], vec![container("c", &[], &[])]);
    assert_eq!(
        oom_score_adj(&best_effort, &spec::containers(&best_effort)[0], 8 * GIB),
        1000
    );
    let burstable = |memory: &str| pod(vec![], vec![container("c", &[("memory", memory)], &[])]);
    for (memory, score) in [("1Gi", 875), ("1", 999), ("8Gi", 3), ("16Gi", 3)] {
        let pod = burstable(memory);
        assert_eq!(
            oom_score_adj(&pod, &spec::containers(&pod)[0], 8 * GIB),
            score,
            "{memory}"
        );
    }
    let pod = pod(
        vec![sidecar("s", &[])],
        vec![
            container("a", &[("memory", "2Gi")], &[]),
            container("b", &[("memory", "4Gi")], &[]),
        ],
    );
    assert_eq!(
        oom_score_adj(&pod, &spec::init_containers(&pod)[0], 8 * GIB),
        750
    );
}

#[test]
fn cri_71_and_72_container_numbers() {
    let limited = container("c", &[], &[("cpu", "500m"), ("memory", "64Mi")]);
    let mut pod = pod(vec![], vec![limited.clone()]);
    let settings = ContainerResourceSettings::default();
    let resources = container_resources(&pod, &limited, &settings, false);
    assert_eq!(
        (
            resources.cpu_shares,
            resources.cpu_quota,
            resources.cpu_period
        ),
        (512, 50_000, 100_000)
    );
    assert_eq!(resources.memory_limit_in_bytes, 64 << 20);
    assert_eq!(
        container_resources(&pod, &limited, &settings, true).cpu_quota,
        -1
    );
    let no_quota = ContainerResourceSettings {
        cpu_quota: false,
        ..settings.clone()
    };
    let resources = container_resources(&pod, &limited, &no_quota, false);
    assert_eq!((resources.cpu_quota, resources.cpu_period), (0, 0));

    let plain = container("c", &[], &[]);
    pod.spec.as_mut().unwrap().resources = Some(super::tests::resources(&[], &[("memory", "1Gi")]));
    assert_eq!(
        container_resources(&pod, &plain, &settings, false).memory_limit_in_bytes,
        GIB
    );
}

#[test]
fn cri_74_every_page_size_has_a_limit() {
    let container = container("c", &[], &[("hugepages-2Mi", "4Mi")]);
    let pod = pod(vec![], vec![container.clone()]);
    let settings = ContainerResourceSettings {
        page_sizes: hugepage_sizes([1 << 30, 2 << 20, 64 << 10]),
        ..Default::default()
    };
    let limits: Vec<_> = container_resources(&pod, &container, &settings, false)
        .hugepage_limits
        .into_iter()
        .map(|limit| (limit.page_size, limit.limit))
        .collect();
    let expected = [("64KB", 0), ("2MB", 4 << 20), ("1GB", 0)];
    assert_eq!(
        limits,
        expected.map(|(name, limit)| (name.to_owned(), limit))
    );
}

#[test]
fn cri_75_swap_and_oom_group() {
    let burst = container("c", &[("memory", "1Gi")], &[("memory", "2Gi")]);
    let pod = pod(vec![], vec![burst.clone()]);
    let v2 = ContainerResourceSettings {
        cgroup_v2: true,
        swap_controller: true,
        memory_capacity_bytes: 8 * GIB,
        swap_capacity_bytes: 4 * GIB,
        ..Default::default()
    };
    let unified = |settings: &ContainerResourceSettings| {
        container_resources(&pod, &burst, settings, false).unified
    };
    let none = unified(&v2);
    assert_eq!(none["memory.oom.group"], "1");
    assert_eq!(none["memory.swap.max"], "0");
    let limited = ContainerResourceSettings {
        swap: SwapBehavior::LimitedSwap,
        ..v2.clone()
    };
    assert_eq!(unified(&limited)["memory.swap.max"], (GIB / 2).to_string());
    let single = ContainerResourceSettings {
        single_process_oom_kill: true,
        ..v2.clone()
    };
    assert!(!unified(&single).contains_key("memory.oom.group"));
    let v1 = ContainerResourceSettings {
        cgroup_v2: false,
        ..v2
    };
    let resources = container_resources(&pod, &burst, &v1, false);
    assert_eq!(resources.memory_swap_limit_in_bytes, 2 * GIB);
    assert!(resources.unified.is_empty());
}

#[test]
fn cri_76_memory_high_lies_between_request_and_limit() {
    let burst = container("c", &[("memory", "1Gi")], &[("memory", "2Gi")]);
    let pod = pod(vec![], vec![burst.clone()]);
    let settings = ContainerResourceSettings {
        memory_qos: Some(MemoryQos {
            throttling_factor: 0.9,
            page_bytes: 4096,
            allocatable_bytes: 8 * GIB,
        }),
        ..Default::default()
    };
    let unified = container_resources(&pod, &burst, &settings, false).unified;
    assert_eq!(unified["memory.min"], GIB.to_string());
    assert_eq!(
        unified["memory.high"],
        (2_040_107_008_i64 / 4096 * 4096).to_string()
    );
}

#[test]
fn cri_40_sandbox_sums_without_overhead() {
    let mut pod = pod(
        vec![],
        vec![container("c", &[("cpu", "1")], &[("memory", "64Mi")])],
    );
    pod.spec.as_mut().unwrap().overhead = Some(list(&[("cpu", "500m"), ("memory", "32Mi")]));
    let settings = ContainerResourceSettings::default();
    let sandbox = sandbox_resources(&pod, &settings, false);
    assert_eq!(
        (sandbox.cpu_shares, sandbox.memory_limit_in_bytes),
        (1024, 64 << 20)
    );
    let overhead = overhead_resources(&pod, &settings);
    assert_eq!((overhead.cpu_shares, overhead.cpu_quota), (512, 50_000));
    assert_eq!(overhead.memory_limit_in_bytes, 32 << 20);
}
