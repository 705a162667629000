//! Names that Kubernetes allows: qualified names, label values. Messages are upstream's.

const QUALIFIED_MAX: usize = 63;
const SUBDOMAIN_MAX: usize = 253;

const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start \
    and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used \
    for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric \
    characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
    'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
    'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|label| {
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        label.starts_with(edge)
            && label.ends_with(edge)
            && label.chars().all(|c| edge(c) || c == '-')
    })
}

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

/// What is wrong with a label or taint key: `name` or `sub.domain/name`.
pub(crate) fn qualified_name_problems(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                if prefix.len() > SUBDOMAIN_MAX {
                    problems.push(format!("prefix part {}", too_long(SUBDOMAIN_MAX)));
                }
                if !is_subdomain(prefix) {
                    problems.push(format!("prefix part {SUBDOMAIN}"));
                }
            }
            name
        }
        _ => {
            return vec![format!(
                "a qualified name {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > QUALIFIED_MAX {
        problems.push(format!("name part {}", too_long(QUALIFIED_MAX)));
    }
    if !is_name(name) {
        problems.push(format!("name part {QUALIFIED}"));
    }
    problems
}

/// What is wrong with a label's or taint's value.
pub(crate) fn label_value_problems(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > QUALIFIED_MAX {
        problems.push(too_long(QUALIFIED_MAX));
    }
    if !text.is_empty() && !is_name(text) {
        problems.push(LABEL_VALUE.to_owned());
    }
    problems
}

/// Label keys that a kubelet may give its own node under kubernetes.io and k8s.io, sorted.
const OWN_LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OWN_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Is the namespace that domain, or below it?
fn within(namespace: &str, domain: &str) -> bool {
    namespace
        .strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Checks `--node-labels` (FLAG-10).
///
/// # Errors
/// Upstream's message: first all reserved keys, else all malformed keys and values.
pub(crate) fn check_node_labels<'a>(
    labels: impl Iterator<Item = (&'a String, &'a String)> + Clone,
) -> Result<(), String> {
    let reserved: Vec<&str> = labels
        .clone()
        .map(|(key, _)| key.as_str())
        .filter(|key| {
            let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
            let theirs = within(namespace, "kubernetes.io") || within(namespace, "k8s.io");
            theirs
                && !OWN_LABELS.contains(key)
                && !OWN_NAMESPACES
                    .iter()
                    .any(|domain| within(namespace, domain))
        })
        .collect();
    if !reserved.is_empty() {
        return Err(format!(
            "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{}]\n\
             --node-labels in the 'kubernetes.io' namespace must begin with an allowed prefix ({}) \
             or be in the specifically allowed set ({})",
            reserved.join(" "),
            OWN_NAMESPACES.join(", "),
            OWN_LABELS.join(", ")
        ));
    }
    let mut malformed = Vec::new();
    for (key, value) in labels {
        for (text, problems) in [
            (key, qualified_name_problems(key)),
            (value, label_value_problems(value)),
        ] {
            if !problems.is_empty() {
                malformed.push(format!("'{text}' - {}", problems.join(", ")));
            }
        }
    }
    if malformed.is_empty() {
        Ok(())
    } else {
        Err(format!("invalid node labels: {}", malformed.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kubernetes_rules() {
        for good in ["a", "A-b_c.d", "example.com/x", "a.b-c.d/Name1"] {
            assert!(qualified_name_problems(good).is_empty(), "{good}");
        }
        for bad in ["", "/a", "a/", "-a", "a b", "A.com/x", "a/b/c", "a..b/c"] {
            assert!(!qualified_name_problems(bad).is_empty(), "{bad}");
        }
        assert!(!qualified_name_problems(&"a".repeat(64)).is_empty());
        assert!(label_value_problems("").is_empty());
        assert!(!label_value_problems("a/b").is_empty());
    }

    #[test]
    fn reserved_label_domains_are_guarded() {
        let check = |key: &str, value: &str| {
            let labels = std::collections::BTreeMap::from([(key.to_owned(), value.to_owned())]);
            check_node_labels(labels.iter())
        };
        for good in [
            "x",
            "example.com/a",
            "kubernetes.io/hostname",
            "a.node.kubernetes.io/x",
        ] {
            assert_eq!(check(good, "v"), Ok(()), "{good}");
        }
        for bad in ["kubernetes.io/x", "a.k8s.io/x", "kubernetes.io/role"] {
            let message = check(bad, "v").expect_err(bad);
            assert!(
                message.contains(&format!("--node-labels: [{bad}]")),
                "{message}"
            );
        }
        assert_eq!(check("notkubernetes.io/x", "v"), Ok(()));
        let message = check("a b", "v").expect_err("malformed");
        assert!(message.starts_with("invalid node labels: 'a b' - name part must consist"));
    }
}
