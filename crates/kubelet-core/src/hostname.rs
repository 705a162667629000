//! Hostname and domain of a pod (SPEC-01).

use k8s_openapi::api::core::v1::Pod;
use thiserror::Error;

use crate::ids::PodKey;

/// Longest hostname in bytes.
const MAX_HOSTNAME_BYTES: usize = 63;
/// Longest name that the kernel takes, in bytes.
const MAX_FQDN_BYTES: usize = 64;

/// A hostname that can't be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostnameError {
    /// Nothing is left of it.
    #[error("hostname for pod \"{pod}\" was invalid: \"{hostname}\"")]
    Empty {
        /// The pod.
        pod: String,
        /// What it was made from.
        hostname: String,
    },
    /// `spec.hostname` or `spec.subdomain` is not a DNS label.
    #[error(
        "pod {field} \"{value}\" is not a valid DNS label: use at most 63 characters of a-z, 0-9 \
         and '-', beginning and ending with a letter or digit"
    )]
    NotALabel {
        /// `Hostname` or `Subdomain`.
        field: &'static str,
        /// What stands there.
        value: String,
    },
    /// `setHostnameAsFQDN` with a name that the kernel does not take.
    #[error(
        "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long \
         ({MAX_FQDN_BYTES} characters is the max, {length} characters requested)"
    )]
    FqdnTooLong {
        /// The name.
        fqdn: String,
        /// Its bytes.
        length: usize,
    },
}

/// A pod's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostname {
    /// The short name, for `/etc/hosts`.
    pub name: String,
    /// `<subdomain>.<namespace>.svc.<cluster domain>`, or empty.
    pub domain: String,
    /// `setHostnameAsFQDN`: the kernel is told both.
    pub as_fqdn: bool,
}

impl Hostname {
    /// What the kernel is told of a pod with a network of its own (Kubernetes kubelet,
    /// `GetNodenameForKernel`).
    ///
    /// # Errors
    /// When both names together are too long.
    pub fn kernel_name(&self) -> Result<String, HostnameError> {
        let Self { name, domain, .. } = self;
        if !self.as_fqdn || domain.is_empty() {
            return Ok(name.clone());
        }
        let fqdn = format!("{name}.{domain}");
        if fqdn.len() > MAX_FQDN_BYTES {
            return Err(HostnameError::FqdnTooLong {
                length: fqdn.len(),
                fqdn,
            });
        }
        Ok(fqdn)
    }
}

/// Gate `HostnameOverride`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostnameOverride {
    /// `hostnameOverride` is not looked at.
    #[default]
    Disabled,
    /// It is the whole name.
    Enabled,
}

/// The names of a pod.
///
/// # Errors
/// When hostname or subdomain is no DNS label.
pub fn hostname(
    pod: &Pod,
    cluster_domain: &str,
    gate: HostnameOverride,
) -> Result<Hostname, HostnameError> {
    let PodKey {
        namespace,
        name: pod_name,
    } = PodKey::of(pod);
    let spec = pod.spec.as_ref();
    let field = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
    let whole = field(spec.and_then(|spec| spec.hostname_override.as_ref()));
    if let Some(whole) = whole.filter(|_| gate == HostnameOverride::Enabled) {
        let name = shortened(&pod_name, whole)?;
        return Ok(Hostname {
            name,
            domain: String::new(),
            as_fqdn: false,
        });
    }
    let own = field(spec.and_then(|spec| spec.hostname.as_ref()));
    let subdomain = field(spec.and_then(|spec| spec.subdomain.as_ref()));
    for (field, value) in [("Hostname", &own), ("Subdomain", &subdomain)] {
        if let Some(value) = value.as_ref().filter(|value| !is_dns_label(value)) {
            return Err(HostnameError::NotALabel {
                field,
                value: value.clone(),
            });
        }
    }
    let name = shortened(&pod_name, own.unwrap_or_else(|| pod_name.clone()))?;
    let domain = subdomain
        .map(|subdomain| format!("{subdomain}.{namespace}.svc.{cluster_domain}"))
        .unwrap_or_default();
    let as_fqdn = spec
        .and_then(|spec| spec.set_hostname_as_fqdn)
        .unwrap_or(false);
    Ok(Hostname {
        name,
        domain,
        as_fqdn,
    })
}

fn shortened(pod: &str, hostname: String) -> Result<String, HostnameError> {
    if hostname.len() <= MAX_HOSTNAME_BYTES {
        return Ok(hostname);
    }
    let cut = &hostname[..hostname.floor_char_boundary(MAX_HOSTNAME_BYTES)];
    let cut = cut.trim_end_matches(['-', '.']);
    if cut.is_empty() {
        return Err(HostnameError::Empty {
            pod: pod.to_owned(),
            hostname,
        });
    }
    Ok(cut.to_owned())
}

fn is_dns_label(text: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes
            .iter()
            .all(|byte| alphanumeric(Some(byte)) || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;

    use super::*;

    fn named(pod: &Pod, cluster_domain: &str) -> Result<Hostname, HostnameError> {
        hostname(pod, cluster_domain, HostnameOverride::Disabled)
    }

    #[test]
    fn override_is_the_whole_name_where_its_gate_is_on() {
        let spec = PodSpec {
            hostname_override: Some("over.ride".to_owned()),
            subdomain: Some("sub".to_owned()),
            ..Default::default()
        };
        let pod = pod("web", spec);
        let on = hostname(&pod, "cluster.local", HostnameOverride::Enabled).unwrap();
        assert_eq!(
            (on.kernel_name().unwrap().as_str(), on.domain.as_str()),
            ("over.ride", "")
        );
        let off = named(&pod, "cluster.local").unwrap();
        assert_eq!(off.kernel_name().unwrap(), "web");
    }

    fn pod(name: &str, spec: PodSpec) -> Pod {
        let mut pod = Pod {
            spec: Some(spec),
            ..Default::default()
        };
        pod.metadata.name = Some(name.to_owned());
        pod
    }

    #[test]
    fn spec_01_name_is_the_pods_or_the_one_given() {
        let plain = named(&pod("web-node", PodSpec::default()), "cluster.local").unwrap();
        assert_eq!(
            (plain.name.as_str(), plain.domain.as_str()),
            ("web-node", "")
        );
        let given = PodSpec {
            hostname: Some("www".to_owned()),
            subdomain: Some("sub".to_owned()),
            ..Default::default()
        };
        let given = named(&pod("web-node", given), "cluster.local").unwrap();
        assert_eq!(given.name, "www");
        assert_eq!(given.domain, "sub.default.svc.cluster.local");
        assert_eq!(given.kernel_name().unwrap(), "www");
    }

    #[test]
    fn spec_01_long_name_is_cut_and_trimmed() {
        let name = format!("{}-.{}", "a".repeat(61), "b".repeat(20));
        let cut = named(&pod(&name, PodSpec::default()), "").unwrap();
        assert_eq!(cut.name, "a".repeat(61));
    }

    #[test]
    fn spec_01_fqdn_is_bounded_by_the_kernel() {
        let spec = |subdomain: &str| PodSpec {
            subdomain: Some(subdomain.to_owned()),
            set_hostname_as_fqdn: Some(true),
            ..Default::default()
        };
        let short = named(&pod("web", spec("s")), "local").unwrap();
        assert_eq!(short.kernel_name().unwrap(), "web.s.default.svc.local");
        let long = named(&pod("web", spec(&"s".repeat(50))), "local").unwrap();
        assert_eq!(
            long.kernel_name().unwrap_err().to_string(),
            format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN \
                 web.{}.default.svc.local is too long (64 characters is the max, 72 characters \
                 requested)",
                "s".repeat(50)
            )
        );
    }

    #[test]
    fn bad_labels_are_named() {
        let spec = PodSpec {
            subdomain: Some("Bad_".to_owned()),
            ..Default::default()
        };
        let error = named(&pod("web", spec), "").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("pod Subdomain \"Bad_\" is not a valid DNS label")
        );
    }
}
