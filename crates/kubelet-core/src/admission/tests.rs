use k8s_openapi::api::core::v1::{
    Affinity, AppArmorProfile, Container, ContainerPort, NodeAffinity, NodeSelector,
    NodeSelectorRequirement, NodeSelectorTerm, PodOS, PodSecurityContext, ResourceRequirements,
    Sysctl,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::*;
use crate::ids::PodUid;
use crate::quantity;
use crate::spec::CONFIG_SOURCE;

/// As the node asks, with the others given as pods.
fn admit(pod: &Pod, node: &NodeInfo, others: &[&Pod]) -> Admission {
    let taken: Vec<TakenPod> = others
        .iter()
        .map(|other| TakenPod::new(Arc::new(Pod::clone(other))))
        .collect();
    super::admit(pod, node, &taken.iter().collect::<Vec<_>>())
}

fn node() -> NodeInfo {
    let amount = |text: &str| quantity::parse(text).unwrap();
    NodeInfo {
        name: NodeName::from("mynode"),
        labels: BTreeMap::from([
            ("disk".to_owned(), "ssd".to_owned()),
            ("n".to_owned(), "5".to_owned()),
        ]),
        taints: Vec::new(),
        allocatable: [
            ("cpu", "4"),
            ("memory", "8Gi"),
            ("pods", "3"),
            ("ephemeral-storage", "10Gi"),
        ]
        .map(|(name, text)| (name.to_owned(), amount(text)))
        .into(),
        sysctls: SysctlAllowList::new(
            safe_sysctls((6, 1))
                .iter()
                .map(String::as_str)
                .chain(["net.core.*"]),
        )
        .unwrap(),
        apparmor: false,
        supplemental_groups_policy: false,
        pod_level_resources: true,
    }
}

fn pod(uid: &str, requests: &[(&str, &str)]) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.uid = Some(uid.to_owned());
    let requests = requests
        .iter()
        .map(|(name, text)| ((*name).to_owned(), ApiQuantity((*text).to_owned())))
        .collect();
    pod.spec.get_or_insert_default().containers = vec![Container {
        resources: Some(ResourceRequirements {
            requests: Some(requests),
            ..Default::default()
        }),
        ..Default::default()
    }];
    pod
}

fn critical(uid: &str, requests: &[(&str, &str)]) -> Pod {
    let mut pod = pod(uid, requests);
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(CONFIG_SOURCE.to_owned(), "file".to_owned());
    pod
}

fn preempting(victim: &str) -> Admission {
    Admission::AfterPreempting {
        victims: vec![PodUid::from(victim)],
        signal: "cpu".to_owned(),
    }
}

fn rejection(admission: Admission) -> (String, String) {
    match admission {
        Admission::Rejected(rejection) => (rejection.reason.as_str(), rejection.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn adm_03_requests_beyond_what_is_left_are_rejected() {
    let taken = pod("a", &[("cpu", "3"), ("memory", "1Gi")]);
    assert_eq!(
        admit(&pod("b", &[("cpu", "1")]), &node(), &[&taken]),
        Admission::Admitted
    );
    assert_eq!(
        rejection(admit(&pod("b", &[("cpu", "1001m")]), &node(), &[&taken])),
        (
            "OutOfcpu".to_owned(),
            "Node didn't have enough resource: cpu, requested: 1001, used: 3000, capacity: 4000"
                .to_owned()
        )
    );
    let too_many = admit(&pod("b", &[]), &node(), &[&taken, &taken, &taken]);
    assert_eq!(rejection(too_many).0, "OutOfpods");
    let disk = admit(&pod("b", &[("ephemeral-storage", "11Gi")]), &node(), &[]);
    assert_eq!(rejection(disk).0, "OutOfephemeral-storage");
    let huge = admit(&pod("b", &[("hugepages-2Mi", "2Mi")]), &node(), &[]);
    assert_eq!(rejection(huge).0, "OutOfhugepages-2Mi");
}

#[test]
fn adm_10_unknown_extended_resources_do_not_reject() {
    assert_eq!(
        admit(&pod("b", &[("example.com/x", "1")]), &node(), &[]),
        Admission::Admitted
    );
    // But for what the pod itself takes.
    let mut heavy = pod("b", &[("example.com/x", "1")]);
    let overhead = [("example.com/x".to_owned(), ApiQuantity("2".to_owned()))];
    heavy.spec.as_mut().unwrap().overhead = Some(overhead.into());
    let (reason, message) = rejection(admit(&heavy, &node(), &[]));
    assert_eq!(reason, "OutOfexample.com/x");
    assert!(message.contains("requested: 2, used: 0"), "{message}");
    let mut node = node();
    node.allocatable
        .insert("example.com/x".to_owned(), quantity::parse("1").unwrap());
    let two = admit(&pod("b", &[("example.com/x", "2")]), &node, &[]);
    assert_eq!(rejection(two).0, "OutOfexample.com/x");
}

fn with_port(mut pod: Pod, host_port: Option<i32>, ip: &str, protocol: &str) -> Pod {
    pod.spec.as_mut().unwrap().containers[0].ports = Some(vec![ContainerPort {
        container_port: 80,
        host_port,
        host_ip: Some(ip.to_owned()),
        protocol: Some(protocol.to_owned()),
        ..Default::default()
    }]);
    pod
}

#[test]
fn adm_04_and_11_host_ports_conflict() {
    let taken = with_port(pod("a", &[]), Some(80), "", "TCP");
    for (port, ip, protocol, free) in [
        (80, "", "TCP", false),
        (80, "10.0.0.1", "TCP", false),
        (80, "", "UDP", true),
        (81, "", "TCP", true),
    ] {
        let pod = with_port(pod("b", &[]), Some(port), ip, protocol);
        let admission = admit(&pod, &node(), &[&taken]);
        if free {
            assert_eq!(admission, Admission::Admitted);
        } else {
            let text = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
            assert_eq!(
                rejection(admission),
                ("NodePorts".to_owned(), text.to_owned())
            );
        }
    }
    let one_ip = with_port(pod("a", &[]), Some(80), "10.0.0.1", "TCP");
    let other_ip = with_port(pod("b", &[]), Some(80), "10.0.0.2", "TCP");
    assert_eq!(admit(&other_ip, &node(), &[&one_ip]), Admission::Admitted);
    let mut on_host = with_port(pod("b", &[]), None, "", "TCP");
    on_host.spec.as_mut().unwrap().host_network = Some(true);
    assert_eq!(
        rejection(admit(&on_host, &node(), &[&taken])).0,
        "NodePorts"
    );
}

#[test]
fn adm_05_selector_affinity_and_name() {
    let mut selected = pod("a", &[]);
    let spec = selected.spec.as_mut().unwrap();
    spec.node_selector = Some(BTreeMap::from([("disk".to_owned(), "hdd".to_owned())]));
    let text = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    let found = rejection(admit(&selected, &node(), &[]));
    assert_eq!(found, ("NodeAffinity".to_owned(), text.to_owned()));

    let with_affinity = |key: &str, operator: &str, values: &[&str]| {
        let mut pod = pod("a", &[]);
        let requirement = NodeSelectorRequirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
        };
        pod.spec.as_mut().unwrap().affinity = Some(Affinity {
            node_affinity: Some(NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                    node_selector_terms: vec![
                        NodeSelectorTerm::default(),
                        NodeSelectorTerm {
                            match_expressions: Some(vec![requirement]),
                            ..Default::default()
                        },
                    ],
                }),
                ..Default::default()
            }),
            ..Default::default()
        });
        admit(&pod, &node(), &[]) == Admission::Admitted
    };
    for (key, operator, values, matches) in [
        ("disk", "In", &["ssd", "nvme"][..], true),
        ("disk", "NotIn", &["ssd"], false),
        ("gpu", "NotIn", &["ssd"], true),
        ("disk", "Exists", &[], true),
        ("gpu", "DoesNotExist", &[], true),
        ("n", "Gt", &["4"], true),
        ("n", "Lt", &["4"], false),
        ("disk", "Gt", &["4"], false),
    ] {
        assert_eq!(
            with_affinity(key, operator, values),
            matches,
            "{key} {operator}"
        );
    }

    let mut elsewhere = pod("a", &[]);
    elsewhere.spec.as_mut().unwrap().node_name = Some("other".to_owned());
    assert_eq!(rejection(admit(&elsewhere, &node(), &[])).0, "NodeName");
}

#[test]
fn adm_06_taints_do_not_count_for_static_pods() {
    let mut node = node();
    node.taints = vec![Taint {
        effect: "NoExecute".to_owned(),
        key: "k".to_owned(),
        value: Some("v".to_owned()),
        ..Default::default()
    }];
    assert_eq!(
        rejection(admit(&pod("a", &[]), &node, &[])).0,
        "TaintToleration"
    );
    assert_eq!(admit(&critical("a", &[]), &node, &[]), Admission::Admitted);
    for (operator, key, value, tolerated) in [
        ("Exists", "", "", true),
        ("Exists", "k", "", true),
        ("Equal", "k", "v", true),
        ("Equal", "k", "w", false),
        ("Exists", "other", "", false),
    ] {
        let mut pod = pod("a", &[]);
        pod.spec.as_mut().unwrap().tolerations = Some(vec![Toleration {
            operator: Some(operator.to_owned()),
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
            ..Default::default()
        }]);
        assert_eq!(
            admit(&pod, &node, &[]) == Admission::Admitted,
            tolerated,
            "{operator} {key}"
        );
    }
}

#[test]
fn adm_07_sysctls() {
    let with = |name: &str, host_network: bool| {
        let mut pod = pod("a", &[]);
        let spec = pod.spec.as_mut().unwrap();
        spec.host_network = Some(host_network);
        let sysctl = Sysctl {
            name: name.to_owned(),
            value: "1".to_owned(),
        };
        spec.security_context = Some(PodSecurityContext {
            sysctls: Some(vec![sysctl]),
            ..Default::default()
        });
        admit(&pod, &node(), &[])
    };
    assert_eq!(with("net/ipv4/tcp_rmem", false), Admission::Admitted);
    assert_eq!(with("net.core.somaxconn", false), Admission::Admitted);
    let text = "forbidden sysctl: \"kernel.msgmax\" not allowlisted";
    assert_eq!(
        rejection(with("kernel.msgmax", false)),
        ("SysctlForbidden".to_owned(), text.to_owned())
    );
    let text = "forbidden sysctl: \"net.core.somaxconn\" not allowed with host Net enabled";
    assert_eq!(rejection(with("net.core.somaxconn", true)).1, text);
    assert_eq!(
        SysctlAllowList::new(["vm.swappiness"])
            .unwrap_err()
            .to_string(),
        "the sysctls \"vm.swappiness\" are not known to be namespaced"
    );
    for name in ["kernel.msg*", "kernel.shm_rmid_forced", "net/*", "net.a-_*"] {
        assert!(SysctlAllowList::new([name]).is_ok(), "{name}");
    }
    let long = format!("net.{}", "a".repeat(250));
    for name in [
        "",
        "net.",
        "net.*.all",
        "net.-*",
        "net.A",
        "net..a",
        "net.a b",
        "net.a_",
        &long,
    ] {
        assert_eq!(
            SysctlAllowList::new([name]).unwrap_err().to_string(),
            format!(
                "sysctl {name:?} must have at most 253 characters and match regex \
                 ([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9*]"
            )
        );
    }
    assert!(!safe_sysctls((4, 4)).contains(&"net.ipv4.tcp_rmem".to_owned()));
    assert_eq!(
        normal_sysctl("net/ipv4/conf/eth0.1/rp_filter"),
        "net.ipv4.conf.eth0/1.rp_filter"
    );
}

#[test]
fn adm_08_operating_system_groups_policy_apparmor_and_pod_level_resources() {
    let mut windows = pod("a", &[]);
    windows.spec.as_mut().unwrap().os = Some(PodOS {
        name: "windows".to_owned(),
    });
    assert_eq!(
        rejection(admit(&windows, &node(), &[])).0,
        "PodOSNotSupported"
    );

    let mut label = pod("a", &[]);
    label.metadata.labels = Some(BTreeMap::from([(
        LABEL_OS.to_owned(),
        "windows".to_owned(),
    )]));
    assert_eq!(
        rejection(admit(&label, &node(), &[])).0,
        "PodOSSelectorNodeLabelDoesNotMatch"
    );

    let with_context = |context: PodSecurityContext| {
        let mut pod = pod("a", &[]);
        pod.spec.as_mut().unwrap().security_context = Some(context);
        rejection(admit(&pod, &node(), &[]))
    };
    let strict = PodSecurityContext {
        supplemental_groups_policy: Some("Strict".to_owned()),
        ..Default::default()
    };
    assert_eq!(
        with_context(strict).0,
        "SupplementalGroupsPolicyNotSupported"
    );
    let profile = AppArmorProfile {
        type_: "RuntimeDefault".to_owned(),
        ..Default::default()
    };
    let apparmor = PodSecurityContext {
        app_armor_profile: Some(profile),
        ..Default::default()
    };
    assert_eq!(
        with_context(apparmor).1,
        "Cannot enforce AppArmor: AppArmor is not enabled on the host"
    );

    let mut level = pod("a", &[]);
    level.spec.as_mut().unwrap().resources = pod("b", &[("cpu", "1")]).spec.unwrap().containers[0]
        .resources
        .clone();
    let mut flat = node();
    flat.pod_level_resources = false;
    assert_eq!(
        rejection(admit(&level, &flat, &[])).0,
        "PodLevelResourcesNotSupported"
    );
}

#[test]
fn adm_09_critical_pod_takes_the_room_of_the_least_important() {
    let big = pod("big", &[("cpu", "3")]);
    let small = pod("small", &[("cpu", "1")]);
    let wanted = critical("c", &[("cpu", "500m")]);
    assert_eq!(
        admit(&wanted, &node(), &[&big, &small]),
        preempting("small")
    );
    let wanted = critical("c", &[("cpu", "2")]);
    assert_eq!(admit(&wanted, &node(), &[&big, &small]), preempting("big"));
}

#[test]
fn adm_09_when_all_pods_are_critical_there_is_no_room() {
    let taken = critical("a", &[("cpu", "4")]);
    let (reason, message) = rejection(admit(&critical("c", &[("cpu", "1")]), &node(), &[&taken]));
    assert_eq!(reason, "UnexpectedAdmissionError");
    assert_eq!(
        message,
        "Unexpected error while attempting to recover from admission failure: preemption: error \
         finding a set of pods to preempt: no set of running pods found to reclaim resources: \
         [(res: cpu, q: 1000), ]"
    );
}

#[test]
fn adm_09_room_does_not_heal_a_taken_port() {
    let taken = with_port(pod("a", &[("cpu", "4")]), Some(80), "", "TCP");
    let wanted = with_port(critical("c", &[("cpu", "1")]), Some(80), "", "TCP");
    assert_eq!(rejection(admit(&wanted, &node(), &[&taken])).0, "NodePorts");
}
