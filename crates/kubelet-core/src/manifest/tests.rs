mod any_input;
mod fields;
mod upstream;

use serde_json::{Value, json};

use super::*;

fn source() -> StaticSource {
    StaticSource {
        node_name: "node1".to_owned(),
        origin: Origin::File("/etc/kubernetes/manifests/x.yaml".to_owned()),
        first_seen: "2025-01-02T03:04:05.123456789Z".parse().unwrap(),
    }
}

fn load(text: &str) -> Result<LoadedPod, ManifestError> {
    load_static(text.as_bytes(), &source()).map_err(|refused| *refused.error)
}

const NGINX: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  containers:
  - name: nginx
    image: nginx
    ports: [{containerPort: 80}]
";

#[test]
fn static_pod_gets_name_node_annotations_and_toleration() {
    let LoadedPod { pod, warnings } = load(NGINX).unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(pod.metadata.name.as_deref(), Some("web-node1"));
    assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
    let uid = pod.metadata.uid.unwrap();
    assert_eq!(uid.len(), 32);
    let annotations = pod.metadata.annotations.unwrap();
    assert_eq!(annotations[CONFIG_HASH], uid);
    assert_eq!(annotations[CONFIG_SOURCE], "file");
    assert_eq!(annotations[CONFIG_SEEN], "2025-01-02T03:04:05.123456789Z");
    let spec = pod.spec.unwrap();
    assert_eq!(spec.node_name.as_deref(), Some("node1"));
    assert_eq!(
        spec.tolerations.unwrap()[0].effect.as_deref(),
        Some("NoExecute")
    );
    assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Pending"));
}

#[test]
fn empty_port_of_a_probe_is_a_bad_name_and_not_the_number_0() {
    let refused = |port: &str| {
        let probe = format!("    livenessProbe: {{tcpSocket: {{{port}}}}}\n");
        load(&format!("{NGINX}{probe}")).unwrap_err().to_string()
    };
    let empty = refused("port: ''");
    assert!(
        empty.contains("must contain at least one letter"),
        "{empty}"
    );
    for port in ["", "port: null", "port: 0"] {
        let text = refused(port);
        assert!(text.contains("Invalid value: 0: must be between"), "{text}");
    }
}

#[test]
fn kind_and_version_are_found_as_upstream_finds_them() {
    for (written, unknown) in [
        ("apiVersion: /v1\nkind: Pod", None),
        ("apiVersion: v1\nKind: Pod", Some("unknown field \"Kind\"")),
        (
            "APIVERSION: v1\nkind: Pod",
            Some("unknown field \"APIVERSION\""),
        ),
    ] {
        let text = NGINX.replace("apiVersion: v1\nkind: Pod", written);
        let LoadedPod { pod, warnings } = load(&text).unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("web-node1"));
        assert_eq!(warnings, Vec::from_iter(unknown), "{written}");
    }
}

#[test]
fn kind_and_version_are_text() {
    let refused = |written: &str| {
        let text = NGINX.replace("apiVersion: v1\nkind: Pod", written);
        let text = load(&text).unwrap_err().to_string();
        let inner = text.split_once("as pod(").unwrap().1;
        inner.split_once("), please").unwrap().0.to_owned()
    };
    let problem = |field: &str, found: &str| {
        format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go struct field \
             .{field} of type string"
        )
    };
    assert_eq!(
        refused("apiVersion: 1\nkind: Pod"),
        problem("apiVersion", "number")
    );
    assert_eq!(
        refused("apiVersion: v1\nkind: [Pod]"),
        problem("kind", "array")
    );
    assert_eq!(
        refused("apiVersion: v1\nkind: true"),
        problem("kind", "bool")
    );
    // The first that the document has, and where it is JSON in its own order.
    assert_eq!(
        refused("kind: [Pod]\napiVersion: 1"),
        problem("apiVersion", "number")
    );
    let json = load(r#"{"kind": [], "apiVersion": 1}"#).unwrap_err();
    assert!(
        json.to_string().contains(&problem("kind", "array")),
        "{json}"
    );
    let json = load(r#"{"kind": "Pod", "apiVersion": "v1", "Kind": "Service"}"#).unwrap_err();
    assert!(json.to_string().contains("no kind \"Service\""), "{json}");
    assert_eq!(
        refused("apiVersion: v1\nkind: null"),
        "Object 'Kind' is missing"
    );
    assert_eq!(
        refused("apiVersion: a/b/c\nkind: Pod"),
        "unexpected GroupVersion string: a/b/c"
    );
}

#[test]
fn what_was_dropped_is_told_of_a_refused_manifest_too() {
    let refused = |text: &str| load_static(text.as_bytes(), &source()).unwrap_err();
    let misspelt = refused(&NGINX.replace("image:", "imagee:"));
    assert_eq!(
        misspelt.warnings,
        ["unknown field \"spec.containers[0].imagee\""]
    );
    let again = format!("{NGINX}  containers: []\n");
    assert_eq!(
        refused(&again).warnings,
        ["line 12: key \"containers\" already set in map"]
    );
}

#[test]
fn documents_after_the_first_are_told_and_not_read() {
    let warnings = |text: &str| load(text).unwrap().warnings;
    let told = |line: usize| {
        vec![format!(
            "line {line}: another document begins here and is not read: a manifest holds one Pod, put the next one \
             into a file of its own"
        )]
    };
    assert_eq!(warnings(&format!("{NGINX}---\n{NGINX}")), told(12));
    assert_eq!(warnings(&format!("{NGINX}...\n---\na: [")), told(13));
    for nothing in ["---\n", "...\n", "---\n# nothing\n---\n", "\n# a\n"] {
        assert_eq!(warnings(&format!("{NGINX}{nothing}")), [""; 0], "{nothing}");
    }
    let behind_nothing = load_static(format!("---\n---{NGINX}").as_bytes(), &source());
    assert_eq!(behind_nothing.unwrap_err().warnings, told(2));
}

#[test]
fn uid_follows_content_place_and_node_only() {
    let uid = |text: &str, source: &StaticSource| {
        load_static(text.as_bytes(), source)
            .unwrap()
            .pod
            .metadata
            .uid
            .unwrap()
    };
    let first = uid(NGINX, &source());
    let later = StaticSource {
        first_seen: "2026-01-01T00:00:00Z".parse().unwrap(),
        ..source()
    };
    assert_eq!(uid(NGINX, &later), first);
    assert_eq!(uid(&format!("# comment\n{NGINX}"), &source()), first);
    assert_ne!(
        uid(&NGINX.replace("image: nginx", "image: nginx:1"), &source()),
        first
    );
    let moved = StaticSource {
        origin: Origin::File("/other.yaml".to_owned()),
        ..source()
    };
    assert_ne!(uid(NGINX, &moved), first);
    let explicit = NGINX.replace("name: web", "name: web\n  uid: my-uid");
    assert_eq!(uid(&explicit, &source()), "my-uid");
}

#[test]
fn zero_values_are_as_absent() {
    let zeros = NGINX
        .replace(
            "labels: {app: web}",
            "labels: {app: web}\n  annotations: {}",
        )
        .replace(
            "spec:",
            "spec:\n  hostNetwork: false\n  hostname: ''\n  volumes: []",
        )
        .replace(
            "image: nginx",
            "image: nginx\n    tty: false\n    command: []\n    resources: {limits: {}}\n    \
             env: []\n    livenessProbe: {tcpSocket: {port: 80}, initialDelaySeconds: 0}",
        );
    let plain = NGINX.replace(
        "image: nginx",
        "image: nginx\n    resources: {}\n    livenessProbe: {tcpSocket: {port: 80}}",
    );
    assert_eq!(load(&zeros).unwrap().pod, load(&plain).unwrap().pod);
    let kept = load(&zeros.replace("tty: false", "securityContext: {runAsUser: 0}")).unwrap();
    let context = kept.pod.spec.unwrap().containers.remove(0).security_context;
    assert_eq!(context.unwrap().run_as_user, Some(0));
}

/// Kubernetes, `validatePodResourceClaims`. The names are checked also where the choice is wrong.
#[test]
fn claims_name_one_object_by_a_valid_name() {
    let problems = |claim: Value| {
        let spec = json!({"containers": [{"name": "c", "image": "i"}], "resourceClaims": [claim]});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec,
        });
        let Err(ManifestError::Invalid(errors)) = load(&pod.to_string()) else {
            return Vec::new();
        };
        let fields = errors.into_iter().map(|error| error.field);
        fields.collect::<Vec<_>>()
    };
    let at = "spec.resourceClaims[0]";
    for (claim, fields) in [
        (json!({"name": "g", "resourceClaimName": "gpu"}), vec![]),
        (json!({"name": "g"}), vec![""]),
        (
            json!({"name": "G", "resourceClaimName": "gpu"}),
            vec![".name"],
        ),
        (
            json!({"name": "g", "resourceClaimName": ""}),
            vec![".resourceClaimName"],
        ),
        (
            json!({"name": "g", "resourceClaimName": "a.b", "resourceClaimTemplateName": "A_b"}),
            vec!["", ".resourceClaimTemplateName"],
        ),
    ] {
        let fields: Vec<_> = fields.iter().map(|field| format!("{at}{field}")).collect();
        assert_eq!(problems(claim.clone()), fields, "{claim}");
    }
}

/// What each file of the corpus is: `ok`, or the error that its reader sees.
const CORPUS: &[(&str, &str)] = &[
    ("etcd.yaml", "ok"),
    ("kube-apiserver.yaml", "ok"),
    ("nginx.json", "ok"),
    ("podman-kube.yaml", "ok"),
    ("sidecar.yaml", "ok"),
    ("typos.yaml", "ok"),
    (
        "wrong.yaml",
        "invalid pod: [spec.containers[0].volumeMounts[0].name: Not found: \"none\" \
         spec.containers[1].image: Required value \
         spec.containers[1].resources.requests: Invalid value: \"2\": must be less than or equal \
         to cpu limit of 1 \
         spec.containers[1].name: Duplicate value: \"a\" \
         spec.containers[1].ports[0].hostPort: Duplicate value: \"TCP//8080\" \
         spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \
         \"OnFailure\", \"Never\"]",
    ),
    (
        "wrong-type.yaml",
        "/x.yaml: couldn't parse as pod(json: spec.containers[0].ports[0].containerPort: cannot \
         unmarshal string into a value of type int32), please check config file",
    ),
    (
        "secret-volume.yaml",
        "static pods may not reference secrets",
    ),
    (
        "deployment.yaml",
        "/x.yaml: couldn't parse as pod(no kind \"Deployment\" for version \"apps/v1\" here: a \
         manifest holds one Pod of v1), please check config file",
    ),
    (
        "alias-bomb.yaml",
        "/x.yaml: couldn't parse as pod(yaml: line 7, column 29: document contains excessive \
         aliasing or more than 100000 values), please check config file",
    ),
    (
        "invalid-utf8.yaml",
        "/x.yaml: couldn't parse as pod(yaml: line 3, column 18: invalid UTF-8 text), please check \
         config file",
    ),
    (
        "deep.json",
        "/x.yaml: couldn't parse as pod(couldn't get version/kind; json parse error: exceeded max depth of 100), \
         please check config file",
    ),
];

#[test]
fn every_file_of_the_corpus_has_its_outcome() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut found = 0;
    for (name, expected) in CORPUS {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let outcome = match load_static(&bytes, &source()) {
            Ok(_) => "ok".to_owned(),
            Err(error) => error
                .to_string()
                .replace("/etc/kubernetes/manifests/x.yaml", "/x.yaml"),
        };
        assert_eq!(&outcome, expected, "{name}");
        found += 1;
    }
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(
        files,
        found + 1,
        "a file of the corpus has no expected outcome"
    );
}

fn corpus(name: &str) -> LoadedPod {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    load_static(&std::fs::read(folder.join(name)).unwrap(), &source()).unwrap()
}

#[test]
fn unknown_fields_and_repeated_keys_are_warnings() {
    assert_eq!(
        corpus("typos.yaml").warnings,
        [
            "line 11: key \"image\" already set in map",
            "unknown field \"metadata.label\"",
            "unknown field \"spec.containers[0].enviroment\"",
            "unknown field \"spec.containers[0].Ports\"",
        ]
    );
}

#[test]
fn numbers_modes_and_quantities_are_read_as_upstream_does() {
    let spec = corpus("sidecar.yaml").pod.spec.unwrap();
    assert_eq!(spec.security_context.unwrap().fs_group, Some(512));
    let volumes = spec.volumes.unwrap();
    assert_eq!(
        volumes[2].downward_api.as_ref().unwrap().default_mode,
        Some(256)
    );
    assert!(volumes[0].empty_dir.is_some());
    let resources = spec.containers[0].resources.as_ref().unwrap();
    assert_eq!(resources.limits.as_ref().unwrap()["cpu"].0, "1500m");
    assert_eq!(resources.requests.as_ref().unwrap()["memory"].0, "128Mi");
    assert_eq!(
        spec.containers[0].image_pull_policy.as_deref(),
        Some("IfNotPresent")
    );
}

#[test]
fn urls_give_pods_and_lists_without_the_toleration() {
    let source = StaticSource {
        origin: Origin::Url("http://x/pods".to_owned()),
        ..source()
    };
    let pod = load_static_url(NGINX.as_bytes(), &source)
        .unwrap()
        .remove(0)
        .pod;
    assert_eq!(pod.spec.unwrap().tolerations, None);
    assert_eq!(pod.metadata.annotations.unwrap()[CONFIG_SOURCE], "http");
    let item =
        json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let mut list = json!({"apiVersion": "v1", "kind": "PodList", "items": [item, item]});
    assert_eq!(
        load_static_url(list.to_string().as_bytes(), &source)
            .unwrap()
            .len(),
        2
    );
    list["items"][1]["metadata"] = json!({});
    let error = load_static_url(list.to_string().as_bytes(), &source).unwrap_err();
    assert_eq!(*error.error, ManifestError::NameMissing);
    assert!(load(&list.to_string()).is_err());
}

#[test]
fn uids_are_path_elements() {
    for uid in ["../x", "a/b", "..", "a\\nb"] {
        let text = NGINX.replace("name: web", &format!("name: web\n  uid: \"{uid}\""));
        assert!(
            matches!(load(&text), Err(ManifestError::Invalid(_))),
            "{uid}"
        );
    }
}

#[test]
fn node_name_is_lowered_in_the_pod_name() {
    let mut pod = decode(NGINX.as_bytes()).unwrap().pod;
    apply_static(
        &mut pod,
        &StaticSource {
            node_name: "NODE-1".to_owned(),
            ..source()
        },
    );
    assert_eq!(pod.metadata.name.as_deref(), Some("web-node-1"));
}

#[test]
fn a_secret_without_name_is_no_reference() {
    let with = |volume: &str| load(&format!("{NGINX}  volumes: [{{name: v, {volume}}}]\n"));
    for volume in [
        "scaleIO: {gateway: a, system: b, volumeName: c, secretRef: null}",
        "cephfs: {monitors: [a], secretRef: {}}",
        "rbd: {monitors: [a], image: b, secretRef: {}}",
        "flexVolume: {driver: a/b, secretRef: {}}",
    ] {
        assert!(with(volume).is_ok(), "{volume}: {:?}", with(volume));
        let named = volume
            .replace("{}", "{name: s}")
            .replace("null", "{name: s}");
        let error = with(&named).unwrap_err().to_string();
        assert_eq!(error, "static pods may not reference secrets", "{named}");
    }
    for (volume, field) in [
        ("cinder: {volumeID: a, secretRef: {}}", "cinder.secretRef"),
        (
            "storageos: {volumeName: a, secretRef: {}}",
            "storageos.secretRef",
        ),
        (
            "csi: {driver: a.b, nodePublishSecretRef: {}}",
            "csi.nodePublishSecretRef",
        ),
    ] {
        let error = with(volume).unwrap_err().to_string();
        let told = format!("invalid pod: [spec.volumes[0].{field}.name: Required value]");
        assert_eq!(error, told);
    }
}

/// Kubernetes, `validateImageVolumeSource`: only the API server asks for a reference.
#[test]
fn an_image_volume_may_lack_its_reference() {
    let with = |image: &str| {
        load(&format!(
            "{NGINX}  volumes: [{{name: v, image: {image}}}]\n"
        ))
    };
    for image in ["{}", "{reference: ''}", "{pullPolicy: Never}"] {
        assert!(with(image).is_ok(), "{image}: {:?}", with(image));
    }
    let error = with("{pullPolicy: Sometimes}").unwrap_err().to_string();
    assert!(
        error.starts_with("invalid pod: [spec.volumes[0].image.pullPolicy: "),
        "{error}"
    );
}
