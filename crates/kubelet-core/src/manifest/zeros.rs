//! Zero values, which in Go are one with absent fields (SRC-25): `tty: false` says nothing, is not
//! shown on `/pods`, and makes no other pod of a manifest (SRC-30).
//!
//! Source of behaviour: `omitempty` in `k8s.io/api/core/v1`. What Go holds behind a pointer
//! (`enableServiceLinks`, `runAsUser`) keeps its zero.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe, ResourceRequirements, Volume};

/// A value that may be Go's zero.
trait Zero {
    fn is_zero(&self) -> bool;
}

impl Zero for bool {
    fn is_zero(&self) -> bool {
        !self
    }
}

impl Zero for i32 {
    fn is_zero(&self) -> bool {
        *self == 0
    }
}

impl Zero for String {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

impl<T> Zero for Vec<T> {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Zero for BTreeMap<K, V> {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

fn drop_zero<T: Zero>(field: &mut Option<T>) {
    field.take_if(|value| value.is_zero());
}

/// Drops the zero values of the fields that people write.
pub(super) fn drop_zeros(pod: &mut Pod) {
    drop_zero(&mut pod.metadata.labels);
    drop_zero(&mut pod.metadata.annotations);
    if let Some(spec) = &mut pod.spec {
        of_spec(spec);
    }
}

fn of_spec(spec: &mut PodSpec) {
    for flag in [
        &mut spec.host_network,
        &mut spec.host_pid,
        &mut spec.host_ipc,
    ] {
        drop_zero(flag);
    }
    for text in [
        &mut spec.hostname,
        &mut spec.subdomain,
        &mut spec.priority_class_name,
    ] {
        drop_zero(text);
    }
    drop_zero(&mut spec.node_selector);
    drop_zero(&mut spec.overhead);
    drop_zero(&mut spec.tolerations);
    drop_zero(&mut spec.host_aliases);
    drop_zero(&mut spec.image_pull_secrets);
    drop_zero(&mut spec.readiness_gates);
    drop_zero(&mut spec.topology_spread_constraints);
    if let Some(context) = &mut spec.security_context {
        drop_zero(&mut context.supplemental_groups);
        drop_zero(&mut context.sysctls);
    }
    spec.resources.iter_mut().for_each(of_resources);
    let init = spec.init_containers.iter_mut().flatten();
    spec.containers
        .iter_mut()
        .chain(init)
        .for_each(of_container);
    drop_zero(&mut spec.init_containers);
    spec.volumes.iter_mut().flatten().for_each(of_volume);
    drop_zero(&mut spec.volumes);
}

fn of_container(container: &mut Container) {
    for flag in [
        &mut container.stdin,
        &mut container.stdin_once,
        &mut container.tty,
    ] {
        drop_zero(flag);
    }
    drop_zero(&mut container.working_dir);
    drop_zero(&mut container.command);
    drop_zero(&mut container.args);
    for variable in container.env.iter_mut().flatten() {
        drop_zero(&mut variable.value);
    }
    drop_zero(&mut container.env);
    for source in container.env_from.iter_mut().flatten() {
        drop_zero(&mut source.prefix);
    }
    drop_zero(&mut container.env_from);
    for port in container.ports.iter_mut().flatten() {
        drop_zero(&mut port.name);
        drop_zero(&mut port.host_ip);
    }
    drop_zero(&mut container.ports);
    for mount in container.volume_mounts.iter_mut().flatten() {
        drop_zero(&mut mount.read_only);
        drop_zero(&mut mount.sub_path);
        drop_zero(&mut mount.sub_path_expr);
    }
    drop_zero(&mut container.volume_mounts);
    drop_zero(&mut container.volume_devices);
    drop_zero(&mut container.resize_policy);
    container.resources.iter_mut().for_each(of_resources);
    let context = container.security_context.as_mut();
    if let Some(capabilities) = context.and_then(|context| context.capabilities.as_mut()) {
        drop_zero(&mut capabilities.add);
        drop_zero(&mut capabilities.drop);
    }
    [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ]
    .into_iter()
    .flatten()
    .for_each(of_probe);
}

fn of_probe(probe: &mut Probe) {
    drop_zero(&mut probe.initial_delay_seconds);
    if let Some(exec) = &mut probe.exec {
        drop_zero(&mut exec.command);
    }
    if let Some(http) = &mut probe.http_get {
        drop_zero(&mut http.host);
        drop_zero(&mut http.http_headers);
    }
    if let Some(tcp) = &mut probe.tcp_socket {
        drop_zero(&mut tcp.host);
    }
}

fn of_resources(resources: &mut ResourceRequirements) {
    drop_zero(&mut resources.limits);
    drop_zero(&mut resources.requests);
    drop_zero(&mut resources.claims);
}

fn of_volume(volume: &mut Volume) {
    if let Some(directory) = &mut volume.empty_dir {
        drop_zero(&mut directory.medium);
    }
    if let Some(downward) = &mut volume.downward_api {
        drop_zero(&mut downward.items);
    }
}
