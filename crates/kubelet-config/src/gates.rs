//! Feature gates: what is known, what may be set, and the answers, resolved once (PROC-24).
//!
//! Nothing below this crate asks for a gate by name: [`FeatureGates`] has a field for each gate that
//! changes what a standalone kubelet does.

mod table;

use std::collections::BTreeMap;

/// How finished a gate's feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Off by default, set together by `AllAlpha`.
    Alpha,
    /// Set together by `AllBeta`.
    Beta,
    /// General availability; setting it is noted, the gate will go.
    Ga,
    /// On its way out; setting it is noted.
    Deprecated,
}

impl Stage {
    /// Upstream's spelling, which help shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alpha => "ALPHA",
            Self::Beta => "BETA",
            Self::Ga => "GA",
            Self::Deprecated => "DEPRECATED",
        }
    }
}

/// A gate as Kubernetes 1.34 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// Name in `--feature-gates` and `featureGates`.
    pub name: &'static str,
    /// How finished it is.
    pub stage: Stage,
    /// Value when nobody sets it.
    pub default: bool,
    /// Setting it to anything but its default is an error.
    pub locked: bool,
}

const ALL_ALPHA: &str = "AllAlpha";
const ALL_BETA: &str = "AllBeta";

/// Every gate that upstream's kubelet accepts, by name.
pub fn known_gates() -> &'static [Gate] {
    table::GATES
}

fn find(name: &str) -> Option<&'static Gate> {
    table::GATES
        .binary_search_by_key(&name, |gate| gate.name)
        .ok()
        .map(|at| &table::GATES[at])
}

/// Lines about gates for the help of `--feature-gates`, finished and deprecated ones left out.
pub(crate) fn help_lines() -> String {
    let lines: Vec<String> = table::GATES
        .iter()
        .filter(|gate| matches!(gate.stage, Stage::Alpha | Stage::Beta))
        .map(|gate| {
            let (name, stage) = (gate.name, gate.stage.as_str());
            format!("{name}=true|false ({stage} - default={})", gate.default)
        })
        .collect();
    lines.join("\n")
}

/// A gate that can't be set so; texts as upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// No such gate in 1.34.
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
    /// Finished features can't be turned off.
    #[error("cannot set feature gate {name} to {value}, feature is locked to {}", !value)]
    Locked {
        /// The gate.
        name: String,
        /// What was asked for.
        value: bool,
    },
}

/// Checks what a user set.
///
/// # Errors
/// Every gate that is unknown or locked to the other value, by name.
pub(crate) fn check(set: &BTreeMap<String, bool>) -> Result<(), Vec<GateError>> {
    let errors: Vec<GateError> = set
        .iter()
        .filter_map(|(name, &value)| match find(name) {
            None => Some(GateError::Unknown(name.clone())),
            Some(gate) if gate.locked && gate.default != value => Some(GateError::Locked {
                name: name.clone(),
                value,
            }),
            Some(_) => None,
        })
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

/// Log lines for gates that are on their way out, as upstream words them.
pub(crate) fn notes(set: &BTreeMap<String, bool>) -> Vec<String> {
    set.iter()
        .filter_map(|(name, value)| {
            let stage = match find(name)?.stage {
                Stage::Ga => "GA",
                Stage::Deprecated => "deprecated",
                Stage::Alpha | Stage::Beta => return None,
            };
            Some(format!(
                "Setting {stage} feature gate {name}={value}. It will be removed in a future release."
            ))
        })
        .collect()
}

/// Value of one gate under what the user set: itself, else `AllAlpha` or `AllBeta`, else default.
fn enabled(set: &BTreeMap<String, bool>, name: &str) -> bool {
    if let Some(value) = set.get(name) {
        return *value;
    }
    let Some(gate) = find(name) else { return false };
    let group = match gate.stage {
        Stage::Alpha => set.get(ALL_ALPHA),
        Stage::Beta => set.get(ALL_BETA),
        Stage::Ga | Stage::Deprecated => None,
    };
    group.copied().unwrap_or(gate.default)
}

/// Declares [`FeatureGates`] and the names behind its fields in one place.
macro_rules! feature_gates {
    ($($field:ident = $name:literal,)*) => {
        /// The gates that change what a kubelet does, resolved. Field names are the gates' names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct FeatureGates {
            $(
                #[doc = concat!("`", $name, "`")]
                pub $field: bool,
            )*
        }

        impl FeatureGates {
            /// Names of the gates that have a field.
            #[cfg(test)]
            pub(crate) const NAMES: &'static [&'static str] = &[$($name,)*];

            /// Resolves what the user set; unknown names count for nothing, see [`check`].
            pub fn resolve(set: &BTreeMap<String, bool>) -> Self {
                Self { $($field: enabled(set, $name),)* }
            }
        }

        impl Default for FeatureGates {
            /// 1.34 with no gate set.
            fn default() -> Self {
                Self::resolve(&BTreeMap::new())
            }
        }
    };
}

feature_gates! {
    allow_dns_only_node_csr = "AllowDNSOnlyNodeCSR",
    allow_overwrite_termination_grace_period_seconds = "AllowOverwriteTerminationGracePeriodSeconds",
    cluster_trust_bundle_projection = "ClusterTrustBundleProjection",
    component_flagz = "ComponentFlagz",
    component_statusz = "ComponentStatusz",
    container_checkpoint = "ContainerCheckpoint",
    container_restart_rules = "ContainerRestartRules",
    container_stop_signals = "ContainerStopSignals",
    cpu_manager_policy_alpha_options = "CPUManagerPolicyAlphaOptions",
    cpu_manager_policy_beta_options = "CPUManagerPolicyBetaOptions",
    cpu_manager_policy_options = "CPUManagerPolicyOptions",
    csi_volume_health = "CSIVolumeHealth",
    custom_cpu_cfs_quota_period = "CustomCPUCFSQuotaPeriod",
    disable_cpu_quota_with_exclusive_cpus = "DisableCPUQuotaWithExclusiveCPUs",
    disable_node_kube_proxy_version = "DisableNodeKubeProxyVersion",
    dynamic_resource_allocation = "DynamicResourceAllocation",
    env_files = "EnvFiles",
    evented_pleg = "EventedPLEG",
    exec_probe_timeout = "ExecProbeTimeout",
    git_repo_volume_driver = "GitRepoVolumeDriver",
    graceful_node_shutdown = "GracefulNodeShutdown",
    graceful_node_shutdown_based_on_pod_priority = "GracefulNodeShutdownBasedOnPodPriority",
    hostname_override = "HostnameOverride",
    image_maximum_gc_age = "ImageMaximumGCAge",
    image_volume = "ImageVolume",
    in_place_pod_vertical_scaling = "InPlacePodVerticalScaling",
    in_place_pod_vertical_scaling_exclusive_cpus = "InPlacePodVerticalScalingExclusiveCPUs",
    in_place_pod_vertical_scaling_exclusive_memory = "InPlacePodVerticalScalingExclusiveMemory",
    kubelet_cgroup_driver_from_cri = "KubeletCgroupDriverFromCRI",
    kubelet_crash_loop_back_off_max = "KubeletCrashLoopBackOffMax",
    kubelet_ensure_secret_pulled_images = "KubeletEnsureSecretPulledImages",
    kubelet_fine_grained_authz = "KubeletFineGrainedAuthz",
    kubelet_in_user_namespace = "KubeletInUserNamespace",
    kubelet_pod_resources_dynamic_resources = "KubeletPodResourcesDynamicResources",
    kubelet_pod_resources_get = "KubeletPodResourcesGet",
    kubelet_pod_resources_list_use_active_pods = "KubeletPodResourcesListUseActivePods",
    kubelet_psi = "KubeletPSI",
    kubelet_registration_get_on_exists_only = "KubeletRegistrationGetOnExistsOnly",
    kubelet_separate_disk_gc = "KubeletSeparateDiskGC",
    kubelet_service_account_token_for_credential_providers =
        "KubeletServiceAccountTokenForCredentialProviders",
    kubelet_tracing = "KubeletTracing",
    local_storage_capacity_isolation_fs_quota_monitoring =
        "LocalStorageCapacityIsolationFSQuotaMonitoring",
    logging_alpha_options = "LoggingAlphaOptions",
    logging_beta_options = "LoggingBetaOptions",
    memory_manager = "MemoryManager",
    memory_qos = "MemoryQoS",
    mutable_csi_node_allocatable_count = "MutableCSINodeAllocatableCount",
    node_log_query = "NodeLogQuery",
    node_swap = "NodeSwap",
    pod_and_container_stats_from_cri = "PodAndContainerStatsFromCRI",
    pod_certificate_request = "PodCertificateRequest",
    pod_level_resources = "PodLevelResources",
    pod_lifecycle_sleep_action = "PodLifecycleSleepAction",
    pod_lifecycle_sleep_action_allow_zero = "PodLifecycleSleepActionAllowZero",
    pod_logs_query_split_streams = "PodLogsQuerySplitStreams",
    pod_observed_generation_tracking = "PodObservedGenerationTracking",
    pod_ready_to_start_containers_condition = "PodReadyToStartContainersCondition",
    port_forward_websockets = "PortForwardWebsockets",
    prevent_static_pod_api_references = "PreventStaticPodAPIReferences",
    proc_mount_type = "ProcMountType",
    qos_reserved = "QOSReserved",
    recursive_read_only_mounts = "RecursiveReadOnlyMounts",
    reduce_default_crash_loop_back_off_decay = "ReduceDefaultCrashLoopBackOffDecay",
    relaxed_environment_variable_validation = "RelaxedEnvironmentVariableValidation",
    reload_kubelet_server_certificate_file = "ReloadKubeletServerCertificateFile",
    resource_health_status = "ResourceHealthStatus",
    rotate_kubelet_server_certificate = "RotateKubeletServerCertificate",
    runtime_class_in_image_cri_api = "RuntimeClassInImageCriApi",
    se_linux_change_policy = "SELinuxChangePolicy",
    se_linux_mount = "SELinuxMount",
    se_linux_mount_read_write_once_pod = "SELinuxMountReadWriteOncePod",
    sidecar_containers = "SidecarContainers",
    size_memory_backed_volumes = "SizeMemoryBackedVolumes",
    supplemental_groups_policy = "SupplementalGroupsPolicy",
    systemd_watchdog = "SystemdWatchdog",
    topology_manager_policy_alpha_options = "TopologyManagerPolicyAlphaOptions",
    topology_manager_policy_beta_options = "TopologyManagerPolicyBetaOptions",
    topology_manager_policy_options = "TopologyManagerPolicyOptions",
    translate_stream_close_websocket_requests = "TranslateStreamCloseWebsocketRequests",
    user_namespaces_support = "UserNamespacesSupport",
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, bool)]) -> BTreeMap<String, bool> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    }

    #[test]
    fn table_is_sorted_and_has_every_resolved_gate() {
        assert!(table::GATES.is_sorted_by(|a, b| a.name < b.name));
        for name in FeatureGates::NAMES {
            assert!(find(name).is_some(), "{name}");
        }
        assert!(
            table::GATES
                .iter()
                .all(|gate| gate.stage != Stage::Alpha || !gate.default)
        );
    }

    #[test]
    fn defaults_are_those_of_1_34() {
        let gates = FeatureGates::default();
        assert!(gates.sidecar_containers && gates.node_swap && gates.graceful_node_shutdown);
        assert!(gates.prevent_static_pod_api_references && gates.pod_level_resources);
        assert!(!gates.evented_pleg && !gates.env_files && !gates.custom_cpu_cfs_quota_period);
    }

    #[test]
    fn groups_yield_to_single_gates() {
        let gates = FeatureGates::resolve(&set(&[("AllAlpha", true), ("EnvFiles", false)]));
        assert!(
            gates.image_volume == FeatureGates::default().image_volume,
            "beta is untouched"
        );
        assert!(gates.memory_qos && gates.qos_reserved);
        assert!(!gates.env_files);
        let gates = FeatureGates::resolve(&set(&[("AllBeta", false), ("KubeletPSI", true)]));
        assert!(gates.kubelet_psi && !gates.graceful_node_shutdown && gates.sidecar_containers);
    }

    #[test]
    fn unknown_and_locked_gates_are_refused() {
        let errors = check(&set(&[
            ("Foo", true),
            ("SidecarContainers", false),
            ("NodeSwap", true),
        ]))
        .expect_err("two are wrong");
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "unrecognized feature gate: Foo",
                "cannot set feature gate SidecarContainers to false, feature is locked to true",
            ]
        );
    }

    #[test]
    fn gates_on_their_way_out_are_noted() {
        assert_eq!(
            notes(&set(&[
                ("NodeSwap", true),
                ("GitRepoVolumeDriver", true),
                ("EnvFiles", true)
            ])),
            [
                "Setting deprecated feature gate GitRepoVolumeDriver=true. It will be removed in a \
                 future release.",
                "Setting GA feature gate NodeSwap=true. It will be removed in a future release.",
            ]
        );
    }
}
