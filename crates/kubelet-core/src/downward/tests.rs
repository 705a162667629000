use k8s_openapi::{
    api::core::v1::{PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};

use super::*;

const NODE: Allocatable = Allocatable {
    cpu_millicores: 2000,
    memory_bytes: 1 << 30,
    ephemeral_storage_bytes: 1 << 40,
};

fn amounts(list: &[(&str, &str)]) -> BTreeMap<String, ApiQuantity> {
    let amount = |(name, amount): &(&str, &str)| ((*name).into(), ApiQuantity((*amount).into()));
    list.iter().map(amount).collect()
}

fn pod() -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some("web-node".into());
    pod.metadata.annotations = Some(
        [
            ("b", "two\nlines \"x\" \\"),
            (
                "a",
                "caf\u{e9} e\u{301} \u{1}\u{7f}\u{200b}\u{1f600}\u{e0001}'",
            ),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
    );
    pod.spec = Some(PodSpec {
        containers: vec![Container {
            name: "main".into(),
            resources: Some(ResourceRequirements {
                limits: Some(amounts(&[("cpu", "0"), ("memory", "33Mi")])),
                requests: Some(amounts(&[("cpu", "250m"), ("hugepages-2Mi", "4Mi")])),
                claims: None,
            }),
            ..Container::default()
        }],
        ..PodSpec::default()
    });
    pod
}

fn resource(container: &str, resource: &str, divisor: &str) -> Result<String, DownwardError> {
    let selector = ResourceFieldSelector {
        container_name: Some(container.into()),
        divisor: Some(ApiQuantity(divisor.into())),
        resource: resource.into(),
    };
    resource_field(&pod(), None, &selector, &NODE)
}

#[test]
fn vol_31_maps_are_sorted_lines_quoted_as_go_quotes() {
    let text = object_field(&pod(), "metadata.annotations").unwrap();
    assert_eq!(
        text,
        "a=\"caf\u{e9} e\u{301} \\x01\\x7f\\u200b\u{1f600}\\U000e0001'\"\nb=\"two\\nlines \\\"x\\\" \\\\\""
    );
    assert_eq!(object_field(&pod(), "metadata.labels").unwrap(), "");
}

#[test]
fn vol_31_other_fields_are_refused_by_name() {
    let refused = |path| object_field(&pod(), path).unwrap_err().to_string();
    assert_eq!(
        refused("spec.nodeName"),
        "unsupported fieldPath: spec.nodeName"
    );
    assert_eq!(
        refused("metadata.name['x']"),
        "fieldPath \"metadata.name['x']\" does not support subscript"
    );
    assert_eq!(
        object_field(&pod(), "metadata.annotations['c']").unwrap(),
        ""
    );
}

#[test]
fn vol_31_amounts_round_up_and_missing_limits_are_the_nodes() {
    for (name, divisor, expected) in [
        ("limits.cpu", "1", "2"),
        ("limits.cpu", "1m", "2000"),
        ("requests.cpu", "0", "1"),
        ("requests.cpu", "1m", "250"),
        ("limits.memory", "32Mi", "2"),
        ("requests.memory", "1", "0"),
        ("limits.ephemeral-storage", "1Gi", "1024"),
        ("requests.hugepages-2Mi", "1Mi", "4"),
        ("limits.hugepages-2Mi", "1Mi", "0"),
    ] {
        assert_eq!(resource("main", name, divisor).unwrap(), expected, "{name}");
    }
    assert_eq!(
        resource("main", "limits.gpu", "1").unwrap_err().to_string(),
        "unsupported container resource : limits.gpu"
    );
    assert_eq!(
        resource("x", "limits.cpu", "1").unwrap_err().to_string(),
        "container x not found"
    );
}

#[test]
fn limits_of_the_pod_stand_before_the_nodes() {
    let mut pod = pod();
    pod.spec.as_mut().unwrap().resources = Some(ResourceRequirements {
        limits: Some(amounts(&[("cpu", "500m"), ("memory", "0")])),
        ..ResourceRequirements::default()
    });
    let within = NODE.within(&pod);
    assert_eq!((within.cpu_millicores, within.memory_bytes), (500, 1 << 30));
}
