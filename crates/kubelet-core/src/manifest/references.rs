//! What a static pod may not refer to, for want of an API to ask (SRC-36, SRC-37).
//!
//! Source of behaviour: `podutil.HasAPIObjectReference`, gate `PreventStaticPodAPIReferences`.

use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVar, Pod, PodSpec, ProjectedVolumeSource, Volume, VolumeProjection,
};

/// Why a static pod is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It refers to objects of this kind.
    Reference(&'static str),
    /// A volume whose type is not known.
    Unknown(String),
}

/// The first reference to an API object, or `None` if the pod may run as static pod.
pub fn static_reference_refused(pod: &Pod) -> Option<Refused> {
    let spec = pod.spec.as_ref()?;
    let named = |name: &Option<String>| !name.as_deref().unwrap_or_default().is_empty();
    if named(&spec.service_account_name) || named(&spec.service_account) {
        return Some(Refused::Reference("serviceaccounts"));
    }
    if has_secret(spec) {
        return Some(Refused::Reference("secrets"));
    }
    if has_config_map(spec) {
        return Some(Refused::Reference("configmaps"));
    }
    if spec
        .resource_claims
        .as_ref()
        .is_some_and(|claims| !claims.is_empty())
    {
        return Some(Refused::Reference("resourceclaims"));
    }
    spec.volumes.iter().flatten().find_map(volume)
}

/// Secrets named anywhere in the spec: pulls, environment and volumes.
fn has_secret(spec: &PodSpec) -> bool {
    let pulls = spec
        .image_pull_secrets
        .iter()
        .flatten()
        .any(|secret| !secret.name.is_empty());
    let from = |source: &EnvFromSource| source.secret_ref.is_some();
    let var = |var: &EnvVar| {
        var.value_from
            .as_ref()
            .is_some_and(|source| source.secret_key_ref.is_some())
    };
    pulls
        || in_environment(spec, from, var)
        || spec.volumes.iter().flatten().any(|volume| {
            volume.secret.is_some()
                || volume.azure_file.is_some()
                || referred(volume).is_some_and(|secret| !secret.is_empty())
                || projected(volume).any(|source| source.secret.is_some())
        })
}

/// The secret that a volume's type refers to beside all else; an empty name is no reference.
fn referred(volume: &Volume) -> Option<&str> {
    let secret = match volume {
        Volume {
            cephfs: Some(source),
            ..
        } => source.secret_ref.as_ref(),
        Volume {
            cinder: Some(source),
            ..
        } => source.secret_ref.as_ref(),
        Volume {
            flex_volume: Some(source),
            ..
        } => source.secret_ref.as_ref(),
        Volume {
            rbd: Some(source), ..
        } => source.secret_ref.as_ref(),
        Volume {
            iscsi: Some(source),
            ..
        } => source.secret_ref.as_ref(),
        Volume {
            scale_io: Some(source),
            ..
        } => Some(&source.secret_ref),
        Volume {
            storageos: Some(source),
            ..
        } => source.secret_ref.as_ref(),
        Volume {
            csi: Some(source), ..
        } => source.node_publish_secret_ref.as_ref(),
        _ => None,
    };
    secret.map(|secret| secret.name.as_str())
}

fn has_config_map(spec: &PodSpec) -> bool {
    let from = |source: &EnvFromSource| source.config_map_ref.is_some();
    let var = |var: &EnvVar| {
        var.value_from
            .as_ref()
            .is_some_and(|source| source.config_map_key_ref.is_some())
    };
    in_environment(spec, from, var)
        || spec.volumes.iter().flatten().any(|volume| {
            volume.config_map.is_some()
                || projected(volume).any(|source| source.config_map.is_some())
        })
}

fn in_environment(
    spec: &PodSpec,
    from: impl Fn(&EnvFromSource) -> bool,
    var: impl Fn(&EnvVar) -> bool,
) -> bool {
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let mut sources = containers
        .map(|Container { env_from, env, .. }| (env_from, env))
        .chain(
            spec.ephemeral_containers
                .iter()
                .flatten()
                .map(|c| (&c.env_from, &c.env)),
        );
    sources.any(|(env_from, env)| {
        env_from.iter().flatten().any(&from) || env.iter().flatten().any(&var)
    })
}

fn projected(volume: &Volume) -> impl Iterator<Item = &VolumeProjection> {
    volume
        .projected
        .iter()
        .flat_map(|source| source.sources.iter().flatten())
}

/// Reached only by what [`has_secret`] and [`has_config_map`] let through; the full list is kept for the
/// day one of those changes.
fn volume(volume: &Volume) -> Option<Refused> {
    let refused = if volume.config_map.is_some() {
        "configmaps (via configmap volumes)"
    } else if volume.secret.is_some() {
        "secrets (via secret volumes)"
    } else if volume.csi.is_some() {
        "csidrivers (via CSI volumes)"
    } else if volume.glusterfs.is_some() {
        "endpoints (via glusterFS volumes)"
    } else if volume.persistent_volume_claim.is_some() {
        "persistentvolumeclaims"
    } else if volume.ephemeral.is_some() {
        "persistentvolumeclaims (via ephemeral volumes)"
    } else if volume.azure_file.is_some() {
        "secrets (via azureFile volumes)"
    } else if let Some(source) = &volume.projected {
        return projection(source, &volume.name);
    } else {
        return None;
    };
    Some(Refused::Reference(refused))
}

fn projection(source: &ProjectedVolumeSource, name: &str) -> Option<Refused> {
    source.sources.iter().flatten().find_map(|source| {
        let refused = if source.config_map.is_some() {
            "configmaps (via projected volumes)"
        } else if source.secret.is_some() {
            "secrets (via projected volumes)"
        } else if source.service_account_token.is_some() {
            "serviceaccounts (via projected volumes)"
        } else if source.cluster_trust_bundle.is_some() {
            "clustertrustbundles"
        } else if source.pod_certificate.is_some() {
            "podcertificates"
        } else if source.downward_api.is_some() {
            return None;
        } else {
            let text = format!("unknown source for projected volume {name:?}");
            return Some(Refused::Unknown(text));
        };
        Some(Refused::Reference(refused))
    })
}
