//! What is asked of fields, in upstream's words and order, and what they are without.

use serde_json::json;

use super::*;

/// Kubernetes, `ValidateManagedFields`.
#[test]
fn managed_fields_are_checked_and_kept() {
    let with = |entry: &str| {
        let meta = format!("name: web\n  managedFields: [{{{entry}}}]");
        load(&NGINX.replace("name: web", &meta))
    };
    let good = "manager: kubectl, operation: Update, apiVersion: v1, time: 2026-01-01T00:00:00Z, \
                fieldsType: FieldsV1, fieldsV1: {'f:spec': {'f:x': '', 'f:y': false}}";
    let meta = with(good).unwrap().pod.metadata;
    let fields = meta.managed_fields.unwrap().remove(0).fields_v1.unwrap().0;
    assert_eq!(fields, json!({"f:spec": {"f:x": "", "f:y": false}}));
    let long = format!("operation: Apply, manager: {}", "m".repeat(129));
    for (entry, problem) in [
        (
            "manager: m",
            "operation: Invalid value: \"\": must be `Apply` or `Update`",
        ),
        (
            "operation: Patch",
            "operation: Invalid value: \"Patch\": must be `Apply` or `Update`",
        ),
        (
            "operation: Apply, fieldsType: FieldsV2",
            "fieldsType: Invalid value: \"FieldsV2\": must be `FieldsV1`",
        ),
        (&long, "manager: Too long: may not be more than 128 bytes"),
        (
            r#"operation: Apply, manager: "a\tb""#,
            r#"manager: Invalid value: "a\tb": invalid character U+0009 (at position 1)"#,
        ),
        (
            r#"operation: Apply, manager: "é\a\u200b""#,
            "manager: Invalid value: \"é\\a\\u200b\": invalid character U+0007 (at position 2) \
             metadata.managedFields[0].manager: Invalid value: \"é\\a\\u200b\": invalid character U+200B (at position 3)",
        ),
    ] {
        let told = format!("invalid pod: [metadata.managedFields[0].{problem}]");
        assert_eq!(with(entry).unwrap_err().to_string(), told);
    }
}

/// Kubernetes, `ValidatePodSpec`, `validateVolumeSource`.
#[test]
fn errors_come_in_upstreams_order() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: a, managedFields: [{}], finalizers: [x]}
spec:
  dnsPolicy: Never
  restartPolicy: Sometimes
  hostname: A
  hostnameOverride: B
  hostAliases: [{ip: x}]
  preemptionPolicy: x
  runtimeClassName: A
  priorityClassName: A
  nodeSelector: {a: '/'}
  activeDeadlineSeconds: 0
  dnsConfig: {nameservers: [x]}
  tolerations: [{operator: Exists, value: x}]
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}}}
  readinessGates: [{conditionType: ''}]
  securityContext:
    seLinuxChangePolicy: x
    supplementalGroupsPolicy: x
    seccompProfile: {type: Localhost}
    fsGroupChangePolicy: x
    fsGroup: -1
  volumes:
  - {name: g, gcePersistentDisk: {}}
  - {name: h, emptyDir: {}, cephfs: {monitors: [x]}, downwardAPI: {}, gcePersistentDisk: {}}
  containers:
  - {name: c, image: ' i', terminationMessagePolicy: x}
";
    let Err(ManifestError::Invalid(errors)) = load(text) else {
        panic!("it is accepted");
    };
    let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "metadata.managedFields[0].operation",
            "metadata.finalizers[0]",
            "spec.volumes[0].persistentDisk.pdName",
            "spec.volumes[1].gcePersistentDisk",
            "spec.volumes[1].cephFS",
            "spec.volumes[1].downwarAPI",
            "spec.containers[0].terminationMessagePolicy",
            "spec.restartPolicy",
            "spec.dnsPolicy",
            "spec.nodeSelector",
            "spec.securityContext.fsGroup",
            "spec.securityContext.fsGroupChangePolicy",
            "spec.securityContext.seccompProfile.localhostProfile",
            "spec.securityContext.supplementalGroupsPolicy",
            "spec.securityContext.seLinuxChangePolicy",
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
            "spec.dnsConfig.nameservers[0]",
            "spec.readinessGates[0].conditionType",
            "spec.readinessGates[0].conditionType",
            "spec.hostnameOverride",
            "spec.activeDeadlineSeconds",
            "spec.hostname",
            "spec.tolerations[0].operator",
            "spec.hostAliases[0].ip",
            "spec.priorityClassName",
            "spec.runtimeClassName",
            "spec.preemptionPolicy",
            "spec.containers[0].image",
        ]
    );
}

/// Kubernetes, `validateVolumeSource` and what it calls.
#[test]
fn volumes_that_are_mounted_nowhere_are_checked() {
    let with = |source: &str| {
        let text = format!("{NGINX}  volumes: [{{name: v, {source}}}]\n");
        load(&text).map(drop).map_err(|error| error.to_string())
    };
    let pairs = "must be a host:port pair or multiple pairs separated by commas";
    let registry = format!("quobyte.registry: Invalid value: \"r\": {pairs}");
    let missing = format!(
        "quobyte.registry: Required value: {pairs} spec.volumes[0].quobyte.volume: Required value"
    );
    for (source, problem) in [
        (
            "gcePersistentDisk: {pdName: p, partition: 256}",
            "persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive",
        ),
        (
            "awsElasticBlockStore: {volumeID: v, partition: -1}",
            "awsElasticBlockStore.partition: Invalid value: -1: must be between 1 and 255, inclusive",
        ),
        (
            "flocker: {}",
            "flocker: Required value: one of datasetName and datasetUUID is required",
        ),
        (
            "flocker: {datasetName: a/b}",
            "flocker.datasetName: Invalid value: \"a/b\": must not contain '/'",
        ),
        ("quobyte: {registry: r, volume: v}", &registry),
        ("quobyte: {}", &missing),
        (
            "flexVolume: {driver: d, options: {x.K8s.io/a: b}}",
            "flexVolume.options[x.K8s.io/a]: Invalid value: \"x.K8s.io/a\": kubernetes.io and k8s.io namespaces are \
             reserved",
        ),
        (
            "azureDisk: {diskName: d, diskURI: 'https://u', cachingMode: x}",
            "azureDisk.cachingMode: Unsupported value: \"x\": supported values: \"None\", \"ReadOnly\", \"ReadWrite\"",
        ),
        (
            "azureDisk: {diskName: d, diskURI: u}",
            "azureDisk.diskURI: Unsupported value: \"u\": supported values: \
             \"https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd\"",
        ),
        (
            "storageos: {volumeName: v, volumeNamespace: a.b}",
            "storageos.volumeNamespace: Invalid value: \"a.b\": must not contain dots",
        ),
    ] {
        let told = format!("invalid pod: [spec.volumes[0].{problem}]");
        assert_eq!(with(source), Err(told));
    }
    for source in [
        "gcePersistentDisk: {pdName: p, partition: 0}",
        "flocker: {datasetUUID: u}",
        "quobyte: {registry: 'a:1,[::1]:2', volume: v}",
        "flexVolume: {driver: d, options: {k8s.example: b}}",
        "azureDisk: {diskName: d, diskURI: /subscriptions/u, kind: Managed}",
        "storageos: {volumeName: v}",
    ] {
        assert_eq!(with(source), Ok(()), "{source}");
    }
}

/// Kubernetes, `SetObjectDefaults_Pod`: `+default` of volume types.
#[test]
fn src_25_volumes_that_are_mounted_nowhere_have_their_defaults() {
    let volume = |source: &str| {
        let text = format!("{NGINX}  volumes: [{{name: v, {source}}}]\n");
        let spec = load(&text).unwrap().pod.spec.unwrap();
        let mut volume = json!(spec.volumes.unwrap().remove(0));
        volume.as_object_mut().unwrap().remove("name");
        volume
    };
    for (source, shown) in [
        (
            "rbd: {monitors: [m], image: i}",
            json!({"rbd": {"monitors": ["m"], "image": "i", "pool": "rbd", "user": "admin",
                "keyring": "/etc/ceph/keyring"}}),
        ),
        (
            "azureDisk: {diskName: d, diskURI: 'https://u'}",
            json!({"azureDisk": {"diskName": "d", "diskURI": "https://u", "cachingMode": "ReadWrite", "fsType": "ext4",
                "readOnly": false, "kind": "Shared"}}),
        ),
        (
            "azureDisk: {diskName: d, diskURI: /subscriptions/u, cachingMode: None, fsType: '', readOnly: true, \
             kind: Managed}",
            json!({"azureDisk": {"diskName": "d", "diskURI": "/subscriptions/u", "cachingMode": "None", "fsType": "",
                "readOnly": true, "kind": "Managed"}}),
        ),
        (
            "scaleIO: {gateway: g, system: s, volumeName: v, secretRef: {}, storageMode: ''}",
            json!({"scaleIO": {"gateway": "g", "system": "s", "volumeName": "v", "secretRef": {"name": ""},
                "storageMode": "ThinProvisioned", "fsType": "xfs"}}),
        ),
    ] {
        assert_eq!(volume(source), shown, "{source}");
    }
}
