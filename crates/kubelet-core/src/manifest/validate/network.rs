//! Host network, DNS and `/etc/hosts`.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::PodSpec;

use super::super::field::{Errors, Path};
use super::names;
use super::values::{one_of, text};

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_TEXT_MAX: usize = 2048;

pub(super) fn dns_policy(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let policies = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(text(&spec.dns_policy), policies, path, errors);
}

pub(super) fn host_aliases(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = path.index(index);
        ip_address(&alias.ip, &path.child("ip"), errors);
        for (index, name) in alias.hostnames.iter().flatten().enumerate() {
            let path = path.child("hostnames").index(index);
            errors.each(&path, name.as_str(), names::dns_subdomain(name));
        }
    }
}

/// On the host's network a container's port is the host's.
pub(super) fn host_ports(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if spec.host_network != Some(true) {
        return;
    }
    for (index, container) in spec.containers.iter().enumerate() {
        for (port_index, port) in container.ports.iter().flatten().enumerate() {
            let host_port = port.host_port.unwrap_or_default();
            if host_port != 0 && host_port != port.container_port {
                let path = path
                    .index(index)
                    .child("ports")
                    .index(port_index)
                    .child("hostPort");
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid(&path, host_port, detail);
            }
        }
    }
}

pub(super) fn dns_config(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let policy = text(&spec.dns_policy);
    let Some(config) = &spec.dns_config else {
        if policy == "None" {
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let nameservers = config.nameservers.as_deref().unwrap_or_default();
    let searches = config.searches.as_deref().unwrap_or_default();
    let nameservers_path = path.child("nameservers");
    let searches_path = path.child("searches");
    if policy == "None" && nameservers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        return errors.required(&nameservers_path, detail);
    }
    if nameservers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.invalid(&nameservers_path, nameservers.to_vec(), detail);
    }
    for (index, server) in nameservers.iter().enumerate() {
        ip_address(server, &nameservers_path.index(index), errors);
    }
    if searches.len() > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.invalid(&searches_path, searches.to_vec(), detail);
    }
    if searches.join(" ").len() > SEARCH_TEXT_MAX {
        let detail = format!(
            "must not have more than {SEARCH_TEXT_MAX} characters (including spaces) in the search \
             list"
        );
        errors.invalid(&searches_path, searches.to_vec(), detail);
    }
    for (index, search) in searches.iter().enumerate() {
        let search = search.strip_suffix('.').unwrap_or(search);
        errors.each(
            &searches_path.index(index),
            search,
            names::dns_subdomain(search),
        );
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        if text(&option.name).is_empty() {
            errors.required(&path.child("options").index(index), "must not be empty");
        }
    }
}

fn ip_address(address: &str, path: &Path, errors: &mut Errors) {
    if !is_ip_address(address) {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.invalid(path, address, detail);
    }
}

/// As upstream, with leading zeros in the parts of an IPv4 address, read as decimal.
fn is_ip_address(address: &str) -> bool {
    let sloppy = |part: &str| match part.trim_start_matches('0') {
        "" if !part.is_empty() => "0".to_owned(),
        rest => rest.to_owned(),
    };
    address.parse::<IpAddr>().is_ok()
        || (!address.contains(':')
            && address
                .split('.')
                .map(sloppy)
                .collect::<Vec<_>>()
                .join(".")
                .parse::<IpAddr>()
                .is_ok())
}
