//! Content of a pod's `/etc/hosts` (SPEC-02, SPEC-03).

use std::fmt::Write as _;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, HostAlias, Pod};

use crate::hostname::Hostname;
use crate::spec;

/// Where the file is mounted.
pub const ETC_HOSTS: &str = "/etc/hosts";

/// The file. `node_file` is the node's own, for pods on its network: its bytes go over as they are,
/// text or not.
pub fn hosts_file(pod: &Pod, hostname: &Hostname, pod_ips: &[IpAddr], node_file: &[u8]) -> Vec<u8> {
    let aliases = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.host_aliases.as_deref())
        .unwrap_or(&[]);
    let mut file = if spec::is_host_network(pod) {
        [
            &b"# Kubernetes-managed hosts file (host network).\n"[..],
            node_file,
        ]
        .concat()
    } else {
        managed(hostname, pod_ips).into_bytes()
    };
    file.extend(of_aliases(aliases).into_bytes());
    file
}

/// Whether the container gets the file: the pod's addresses are known or are the node's, and nothing
/// else is mounted there.
pub fn mounts_hosts_file(pod: &Pod, container: &Container, pod_ips: &[IpAddr]) -> bool {
    let taken = container
        .volume_mounts
        .iter()
        .flatten()
        .any(|mount| mount.mount_path == ETC_HOSTS);
    !taken && (!pod_ips.is_empty() || spec::is_host_network(pod))
}

fn managed(hostname: &Hostname, pod_ips: &[IpAddr]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    let Hostname { name, domain, .. } = hostname;
    for ip in pod_ips {
        // Writing to a string cannot fail.
        let _ = if domain.is_empty() {
            writeln!(text, "{ip}\t{name}")
        } else {
            writeln!(text, "{ip}\t{name}.{domain}\t{name}")
        };
    }
    text
}

fn of_aliases(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or(&[]).join("\t");
        let _ = writeln!(text, "{}\t{names}", alias.ip);
    }
    text
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::VolumeMount;

    use super::*;

    fn name(domain: &str) -> Hostname {
        Hostname {
            name: "web".to_owned(),
            domain: domain.to_owned(),
            as_fqdn: false,
        }
    }

    #[test]
    fn spec_02_managed_file() {
        let mut pod = Pod::default();
        pod.spec.get_or_insert_default().host_aliases = Some(vec![HostAlias {
            ip: "1.2.3.4".to_owned(),
            hostnames: Some(vec!["a".to_owned(), "b".to_owned()]),
        }]);
        let ips = ["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        assert_eq!(
            hosts_file(&pod, &name("sub.default.svc.local"), &ips, b""),
            b"# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
             fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n\
             10.0.0.5\tweb.sub.default.svc.local\tweb\nfd00::5\tweb.sub.default.svc.local\tweb\n\
             \n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"
        );
        let without_domain = hosts_file(&pod, &name(""), &ips[..1], b"");
        let line = b"\n10.0.0.5\tweb\n";
        assert!(without_domain.windows(line.len()).any(|at| at == line));
    }

    #[test]
    fn spec_03_host_network_copies_the_nodes_file() {
        let mut pod = Pod::default();
        pod.spec.get_or_insert_default().host_network = Some(true);
        // A comment in Latin-1, say.
        assert_eq!(
            hosts_file(&pod, &name(""), &[], b"127.0.0.1 node # caf\xe9\n"),
            b"# Kubernetes-managed hosts file (host network).\n127.0.0.1 node # caf\xe9\n"
        );
    }

    #[test]
    fn spec_02_own_mount_and_missing_address_keep_the_file_out() {
        let pod = Pod::default();
        let ips = ["10.0.0.5".parse().unwrap()];
        let mut container = Container::default();
        assert!(mounts_hosts_file(&pod, &container, &ips));
        assert!(!mounts_hosts_file(&pod, &container, &[]));
        container.volume_mounts = Some(vec![VolumeMount {
            mount_path: ETC_HOSTS.to_owned(),
            ..Default::default()
        }]);
        assert!(!mounts_hosts_file(&pod, &container, &ips));
    }
}
