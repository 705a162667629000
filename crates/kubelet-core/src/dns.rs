//! Name servers, search domains and options of a pod (SPEC-20..24).
//!
//! Kubernetes kubelet, `network/dns`. Upstream keeps options in a map and so in no order; here they
//! stand in the order in which they were first named.

use std::net::IpAddr;

use cri_api::v1::DnsConfig;
use k8s_openapi::api::core::v1::{Pod, PodDNSConfigOption};

use crate::ids::{PodKey, pod_in_message};
use crate::reasons::EventReason;
use crate::spec;

/// Most name servers.
const MAX_SERVERS: usize = 3;
/// Most search domains.
const MAX_SEARCHES: usize = 32;
/// Longest list of search domains, in bytes.
const MAX_SEARCH_BYTES: usize = 2048;
/// Longest search domain, in bytes.
const MAX_DOMAIN_BYTES: usize = 253;

/// What a `resolv.conf` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvConf {
    /// Name servers, in order.
    pub servers: Vec<String>,
    /// Search domains of the last search line, without trailing dots.
    pub searches: Vec<String>,
    /// Options; a later one of the same name replaces an earlier one.
    pub options: Vec<String>,
    /// Lines that say nothing, such as `nameserver` alone.
    pub malformed: Vec<String>,
}

impl ResolvConf {
    /// Why no pod can be given it, in upstream's words.
    pub fn fault(&self) -> Option<&'static str> {
        (!self.malformed.is_empty()).then_some("nameserver list is empty ")
    }
}

/// Reads the text of a `resolv.conf` (SPEC-20). Comments and unknown lines are skipped.
pub fn parse_resolv_conf(text: &str) -> ResolvConf {
    let mut conf = ResolvConf::default();
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
    {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => match words.next() {
                Some(server) => conf.servers.push(server.to_owned()),
                None => conf.malformed.push(line.to_owned()),
            },
            Some("search") => {
                conf.searches = words
                    .filter(|domain| *domain != ".")
                    .map(|domain| domain.strip_suffix('.').unwrap_or(domain).to_owned())
                    .collect();
            }
            Some("options") => {
                for option in words {
                    set_option(&mut conf.options, option.to_owned());
                }
            }
            _ => {}
        }
    }
    conf
}

/// DNS settings of the node.
#[derive(Debug, Clone, Copy)]
pub struct DnsSettings<'a> {
    /// What the file at `resolvConf` says; `None` when the setting is empty (SPEC-23).
    pub resolv_conf: Option<&'a ResolvConf>,
    /// `clusterDNS`.
    pub cluster_dns: &'a [IpAddr],
    /// `clusterDomain`.
    pub cluster_domain: &'a str,
    /// Addresses of the node.
    pub node_ips: &'a [IpAddr],
}

/// An event that follows from building the settings; type Warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsWarning {
    /// The event's reason.
    pub reason: EventReason,
    /// The event's text.
    pub message: String,
}

/// The pod's DNS settings, and the warnings to record on it. A warning of `MissingClusterDNS` goes
/// on the node as well, without its first sentence (SPEC-21).
pub fn pod_dns(pod: &Pod, settings: &DnsSettings<'_>) -> (DnsConfig, Vec<DnsWarning>) {
    let mut warnings = Vec::new();
    let mut config = match base(pod) {
        Base::None => DnsConfig::default(),
        Base::Cluster if !settings.cluster_dns.is_empty() => cluster(pod, settings),
        Base::Cluster => {
            warnings.push(DnsWarning {
                reason: EventReason::MissingClusterDns,
                message: format!(
                    "pod: \"{}\". {}",
                    pod_in_message(pod),
                    missing_cluster_dns_message()
                ),
            });
            host(settings)
        }
        Base::Host => host(settings),
    };
    if let Some(own) = pod.spec.as_ref().and_then(|spec| spec.dns_config.as_ref()) {
        config
            .servers
            .extend(own.nameservers.iter().flatten().cloned());
        config
            .searches
            .extend(own.searches.iter().flatten().cloned());
        remove_duplicates(&mut config.servers);
        remove_duplicates(&mut config.searches);
        for option in own.options.iter().flatten() {
            set_option(&mut config.options, option_text(option));
        }
    }
    fit(&mut config, &mut warnings);
    (config, warnings)
}

/// Text of the event on the node when `clusterDNS` is missing (SPEC-21).
pub fn missing_cluster_dns_message() -> String {
    "kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" \
     policy. Falling back to \"Default\" policy."
        .to_owned()
}

/// The first fault of the node's own file, as the event `CheckLimitsForResolvConf` has it (SPEC-24).
pub fn check_resolv_conf(conf: &ResolvConf, path: &str, cluster_domain: &str) -> Option<String> {
    if let Some(fault) = conf.fault() {
        return Some(fault.to_owned());
    }
    let limit = MAX_SEARCHES - if cluster_domain.is_empty() { 0 } else { 3 };
    if conf.searches.len() > limit {
        return Some(format!(
            "Resolv.conf file '{path}' contains search line consisting of more than {limit} domains!"
        ));
    }
    if conf
        .searches
        .iter()
        .any(|domain| domain.len() > MAX_DOMAIN_BYTES)
    {
        return Some(format!(
            "Resolv.conf file \"{path}\" contains a search path which length is more than allowed \
             {MAX_DOMAIN_BYTES} chars!"
        ));
    }
    (conf.searches.join(" ").len() > MAX_SEARCH_BYTES).then(|| {
        format!(
            "Resolv.conf file '{path}' contains search line which length is more than allowed \
             {MAX_SEARCH_BYTES} chars!"
        )
    })
}

enum Base {
    None,
    Cluster,
    Host,
}

fn base(pod: &Pod) -> Base {
    match pod
        .spec
        .as_ref()
        .and_then(|spec| spec.dns_policy.as_deref())
    {
        Some("None") => Base::None,
        Some("Default") => Base::Host,
        Some("ClusterFirst") | None if spec::is_host_network(pod) => Base::Host,
        // An unknown policy counts as ClusterFirst, as upstream does.
        _ => Base::Cluster,
    }
}

fn cluster(pod: &Pod, settings: &DnsSettings<'_>) -> DnsConfig {
    let domain = settings.cluster_domain;
    let mut searches = Vec::new();
    if !domain.is_empty() {
        let namespace = PodKey::of(pod).namespace;
        searches.push(format!("{namespace}.svc.{domain}"));
        searches.push(format!("svc.{domain}"));
        searches.push(domain.to_owned());
    }
    searches.extend(
        settings
            .resolv_conf
            .iter()
            .flat_map(|conf| conf.searches.iter().cloned()),
    );
    if !domain.is_empty() {
        remove_duplicates(&mut searches);
    }
    DnsConfig {
        servers: settings
            .cluster_dns
            .iter()
            .map(ToString::to_string)
            .collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

fn host(settings: &DnsSettings<'_>) -> DnsConfig {
    if let Some(conf) = settings.resolv_conf {
        return DnsConfig {
            servers: conf.servers.clone(),
            searches: conf.searches.clone(),
            options: conf.options.clone(),
        };
    }
    // Without a file: the local machine, which ends most look-ups at once (SPEC-23).
    let mut servers: Vec<String> = settings
        .node_ips
        .iter()
        .map(|ip| if ip.is_ipv6() { "::1" } else { "127.0.0.1" }.to_owned())
        .collect();
    if servers.is_empty() {
        servers.push("127.0.0.1".to_owned());
    }
    DnsConfig {
        servers,
        searches: vec![".".to_owned()],
        options: Vec::new(),
    }
}

/// SPEC-24.
fn fit(config: &mut DnsConfig, warnings: &mut Vec<DnsWarning>) {
    let mut warn = |message: String| {
        warnings.push(DnsWarning {
            reason: EventReason::DnsConfigForming,
            message,
        });
    };
    if config.servers.len() > MAX_SERVERS {
        config.servers.truncate(MAX_SERVERS);
        warn(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied \
             nameserver line is: {}",
            config.servers.join(" ")
        ));
    }
    let before = config.searches.len();
    config.searches.truncate(MAX_SEARCHES);
    config
        .searches
        .retain(|domain| domain.len() <= MAX_DOMAIN_BYTES);
    while config.searches.join(" ").len() > MAX_SEARCH_BYTES {
        config.searches.pop();
    }
    if config.searches.len() < before {
        warn(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied \
             search line is: {}",
            config.searches.join(" ")
        ));
    }
}

fn remove_duplicates(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

fn set_option(options: &mut Vec<String>, option: String) {
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    match options
        .iter_mut()
        .find(|known| name(known) == name(&option))
    {
        Some(known) => *known = option,
        None => options.push(option),
    }
}

fn option_text(option: &PodDNSConfigOption) -> String {
    let name = option.name.as_deref().unwrap_or_default();
    match option.value.as_deref().filter(|value| !value.is_empty()) {
        Some(value) => format!("{name}:{value}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
