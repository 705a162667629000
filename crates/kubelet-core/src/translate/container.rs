//! `ContainerConfig` (kubelet CRI-50 to CRI-60).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use cri_api::v1;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::security::{self, ImageUser};
use super::{NodeFacts, TranslateError};
use crate::{
    env::{MAX_BYTES, expand},
    hash::container_hash,
    ids::{PodKey, PodUid},
    log_paths,
    observed::{
        ANNOTATION_DELETION_GRACE, ANNOTATION_GRACE, ANNOTATION_HASH, ANNOTATION_MESSAGE_PATH,
        ANNOTATION_MESSAGE_POLICY, ANNOTATION_PORTS, ANNOTATION_PRE_STOP, ANNOTATION_RESTART_COUNT,
        LABEL_CONTAINER_NAME, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID,
    },
    resources, spec,
};

/// Where a container finds its names.
const ETC_HOSTS: &str = "/etc/hosts";

/// What is mounted for one `volumeMount`.
#[derive(Debug, Clone, PartialEq)]
pub struct MountPath {
    /// Where it comes from.
    pub source: MountSource,
    /// The kubelet made it, so its SELinux label may be changed.
    pub relabel: bool,
    /// Nobody but the kubelet or the runtime may write there, whatever the mount asks for.
    pub read_only: bool,
}

/// Where a mount comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum MountSource {
    /// A path as the runtime knows it.
    Path(PathBuf),
    /// An image, which the runtime mounts (VOL-34).
    Image {
        /// The image.
        image: Box<v1::ImageSpec>,
        /// The part of it; empty for all.
        sub_path: String,
    },
}

/// Files of the kubelet's own that a container gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnMounts {
    /// The pod's `/etc/hosts`; none for a pod without addresses (SPEC-02).
    pub etc_hosts: Option<PathBuf>,
    /// The file for last words (CTR-50).
    pub termination_message: Option<PathBuf>,
}

/// What a container is made from.
#[derive(Debug, Clone, Copy)]
pub struct ContainerInput<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container, init and ephemeral ones too.
    pub container: &'a Container,
    /// The restart count (CTR-21).
    pub attempt: u32,
    /// Id or reference of the image that is there (IMG-07).
    pub image: &'a str,
    /// Who the image runs as.
    pub image_user: &'a ImageUser,
    /// The container's variables, expanded.
    pub environment: &'a BTreeMap<String, String>,
    /// A path for each of the container's `volumeMounts`, in their order.
    pub mounts: &'a [MountPath],
    /// The kubelet's own files.
    pub own_mounts: &'a OwnMounts,
    /// The node.
    pub facts: &'a NodeFacts,
}

/// The configuration.
///
/// # Errors
/// When the container asks for what cannot be: see [`TranslateError`].
pub fn container_config(input: &ContainerInput<'_>) -> Result<v1::ContainerConfig, TranslateError> {
    let ContainerInput {
        pod,
        container,
        environment,
        facts,
        ..
    } = *input;
    if container
        .volume_devices
        .as_ref()
        .is_some_and(|devices| !devices.is_empty())
    {
        return Err(TranslateError::NotSupported(format!(
            "volumeDevices of container {:?}",
            container.name
        )));
    }
    let mut bytes = 0_usize;
    let mut expanded = |words: &Option<Vec<String>>| {
        let mut expanded = Vec::new();
        for word in words.iter().flatten() {
            let word = expand(word, environment);
            bytes = bytes.saturating_add(word.len());
            if bytes > MAX_BYTES {
                return Err(TranslateError::CommandTooLong);
            }
            expanded.push(word);
        }
        Ok(expanded)
    };
    let (command, args) = (expanded(&container.command)?, expanded(&container.args)?);
    let key = PodKey::of(pod);
    let labels = [
        (LABEL_POD_NAME, key.name),
        (LABEL_POD_NAMESPACE, key.namespace),
        (LABEL_POD_UID, PodUid::of(pod).to_string()),
        (LABEL_CONTAINER_NAME, container.name.clone()),
    ];
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: container.name.clone(),
            attempt: input.attempt,
        }),
        image: Some(v1::ImageSpec {
            image: input.image.to_owned(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..v1::ImageSpec::default()
        }),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: environment
            .iter()
            .map(|(key, value)| v1::KeyValue {
                key: key.clone(),
                value: value.clone().into_bytes(),
            })
            .collect(),
        mounts: mounts(input)?,
        labels: labels
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
        annotations: annotations(pod, container, input.attempt),
        log_path: log_paths::container_log(&container.name.as_str().into(), input.attempt),
        stdin: container.stdin.unwrap_or_default(),
        stdin_once: container.stdin_once.unwrap_or_default(),
        tty: container.tty.unwrap_or_default(),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources::container_resources(
                pod,
                container,
                &facts.resources,
                false,
            )),
            security_context: Some(security::container_context(
                pod,
                container,
                input.image_user,
                facts,
            )?),
        }),
        ..v1::ContainerConfig::default()
    })
}

/// The signal that ends the container, where it names one (CTR-46): `SIGRTMIN+1` of the API is
/// `SIGRTMINPLUS1` of the CRI.
pub fn stop_signal(container: &Container) -> v1::Signal {
    let lifecycle = container.lifecycle.as_ref();
    lifecycle
        .and_then(|lifecycle| lifecycle.stop_signal.as_deref())
        .map(|name| name.replace('+', "PLUS").replace('-', "MINUS"))
        .and_then(|name| v1::Signal::from_str_name(&name))
        .unwrap_or_default()
}

/// CRI-53: volumes in the container's order, then the kubelet's own files. Differs: a volume that is
/// mounted where the termination message would be takes its place; upstream mounts both, which Docker
/// refuses.
fn mounts(input: &ContainerInput<'_>) -> Result<Vec<v1::Mount>, TranslateError> {
    let volume_mounts = input.container.volume_mounts.as_deref().unwrap_or_default();
    let mut mounts = Vec::with_capacity(volume_mounts.len() + 2);
    for (mount, path) in volume_mounts.iter().zip(input.mounts) {
        let (host_path, image, image_sub_path) = match &path.source {
            MountSource::Path(path) => (path.to_string_lossy().into_owned(), None, String::new()),
            MountSource::Image { image, sub_path } => {
                (String::new(), Some((**image).clone()), sub_path.clone())
            }
        };
        mounts.push(v1::Mount {
            container_path: spec::absolute_path(&mount.mount_path).into_owned(),
            host_path,
            image,
            image_sub_path,
            readonly: path.read_only || mount.read_only.unwrap_or_default(),
            recursive_read_only: recursive_read_only(mount, input.facts)?,
            propagation: propagation(mount).into(),
            selinux_relabel: path.relabel && input.facts.selinux,
            ..v1::Mount::default()
        });
    }
    let taken = |path: &str| mounts.iter().any(|mount| mount.container_path == path);
    let own_file = |container_path: &str, host_path: &Path| v1::Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.to_string_lossy().into_owned(),
        selinux_relabel: input.facts.selinux,
        ..v1::Mount::default()
    };
    let mut own = Vec::new();
    if let Some(hosts) = &input.own_mounts.etc_hosts
        && !taken(ETC_HOSTS)
    {
        own.push(own_file(ETC_HOSTS, hosts));
    }
    let message_path = input.container.termination_message_path.as_deref();
    if let Some(file) = &input.own_mounts.termination_message
        && let Some(path) = message_path.filter(|path| !path.is_empty())
        && let path = spec::absolute_path(path)
        && !taken(&path)
    {
        own.push(own_file(&path, file));
    }
    mounts.extend(own);
    Ok(mounts)
}

/// VOL-61.
fn propagation(mount: &VolumeMount) -> v1::MountPropagation {
    match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
        _ => v1::MountPropagation::PropagationPrivate,
    }
}

/// VOL-62.
fn recursive_read_only(mount: &VolumeMount, facts: &NodeFacts) -> Result<bool, TranslateError> {
    match mount.recursive_read_only.as_deref() {
        Some("Enabled") if !facts.recursive_read_only => {
            Err(TranslateError::RecursiveReadOnly(mount.name.clone()))
        }
        Some("Enabled" | "IfPossible") => Ok(facts.recursive_read_only),
        _ => Ok(false),
    }
}

/// CRI-56.
fn annotations(pod: &Pod, container: &Container, attempt: u32) -> BTreeMap<String, String> {
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    let mut annotations = BTreeMap::from([
        (
            ANNOTATION_HASH.to_owned(),
            format!("{:x}", container_hash(container)),
        ),
        (ANNOTATION_RESTART_COUNT.to_owned(), attempt.to_string()),
        (
            ANNOTATION_MESSAGE_PATH.to_owned(),
            text(container.termination_message_path.as_ref()),
        ),
        (
            ANNOTATION_MESSAGE_POLICY.to_owned(),
            text(container.termination_message_policy.as_ref()),
        ),
    ]);
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            annotations.insert(key.to_owned(), value);
        }
    };
    let pod_spec = spec::spec(pod);
    add(
        ANNOTATION_GRACE,
        pod_spec
            .termination_grace_period_seconds
            .map(|s| s.to_string()),
    );
    let deletion = pod.metadata.deletion_grace_period_seconds;
    add(
        ANNOTATION_DELETION_GRACE,
        deletion.map(|seconds| seconds.to_string()),
    );
    let pre_stop = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    add(
        ANNOTATION_PRE_STOP,
        pre_stop.and_then(|handler| serde_json::to_string(handler).ok()),
    );
    let ports = container.ports.as_ref().filter(|ports| !ports.is_empty());
    add(
        ANNOTATION_PORTS,
        ports.and_then(|ports| serde_json::to_string(ports).ok()),
    );
    annotations
}
