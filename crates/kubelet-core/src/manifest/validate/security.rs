//! Security contexts.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Pod, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};

use crate::admission::{SysctlNamespace, is_sysctl_name, normal_sysctl};

use super::super::field::{Errors, Path};
use super::values::{all_containers, descending_path, json};
use super::{annotations, names};

const LOCALHOST_ONLY: &str = "Localhost";

pub(super) fn container(
    security: &SecurityContext,
    host_users: bool,
    path: &Path,
    errors: &mut Errors,
) {
    ids(
        &[
            ("runAsUser", security.run_as_user),
            ("runAsGroup", security.run_as_group),
        ],
        path,
        errors,
    );
    if let Some(mount) = security.proc_mount.as_deref() {
        let path = path.child("procMount");
        if !matches!(mount, "Default" | "Unmasked") {
            errors.not_supported(&path, mount, &["Default", "Unmasked"]);
        }
        if mount == "Unmasked" && host_users {
            errors.invalid(&path, mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(
        security.seccomp_profile.as_ref(),
        &path.child("seccompProfile"),
        errors,
    );
    if security.allow_privilege_escalation == Some(false) {
        if security.privileged == Some(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, json(security), detail);
        }
        let added = security
            .capabilities
            .iter()
            .flat_map(|caps| caps.add.iter().flatten());
        for _ in added.filter(|name| *name == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` \
                          CAP_SYS_ADMIN";
            errors.invalid(path, json(security), detail);
        }
    }
    apparmor(
        security.app_armor_profile.as_ref(),
        &path.child("appArmorProfile"),
        errors,
    );
}

pub(super) fn pod(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let Some(security) = &spec.security_context else {
        return;
    };
    let named = [
        ("fsGroup", security.fs_group),
        ("runAsUser", security.run_as_user),
        ("runAsGroup", security.run_as_group),
    ];
    ids(&named, path, errors);
    for (index, group) in security.supplemental_groups.iter().flatten().enumerate() {
        errors.each(
            &path.child("supplementalGroups").index(index),
            *group,
            names::id(*group),
        );
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, detail);
    }
    sysctls(security, spec, &path.child("sysctls"), errors);
    let choice = |name: &str, value: &Option<String>, allowed: &[&str], errors: &mut Errors| {
        if let Some(value) = value.as_deref().filter(|value| !allowed.contains(value)) {
            errors.not_supported(&path.child(name), value, allowed);
        }
    };
    let change = &security.fs_group_change_policy;
    let changes = &["Always", "OnRootMismatch"];
    choice("fsGroupChangePolicy", change, changes, errors);
    seccomp(
        security.seccomp_profile.as_ref(),
        &path.child("seccompProfile"),
        errors,
    );
    apparmor(
        security.app_armor_profile.as_ref(),
        &path.child("appArmorProfile"),
        errors,
    );
    let groups = &security.supplemental_groups_policy;
    let policies = &["Merge", "Strict"];
    choice("supplementalGroupsPolicy", groups, policies, errors);
    let change = &security.se_linux_change_policy;
    let changes = &["MountOption", "Recursive"];
    choice("seLinuxChangePolicy", change, changes, errors);
}

fn ids(named: &[(&str, Option<i64>)], path: &Path, errors: &mut Errors) {
    for (name, id) in named {
        if let Some(id) = id {
            errors.each(&path.child(name), *id, names::id(*id));
        }
    }
}

fn sysctls(security: &PodSecurityContext, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let mut taken = BTreeSet::new();
    for (index, sysctl) in security.sysctls.iter().flatten().enumerate() {
        let path = path.index(index).child("name");
        let name = sysctl.name.as_str();
        if name.is_empty() {
            errors.required(&path, "");
        } else if !is_sysctl_name(name) {
            let detail = "must have at most 253 characters and match regex \
                          ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(&path, name, detail);
        } else if taken.contains(name) {
            errors.duplicate(&path, name);
        }
        match SysctlNamespace::of(&normal_sysctl(name)) {
            Some(SysctlNamespace::Net) if spec.host_network == Some(true) => {
                errors.invalid(
                    &path,
                    name,
                    "may not be specified when 'hostNetwork' is true",
                );
            }
            Some(SysctlNamespace::Ipc) if spec.host_ipc == Some(true) => {
                errors.invalid(&path, name, "may not be specified when 'hostIPC' is true");
            }
            _ => {}
        }
        taken.insert(name);
    }
}

fn seccomp(profile: Option<&SeccompProfile>, path: &Path, errors: &mut Errors) {
    let Some(profile) = profile else { return };
    let allowed = &["Localhost", "RuntimeDefault", "Unconfined"];
    let local = profile.localhost_profile.as_deref();
    match profile.type_.as_str() {
        "" => errors.required(
            &path.child("type"),
            "type is required when seccompProfile is set",
        ),
        kind if !allowed.contains(&kind) => {
            errors.not_supported(&path.child("type"), kind, allowed);
        }
        _ => {}
    }
    let path = path.child("localhostProfile");
    match (profile.type_.as_str(), local) {
        (LOCALHOST_ONLY, None) => {
            errors.required(&path, "must be set when seccomp type is Localhost");
        }
        (LOCALHOST_ONLY, Some(file)) => descending_path(file, &path, errors),
        (_, Some(_)) => {
            let detail = "can only be set when seccomp type is Localhost";
            errors.invalid(&path, json(profile), detail);
        }
        (_, None) => {}
    }
}

fn apparmor(profile: Option<&AppArmorProfile>, path: &Path, errors: &mut Errors) {
    let Some(profile) = profile else { return };
    let local = profile.localhost_profile.as_deref();
    let local_path = path.child("localhostProfile");
    match (profile.type_.as_str(), local) {
        (LOCALHOST_ONLY, None) => {
            errors.required(&local_path, "must be set when AppArmor type is Localhost");
        }
        (LOCALHOST_ONLY, Some(name)) => {
            if name.trim() != name {
                errors.invalid(&local_path, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                errors.required(&local_path, "must be set when AppArmor type is Localhost");
            }
            if name.len() > 4095 {
                errors.too_long(&local_path, 4095);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            errors.invalid(
                &local_path,
                name,
                "can only be set when AppArmor type is Localhost",
            );
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => {
            errors.required(
                &path.child("type"),
                "type is required when appArmorProfile is set",
            );
        }
        (kind, _) => {
            let allowed = &["Localhost", "RuntimeDefault", "Unconfined"];
            errors.not_supported(&path.child("type"), kind, allowed);
        }
    }
}

/// Profiles set both by annotation, the old way, and by field have to be the same.
pub(super) fn annotations_match_fields(
    pod: &Pod,
    spec: &PodSpec,
    path: &Path,
    errors: &mut Errors,
) {
    let none = BTreeMap::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&none);
    let of_pod = spec.security_context.as_ref();
    if let (Some(profile), Some(annotation)) = (
        of_pod.and_then(|pod| pod.seccomp_profile.as_ref()),
        annotations::seccomp_pod(annotations),
    ) {
        let path = path.child("securityContext").child("seccompProfile");
        let local = profile.localhost_profile.as_deref();
        same("seccomp", annotation, &profile.type_, local, &path, errors);
    }
    for (container, at) in all_containers(spec, path) {
        let security = container.security_context.as_ref();
        let at = at.child("securityContext");
        let key = format!("{}{}", annotations::SECCOMP_CONTAINER, container.name);
        if let (Some(profile), Some(annotation)) = (
            security.and_then(|security| security.seccomp_profile.as_ref()),
            annotations.get(&key),
        ) {
            let local = profile.localhost_profile.as_deref();
            same(
                "seccomp",
                annotation,
                &profile.type_,
                local,
                &at.child("seccompProfile"),
                errors,
            );
        }
    }
    for (container, at) in all_containers(spec, path) {
        let security = container.security_context.as_ref();
        let at = at.child("securityContext");
        let key = format!("{}{}", annotations::APPARMOR_CONTAINER, container.name);
        let profile = security
            .and_then(|security| security.app_armor_profile.as_ref())
            .or(of_pod.and_then(|pod| pod.app_armor_profile.as_ref()));
        if let (Some(profile), Some(annotation)) = (profile, annotations.get(&key)) {
            let local = profile.localhost_profile.as_deref();
            let path = at.child("appArmorProfile");
            same("apparmor", annotation, &profile.type_, local, &path, errors);
        }
    }
}

fn same(
    what: &str,
    annotation: &str,
    kind: &str,
    local: Option<&str>,
    path: &Path,
    errors: &mut Errors,
) {
    let fits = match kind {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => {
            annotation == "runtime/default" || what == "seccomp" && annotation == "docker/default"
        }
        LOCALHOST_ONLY => match annotation.strip_prefix("localhost/") {
            Some(name) if local == Some(name) => true,
            Some(_) => {
                let detail = format!("{what} profile in annotation and field must match");
                return errors.forbidden(&path.child("localhostProfile"), detail);
            }
            None => false,
        },
        _ => true,
    };
    if !fits {
        let detail = format!("{what} type in annotation and field must match");
        errors.forbidden(&path.child("type"), detail);
    }
}

/// What a pod in a user namespace of its own may not share (gate UserNamespacesSupport).
pub(super) fn user_namespace(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    const WHEN: &str = "when `hostUsers` is false";
    if spec.host_users != Some(false) {
        return;
    }
    // The paths are upstream's, capitals included.
    let shared = [
        ("hostNetwork", spec.host_network),
        ("HostPID", spec.host_pid),
        ("HostIPC", spec.host_ipc),
    ];
    for (name, _) in shared.iter().filter(|(_, shared)| *shared == Some(true)) {
        errors.forbidden(&path.child(name), WHEN);
    }
    for (container, at) in all_containers(spec, path) {
        if container.volume_devices.iter().flatten().next().is_some() {
            errors.forbidden(&at.child("volumeDevices"), WHEN);
        }
    }
}

/// Options of another operating system.
pub(super) fn os(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let Some(os) = &spec.os else { return };
    match os.name.as_str() {
        "" => errors.required(&path.child("os").child("name"), ""),
        "linux" => {
            const DETAIL: &str = "windows options cannot be set for a linux pod";
            let at = path.child("securityContext").child("windowsOptions");
            if spec
                .security_context
                .as_ref()
                .is_some_and(|pod| pod.windows_options.is_some())
            {
                errors.forbidden(&at, DETAIL);
            }
            for (container, at) in all_containers(spec, path) {
                let security = container.security_context.as_ref();
                if security.is_some_and(|security| security.windows_options.is_some()) {
                    let at = at.child("securityContext").child("windowsOptions");
                    errors.forbidden(&at, DETAIL);
                }
            }
        }
        // Admission refuses it on a Linux node; its own rules have no use here.
        "windows" => {}
        other => errors.not_supported(&path.child("os"), other, &["linux", "windows"]),
    }
}

/// A host name of any kind.
pub(super) fn hostname_override(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let Some(name) = &spec.hostname_override else {
        return;
    };
    if spec.set_hostname_as_fqdn == Some(true) {
        errors.forbidden(path, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.host_network == Some(true) {
        errors.forbidden(path, "may not be specified when hostNetwork is true");
    }
    if name.len() > 64 {
        errors.too_long(path, 64);
    }
    errors.each(path, name.as_str(), names::dns_subdomain(name));
}
