//! Security contexts (kubelet SPEC-40 to SPEC-53, CRI-39). A container's value is before its pod's.

use std::path::PathBuf;

use cri_api::v1::{self, security_profile::ProfileType};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile,
    SecurityContext,
};

use super::{NodeFacts, Subject, TranslateError};
use crate::spec;

/// Paths that `procMount: Default` hides (SPEC-50).
const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Paths that `procMount: Default` makes read-only (SPEC-50).
const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
/// The annotation of old AppArmor profiles, before the container's name (SPEC-48).
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The user that an image runs as (SPEC-40).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageUser {
    /// By number; 0 also where the image says nothing.
    Uid(i64),
    /// By a name that only the image can tell the number of.
    Name(String),
}

/// The sandbox's context: its seccomp profile is always the runtime's own (CRI-39).
pub(super) fn sandbox_context(
    pod: &Pod,
    facts: &NodeFacts,
) -> Result<v1::LinuxSandboxSecurityContext, TranslateError> {
    let pod_spec = spec::spec(pod);
    let context = pod_spec.security_context.as_ref();
    Ok(v1::LinuxSandboxSecurityContext {
        namespace_options: Some(namespace_options(pod)),
        selinux_options: context.and_then(|context| selinux(context.se_linux_options.as_ref())),
        run_as_user: context.and_then(|context| context.run_as_user).map(int64),
        run_as_group: context.and_then(|context| context.run_as_group).map(int64),
        supplemental_groups: supplemental_groups(context),
        supplemental_groups_policy: groups_policy(context, facts)?,
        privileged: spec::has_privileged_container(pod),
        seccomp: Some(profile(ProfileType::RuntimeDefault, "")),
        ..v1::LinuxSandboxSecurityContext::default()
    })
}

/// The container's context. `image_user` is who the image runs as.
pub(super) fn container_context(
    pod: &Pod,
    container: &Container,
    image_user: &ImageUser,
    facts: &NodeFacts,
) -> Result<v1::LinuxContainerSecurityContext, TranslateError> {
    let pod_spec = spec::spec(pod);
    let of_pod = pod_spec.security_context.as_ref();
    let own = container.security_context.as_ref();
    let user = own
        .and_then(|own| own.run_as_user)
        .or_else(|| of_pod.and_then(|of_pod| of_pod.run_as_user));
    if let Some(wrong) = root_by(own, of_pod, user, image_user) {
        let subject = Subject::of(pod, container);
        return Err(match wrong {
            Root::Wanted => TranslateError::RunsAsRoot(subject),
            Root::OfImage => TranslateError::ImageRunsAsRoot(subject),
            Root::Unknown(name) => TranslateError::ImageUserUnknown(name.clone(), subject),
            Root::Invalid(uid) => TranslateError::ImageUserInvalid(uid, subject),
        });
    }
    let (run_as_user, run_as_username) = match (user, image_user) {
        (Some(user), _) => (Some(user), String::new()),
        (None, ImageUser::Uid(uid)) => (Some(*uid), String::new()),
        (None, ImageUser::Name(name)) => (None, name.clone()),
    };
    let unmasked = own.and_then(|own| own.proc_mount.as_deref()) == Some("Unmasked");
    let texts = |paths: &[&str]| {
        paths
            .iter()
            .map(|path| (*path).to_owned())
            .collect::<Vec<_>>()
    };
    let (mut masked_paths, readonly_paths) = if unmasked {
        (Vec::new(), Vec::new())
    } else {
        (texts(&MASKED_PATHS), texts(&READONLY_PATHS))
    };
    if !unmasked {
        masked_paths.extend(facts.extra_masked_paths.iter().cloned());
    }
    let apparmor = apparmor(pod, container);
    let se_linux = own
        .and_then(|own| own.se_linux_options.as_ref())
        .or_else(|| of_pod.and_then(|of_pod| of_pod.se_linux_options.as_ref()));
    #[expect(
        deprecated,
        reason = "older runtimes read the old AppArmor field alone (SPEC-48)"
    )]
    let context = v1::LinuxContainerSecurityContext {
        capabilities: own
            .and_then(|own| own.capabilities.as_ref())
            .map(|capabilities| v1::Capability {
                add_capabilities: capabilities.add.clone().unwrap_or_default(),
                drop_capabilities: capabilities.drop.clone().unwrap_or_default(),
                add_ambient_capabilities: Vec::new(),
            }),
        privileged: own.and_then(|own| own.privileged).unwrap_or_default(),
        namespace_options: Some(namespace_options(pod)),
        selinux_options: selinux(se_linux),
        run_as_user: run_as_user.map(int64),
        run_as_group: own
            .and_then(|own| own.run_as_group)
            .or_else(|| of_pod.and_then(|of_pod| of_pod.run_as_group))
            .map(int64),
        run_as_username,
        readonly_rootfs: own
            .and_then(|own| own.read_only_root_filesystem)
            .unwrap_or_default(),
        supplemental_groups: supplemental_groups(of_pod),
        supplemental_groups_policy: groups_policy(of_pod, facts)?,
        no_new_privs: own.and_then(|own| own.allow_privilege_escalation) == Some(false),
        masked_paths,
        readonly_paths,
        seccomp: Some(seccomp(own, of_pod, facts)?),
        apparmor_profile: apparmor.as_ref().map(apparmor_text).unwrap_or_default(),
        apparmor,
        seccomp_profile_path: String::new(),
    };
    Ok(context)
}

/// SPEC-52. The user namespace is the node's.
fn namespace_options(pod: &Pod) -> v1::NamespaceOption {
    let pod_spec = spec::spec(pod);
    let mode = |on: Option<bool>, otherwise: v1::NamespaceMode| {
        if on == Some(true) {
            v1::NamespaceMode::Node
        } else {
            otherwise
        }
    };
    let pid = if pod_spec.share_process_namespace == Some(true) {
        v1::NamespaceMode::Pod
    } else {
        v1::NamespaceMode::Container
    };
    v1::NamespaceOption {
        network: mode(pod_spec.host_network, v1::NamespaceMode::Pod).into(),
        pid: mode(pod_spec.host_pid, pid).into(),
        ipc: mode(pod_spec.host_ipc, v1::NamespaceMode::Pod).into(),
        target_id: String::new(),
        userns_options: None,
    }
}

/// Why a container that must not may run as root.
enum Root<'a> {
    Wanted,
    OfImage,
    Unknown(&'a String),
    Invalid(i64),
}

/// SPEC-41.
fn root_by<'a>(
    own: Option<&SecurityContext>,
    of_pod: Option<&PodSecurityContext>,
    user: Option<i64>,
    image_user: &'a ImageUser,
) -> Option<Root<'a>> {
    let wanted = own
        .and_then(|own| own.run_as_non_root)
        .or_else(|| of_pod.and_then(|of_pod| of_pod.run_as_non_root));
    if wanted != Some(true) {
        return None;
    }
    match (user, image_user) {
        (Some(0), _) => Some(Root::Wanted),
        (None, ImageUser::Uid(0)) => Some(Root::OfImage),
        (None, ImageUser::Uid(uid)) if i32::try_from(*uid).is_err() || *uid < 0 => {
            Some(Root::Invalid(*uid))
        }
        (None, ImageUser::Name(name)) => Some(Root::Unknown(name)),
        _ => None,
    }
}

/// SPEC-46: the group of the volumes, then the pod's own.
fn supplemental_groups(context: Option<&PodSecurityContext>) -> Vec<i64> {
    context
        .map(|context| {
            let own = context.supplemental_groups.iter().flatten();
            context.fs_group.iter().chain(own).copied().collect()
        })
        .unwrap_or_default()
}

fn groups_policy(
    context: Option<&PodSecurityContext>,
    facts: &NodeFacts,
) -> Result<i32, TranslateError> {
    match context.and_then(|context| context.supplemental_groups_policy.as_deref()) {
        Some("Strict") if facts.supplemental_groups_policy => {
            Ok(v1::SupplementalGroupsPolicy::Strict.into())
        }
        Some("Strict") => Err(TranslateError::SupplementalGroupsPolicy),
        _ => Ok(v1::SupplementalGroupsPolicy::Merge.into()),
    }
}

/// SPEC-47.
fn seccomp(
    own: Option<&SecurityContext>,
    of_pod: Option<&PodSecurityContext>,
    facts: &NodeFacts,
) -> Result<v1::SecurityProfile, TranslateError> {
    let wanted: Option<&SeccompProfile> = own
        .and_then(|own| own.seccomp_profile.as_ref())
        .or_else(|| of_pod.and_then(|of_pod| of_pod.seccomp_profile.as_ref()));
    let Some(wanted) = wanted else {
        let kind = if facts.seccomp_default {
            ProfileType::RuntimeDefault
        } else {
            ProfileType::Unconfined
        };
        return Ok(profile(kind, ""));
    };
    match wanted.type_.as_str() {
        "Localhost" => {
            let name = wanted.localhost_profile.as_deref().unwrap_or_default();
            if name.is_empty() {
                return Err(TranslateError::SeccompProfile);
            }
            // Validation lets no `..` and no absolute path pass; components leave `.` out.
            let path: PathBuf = facts.seccomp_root.join(name).components().collect();
            Ok(profile(ProfileType::Localhost, &path.to_string_lossy()))
        }
        "RuntimeDefault" => Ok(profile(ProfileType::RuntimeDefault, "")),
        _ => Ok(profile(ProfileType::Unconfined, "")),
    }
}

/// SPEC-48: the container's field, its old annotation, the pod's field.
fn apparmor(pod: &Pod, container: &Container) -> Option<v1::SecurityProfile> {
    let of_field = |wanted: &AppArmorProfile| match wanted.type_.as_str() {
        "Localhost" => profile(
            ProfileType::Localhost,
            wanted.localhost_profile.as_deref().unwrap_or_default(),
        ),
        "Unconfined" => profile(ProfileType::Unconfined, ""),
        _ => profile(ProfileType::RuntimeDefault, ""),
    };
    let own = container.security_context.as_ref();
    if let Some(wanted) = own.and_then(|own| own.app_armor_profile.as_ref()) {
        return Some(of_field(wanted));
    }
    let annotation = format!("{APPARMOR_ANNOTATION}{}", container.name);
    match spec::annotation(pod, &annotation) {
        Some("unconfined") => return Some(profile(ProfileType::Unconfined, "")),
        Some("runtime/default") => return Some(profile(ProfileType::RuntimeDefault, "")),
        Some(text) => {
            if let Some(name) = text.strip_prefix("localhost/") {
                return Some(profile(ProfileType::Localhost, name));
            }
        }
        None => {}
    }
    let pod_spec = spec::spec(pod);
    pod_spec
        .security_context
        .as_ref()?
        .app_armor_profile
        .as_ref()
        .map(of_field)
}

fn apparmor_text(profile: &v1::SecurityProfile) -> String {
    match profile.profile_type() {
        ProfileType::RuntimeDefault => "runtime/default".to_owned(),
        ProfileType::Unconfined => "unconfined".to_owned(),
        ProfileType::Localhost => format!("localhost/{}", profile.localhost_ref),
    }
}

fn profile(kind: ProfileType, localhost_ref: &str) -> v1::SecurityProfile {
    v1::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: localhost_ref.to_owned(),
    }
}

fn selinux(options: Option<&SELinuxOptions>) -> Option<v1::SeLinuxOption> {
    options.map(|options| v1::SeLinuxOption {
        user: options.user.clone().unwrap_or_default(),
        role: options.role.clone().unwrap_or_default(),
        r#type: options.type_.clone().unwrap_or_default(),
        level: options.level.clone().unwrap_or_default(),
    })
}

fn int64(value: i64) -> v1::Int64Value {
    v1::Int64Value { value }
}
