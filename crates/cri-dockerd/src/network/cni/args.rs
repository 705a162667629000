//! What plugins are told about a pod: `CNI_ARGS` and capability arguments (CNI-06..08).

use cri_api::v1;
use serde_json::{Map, Value, json};

use super::pod::Pod;

/// Ports on the host.
pub(super) const PORT_MAPPINGS: &str = "portMappings";
/// Subnets to take addresses from.
pub(super) const IP_RANGES: &str = "ipRanges";
const BANDWIDTH: &str = "bandwidth";
const DNS: &str = "dns";
const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// In practice no limit: about 2 Gbit.
const BURST_BITS: i32 = i32::MAX;
/// Rates below 1k and above 1P bits per second are refused.
const RATES: std::ops::RangeInclusive<i128> = 1_000..=1_000_000_000_000_000;

/// A pod asks for something that can't be passed on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ArgsError {
    /// Would be read as another argument.
    #[error("pod {field} {value:?} has a ';' or '=', which CNI_ARGS cannot carry")]
    Separator {
        /// `name`, `namespace` or `uid`.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// Not a quantity.
    #[error(
        "failed to get pod bandwidth from annotations: {annotation}: {value:?} is not a quantity such as 10M"
    )]
    Quantity {
        /// Which annotation.
        annotation: &'static str,
        /// Its value.
        value: String,
    },
    /// Out of bounds.
    #[error(
        "failed to get pod bandwidth from annotations: {annotation}: resource is unreasonably {what}"
    )]
    Rate {
        /// Which annotation.
        annotation: &'static str,
        /// What is wrong.
        what: &'static str,
    },
}

/// `CNI_ARGS` as pairs. Differs: upstream does not pass the pod's uid.
///
/// # Errors
/// [`ArgsError::Separator`].
pub(super) fn cni_args(pod: &Pod) -> Result<Vec<[String; 2]>, ArgsError> {
    let fields = [
        ("name", &pod.name),
        ("namespace", &pod.namespace),
        ("uid", &pod.uid),
    ];
    for (field, value) in fields {
        if value.contains([';', '=']) {
            let value = value.clone();
            return Err(ArgsError::Separator { field, value });
        }
    }
    let mut args = vec![
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &pod.namespace),
        ("K8S_POD_NAME", &pod.name),
        ("K8S_POD_INFRA_CONTAINER_ID", &pod.id),
    ];
    if !pod.uid.is_empty() {
        args.push(("K8S_POD_UID", &pod.uid));
    }
    let owned = |(key, value): (&str, &str)| [key.to_owned(), value.to_owned()];
    Ok(args.into_iter().map(owned).collect())
}

/// The capability arguments of a pod; a plugin gets those that it declares.
///
/// Differs: `dns` is passed, upstream does so on Windows only. Differs: of a pod CIDR with two
/// families each becomes a range set of its own.
///
/// # Errors
/// When an annotation can't be read.
pub(super) fn capabilities(pod: &Pod, pod_cidr: &str) -> Result<Map<String, Value>, ArgsError> {
    let mut all = Map::new();
    let ports = pod.ports.iter().filter(|port| port.host_port > Some(0));
    let ports: Vec<Value> = ports
        .map(|port| {
            json!({
                "hostPort": port.host_port,
                "containerPort": port.container_port,
                "protocol": port.protocol.as_deref().unwrap_or("tcp"),
                "hostIP": port.host_ip,
            })
        })
        .collect();
    all.insert(PORT_MAPPINGS.to_owned(), ports.into());

    let rate = |annotation| match pod.annotations.get(annotation) {
        Some(value) => bits_per_second(annotation, value).map(Some),
        None => Ok(None),
    };
    let mut bandwidth = Map::new();
    for (annotation, rate_key, burst_key) in [
        (INGRESS, "ingressRate", "ingressBurst"),
        (EGRESS, "egressRate", "egressBurst"),
    ] {
        if let Some(rate) = rate(annotation)? {
            bandwidth.insert(rate_key.to_owned(), rate.into());
            bandwidth.insert(burst_key.to_owned(), BURST_BITS.into());
        }
    }
    if !bandwidth.is_empty() {
        all.insert(BANDWIDTH.to_owned(), bandwidth.into());
    }

    let subnets = pod_cidr.split(',').map(str::trim).filter(|s| !s.is_empty());
    let ranges: Vec<Value> = subnets.map(|s| json!([{ "subnet": s }])).collect();
    if !ranges.is_empty() {
        all.insert(IP_RANGES.to_owned(), ranges.into());
    }
    all.extend(pod.dns.as_ref().map(|dns| (DNS.to_owned(), dns_args(dns))));
    Ok(all)
}

fn dns_args(dns: &v1::DnsConfig) -> Value {
    json!({ "servers": dns.servers, "searches": dns.searches, "options": dns.options })
}

fn bits_per_second(annotation: &'static str, value: &str) -> Result<i64, ArgsError> {
    let bits = quantity(value).ok_or_else(|| ArgsError::Quantity {
        annotation,
        value: value.to_owned(),
    })?;
    let what = if bits < *RATES.start() {
        "small (< 1kbit)"
    } else if bits > *RATES.end() {
        "large (> 1Pbit)"
    } else {
        return Ok(i64::try_from(bits).unwrap_or(i64::MAX));
    };
    Err(ArgsError::Rate { annotation, what })
}

/// A Kubernetes quantity as a whole number, rounded up. The kubelet's own reader is not used: it is
/// on the other side of the CRI, and these two annotations are all that is read here.
fn quantity(text: &str) -> Option<i128> {
    let end = text
        .find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (ten, two): (i32, u32) = match suffix {
        "" => (0, 0),
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            (digits.parse().ok().filter(|e| (-18..=18).contains(e))?, 0)
        }
    };
    let (sign, digits) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || all.len() > 18 || !all.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let places = i32::try_from(fraction.len()).ok()?;
    let value: i128 = sign * all.parse::<i128>().ok()? * (1_i128 << two);
    let ten = ten - places;
    let power = 10_i128.checked_pow(ten.unsigned_abs())?;
    if ten >= 0 {
        value.checked_mul(power)
    } else {
        // Rounded away from zero, as Kubernetes does.
        let rest = value.rem_euclid(power) != 0;
        Some(value.div_euclid(power) + i128::from(rest && value > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::PortMapping;

    fn pod() -> Pod {
        let port = |host_port, protocol: &str, ip: &str| PortMapping {
            protocol: Some(protocol.to_owned()),
            container_port: Some(80),
            host_port: Some(host_port),
            host_ip: ip.to_owned(),
        };
        Pod {
            id: "id".to_owned(),
            name: "web".to_owned(),
            namespace: "default".to_owned(),
            uid: "u-1".to_owned(),
            ports: vec![
                port(8080, "tcp", ""),
                port(0, "udp", ""),
                port(53, "udp", "::1"),
            ],
            ..Pod::default()
        }
    }

    #[test]
    fn arguments_are_upstreams_and_the_uid() {
        let args: Vec<String> = cni_args(&pod())
            .unwrap()
            .iter()
            .map(|a| a.join("="))
            .collect();
        assert_eq!(
            args.join(";"),
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;\
             K8S_POD_INFRA_CONTAINER_ID=id;K8S_POD_UID=u-1"
        );
        let mut bad = pod();
        bad.name = "a;CNI_X=1".to_owned();
        assert!(cni_args(&bad).unwrap_err().to_string().contains("pod name"));
    }

    #[test]
    fn capabilities_carry_ports_ranges_rates_and_names() {
        let mut pod = pod();
        pod.annotations.insert(INGRESS.to_owned(), "10M".to_owned());
        pod.dns = Some(v1::DnsConfig {
            servers: vec!["10.0.0.10".to_owned()],
            ..Default::default()
        });
        let all = capabilities(&pod, "10.1.0.0/16, fd00::/64").unwrap();
        assert_eq!(
            Value::from(all),
            json!({
                "portMappings": [
                    {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
                    {"hostPort": 53, "containerPort": 80, "protocol": "udp", "hostIP": "::1"},
                ],
                "bandwidth": {"ingressRate": 10_000_000, "ingressBurst": i32::MAX},
                "ipRanges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "fd00::/64"}]],
                "dns": {"servers": ["10.0.0.10"], "searches": [], "options": []},
            })
        );
        pod.dns = None;
        pod.annotations.clear();
        pod.ports.clear();
        assert_eq!(
            Value::from(capabilities(&pod, "").unwrap()),
            json!({"portMappings": []})
        );
    }

    #[test]
    fn unreasonable_rates_are_refused_with_the_annotation() {
        for (value, word) in [
            ("999", "small"),
            ("2P", "large"),
            ("fast", "quantity"),
            ("-1M", "small"),
            ("", "quantity"),
        ] {
            let mut pod = pod();
            pod.annotations.insert(EGRESS.to_owned(), value.to_owned());
            let text = capabilities(&pod, "").unwrap_err().to_string();
            assert!(
                text.contains(word) && text.contains(EGRESS),
                "{value}: {text}"
            );
        }
    }

    #[test]
    fn quantities_round_up() {
        for (text, bits) in [
            ("1k", 1000),
            ("1Ki", 1024),
            ("1.5M", 1_500_000),
            ("1e6", 1_000_000),
            ("1500m", 2),
            ("0.1n", 1),
            ("1E", 10_i128.pow(18)),
        ] {
            assert_eq!(quantity(text), Some(bits), "{text}");
        }
        for text in [
            "",
            "k",
            "1kk",
            "1..2",
            "1e99",
            "0x10",
            "1 M",
            "99999999999999999999",
        ] {
            assert_eq!(quantity(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_annotation_makes_the_reader_panic(text in "\\PC*", number in "[-+]?[0-9.]{0,25}[a-zA-Z]{0,3}[0-9]{0,3}") {
            let _ = (quantity(&text), quantity(&number));
        }
    }
}
