//! Users, capabilities, profiles and masked paths (SEC-01..10).

use cri_api::v1::{
    Int64Value, LinuxContainerSecurityContext, SeLinuxOption, SecurityProfile,
    security_profile::ProfileType,
};

use crate::error::Error;

const NO_NEW_PRIVILEGES: &str = "no-new-privileges";

/// Docker's user text: id, or name, and group (SEC-01).
pub(super) fn user(
    id: Option<&Int64Value>,
    name: &str,
    group: Option<&Int64Value>,
) -> Result<String, Error> {
    let mut user = match (name, id) {
        ("", None) => String::new(),
        ("", Some(id)) => id.value.to_string(),
        (name, _) => name.to_owned(),
    };
    if let Some(group) = group {
        if user.is_empty() {
            return Err(Error::Invalid(
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

/// Which seccomp profile a container gets: nil means unconfined (SEC-05).
pub(crate) fn seccomp(context: &LinuxContainerSecurityContext) -> Seccomp<'_> {
    let Some(SecurityProfile { localhost_ref, .. }) = &context.seccomp else {
        return Seccomp::Unconfined;
    };
    match context.seccomp.as_ref().map(SecurityProfile::profile_type) {
        Some(ProfileType::Unconfined) | None => Seccomp::Unconfined,
        Some(ProfileType::RuntimeDefault) => Seccomp::Default,
        Some(ProfileType::Localhost) => Seccomp::File(localhost_ref),
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
