//! The node as pods see it when they are admitted (kubelet ADM-13): what a node that no API server
//! knows would register as. Kubernetes kubelet, `initialNode`.

use std::{collections::BTreeMap, fs, path::Path};

use k8s_openapi::api::core::v1::Taint;
use kubelet_core::{
    admission::{NodeInfo, SysctlAllowList, SysctlPatternError, safe_sysctls},
    ids::NodeName,
    quantity::Amounts,
};
use node_os::proc;

/// Below it, the kernel's AppArmor shows itself where it is compiled in and mounted.
const APPARMOR_DIRECTORY: &str = "sys/kernel/security/apparmor";
/// `Y` where AppArmor is on.
const APPARMOR_ENABLED: &str = "sys/module/apparmor/parameters/enabled";

/// What the settings say about the node.
#[derive(Debug)]
pub(crate) struct InfoConfig<'a> {
    /// Its name, which is also its `kubernetes.io/hostname`.
    pub(crate) name: &'a str,
    /// `--node-labels`.
    pub(crate) labels: &'a BTreeMap<String, String>,
    /// `registerWithTaints`.
    pub(crate) taints: Vec<Taint>,
    /// `allowedUnsafeSysctls`.
    pub(crate) unsafe_sysctls: &'a [String],
    /// Gate `PodLevelResources`.
    pub(crate) pod_level_resources: bool,
    /// What pods may ask for (CG-20).
    pub(crate) allocatable: Amounts,
}

/// Puts the node together. Blocks.
///
/// # Errors
/// For an unsafe sysctl that the kernel does not keep apart per namespace (PROC-10).
pub(crate) fn node_info(config: InfoConfig<'_>) -> Result<NodeInfo, SysctlPatternError> {
    let kernel = proc::kernel_version().map_or((0, 0), |version| (version.major, version.minor));
    let safe = safe_sysctls(kernel);
    let allowed = safe.iter().chain(config.unsafe_sysctls);
    Ok(NodeInfo {
        name: NodeName::from(config.name),
        labels: labels(config.name, config.labels),
        taints: config.taints,
        allocatable: config.allocatable,
        sysctls: SysctlAllowList::new(allowed.map(String::as_str))?,
        apparmor: has_apparmor(Path::new("/")),
        // Nothing is known of the runtime yet.
        supplemental_groups_policy: false,
        pod_level_resources: config.pod_level_resources,
    })
}

/// The node's own labels; those of the command line go over them.
fn labels(name: &str, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let (os, arch) = ("linux", go_arch(std::env::consts::ARCH));
    let own = [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", os),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", os),
        ("beta.kubernetes.io/arch", arch),
    ];
    let mut labels: BTreeMap<String, String> = own
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    for (key, value) in given {
        if let Some(before) = labels.insert(key.clone(), value.clone()) {
            tracing::info!(
                labelKey = key,
                labelValue = value,
                default = before,
                "the node label will overwrite default setting"
            );
        }
    }
    labels
}

/// Go's word for an architecture, as Kubernetes uses it.
fn go_arch(arch: &'static str) -> &'static str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

fn has_apparmor(root: &Path) -> bool {
    root.join(APPARMOR_DIRECTORY).exists()
        && fs::read(root.join(APPARMOR_ENABLED)).is_ok_and(|text| text.first() == Some(&b'Y'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_command_line_go_over_the_nodes_own() {
        let given = BTreeMap::from([
            ("disk".to_owned(), "ssd".to_owned()),
            ("kubernetes.io/hostname".to_owned(), "other".to_owned()),
        ]);
        let labels = labels("node", &given);
        assert_eq!(labels["disk"], "ssd");
        assert_eq!(labels["kubernetes.io/hostname"], "other");
        assert_eq!(labels["kubernetes.io/os"], "linux");
        assert_eq!(
            labels["kubernetes.io/arch"],
            go_arch(std::env::consts::ARCH)
        );
        assert_eq!(go_arch("x86_64"), "amd64");
    }

    #[test]
    fn apparmor_is_there_when_the_kernel_shows_it_and_says_yes() {
        let root = tempfile::tempdir().unwrap();
        assert!(!has_apparmor(root.path()));
        let enabled = root.path().join(APPARMOR_ENABLED);
        fs::create_dir_all(enabled.parent().unwrap()).unwrap();
        fs::write(&enabled, "Y\n").unwrap();
        assert!(!has_apparmor(root.path()));
        fs::create_dir_all(root.path().join(APPARMOR_DIRECTORY)).unwrap();
        assert!(has_apparmor(root.path()));
        fs::write(&enabled, "N\n").unwrap();
        assert!(!has_apparmor(root.path()));
    }
}
