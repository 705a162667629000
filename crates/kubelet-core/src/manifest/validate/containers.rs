//! Containers, plain, init and ephemeral.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerResizePolicy, PodSpec, VolumeDevice, VolumeMount,
};

use super::super::field::{Errors, Path};
use super::values::{descending_path, json, one_of, pull_policy, text};
use super::volumes::Known;
use super::{env, names, probes, resources, security};

/// What the checks of a container need to know of its pod.
pub(super) struct Context<'a> {
    pub(super) spec: &'a PodSpec,
    pub(super) volumes: Known<'a>,
    /// Whether the pod shares the host's user namespace.
    pub(super) host_users: bool,
}

pub(super) fn containers(context: &Context<'_>, path: &Path, errors: &mut Errors) {
    let spec = context.spec;
    if spec.containers.is_empty() {
        return errors.required(path, "");
    }
    let mut taken = BTreeSet::new();
    for (index, container) in spec.containers.iter().enumerate() {
        let path = path.index(index);
        common(container, context, &path, errors);
        if !taken.insert(container.name.as_str()) {
            errors.duplicate(&path.child("name"), container.name.as_str());
        }
        watched(container, spec, &path, errors);
        if container.restart_policy.is_some() {
            let detail = "may not be set for non-init containers";
            errors.forbidden(&path.child("restartPolicy"), detail);
        }
    }
    let ports: Vec<_> = spec.containers.iter().enumerate().collect();
    host_ports(&ports, path, errors);
}

pub(super) fn init_containers(context: &Context<'_>, path: &Path, errors: &mut Errors) {
    const SIDECARS_ONLY: &str = "may not be set for init containers without restartPolicy=Always";
    let spec = context.spec;
    let mut taken: BTreeSet<&str> = spec.containers.iter().map(|c| c.name.as_str()).collect();
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let at = path.index(index);
        common(container, context, &at, errors);
        let policy = container.restart_policy.as_deref();
        if let Some(policy) = policy.filter(|policy| *policy != "Always") {
            errors.not_supported(&at.child("restartPolicy"), policy, &["Always"]);
        }
        if taken.contains(container.name.as_str()) {
            errors.duplicate(&at.child("name"), container.name.as_str());
        } else if !container.name.is_empty() {
            taken.insert(&container.name);
        }
        // One runs after the other, so only ports of one container can collide.
        host_ports(&[(0, container)], path, errors);
        if policy == Some("Always") {
            watched(container, spec, &at, errors);
        } else {
            let set = [
                ("lifecycle", container.lifecycle.is_some()),
                ("livenessProbe", container.liveness_probe.is_some()),
                ("readinessProbe", container.readiness_probe.is_some()),
                ("startupProbe", container.startup_probe.is_some()),
            ];
            for (name, _) in set.iter().filter(|(_, set)| *set) {
                errors.forbidden(&at.child(name), SIDECARS_ONLY);
            }
        }
        if let Some(policies) = container
            .resize_policy
            .as_ref()
            .filter(|list| !list.is_empty())
        {
            let value = json(policies);
            errors.invalid(
                &at.child("resizePolicy"),
                value,
                "must not be set for init containers",
            );
        }
    }
}

/// What is asked of images of pods and not of templates, after all else (`validateContainersOnlyForPod`).
pub(super) fn images(containers: &[Container], path: &Path, errors: &mut Errors) {
    for (index, container) in containers.iter().enumerate() {
        let image = text(&container.image);
        if image.trim() != image {
            let detail = "must not have leading or trailing whitespace";
            errors.invalid(&path.index(index).child("image"), image, detail);
        }
    }
}

/// Hooks and probes.
fn watched(container: &Container, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if let Some(lifecycle) = &container.lifecycle {
        let grace = spec.termination_grace_period_seconds;
        probes::lifecycle(
            lifecycle,
            grace,
            spec.os.as_ref(),
            &path.child("lifecycle"),
            errors,
        );
    }
    probes::liveness(
        container.liveness_probe.as_ref(),
        &path.child("livenessProbe"),
        errors,
    );
    probes::readiness(
        container.readiness_probe.as_ref(),
        &path.child("readinessProbe"),
        errors,
    );
    probes::liveness(
        container.startup_probe.as_ref(),
        &path.child("startupProbe"),
        errors,
    );
}

/// What all kinds of containers have to keep.
fn common(container: &Container, context: &Context<'_>, path: &Path, errors: &mut Errors) {
    match container.name.as_str() {
        "" => errors.required(&path.child("name"), ""),
        name => errors.each(&path.child("name"), name, names::dns_label(name)),
    }
    let image = text(&container.image);
    if image.is_empty() {
        errors.required(&path.child("image"), "");
    }
    one_of(
        text(&container.termination_message_policy),
        &["File", "FallbackToLogsOnError"],
        &path.child("terminationMessagePolicy"),
        errors,
    );
    let list = |name: &str| path.child(name);
    ports(
        container.ports.as_deref().unwrap_or_default(),
        &list("ports"),
        errors,
    );
    env::variables(
        container.env.as_deref().unwrap_or_default(),
        &list("env"),
        errors,
    );
    env::sources(
        container.env_from.as_deref().unwrap_or_default(),
        &list("envFrom"),
        errors,
    );
    mounts(container, context, &list("volumeMounts"), errors);
    devices(container, context, &list("volumeDevices"), errors);
    pull_policy(
        text(&container.image_pull_policy),
        &list("imagePullPolicy"),
        errors,
    );
    let claims = context.spec.resource_claims.iter().flatten();
    let claims = claims
        .map(|claim| claim.name.as_str())
        .filter(|name| !name.is_empty())
        .collect();
    resources::requirements(
        container.resources.as_ref(),
        &claims,
        &list("resources"),
        errors,
    );
    let policies = container.resize_policy.as_deref().unwrap_or_default();
    resize(
        policies,
        text(&context.spec.restart_policy),
        &list("resizePolicy"),
        errors,
    );
    if let Some(security) = &container.security_context {
        security::container(
            security,
            context.host_users,
            &list("securityContext"),
            errors,
        );
    }
}

fn ports(ports: &[ContainerPort], path: &Path, errors: &mut Errors) {
    let mut taken = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = text(&port.name);
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if wrong.is_empty() && !taken.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
            errors.each(&path.child("name"), name, wrong);
        }
        let number = port.container_port;
        match number {
            0 => errors.required(&path.child("containerPort"), ""),
            _ => errors.each(
                &path.child("containerPort"),
                number,
                names::port_number(i64::from(number)),
            ),
        }
        if let Some(number) = port.host_port.filter(|port| *port != 0) {
            let wrong = names::port_number(i64::from(number));
            errors.each(&path.child("hostPort"), number, wrong);
        }
        let protocols = &["SCTP", "TCP", "UDP"];
        one_of(
            text(&port.protocol),
            protocols,
            &path.child("protocol"),
            errors,
        );
    }
}

/// A port of the host can be had once for each protocol and address.
fn host_ports(containers: &[(usize, &Container)], path: &Path, errors: &mut Errors) {
    let mut taken = BTreeSet::new();
    for (index, container) in containers {
        for (port_index, port) in container.ports.iter().flatten().enumerate() {
            let Some(number) = port.host_port.filter(|port| *port != 0) else {
                continue;
            };
            let place = format!("{}/{}/{number}", text(&port.protocol), text(&port.host_ip));
            if taken.contains(&place) {
                let path = path
                    .index(*index)
                    .child("ports")
                    .index(port_index)
                    .child("hostPort");
                errors.duplicate(&path, place);
            } else {
                taken.insert(place);
            }
        }
    }
}

fn mounts(container: &Container, context: &Context<'_>, path: &Path, errors: &mut Errors) {
    let devices: BTreeMap<&str, &str> = container
        .volume_devices
        .iter()
        .flatten()
        .map(|VolumeDevice { name, device_path }| (name.as_str(), device_path.as_str()))
        .collect();
    let mut taken = BTreeSet::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let at = path.index(index);
        let (name, place) = (mount.name.as_str(), mount.mount_path.as_str());
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        }
        if !context.volumes.contains_key(name) {
            errors.not_found(&at.child("name"), name);
        }
        if place.is_empty() {
            errors.required(&at.child("mountPath"), "");
        }
        if !taken.insert(place) {
            errors.invalid(&at.child("mountPath"), place, "must be unique");
        }
        if devices.contains_key(name) {
            errors.invalid(
                &at.child("name"),
                name,
                "must not already exist in volumeDevices",
            );
        }
        if devices.values().any(|device| *device == place) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.invalid(&at.child("mountPath"), place, detail);
        }
        let (sub_path, expression) = (text(&mount.sub_path), text(&mount.sub_path_expr));
        descending_path(sub_path, &path.child("subPath"), errors);
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.invalid(&at.child("subPathExpr"), expression, detail);
            }
            descending_path(expression, &path.child("subPathExpr"), errors);
        }
        propagation(mount, container, path, errors);
    }
}

fn propagation(mount: &VolumeMount, container: &Container, path: &Path, errors: &mut Errors) {
    const MODES: [&str; 3] = ["Bidirectional", "HostToContainer", "None"];
    let mode = mount.mount_propagation.as_deref();
    if let Some(mode) = mode {
        let path = path.child("mountPropagation");
        if !MODES.contains(&mode) {
            errors.not_supported(&path, mode, &MODES);
        }
        let security = container.security_context.as_ref();
        let privileged = security.is_some_and(|security| security.privileged == Some(true));
        if mode == "Bidirectional" && !privileged {
            let detail =
                "Bidirectional mount propagation is available only to privileged containers";
            errors.forbidden(&path, detail);
        }
    }
    let path = path.child("recursiveReadOnly");
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount.read_only != Some(true) {
                errors.forbidden(&path, "may only be specified when readOnly is true");
            }
            if mode.is_some_and(|mode| mode != "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.forbidden(&path, detail);
            }
        }
        Some(other) => {
            errors.not_supported(&path, other, &["Disabled", "Enabled", "IfPossible"]);
        }
    }
}

fn devices(container: &Container, context: &Context<'_>, path: &Path, errors: &mut Errors) {
    let mounts: BTreeMap<&str, &str> = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|mount| (mount.name.as_str(), mount.mount_path.as_str()))
        .collect();
    let mut names = BTreeSet::new();
    let mut places = BTreeSet::new();
    for (index, device) in container.volume_devices.iter().flatten().enumerate() {
        let at = path.index(index);
        let (name, place) = (device.name.as_str(), device.device_path.as_str());
        let (name_path, place_path) = (at.child("name"), at.child("devicePath"));
        if name.is_empty() {
            errors.required(&name_path, "");
        } else if !names.insert(name) {
            errors.invalid(&name_path, name, "must be unique");
        }
        match context.volumes.get(name) {
            None => errors.not_found(&name_path, name),
            Some(volume)
                if volume.persistent_volume_claim.is_none() && volume.ephemeral.is_none() =>
            {
                let detail = "can only use volume source type of PersistentVolumeClaim or \
                              Ephemeral for block mode";
                errors.invalid(&name_path, name, detail);
            }
            Some(_) => {}
        }
        if place.is_empty() {
            errors.required(&place_path, "");
        }
        if places.contains(place) {
            errors.invalid(&place_path, place, "must be unique");
        }
        if place.split('/').any(|part| part == "..") {
            errors.invalid(&place_path, place, "can not contain backsteps ('..')");
        } else {
            places.insert(place);
        }
        if mounts.contains_key(name) {
            errors.invalid(&name_path, name, "must not already exist in volumeMounts");
        }
        if mounts.values().any(|mount| *mount == place) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.invalid(&place_path, place, detail);
        }
    }
}

fn resize(
    policies: &[ContainerResizePolicy],
    restart_policy: &str,
    path: &Path,
    errors: &mut Errors,
) {
    let mut taken = BTreeSet::new();
    for (index, policy) in policies.iter().enumerate() {
        if !taken.insert(policy.resource_name.as_str()) {
            errors.duplicate(&path.index(index), policy.resource_name.as_str());
        }
        one_of(&policy.resource_name, &["cpu", "memory"], path, errors);
        let how = policy.restart_policy.as_str();
        one_of(how, &["NotRequired", "RestartContainer"], path, errors);
        if restart_policy == "Never" && how != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.invalid(path, how, detail);
        }
    }
}
