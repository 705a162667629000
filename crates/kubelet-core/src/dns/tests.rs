use k8s_openapi::api::core::v1::PodDNSConfig;

use super::*;

const HOST: &str = "# comment\nnameserver 1.1.1.1\n nameserver 2.2.2.2 \nsearch old\n\
                    search a.example. . b\noptions ndots:1 rotate\noptions ndots:2\n";

fn pod(policy: &str) -> Pod {
    let mut pod = Pod::default();
    pod.spec.get_or_insert_default().dns_policy = Some(policy.to_owned());
    pod
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn spec_20_last_search_line_wins_and_options_merge() {
    let conf = parse_resolv_conf(&format!("{HOST}nameserver\n"));
    assert_eq!(conf.servers, texts(&["1.1.1.1", "2.2.2.2"]));
    assert_eq!(conf.searches, texts(&["a.example", "b"]));
    assert_eq!(conf.options, texts(&["ndots:2", "rotate"]));
    assert_eq!(conf.malformed, texts(&["nameserver"]));
}

#[test]
fn spec_21_policies() {
    let conf = parse_resolv_conf(HOST);
    let dns: Vec<IpAddr> = vec!["10.96.0.10".parse().unwrap()];
    let settings = DnsSettings {
        resolv_conf: Some(&conf),
        cluster_dns: &dns,
        cluster_domain: "cluster.local",
        node_ips: &[],
    };
    let (cluster, warnings) = pod_dns(&pod("ClusterFirst"), &settings);
    assert_eq!(cluster.servers, texts(&["10.96.0.10"]));
    assert_eq!(
        cluster.searches,
        texts(&[
            "default.svc.cluster.local",
            "svc.cluster.local",
            "cluster.local",
            "a.example",
            "b"
        ])
    );
    assert_eq!(cluster.options, texts(&["ndots:5"]));
    assert!(warnings.is_empty());

    let mut on_host = pod("ClusterFirst");
    on_host.spec.as_mut().unwrap().host_network = Some(true);
    assert_eq!(pod_dns(&on_host, &settings).0.servers, conf.servers);
    on_host.spec.as_mut().unwrap().dns_policy = Some("ClusterFirstWithHostNet".to_owned());
    assert_eq!(
        pod_dns(&on_host, &settings).0.servers,
        texts(&["10.96.0.10"])
    );

    assert_eq!(pod_dns(&pod("Default"), &settings).0.options, conf.options);
    assert_eq!(pod_dns(&pod("None"), &settings).0, DnsConfig::default());
}

#[test]
fn spec_21_without_cluster_dns_the_nodes_file_counts_and_an_event_says_so() {
    let conf = parse_resolv_conf(HOST);
    let settings = DnsSettings {
        resolv_conf: Some(&conf),
        cluster_dns: &[],
        cluster_domain: "",
        node_ips: &[],
    };
    let (config, warnings) = pod_dns(&pod("ClusterFirst"), &settings);
    assert_eq!(config.servers, conf.servers);
    assert_eq!(warnings[0].reason, EventReason::MissingClusterDns);
    assert!(
        warnings[0]
            .message
            .starts_with("pod: \"_default()\". kubelet does not have ClusterDNS")
    );
}

#[test]
fn spec_22_own_settings_are_appended_without_duplicates() {
    let conf = parse_resolv_conf(HOST);
    let settings = DnsSettings {
        resolv_conf: Some(&conf),
        cluster_dns: &[],
        cluster_domain: "",
        node_ips: &[],
    };
    let mut pod = pod("Default");
    let option = |name: &str, value: Option<&str>| PodDNSConfigOption {
        name: Some(name.to_owned()),
        value: value.map(str::to_owned),
    };
    pod.spec.as_mut().unwrap().dns_config = Some(PodDNSConfig {
        nameservers: Some(texts(&["2.2.2.2", "3.3.3.3"])),
        searches: Some(texts(&["b", "c"])),
        options: Some(vec![option("ndots", Some("9")), option("edns0", None)]),
    });
    let (config, _) = pod_dns(&pod, &settings);
    assert_eq!(config.servers, texts(&["1.1.1.1", "2.2.2.2", "3.3.3.3"]));
    assert_eq!(config.searches, texts(&["a.example", "b", "c"]));
    assert_eq!(config.options, texts(&["ndots:9", "rotate", "edns0"]));
}

#[test]
fn spec_23_empty_setting_points_at_the_local_machine() {
    let ips: Vec<IpAddr> = vec!["fd00::1".parse().unwrap()];
    let mut settings = DnsSettings {
        resolv_conf: None,
        cluster_dns: &[],
        cluster_domain: "",
        node_ips: &ips,
    };
    assert_eq!(
        pod_dns(&pod("Default"), &settings).0.servers,
        texts(&["::1"])
    );
    settings.node_ips = &[];
    let (config, _) = pod_dns(&pod("Default"), &settings);
    assert_eq!(
        (config.servers, config.searches),
        (texts(&["127.0.0.1"]), texts(&["."]))
    );
}

#[test]
fn spec_24_limits_trim_and_warn() {
    let domains: Vec<_> = (0..40).map(|n| format!("{n}.{}", "d".repeat(80))).collect();
    let conf = ResolvConf {
        servers: texts(&["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"]),
        searches: std::iter::once("x".repeat(254)).chain(domains).collect(),
        ..Default::default()
    };
    let settings = DnsSettings {
        resolv_conf: Some(&conf),
        cluster_dns: &[],
        cluster_domain: "",
        node_ips: &[],
    };
    let (config, warnings) = pod_dns(&pod("Default"), &settings);
    assert_eq!(config.servers.len(), 3);
    assert!(config.searches.join(" ").len() <= 2048);
    assert!(config.searches.iter().all(|domain| domain.len() <= 253));
    assert_eq!(warnings.len(), 2);
    assert!(
        check_resolv_conf(&conf, "/etc/resolv.conf", "")
            .unwrap()
            .contains("more than 32")
    );
}
