//! The words users see: reasons of waiting and terminated containers, of pods, of rejections and
//! of events (kubelet.md ERR-01..03, ADM-03..08).

use std::fmt;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every word, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as users match on it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(
    /// Why a container waits (ERR-01).
    WaitingReason {
        /// The pod is being set up.
        ContainerCreating = "ContainerCreating",
        /// Init containers are still running.
        PodInitializing = "PodInitializing",
        /// The image could not be pulled.
        ErrImagePull = "ErrImagePull",
        /// The next pull waits.
        ImagePullBackOff = "ImagePullBackOff",
        /// Policy `Never` and no image.
        ErrImageNeverPull = "ErrImageNeverPull",
        /// The runtime could not look at the image.
        ImageInspectError = "ImageInspectError",
        /// The image reference is malformed.
        InvalidImageName = "InvalidImageName",
        /// The registry gave no answer.
        RegistryUnavailable = "RegistryUnavailable",
        /// The image's signature is not accepted.
        SignatureValidationFailed = "SignatureValidationFailed",
        /// The container's configuration can't be built: environment, user, volumes.
        CreateContainerConfigError = "CreateContainerConfigError",
        /// The runtime refused to create it.
        CreateContainerError = "CreateContainerError",
        /// The runtime refused to start it.
        RunContainerError = "RunContainerError",
        /// An internal step before creation failed.
        PreCreateHookError = "PreCreateHookError",
        /// An internal step before the start failed.
        PreStartHookError = "PreStartHookError",
        /// The container's `postStart` failed.
        PostStartHookError = "PostStartHookError",
        /// The next restart waits.
        CrashLoopBackOff = "CrashLoopBackOff",
    }
);

words!(
    /// Why a container ended, where the kubelet says so itself (ERR-02).
    TerminatedReason {
        /// Exit code 0.
        Completed = "Completed",
        /// Any other exit code.
        Error = "Error",
        /// The kernel ended it for memory.
        OomKilled = "OOMKilled",
        /// It never ran.
        ContainerCannotRun = "ContainerCannotRun",
        /// The pod's deadline passed.
        DeadlineExceeded = "DeadlineExceeded",
        /// Nobody knows any more.
        ContainerStatusUnknown = "ContainerStatusUnknown",
    }
);

words!(
    /// A pod's own reason outside admission (ERR-03).
    PodReason {
        /// Node pressure.
        Evicted = "Evicted",
        /// Made room for a critical pod.
        Preempting = "Preempting",
        /// The node shut down.
        Terminated = "Terminated",
        /// `activeDeadlineSeconds` passed (CTR-53).
        DeadlineExceeded = "DeadlineExceeded",
    }
);

words!(
    /// Reasons in pod conditions (STAT-04).
    ConditionReason {
        /// No container status is known.
        UnknownContainerStatuses = "UnknownContainerStatuses",
        /// All containers have succeeded.
        PodCompleted = "PodCompleted",
        /// The pod has failed.
        PodFailed = "PodFailed",
        /// A container is not ready.
        ContainersNotReady = "ContainersNotReady",
        /// An init container has not finished.
        ContainersNotInitialized = "ContainersNotInitialized",
        /// A readiness gate is not true.
        ReadinessGatesNotReady = "ReadinessGatesNotReady",
    }
);

words!(
    /// Reasons of events and of failed syncs, with upstream's spelling (ERR-06).
    EventReason {
        /// Image pull starts.
        Pulling = "Pulling",
        /// Image is there.
        Pulled = "Pulled",
        /// Create, start or pull failed.
        Failed = "Failed",
        /// Image absent and policy `Never`.
        ErrImageNeverPull = "ErrImageNeverPull",
        /// Image can't be inspected.
        InspectFailed = "InspectFailed",
        /// Container created.
        Created = "Created",
        /// Container started.
        Started = "Started",
        /// Container is being stopped.
        Killing = "Killing",
        /// Waiting for a restart or a pull.
        BackOff = "BackOff",
        /// Probe failed.
        Unhealthy = "Unhealthy",
        /// `postStart` failed.
        FailedPostStartHook = "FailedPostStartHook",
        /// `preStop` failed.
        FailedPreStopHook = "FailedPreStopHook",
        /// Sandbox replaced.
        SandboxChanged = "SandboxChanged",
        /// Sandbox not created. Upstream writes `SandBox` here.
        FailedCreatePodSandBox = "FailedCreatePodSandBox",
        /// Sandbox status not readable. Upstream writes `SandBox` here.
        FailedStatusPodSandBox = "FailedPodSandBoxStatus",
        /// A sync failed.
        FailedSync = "FailedSync",
        /// The pod's cgroup was not made.
        FailedCreatePodContainer = "FailedCreatePodContainer",
        /// Killing the pod failed.
        FailedKillPod = "FailedKillPod",
        /// The pod can't be accepted as written.
        FailedValidation = "FailedValidation",
        /// The runtime's network is not ready.
        NetworkNotReady = "NetworkNotReady",
        /// Volumes are not ready.
        FailedMount = "FailedMount",
        /// The pod's termination took longer than its grace.
        ExceededGracePeriod = "ExceededGracePeriod",
        /// `ClusterFirst` without `clusterDNS`.
        MissingClusterDns = "MissingClusterDNS",
        /// DNS settings beyond the limits.
        DnsConfigForming = "DNSConfigForming",
    }
);

/// Why a pod was not admitted (ADM-03..08). Some codes carry a resource's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// `OutOf<resource>`; the resource keeps its own spelling (`OutOfcpu`, `OutOfpods`).
    OutOf(String),
    /// A host port is taken.
    NodePorts,
    /// Labels of the node do not match.
    NodeAffinity,
    /// `spec.nodeName` names another node.
    NodeName,
    /// An untolerated `NoExecute` taint.
    TaintToleration,
    /// A sysctl that is not allowed.
    SysctlForbidden,
    /// `spec.os.name` is not this node's.
    PodOsNotSupported,
    /// Label `kubernetes.io/os` is not this node's.
    PodOsSelectorNodeLabelDoesNotMatch,
    /// `supplementalGroupsPolicy: Strict` without support of the runtime.
    SupplementalGroupsPolicyNotSupported,
    /// Pod-level resources where there are no pod cgroups.
    PodLevelResourcesNotSupported,
    /// AppArmor asked for where the kernel has none.
    AppArmor,
    /// Preemption could not make room, or another internal error.
    UnexpectedAdmissionError,
    /// The node is under pressure.
    Evicted,
    /// The node is shutting down.
    NodeShutdown,
}

impl RejectReason {
    /// The code as it appears in `status.reason`, the event and the metric.
    pub fn as_str(&self) -> String {
        match self {
            Self::OutOf(resource) => format!("OutOf{resource}"),
            Self::NodePorts => "NodePorts".to_owned(),
            Self::NodeAffinity => "NodeAffinity".to_owned(),
            Self::NodeName => "NodeName".to_owned(),
            Self::TaintToleration => "TaintToleration".to_owned(),
            Self::SysctlForbidden => "SysctlForbidden".to_owned(),
            Self::PodOsNotSupported => "PodOSNotSupported".to_owned(),
            Self::PodOsSelectorNodeLabelDoesNotMatch => {
                "PodOSSelectorNodeLabelDoesNotMatch".to_owned()
            }
            Self::SupplementalGroupsPolicyNotSupported => {
                "SupplementalGroupsPolicyNotSupported".to_owned()
            }
            Self::PodLevelResourcesNotSupported => "PodLevelResourcesNotSupported".to_owned(),
            Self::AppArmor => "AppArmor".to_owned(),
            Self::UnexpectedAdmissionError => "UnexpectedAdmissionError".to_owned(),
            Self::Evicted => "Evicted".to_owned(),
            Self::NodeShutdown => "NodeShutdown".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_spellings_of_upstream_are_kept() {
        assert_eq!(
            EventReason::FailedCreatePodSandBox.as_str(),
            "FailedCreatePodSandBox"
        );
        assert_eq!(TerminatedReason::OomKilled.as_str(), "OOMKilled");
        assert_eq!(RejectReason::OutOf("cpu".to_owned()).as_str(), "OutOfcpu");
        assert_eq!(WaitingReason::ALL.len(), 16);
    }
}
