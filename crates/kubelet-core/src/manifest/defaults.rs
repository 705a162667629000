//! Defaults that the v1 API gives every pod (SRC-25).
//!
//! Source of behaviour: `pkg/apis/core/v1/defaults.go` and the conversions around it, as `tryDecodeSinglePod`
//! meets them. In Go an absent field and its zero value are one for plain fields, so an explicit `0` or `""` is
//! defaulted too; only what Go holds behind a pointer keeps an explicit zero.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, EmptyDirVolumeSource, HTTPGetAction, Pod, PodSpec, Probe,
    ResourceFieldSelector, ResourceRequirements, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::zeros::drop_zeros;
use crate::{image_name, quantity};

type ResourceList = BTreeMap<String, Quantity>;

/// Annotations of Kubernetes 1.5 and older that upstream drops on sight.
const DROPPED_ANNOTATIONS: [&str; 4] = [
    "pod.alpha.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.beta.kubernetes.io/init-containers",
];

/// Mode of files in volumes.
const FILE_MODE: i32 = 0o644;

/// Fills in the defaults. Doing it twice changes nothing more.
pub fn default_pod(pod: &mut Pod) {
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|key, _| !DROPPED_ANNOTATIONS.contains(&key.as_str()));
    }
    let spec = pod.spec.get_or_insert_default();
    requests_from_limits(spec);
    pod_level_resources(spec);
    let host_network = spec.host_network.unwrap_or_default();
    for container in containers(spec) {
        default_container(container, host_network);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        default_volume(volume);
    }
    spec.enable_service_links.get_or_insert(true);
    default_text(&mut spec.dns_policy, "ClusterFirst");
    default_text(&mut spec.restart_policy, "Always");
    default_text(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    // A negative grace period is one second, as the conversion has it.
    let grace = spec.termination_grace_period_seconds.unwrap_or(30);
    spec.termination_grace_period_seconds = Some(if grace < 0 { 1 } else { grace });
    default_service_account(spec);
    for list in spec
        .overhead
        .iter_mut()
        .chain(spec.resources.iter_mut().flat_map(lists))
    {
        round_up(list);
    }
    drop_zeros(pod);
}

fn containers(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    spec.containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
}

/// `serviceAccount` is the old name of `serviceAccountName`; the new one wins and both are kept equal.
fn default_service_account(spec: &mut PodSpec) {
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let name = text(&spec.service_account_name).or(text(&spec.service_account));
    spec.service_account_name.clone_from(&name);
    spec.service_account = name;
}

fn default_container(container: &mut Container, host_network: bool) {
    default_text(
        &mut container.image_pull_policy,
        pull_policy(container.image.as_deref().unwrap_or_default()),
    );
    default_text(
        &mut container.termination_message_path,
        "/dev/termination-log",
    );
    default_text(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        default_text(&mut port.protocol, "TCP");
        port.host_port = match port.host_port.unwrap_or_default() {
            0 if host_network => Some(port.container_port),
            0 => None,
            port => Some(port),
        };
    }
    for var in container.env.iter_mut().flatten() {
        if let Some(source) = &mut var.value_from {
            if let Some(field) = &mut source.field_ref {
                default_text(&mut field.api_version, "v1");
            }
            if let Some(resource) = &mut source.resource_field_ref {
                default_divisor(resource);
            }
            if let Some(file) = &mut source.file_key_ref {
                file.optional.get_or_insert(false);
            }
        }
    }
    for list in container.resources.iter_mut().flat_map(lists) {
        round_up(list);
    }
    let Container {
        liveness_probe,
        readiness_probe,
        startup_probe,
        lifecycle,
        ..
    } = container;
    for probe in [liveness_probe, readiness_probe, startup_probe]
        .into_iter()
        .flatten()
    {
        default_probe(probe);
    }
    if let Some(lifecycle) = lifecycle {
        let handlers = [&mut lifecycle.post_start, &mut lifecycle.pre_stop];
        handlers
            .into_iter()
            .flatten()
            .filter_map(|h| h.http_get.as_mut())
            .for_each(default_http);
    }
}

/// `Always` for `latest`, written or implied; `IfNotPresent` for the rest, unreadable names included.
fn pull_policy(image: &str) -> &'static str {
    match image_name::parse(image) {
        Ok(name) if name.effective_tag() == Some("latest") => "Always",
        _ => "IfNotPresent",
    }
}

fn default_probe(probe: &mut Probe) {
    default_number(&mut probe.timeout_seconds, 1);
    default_number(&mut probe.period_seconds, 10);
    default_number(&mut probe.success_threshold, 1);
    default_number(&mut probe.failure_threshold, 3);
    if let Some(http) = &mut probe.http_get {
        default_http(http);
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn default_http(http: &mut HTTPGetAction) {
    default_text(&mut http.path, "/");
    default_text(&mut http.scheme, "HTTP");
}

fn default_volume(volume: &mut Volume) {
    let bare = Volume {
        name: volume.name.clone(),
        ..Volume::default()
    };
    if *volume == bare {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(source) = &mut volume.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(FILE_MODE);
        source
            .items
            .iter_mut()
            .flatten()
            .for_each(default_downward_file);
    }
    if let Some(source) = &mut volume.projected {
        source.default_mode.get_or_insert(FILE_MODE);
        for source in source.sources.iter_mut().flatten() {
            if let Some(api) = &mut source.downward_api {
                api.items
                    .iter_mut()
                    .flatten()
                    .for_each(default_downward_file);
            }
            if let Some(token) = &mut source.service_account_token {
                token.expiration_seconds.get_or_insert(3600);
            }
        }
    }
    default_remote(volume);
    // Differs: upstream does so only with the gate ImageVolume and refuses the pod without it.
    if let Some(source) = &mut volume.image {
        let policy = pull_policy(source.reference.as_deref().unwrap_or_default());
        default_text(&mut source.pull_policy, policy);
    }
}

/// Of volumes that are mounted nowhere any more, what `/pods` shows (`+default` in `k8s.io/api/core/v1`).
fn default_remote(volume: &mut Volume) {
    if let Some(source) = &mut volume.iscsi {
        default_text(&mut source.iscsi_interface, "default");
    }
    if let Some(source) = &mut volume.rbd {
        default_text(&mut source.pool, "rbd");
        default_text(&mut source.user, "admin");
        default_text(&mut source.keyring, "/etc/ceph/keyring");
    }
    if let Some(source) = &mut volume.azure_disk {
        let text = |text: &str| text.to_owned();
        source.caching_mode.get_or_insert_with(|| text("ReadWrite"));
        source.fs_type.get_or_insert_with(|| text("ext4"));
        source.read_only.get_or_insert(false);
        source.kind.get_or_insert_with(|| text("Shared"));
    }
    if let Some(source) = &mut volume.scale_io {
        default_text(&mut source.storage_mode, "ThinProvisioned");
        default_text(&mut source.fs_type, "xfs");
    }
}

fn default_downward_file(file: &mut DownwardAPIVolumeFile) {
    if let Some(field) = &mut file.field_ref {
        default_text(&mut field.api_version, "v1");
    }
    if let Some(resource) = &mut file.resource_field_ref {
        default_divisor(resource);
    }
}

/// Zero, which stands for one of the resource's own unit.
fn default_divisor(selector: &mut ResourceFieldSelector) {
    selector
        .divisor
        .get_or_insert_with(|| Quantity("0".to_owned()));
}

/// A limit without a request is the request.
fn requests_from_limits(spec: &mut PodSpec) {
    for resources in containers(spec).filter_map(|container| container.resources.as_mut()) {
        if let Some(limits) = &resources.limits {
            let requests = resources.requests.get_or_insert_default();
            for (name, limit) in limits {
                requests
                    .entry(name.clone())
                    .or_insert_with(|| limit.clone());
            }
        }
    }
}

/// Pod-level requests from those of the containers, then from pod-level limits; pod-level limits of huge pages
/// from the containers' (gate PodLevelResources, on).
fn pod_level_resources(spec: &mut PodSpec) {
    let Some(mut resources) = spec.resources.take() else {
        return;
    };
    let set = |list: &Option<ResourceList>| list.as_ref().is_some_and(|list| !list.is_empty());
    if set(&resources.limits) || set(&resources.requests) {
        let requests = resources.requests.clone().unwrap_or_default();
        for (name, limit) in aggregate(spec, |resources| resources.limits.as_ref()) {
            if is_huge_page(&name) && !requests.contains_key(&name) {
                resources
                    .limits
                    .get_or_insert_default()
                    .entry(name)
                    .or_insert(limit);
            }
        }
    }
    if let Some(limits) = resources
        .limits
        .as_ref()
        .filter(|limits| !limits.is_empty())
    {
        let requests = resources.requests.get_or_insert_default();
        for (name, request) in aggregate(spec, |resources| resources.requests.as_ref()) {
            if matches!(name.as_str(), "cpu" | "memory") {
                requests.entry(name).or_insert(request);
            }
        }
        for (name, limit) in limits.iter().filter(|(name, _)| is_pod_level(name)) {
            requests
                .entry(name.clone())
                .or_insert_with(|| limit.clone());
        }
    }
    spec.resources = Some(resources);
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

/// What all containers take at once: regular ones and sidecars together, or one init container with the
/// sidecars before it, whichever is more.
fn aggregate<'a>(
    spec: &'a PodSpec,
    list: impl Fn(&'a ResourceRequirements) -> Option<&'a ResourceList>,
) -> ResourceList {
    let of = |container: &'a Container| {
        let list = container.resources.as_ref().and_then(&list);
        list.into_iter()
            .flatten()
            .map(|(name, amount)| (name.as_str(), quantity::of(amount)))
    };
    let mut total: BTreeMap<&str, quantity::Quantity> = BTreeMap::new();
    let mut sidecars = total.clone();
    let mut most = total.clone();
    for container in &spec.containers {
        of(container).for_each(|(name, amount)| add(&mut total, name, amount));
    }
    for container in spec.init_containers.iter().flatten() {
        let mut now = sidecars.clone();
        of(container).for_each(|(name, amount)| add(&mut now, name, amount));
        if container.restart_policy.as_deref() == Some("Always") {
            of(container).for_each(|(name, amount)| add(&mut total, name, amount));
            sidecars.clone_from(&now);
        }
        for (name, amount) in now {
            let most = most.entry(name).or_insert(amount);
            *most = amount.max(*most);
        }
    }
    for (name, amount) in most {
        let total = total.entry(name).or_insert(amount);
        *total = amount.max(*total);
    }
    total
        .into_iter()
        .map(|(name, amount)| (name.to_owned(), amount.into()))
        .collect()
}

fn add<'a>(
    list: &mut BTreeMap<&'a str, quantity::Quantity>,
    name: &'a str,
    amount: quantity::Quantity,
) {
    let sum = list.entry(name).or_default();
    *sum = sum.plus(amount);
}

fn lists(resources: &mut ResourceRequirements) -> impl Iterator<Item = &mut ResourceList> {
    resources
        .limits
        .iter_mut()
        .chain(resources.requests.iter_mut())
}

/// The API keeps thousandths and nothing finer.
fn round_up(list: &mut ResourceList) {
    for amount in list.values_mut() {
        *amount = quantity::of(amount).rounded_to_milli().into();
    }
}

fn default_text(field: &mut Option<String>, default: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(default.to_owned());
    }
}

fn default_number(field: &mut Option<i32>, default: i32) {
    if field.unwrap_or_default() == 0 {
        *field = Some(default);
    }
}
