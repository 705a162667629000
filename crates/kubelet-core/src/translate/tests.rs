use cri_api::v1;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Pod, PodSecurityContext, PodSpec, SecurityContext, VolumeMount,
};

use super::*;
use crate::resources::ContainerResourceSettings;

fn facts() -> NodeFacts {
    NodeFacts {
        resources: ContainerResourceSettings::default(),
        cluster_domain: "cluster.local".into(),
        hostname_override: crate::hostname::HostnameOverride::Disabled,
        seccomp_default: false,
        seccomp_root: "/var/lib/kubelet/seccomp".into(),
        extra_masked_paths: Vec::new(),
        logs_directory: "/var/log/pods".into(),
        recursive_read_only: false,
        supplemental_groups_policy: false,
        selinux: true,
    }
}

fn pod(spec: PodSpec) -> Pod {
    let mut pod = Pod {
        spec: Some(spec),
        ..Pod::default()
    };
    pod.metadata.name = Some("p-node".into());
    pod.metadata.namespace = Some("ns".into());
    pod.metadata.uid = Some("u".into());
    pod.metadata.labels = Some([("app".to_owned(), "x".to_owned())].into());
    pod
}

fn sandbox(pod: &Pod) -> Result<cri_api::v1::PodSandboxConfig, TranslateError> {
    sandbox_config(&SandboxInput {
        pod,
        attempt: 3,
        dns: &cri_api::v1::DnsConfig::default(),
        cgroup_parent: "/kubepods/besteffort/podu",
        facts: &facts(),
    })
}

fn container(
    pod: &Pod,
    container: &Container,
    user: &ImageUser,
) -> Result<cri_api::v1::ContainerConfig, TranslateError> {
    let mounts: Vec<MountPath> = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|mount| MountPath {
            source: MountSource::Path(format!("/host/{}", mount.name).into()),
            relabel: true,
            read_only: false,
        })
        .collect();
    container_config(&ContainerInput {
        pod,
        container,
        attempt: 2,
        image: "sha256:abc",
        image_user: user,
        environment: &[("A".to_owned(), "a".to_owned())].into(),
        mounts: &mounts,
        own_mounts: &OwnMounts {
            etc_hosts: Some("/pods/u/etc-hosts".into()),
            termination_message: Some("/pods/u/containers/c/00000000".into()),
        },
        facts: &facts(),
    })
}

#[test]
fn cri30_to_35_sandbox_carries_the_pods_names_and_every_port_once() {
    let port = |host_port| ContainerPort {
        container_port: 80,
        host_port,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
    let with_ports = Container {
        name: "c".into(),
        ports: Some(vec![port(None), port(Some(8080)), port(Some(8080))]),
        ..Container::default()
    };
    let config = sandbox(&pod(PodSpec {
        containers: vec![with_ports],
        ..PodSpec::default()
    }))
    .unwrap();
    let metadata = config.metadata.unwrap();
    assert_eq!((metadata.name.as_str(), metadata.attempt), ("p-node", 3));
    assert_eq!(config.hostname, "p-node");
    assert_eq!(config.log_directory, "/var/log/pods/ns_p-node_u");
    assert_eq!(config.labels["io.kubernetes.pod.uid"], "u");
    assert_eq!(config.labels["app"], "x");
    let ports: Vec<i32> = config
        .port_mappings
        .iter()
        .map(|port| port.host_port)
        .collect();
    assert_eq!(ports, [0, 8080]);
    assert_eq!(
        config.linux.unwrap().cgroup_parent,
        "/kubepods/besteffort/podu"
    );
}

#[test]
fn cri31_host_network_pods_have_no_hostname_of_their_own() {
    let config = sandbox(&pod(PodSpec {
        host_network: Some(true),
        ..PodSpec::default()
    }))
    .unwrap();
    assert_eq!(config.hostname, "");
    let options = config
        .linux
        .unwrap()
        .security_context
        .unwrap()
        .namespace_options
        .unwrap();
    assert_eq!(options.network(), cri_api::v1::NamespaceMode::Node);
    assert_eq!(options.pid(), cri_api::v1::NamespaceMode::Container);
}

#[test]
fn spec53_user_namespaces_are_refused_by_name() {
    let error = sandbox(&pod(PodSpec {
        host_users: Some(false),
        ..PodSpec::default()
    }))
    .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("can't set `spec.hostUsers: false`")
    );
}

#[test]
fn cri53_own_files_come_last_and_give_way_to_volumes() {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        ..VolumeMount::default()
    };
    let mut subject = Container {
        name: "c".into(),
        termination_message_path: Some("/dev/termination-log".into()),
        volume_mounts: Some(vec![mount("v", "data")]),
        ..Container::default()
    };
    let owner = pod(PodSpec::default());
    let paths = |config: &cri_api::v1::ContainerConfig| -> Vec<String> {
        config
            .mounts
            .iter()
            .map(|mount| mount.container_path.clone())
            .collect()
    };
    let config = container(&owner, &subject, &ImageUser::Uid(0)).unwrap();
    assert_eq!(
        paths(&config),
        ["/data", "/etc/hosts", "/dev/termination-log"]
    );
    assert_eq!(config.mounts[0].host_path, "/host/v");
    subject.volume_mounts = Some(vec![mount("v", "/etc/hosts")]);
    let config = container(&owner, &subject, &ImageUser::Uid(0)).unwrap();
    assert_eq!(paths(&config), ["/etc/hosts", "/dev/termination-log"]);
    subject.termination_message_path = Some("own".into());
    let config = container(&owner, &subject, &ImageUser::Uid(0)).unwrap();
    assert_eq!(paths(&config), ["/etc/hosts", "/own"]);
}

#[test]
fn cri56_annotations_and_names_let_a_later_kubelet_know_the_container() {
    let subject = Container {
        name: "test_container".into(),
        image: Some("foo/image:v1".into()),
        args: Some(vec!["$(A)".into(), "$(B)".into()]),
        ..Container::default()
    };
    let spec = PodSpec {
        termination_grace_period_seconds: Some(30),
        ..PodSpec::default()
    };
    let config = container(&pod(spec), &subject, &ImageUser::Uid(0)).unwrap();
    assert_eq!(
        config.annotations["io.kubernetes.container.hash"],
        "8e45cbd0"
    );
    assert_eq!(
        config.annotations["io.kubernetes.container.restartCount"],
        "2"
    );
    assert_eq!(
        config.annotations["io.kubernetes.pod.terminationGracePeriod"],
        "30"
    );
    assert_eq!(config.log_path, "test_container/2.log");
    assert_eq!(config.args, ["a", "$(B)"]);
    assert_eq!(config.image.unwrap().user_specified_image, "foo/image:v1");
}

#[test]
fn spec41_non_root_is_verified_before_the_container_is_made() {
    let subject = |run_as_user| Container {
        security_context: Some(SecurityContext {
            run_as_non_root: Some(true),
            run_as_user,
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    let owner = pod(PodSpec::default());
    let result = |user, image: ImageUser| container(&owner, &subject(user), &image).map(drop);
    let wanted = result(Some(0), ImageUser::Uid(5));
    assert!(matches!(wanted, Err(TranslateError::RunsAsRoot(_))));
    let subject = super::Subject::of(&owner, &subject(None));
    assert_eq!(
        result(None, ImageUser::Uid(0)).unwrap_err().to_string(),
        format!("container has runAsNonRoot and image will run as root {subject}")
    );
    let named = result(None, ImageUser::Name("www".into())).unwrap_err();
    assert!(named.to_string().contains("non-numeric user (www)"));
    assert_eq!(result(Some(5), ImageUser::Name("www".into())), Ok(()));
}

#[test]
fn spec46_to_50_the_containers_own_context_is_before_the_pods() {
    let owner = pod(PodSpec {
        security_context: Some(PodSecurityContext {
            run_as_user: Some(1),
            fs_group: Some(10),
            supplemental_groups: Some(vec![11]),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    });
    let subject = Container {
        security_context: Some(SecurityContext {
            run_as_user: Some(2),
            allow_privilege_escalation: Some(false),
            proc_mount: Some("Unmasked".into()),
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    let of = |subject: &Container| {
        container(&owner, subject, &ImageUser::Uid(0))
            .unwrap()
            .linux
            .unwrap()
            .security_context
            .unwrap()
    };
    let context = of(&subject);
    assert_eq!(context.run_as_user.unwrap().value, 2);
    assert_eq!(context.supplemental_groups, [10, 11]);
    assert!(context.no_new_privs && context.masked_paths.is_empty());
    let plain = of(&Container::default());
    assert_eq!(plain.run_as_user.unwrap().value, 1);
    assert!(plain.masked_paths.contains(&"/proc/kcore".to_owned()));
    assert_eq!(
        plain.seccomp.unwrap().profile_type(),
        cri_api::v1::security_profile::ProfileType::Unconfined
    );
}

#[test]
fn spec47_a_local_profile_is_a_file_below_the_root() {
    let profile = |file: &str| {
        let subject = Container {
            security_context: Some(SecurityContext {
                seccomp_profile: Some(k8s_openapi::api::core::v1::SeccompProfile {
                    type_: "Localhost".into(),
                    localhost_profile: Some(file.to_owned()),
                }),
                ..SecurityContext::default()
            }),
            ..Container::default()
        };
        let config = container(&pod(PodSpec::default()), &subject, &ImageUser::Uid(0))
            .map_err(|error| error.to_string())?;
        let seccomp = config.linux.unwrap().security_context.unwrap().seccomp;
        Ok(seccomp.unwrap().localhost_ref)
    };
    let joined: Result<_, String> = Ok("/var/lib/kubelet/seccomp/a/b.json".to_owned());
    for file in ["a/b.json", "./a/b.json", "a//./b.json/"] {
        assert_eq!(profile(file), joined, "{file}");
    }
    assert_eq!(
        profile("").unwrap_err(),
        "localhostProfile must be set if seccompProfile type is Localhost."
    );
}

#[test]
fn spec51_slashes_in_sysctls_become_dots() {
    let context = PodSecurityContext {
        sysctls: Some(vec![k8s_openapi::api::core::v1::Sysctl {
            name: "kernel/shm_rmid_forced".into(),
            value: "1".into(),
        }]),
        ..PodSecurityContext::default()
    };
    let spec = PodSpec {
        security_context: Some(context),
        ..PodSpec::default()
    };
    let config = sandbox(&pod(spec)).unwrap();
    assert_eq!(config.linux.unwrap().sysctls["kernel.shm_rmid_forced"], "1");
}

#[test]
fn ctr_46_stop_signals_by_the_names_of_the_api() {
    let signal = |name: &str| {
        let container = Container {
            lifecycle: Some(k8s_openapi::api::core::v1::Lifecycle {
                stop_signal: Some(name.to_owned()),
                ..Default::default()
            }),
            ..Container::default()
        };
        stop_signal(&container)
    };
    assert_eq!(signal("SIGUSR1"), v1::Signal::Sigusr1);
    assert_eq!(signal("SIGRTMIN+2"), v1::Signal::Sigrtminplus2);
    assert_eq!(signal("SIGRTMAX-3"), v1::Signal::Sigrtmaxminus3);
    assert_eq!(
        stop_signal(&Container::default()),
        v1::Signal::RuntimeDefault
    );
}
