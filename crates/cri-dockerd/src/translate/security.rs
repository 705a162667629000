//! Users, capabilities, profiles and masked paths (SEC-01..10).

use cri_api::v1::{
    Int64Value, LinuxContainerSecurityContext, NamespaceMode, NamespaceOption, SeLinuxOption,
    security_profile::ProfileType,
};

use crate::invalid::Invalid;

const NO_NEW_PRIVILEGES: &str = "no-new-privileges";

/// Docker's user text: id, or name, and group (SEC-01).
pub(super) fn user(
    id: Option<&Int64Value>,
    name: &str,
    group: Option<&Int64Value>,
) -> Result<String, Invalid> {
    let mut user = match (name, id) {
        ("", None) => String::new(),
        ("", Some(id)) => id.value.to_string(),
        (name, _) => name.to_owned(),
    };
    if let Some(group) = group {
        if user.is_empty() {
            return Err(Invalid(
                "runAsGroup is specified without a runAsUser".to_owned(),
            ));
        }
        user.push(':');
        user.push_str(&group.value.to_string());
    }
    Ok(user)
}

/// Group ids as Docker takes them.
pub(super) fn groups(ids: &[i64]) -> Vec<String> {
    ids.iter().map(i64::to_string).collect()
}

/// `label=...` options for the parts that are set (SEC-07).
pub(super) fn selinux(options: Option<&SeLinuxOption>) -> Vec<String> {
    let Some(options) = options else {
        return Vec::new();
    };
    let parts = [
        ("user", &options.user),
        ("role", &options.role),
        ("type", &options.r#type),
        ("level", &options.level),
    ];
    parts
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(part, value)| format!("label={part}:{value}"))
        .collect()
}

/// Security options of a sandbox (SBX-05, SBX-08).
pub(super) fn sandbox_options(selinux_options: Option<&SeLinuxOption>) -> Vec<String> {
    let mut options = selinux(selinux_options);
    options.push(NO_NEW_PRIVILEGES.to_owned());
    options
}

/// Security options of a container, in upstream's order (CTR-12). `seccomp_json` is the content of
/// a Localhost profile.
pub(super) fn container_options(
    context: &LinuxContainerSecurityContext,
    seccomp_json: Option<&str>,
) -> Vec<String> {
    let mut options = selinux(context.selinux_options.as_ref());
    match apparmor(context) {
        AppArmor::Default => {}
        AppArmor::Unconfined => options.push("apparmor=unconfined".to_owned()),
        AppArmor::Profile(name) => options.push(format!("apparmor={name}")),
    }
    if context.no_new_privs {
        options.push(NO_NEW_PRIVILEGES.to_owned());
    }
    match seccomp(context) {
        Seccomp::Default => {}
        Seccomp::Unconfined => options.push("seccomp=unconfined".to_owned()),
        Seccomp::File(_) => {
            if let Some(json) = seccomp_json {
                options.push(format!("seccomp={json}"));
            }
        }
    }
    options
}

/// The AppArmor profile asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppArmor<'a> {
    /// Docker's own.
    Default,
    /// None.
    Unconfined,
    /// One loaded into the kernel.
    Profile(&'a str),
}

/// Which profile a container gets. The newer field wins over the old text (SEC-06); Differs:
/// upstream reads only the old one.
pub(crate) fn apparmor(context: &LinuxContainerSecurityContext) -> AppArmor<'_> {
    if let Some(profile) = &context.apparmor {
        return match profile.profile_type() {
            ProfileType::RuntimeDefault => AppArmor::Default,
            ProfileType::Unconfined => AppArmor::Unconfined,
            ProfileType::Localhost => {
                let name = &profile.localhost_ref;
                AppArmor::Profile(name.strip_prefix("localhost/").unwrap_or(name))
            }
        };
    }
    #[expect(deprecated, reason = "callers that know only the old field")]
    let text = context.apparmor_profile.as_str();
    match text {
        "" | "runtime/default" => AppArmor::Default,
        "unconfined" => AppArmor::Unconfined,
        text => AppArmor::Profile(text.strip_prefix("localhost/").unwrap_or(text)),
    }
}

/// The seccomp profile asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seccomp<'a> {
    /// Docker's own.
    Default,
    /// None.
    Unconfined,
    /// Read from this file.
    File(&'a str),
}

/// Which seccomp profile a container gets: nil means unconfined (SEC-05), and so does privileged:
/// newer engines would apply a named profile to privileged containers (CRT-79). Without the newer
/// field the old text counts (SEC-10).
pub(crate) fn seccomp(context: &LinuxContainerSecurityContext) -> Seccomp<'_> {
    if context.privileged {
        return Seccomp::Unconfined;
    }
    if let Some(profile) = &context.seccomp {
        return match profile.profile_type() {
            ProfileType::Unconfined => Seccomp::Unconfined,
            ProfileType::RuntimeDefault => Seccomp::Default,
            ProfileType::Localhost => Seccomp::File(&profile.localhost_ref),
        };
    }
    #[expect(deprecated, reason = "callers that know only the old field")]
    let text = context.seccomp_profile_path.as_str();
    match text {
        "" | "unconfined" => Seccomp::Unconfined,
        "runtime/default" | "docker/default" => Seccomp::Default,
        text => Seccomp::File(text.strip_prefix("localhost/").unwrap_or(text)),
    }
}

/// Refuses what Docker has no word for and what would be less safe if it were dropped in silence.
///
/// # Errors
/// [`Invalid`] with the field.
pub(super) fn check(context: &LinuxContainerSecurityContext) -> Result<(), Invalid> {
    let invalid = |text: &str| Err(Invalid(text.to_owned()));
    let capabilities = context.capabilities.as_ref();
    if capabilities.is_some_and(|c| !c.add_ambient_capabilities.is_empty()) {
        return invalid(
            "capabilities.add_ambient_capabilities: ambient capabilities are not supported by Docker",
        );
    }
    check_userns(context.namespace_options.as_ref())
}

/// Docker has user namespaces for the whole daemon alone (`userns-remap`).
///
/// # Errors
/// [`Invalid`] when a pod asks for its own.
pub(super) fn check_userns(options: Option<&NamespaceOption>) -> Result<(), Invalid> {
    let userns = options.and_then(|options| options.userns_options.as_ref());
    match userns {
        Some(userns) if userns.mode() != NamespaceMode::Node => Err(Invalid(
            "userns_options: user namespaces per pod are not supported by Docker".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Masked and read-only paths: `None` leaves Docker's lists, an empty list means none (SEC-08).
///
/// Protobuf can't tell an absent list from an empty one. The kubelet sends full lists for the
/// default `procMount` and empty ones for `Unmasked`, so empty lists mean "none" when the request
/// is the kubelet's. Differs: upstream can't unmask.
pub(super) fn paths(
    context: &LinuxContainerSecurityContext,
    from_kubelet: bool,
) -> (Option<Vec<String>>, Option<Vec<String>>) {
    if context.privileged {
        return (None, None);
    }
    let unmask =
        from_kubelet && context.masked_paths.is_empty() && context.readonly_paths.is_empty();
    let list = |paths: &Vec<String>| (unmask || !paths.is_empty()).then(|| paths.clone());
    (list(&context.masked_paths), list(&context.readonly_paths))
}
