use k8s_openapi::{
    api::core::v1::{EnvVarSource, PodSpec, ResourceFieldSelector, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use proptest::prelude::*;

use super::*;

fn variables(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn plain(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: Some(value.into()),
        value_from: None,
    }
}

fn field(name: &str, path: &str) -> EnvVar {
    let field_ref = ObjectFieldSelector {
        api_version: None,
        field_path: path.into(),
    };
    let source = EnvVarSource {
        field_ref: Some(field_ref),
        ..EnvVarSource::default()
    };
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(source),
    }
}

fn resource(name: &str, resource: &str, divisor: Option<&str>) -> EnvVar {
    let resource_field_ref = ResourceFieldSelector {
        container_name: None,
        divisor: divisor.map(|text| ApiQuantity(text.into())),
        resource: resource.into(),
    };
    let source = EnvVarSource {
        resource_field_ref: Some(resource_field_ref),
        ..EnvVarSource::default()
    };
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(source),
    }
}

fn pod() -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some("p".into());
    pod.metadata.namespace = Some("ns".into());
    pod.metadata.uid = Some("u".into());
    pod.metadata.labels = Some(variables(&[("a/b", "label")]));
    pod.spec = Some(PodSpec {
        node_name: Some("node".into()),
        ..PodSpec::default()
    });
    pod
}

fn run(env: Vec<EnvVar>) -> Result<BTreeMap<String, String>, EnvError> {
    let container = Container {
        env: Some(env),
        resources: Some(ResourceRequirements {
            limits: Some([("cpu".to_owned(), ApiQuantity("1500m".into()))].into()),
            requests: Some([("memory".to_owned(), ApiQuantity("32Mi".into()))].into()),
            claims: None,
        }),
        ..Container::default()
    };
    let read = |path: &str, text: &str| {
        let path = path.to_owned();
        let file = EnvFile {
            path: format!("/volumes/v/{path}").into(),
            bytes: text.into(),
        };
        (("v".to_owned(), path), Ok(file))
    };
    let facts = EnvFacts {
        pod_ips: vec!["10.0.0.2".into(), "fd00::2".into()],
        host_ips: vec!["192.0.2.1".into()],
        allocatable: Allocatable {
            cpu_millicores: 2000,
            memory_bytes: 1 << 30,
            ephemeral_storage_bytes: 1 << 40,
        },
        files: EnvFiles::Read(BTreeMap::from([
            read("good", "A=1\nB=2"),
            read("bad", "nonsense"),
        ])),
    };
    environment(&pod(), &container, &facts, &NoObjects)
}

#[test]
fn spec30_variables_see_earlier_ones_only() {
    let env = run(vec![
        plain("B", "$(A)"),
        plain("A", "a"),
        plain("C", "$(A)-$(B)-$$(A)-$(D)-$"),
        plain("A", "z$(A)"),
    ])
    .unwrap();
    assert_eq!(env["B"], "$(A)");
    assert_eq!(env["C"], "a-$(A)-$(A)-$(D)-$");
    assert_eq!(env["A"], "za");
}

#[test]
fn spec31_fields_of_the_pod_and_the_node() {
    let env = run(vec![
        field("NAME", "metadata.name"),
        field("LABEL", "metadata.labels['a/b']"),
        field("NO_LABEL", "metadata.labels['x']"),
        field("IP", "status.podIP"),
        field("IPS", "status.podIPs"),
        field("HOST", "status.hostIP"),
        field("NODE", "spec.nodeName"),
    ])
    .unwrap();
    assert_eq!(
        env,
        variables(&[
            ("NAME", "p"),
            ("LABEL", "label"),
            ("NO_LABEL", ""),
            ("IP", "10.0.0.2"),
            ("IPS", "10.0.0.2,fd00::2"),
            ("HOST", "192.0.2.1"),
            ("NODE", "node"),
        ])
    );
    let error = run(vec![field("X", "spec.containers")]).unwrap_err();
    assert_eq!(error.to_string(), "unsupported fieldPath: spec.containers");
}

#[test]
fn spec31_resources_round_up_and_missing_limits_are_the_nodes() {
    let env = run(vec![
        resource("CPU", "limits.cpu", None),
        resource("MILLI", "limits.cpu", Some("1m")),
        resource("MEMORY", "requests.memory", Some("1Mi")),
        resource("LIMIT", "limits.memory", None),
        resource("NONE", "requests.cpu", None),
    ])
    .unwrap();
    assert_eq!(
        env,
        variables(&[
            ("CPU", "2"),
            ("MILLI", "1500"),
            ("MEMORY", "32"),
            ("LIMIT", "1073741824"),
            ("NONE", "0"),
        ])
    );
    assert!(run(vec![resource("X", "limits.gpu", None)]).is_err());
}

#[test]
fn a_reference_to_an_object_fails_by_name_unless_optional() {
    use k8s_openapi::api::core::v1::SecretKeySelector;
    let secret = |optional| EnvVar {
        name: "X".into(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                key: "k".into(),
                name: "s".into(),
                optional,
            }),
            ..EnvVarSource::default()
        }),
    };
    assert_eq!(
        run(vec![secret(None)]).unwrap_err().to_string(),
        "secret \"s\" not found"
    );
    assert!(run(vec![secret(Some(true))]).unwrap().is_empty());
}

fn file(volume: &str, path: &str, key: &str, optional: bool) -> EnvVar {
    let source = EnvVarSource {
        file_key_ref: Some(FileKeySelector {
            key: key.into(),
            optional: Some(optional),
            path: path.into(),
            volume_name: volume.into(),
        }),
        ..EnvVarSource::default()
    };
    EnvVar {
        name: "X".into(),
        value: None,
        value_from: Some(source),
    }
}

#[test]
fn spec33_variable_of_a_file() {
    assert_eq!(run(vec![file("v", "good", "B", false)]).unwrap()["X"], "2");
    assert!(run(vec![file("v", "good", "C", true)]).unwrap().is_empty());
    let long = "k".repeat(129);
    for (variable, expected) in [
        (
            file("v", "good", "C", false),
            "environment variable key \"C\" not found in file \"/volumes/v/good\"".to_owned(),
        ),
        (
            file("v", "bad", "A", true),
            "couldn't parse env file".to_owned(),
        ),
        (
            file("w", "good", "A", true),
            "cannot find the volume \"w\" referenced by FileKeyRef".to_owned(),
        ),
        (
            file("v", "good", &long, true),
            format!("environment variable key \"{long}\" exceeds maximum length of 128 characters"),
        ),
    ] {
        assert_eq!(run(vec![variable]).unwrap_err().to_string(), expected);
    }
}

proptest! {
    #[test]
    fn text_without_dollar_stays_as_it_is(text in "[^$]*") {
        prop_assert_eq!(expand(&text, &variables(&[("A", "a")])), text);
    }

    #[test]
    fn expansion_never_panics(text in "[$(){}A-C é]{0,20}") {
        expand(&text, &variables(&[("A", "$(A)")]));
    }
}

#[test]
fn spec31_address_of_the_node_is_waited_for() {
    let container = |path: &str| Container {
        env: Some(vec![EnvVar {
            name: "A".to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: path.to_owned(),
                    ..ObjectFieldSelector::default()
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        }]),
        ..Container::default()
    };
    let facts = EnvFacts::default();
    for path in ["status.hostIP", "status.hostIPs"] {
        let error = environment(&pod(), &container(path), &facts, &NoObjects).unwrap_err();
        assert_eq!(
            error.to_string(),
            "host IP unknown; known addresses: []",
            "{path}"
        );
        assert!(asks_for(
            &container(path),
            &["status.hostIP", "status.hostIPs"]
        ));
    }
    let none = environment(&pod(), &container("status.podIP"), &facts, &NoObjects).unwrap();
    assert_eq!(none["A"], "");
    assert!(!asks_for(&container("status.podIP"), &["status.hostIP"]));
}

#[test]
fn variables_made_of_variables_end_at_what_a_message_holds() {
    let doubled = |from: usize| format!("$(A{from})$(A{from})");
    let mut container = Container::default();
    let value = |index: usize| match index {
        0 => "x".repeat(1024),
        index => doubled(index - 1),
    };
    let variable = |index| EnvVar {
        name: format!("A{index}"),
        value: Some(value(index)),
        ..EnvVar::default()
    };
    container.env = Some((0..60).map(variable).collect());
    let facts = EnvFacts::default();
    let error = environment(&Pod::default(), &container, &facts, &NoObjects);
    assert!(matches!(error, Err(EnvError::TooLong(name)) if name == "A14"));
}

#[test]
fn a_value_of_beginnings_without_ends_is_read_once() {
    let text = "$(".repeat(5_000_000);
    assert_eq!(expand(&text, &BTreeMap::new()), text);
    let text = format!("$(A){}", "$(".repeat(100_000));
    let variables = BTreeMap::from([("A".to_owned(), "b".to_owned())]);
    assert_eq!(expand(&text, &variables), text.replacen("$(A)", "b", 1));
}
