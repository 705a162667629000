//! CRI requests against the Docker requests that upstream makes of them.

use std::collections::BTreeMap;

use cri_api::v1::security_profile::ProfileType;
use cri_api::v1::{self, NamespaceMode};

use super::{CgroupDriver, Facts, container, sandbox};
use crate::engine::ApiVersion;
use crate::engine::model::{CreateContainer, LogConfig, NetworkingConfig};
use crate::invalid::Invalid;

const OLD: Facts = Facts {
    api: ApiVersion(41),
    cgroup_driver: CgroupDriver::Cgroupfs,
    lowest_oom_score: i64::MIN,
    has_cdi: false,
    has_selinux: true,
};
const NEW: Facts = Facts {
    api: ApiVersion(44),
    ..OLD
};

fn pod() -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        log_directory: "/var/log/pods/p/".to_owned(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: "/kubepods.slice/kubepods-pod1.slice".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn make_sandbox(config: &v1::PodSandboxConfig, facts: &Facts) -> Result<CreateContainer, Invalid> {
    let plan = sandbox::Plan {
        image: "pause",
        network_mode: "default",
        network: "bridge",
        user_defined: None,
        runtime: "",
        handler: "",
    };
    sandbox::translate(config, plan, facts)
}

fn config() -> v1::ContainerConfig {
    v1::ContainerConfig {
        image: Some(v1::ImageSpec {
            image: "busybox".to_owned(),
            ..Default::default()
        }),
        log_path: "c/0.log".to_owned(),
        linux: Some(v1::LinuxContainerConfig {
            security_context: Some(v1::LinuxContainerSecurityContext::default()),
            resources: None,
        }),
        ..Default::default()
    }
}

fn context(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerSecurityContext {
    config
        .linux
        .as_mut()
        .unwrap()
        .security_context
        .as_mut()
        .unwrap()
}

fn make(config: &v1::ContainerConfig, facts: &Facts) -> Result<CreateContainer, Invalid> {
    let plan = container::Plan {
        sandbox_id: "s1",
        runtime: "",
        seccomp_json: Some("{}"),
        users: None,
        log_config: &LogConfig::default(),
    };
    container::translate(config, &pod(), plan, facts)
}

const fn int(value: i64) -> v1::Int64Value {
    v1::Int64Value { value }
}

#[test]
fn sandbox_has_what_upstream_always_sets() {
    let made = make_sandbox(&pod(), &OLD).unwrap();
    let host = made.host_config;
    assert_eq!(
        (host.ipc_mode.as_str(), host.network_mode.as_str()),
        ("shareable", "default")
    );
    assert_eq!((host.oom_score_adj, host.resources.cpu_shares), (-998, 2));
    assert_eq!(host.shm_size, 67_108_864);
    assert_eq!(host.security_opt, ["no-new-privileges"]);
    assert_eq!(made.labels["io.kubernetes.docker.type"], "podsandbox");
    assert_eq!(made.labels["io.kubernetes.container.name"], "POD");
}

#[test]
fn oom_score_is_clamped_to_what_the_host_allows() {
    let facts = Facts {
        lowest_oom_score: 0,
        ..OLD
    };
    assert_eq!(
        make_sandbox(&pod(), &facts)
            .unwrap()
            .host_config
            .oom_score_adj,
        0
    );
}

#[test]
fn systemd_driver_takes_the_last_part_of_the_cgroup_parent() {
    let facts = Facts {
        cgroup_driver: CgroupDriver::Systemd,
        ..OLD
    };
    let parent = |facts| {
        make_sandbox(&pod(), facts)
            .unwrap()
            .host_config
            .cgroup_parent
    };
    assert_eq!(parent(&facts), "kubepods-pod1.slice");
    assert_eq!(parent(&OLD), "/kubepods.slice/kubepods-pod1.slice");
}

#[test]
fn sysctls_of_the_interface_go_to_the_endpoint_where_docker_takes_them_only_there() {
    let mut config = pod();
    let all = [
        ("net.ipv4.conf.eth0.rp_filter", "2"),
        ("net.ipv6.neigh.eth0.gc_stale_time", "9"),
        ("net.ipv4.conf.all.rp_filter", "1"),
        ("net.ipv4.conf.eth1.rp_filter", "0"),
        ("net.ipv4.conf.eth0.a/b", "0"),
        ("net.ipv4.conf.eth0..", "0"),
    ];
    let all: BTreeMap<_, _> = all.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    config.linux.as_mut().unwrap().sysctls.clone_from(&all);
    config.metadata = Some(v1::PodSandboxMetadata {
        name: "p".to_owned(),
        namespace: "n".to_owned(),
        ..Default::default()
    });
    let mut others = all.clone();
    others.retain(|_, value| !["2", "9"].contains(&value.as_str()));
    let make = |network_mode, user_defined, facts: &Facts| {
        let plan = sandbox::Plan {
            image: "pause",
            network_mode,
            network: "bridge",
            user_defined,
            runtime: "",
            handler: "",
        };
        sandbox::translate(&config, plan, facts).unwrap()
    };
    let newest = Facts {
        api: ApiVersion(48),
        ..OLD
    };
    // Docker sees to it.
    let before = Facts {
        api: ApiVersion(47),
        ..OLD
    };
    let made = make("default", None, &before);
    assert_eq!(made.host_config.sysctls, all);
    assert_eq!(made.networking_config, NetworkingConfig::default());

    let options = "net.ipv4.conf.IFNAME.rp_filter=2,net.ipv6.neigh.IFNAME.gc_stale_time=9";
    let options = (
        "com.docker.network.endpoint.sysctls".to_owned(),
        options.to_owned(),
    );
    for (mode, user_defined, aliases) in [
        ("default", None, &[] as &[&str]),
        ("mine", Some("mine"), &["p", "p.n"]),
    ] {
        let made = make(mode, user_defined, &newest);
        assert_eq!(made.host_config.sysctls, others);
        let endpoint = &made.networking_config.endpoints_config[mode];
        assert_eq!(endpoint.aliases, aliases);
        assert_eq!(endpoint.driver_opts, BTreeMap::from([options.clone()]));
    }
    // CNI's plugins make the interface.
    for facts in [OLD, newest] {
        let made = make("none", None, &facts);
        assert_eq!(made.host_config.sysctls, others);
        assert_eq!(made.networking_config, NetworkingConfig::default());
    }
}

#[test]
fn host_network_pod_publishes_nothing() {
    let mut config = pod();
    config.hostname = "h".to_owned();
    config.port_mappings = vec![v1::PortMapping {
        container_port: 80,
        host_port: 8080,
        ..Default::default()
    }];
    let made = make_sandbox(&config, &OLD).unwrap();
    assert_eq!(
        made.host_config.port_bindings["80/tcp"][0].host_port,
        "8080"
    );
    let linux = config.linux.as_mut().unwrap();
    linux.security_context = Some(v1::LinuxSandboxSecurityContext {
        namespace_options: Some(v1::NamespaceOption {
            network: NamespaceMode::Node.into(),
            pid: NamespaceMode::Node.into(),
            ipc: NamespaceMode::Node.into(),
            ..Default::default()
        }),
        ..Default::default()
    });
    let made = make_sandbox(&config, &OLD).unwrap();
    let host = made.host_config;
    let modes = [host.network_mode, host.pid_mode, host.ipc_mode];
    assert_eq!(modes, ["host", "host", "host"]);
    assert!(host.port_bindings.is_empty() && made.hostname.is_empty());
}

#[test]
fn ports_without_a_host_port_are_left_out_and_equal_ones_add_up() {
    let mut config = pod();
    let port = |container_port, host_port, host_ip: &str| v1::PortMapping {
        container_port,
        host_port,
        host_ip: host_ip.to_owned(),
        ..Default::default()
    };
    config.port_mappings = vec![port(80, 0, ""), port(53, 1, "127.0.0.1"), port(53, 2, "")];
    let host = make_sandbox(&config, &OLD).unwrap().host_config;
    assert_eq!(host.port_bindings.keys().collect::<Vec<_>>(), ["53/tcp"]);
    assert_eq!(host.port_bindings["53/tcp"].len(), 2);
}

#[test]
fn user_namespace_of_a_pod_is_refused() {
    let mut config = pod();
    let userns = |mode: NamespaceMode| v1::LinuxSandboxSecurityContext {
        namespace_options: Some(v1::NamespaceOption {
            userns_options: Some(v1::UserNamespace {
                mode: mode.into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    config.linux.as_mut().unwrap().security_context = Some(userns(NamespaceMode::Node));
    assert!(make_sandbox(&config, &OLD).is_ok());
    config.linux.as_mut().unwrap().security_context = Some(userns(NamespaceMode::Pod));
    assert!(matches!(make_sandbox(&config, &OLD), Err(Invalid(_))));
}

#[test]
fn resolv_conf_has_servers_then_search_then_options() {
    let mut config = pod();
    assert_eq!(sandbox::resolv_conf(&config), None);
    config.dns_config = Some(v1::DnsConfig::default());
    assert_eq!(sandbox::resolv_conf(&config), None);
    config.dns_config = Some(v1::DnsConfig {
        servers: vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()],
        searches: vec!["a".to_owned(), "b".to_owned()],
        options: vec!["ndots:5".to_owned()],
    });
    let expected = "nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch a b\noptions ndots:5\n";
    assert_eq!(sandbox::resolv_conf(&config).as_deref(), Some(expected));
}

#[test]
fn container_joins_its_sandbox() {
    let made = make(&config(), &OLD).unwrap();
    let host = &made.host_config;
    assert_eq!(host.network_mode, "container:s1");
    assert_eq!(host.ipc_mode, "container:s1");
    assert_eq!(host.pid_mode, "container:s1", "the enum's zero is POD");
    assert_eq!(host.restart_policy.as_ref().unwrap().name, "no");
    assert_eq!(made.healthcheck.unwrap().test, ["NONE"]);
    assert_eq!(made.labels["io.kubernetes.sandbox.id"], "s1");
    assert_eq!(
        made.labels["io.kubernetes.container.logpath"],
        "/var/log/pods/p/c/0.log"
    );
}

#[test]
fn lbl_02_log_paths_are_clean() {
    let path = |directory: &str, path: &str| {
        let mut sandbox = pod();
        directory.clone_into(&mut sandbox.log_directory);
        let mut config = config();
        path.clone_into(&mut config.log_path);
        container::log_path(&config, &sandbox)
    };
    assert_eq!(
        path("/var/log/pods/p/", "c/0.log"),
        "/var/log/pods/p/c/0.log"
    );
    assert_eq!(path("/logs//p/../q", "./c/0.log"), "/logs/q/c/0.log");
    assert_eq!(path("", "/x/0.log"), "/x/0.log");
    assert_eq!(path("/logs", ""), "");
}

#[test]
fn pid_modes_follow_the_request() {
    for (mode, expected) in [
        (NamespaceMode::Pod, "container:s1"),
        (NamespaceMode::Container, ""),
        (NamespaceMode::Node, "host"),
        (NamespaceMode::Target, "container:t"),
    ] {
        let mut config = config();
        context(&mut config).namespace_options = Some(v1::NamespaceOption {
            pid: mode.into(),
            target_id: "t".to_owned(),
            ..Default::default()
        });
        assert_eq!(make(&config, &OLD).unwrap().host_config.pid_mode, expected);
    }
}

#[test]
fn users_are_written_as_docker_reads_them() {
    let user = |id, name: &str, group| {
        let mut config = config();
        let context = context(&mut config);
        context.run_as_user = id;
        context.run_as_username = name.to_owned();
        context.run_as_group = group;
        make(&config, &OLD).map(|made| made.user)
    };
    assert_eq!(user(None, "", None).unwrap(), "");
    assert_eq!(user(Some(int(0)), "", None).unwrap(), "0");
    assert_eq!(
        user(Some(int(1001)), "", Some(int(1002))).unwrap(),
        "1001:1002"
    );
    assert_eq!(user(Some(int(1)), "nobody", None).unwrap(), "nobody");
    let error = user(None, "", Some(int(5))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "runAsGroup is specified without a runAsUser"
    );
}

#[test]
fn security_options_come_in_upstreams_order() {
    let mut config = config();
    let c = context(&mut config);
    c.selinux_options = Some(v1::SeLinuxOption {
        level: "s0".to_owned(),
        ..Default::default()
    });
    c.no_new_privs = true;
    c.apparmor = Some(v1::SecurityProfile {
        profile_type: ProfileType::Localhost.into(),
        localhost_ref: "localhost/prof".to_owned(),
    });
    c.seccomp = Some(v1::SecurityProfile {
        profile_type: ProfileType::Localhost.into(),
        localhost_ref: "/p.json".to_owned(),
    });
    assert_eq!(
        make(&config, &OLD).unwrap().host_config.security_opt,
        [
            "label=level:s0",
            "apparmor=prof",
            "no-new-privileges",
            "seccomp={}"
        ]
    );
}

#[test]
fn absent_seccomp_profile_is_unconfined_and_runtime_default_is_dockers() {
    let mut config = config();
    assert_eq!(
        make(&config, &OLD).unwrap().host_config.security_opt,
        ["seccomp=unconfined"]
    );
    context(&mut config).seccomp = Some(v1::SecurityProfile::default());
    assert!(
        make(&config, &OLD)
            .unwrap()
            .host_config
            .security_opt
            .is_empty()
    );
}

#[test]
fn empty_path_lists_unmask_only_for_the_kubelet() {
    let mut config = config();
    assert_eq!(make(&config, &OLD).unwrap().host_config.masked_paths, None);
    config.annotations =
        BTreeMap::from([("io.kubernetes.container.hash".to_owned(), "1".to_owned())]);
    assert_eq!(
        make(&config, &OLD).unwrap().host_config.masked_paths,
        Some(Vec::new())
    );
    context(&mut config).masked_paths = vec!["/proc/kcore".to_owned()];
    let host = make(&config, &OLD).unwrap().host_config;
    assert_eq!(host.masked_paths, Some(vec!["/proc/kcore".to_owned()]));
    assert_eq!(host.readonly_paths, None);
}

#[test]
fn limits_leave_no_swap_unless_asked_for() {
    let mut config = config();
    let limits = v1::LinuxContainerResources {
        memory_limit_in_bytes: 5,
        ..Default::default()
    };
    config.linux.as_mut().unwrap().resources = Some(limits.clone());
    let resources = make(&config, &OLD).unwrap().host_config.resources;
    assert_eq!((resources.memory, resources.memory_swap), (5, 5));
    let limits = v1::LinuxContainerResources {
        memory_swap_limit_in_bytes: 9,
        ..limits
    };
    assert_eq!(super::update(&limits).memory_swap, 9);
}

#[test]
fn swap_limit_among_the_cgroups_files_is_told_to_docker_beside_one_of_memory() {
    let swap = |memory: i64, file: &str| {
        let limits = v1::LinuxContainerResources {
            memory_limit_in_bytes: memory,
            unified: BTreeMap::from([("memory.swap.max".to_owned(), file.to_owned())]),
            ..Default::default()
        };
        super::update(&limits).memory_swap
    };
    assert_eq!(swap(5, "0"), 5);
    assert_eq!(swap(5, "3"), 8);
    assert_eq!(swap(5, "max"), -1);
    assert_eq!(swap(5, "nonsense"), 5);
    assert_eq!(
        swap(0, "3"),
        0,
        "Docker refuses it without a limit of memory"
    );
}

#[test]
fn files_of_the_cgroup_are_kept_in_a_label_and_others_refused() {
    let mut config = config();
    let mut limits = v1::LinuxContainerResources {
        unified: BTreeMap::from([("memory.oom.group".to_owned(), "1".to_owned())]),
        ..Default::default()
    };
    config.linux.as_mut().unwrap().resources = Some(limits.clone());
    let made = make(&config, &OLD).unwrap();
    assert_eq!(
        made.labels["io.berth.unified"],
        r#"{"memory.oom.group":"1"}"#
    );
    limits
        .unified
        .insert("cgroup.procs".to_owned(), "1".to_owned());
    config.linux.as_mut().unwrap().resources = Some(limits);
    let refused = make(&config, &OLD).unwrap_err();
    assert!(refused.to_string().contains("cgroup.procs"), "{refused}");
}

fn mount() -> v1::Mount {
    v1::Mount {
        host_path: "/h".to_owned(),
        container_path: "/c".to_owned(),
        readonly: true,
        ..Default::default()
    }
}

fn with_mount(mount: v1::Mount, facts: &Facts) -> Result<CreateContainer, Invalid> {
    make(
        &v1::ContainerConfig {
            mounts: vec![mount],
            ..config()
        },
        facts,
    )
}

#[test]
fn mounts_are_binds_on_old_engines() {
    use v1::MountPropagation::{PropagationBidirectional, PropagationHostToContainer};
    let bind = |mount| with_mount(mount, &OLD).unwrap().host_config.binds.remove(0);
    assert_eq!(bind(mount()), "/h:/c:ro");
    assert_eq!(
        bind(v1::Mount {
            readonly: false,
            ..mount()
        }),
        "/h:/c"
    );
    let both = v1::Mount {
        selinux_relabel: true,
        propagation: PropagationBidirectional.into(),
        ..mount()
    };
    assert_eq!(bind(both), "/h:/c:ro,Z,rshared");
    let slave = v1::Mount {
        propagation: PropagationHostToContainer.into(),
        ..mount()
    };
    assert_eq!(bind(slave), "/h:/c:ro,rslave");
}

#[test]
fn read_only_mount_stays_shallow_on_new_engines() {
    let host = with_mount(mount(), &NEW).unwrap().host_config;
    let options = &host.mounts[0].bind_options;
    assert!(options.read_only_non_recursive && options.create_mountpoint);
    assert!(!options.read_only_force_recursive);
    // Docker refuses a private mount of what holds its own directory.
    assert_eq!(options.propagation, "");
    let deep = v1::Mount {
        recursive_read_only: true,
        ..mount()
    };
    let host = with_mount(deep, &NEW).unwrap().host_config;
    assert!(host.mounts[0].bind_options.read_only_force_recursive);
    assert!(!host.mounts[0].bind_options.read_only_non_recursive);
    assert_eq!(host.mounts[0].bind_options.propagation, "rprivate");
}

#[test]
fn relabelling_hinders_nothing_where_there_is_no_selinux() {
    let facts = Facts {
        has_selinux: false,
        ..NEW
    };
    let deep = v1::Mount {
        recursive_read_only: true,
        selinux_relabel: true,
        ..mount()
    };
    assert!(with_mount(deep.clone(), &NEW).is_err());
    let host = with_mount(deep, &facts).unwrap().host_config;
    assert!(host.mounts[0].bind_options.read_only_force_recursive);
    let shallow = v1::Mount {
        selinux_relabel: true,
        ..mount()
    };
    let host = with_mount(shallow, &facts).unwrap().host_config;
    assert!(host.mounts[0].bind_options.read_only_non_recursive);
}

#[test]
fn path_with_a_colon_takes_the_long_form() {
    let odd = v1::Mount {
        host_path: "/h:x".to_owned(),
        ..mount()
    };
    let host = with_mount(odd, &OLD).unwrap().host_config;
    assert!(host.binds.is_empty());
    assert_eq!(host.mounts[0].source, "/h:x");
}

#[test]
fn recursive_read_only_is_refused_where_it_cannot_hold() {
    let deep = v1::Mount {
        recursive_read_only: true,
        ..mount()
    };
    let refused = |mount, facts| matches!(with_mount(mount, facts), Err(Invalid(_)));
    assert!(refused(deep.clone(), &OLD));
    assert!(refused(
        v1::Mount {
            readonly: false,
            ..deep.clone()
        },
        &NEW
    ));
    assert!(refused(
        v1::Mount {
            propagation: 1,
            ..deep.clone()
        },
        &NEW
    ));
    assert!(refused(
        v1::Mount {
            propagation: 2,
            ..deep
        },
        &NEW
    ));
}
