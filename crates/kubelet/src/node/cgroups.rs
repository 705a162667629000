//! Cgroups of the node's pods: the root of all, two classes, and one group per pod (kubelet
//! section 5).
//!
//! ```text
//! start ─▶ kubepods, burstable, besteffort      pod set changes ─▶ refresh_classes
//! before the sandbox ─▶ ensure_pod              containers and volumes gone ─▶ remove_pod
//! housekeeping ─▶ orphans ─▶ remove_orphan
//! ```
//!
//! Nothing is remembered: what exists is read from the hierarchies. Without `cgroupsPerQOS` all of
//! it does nothing (CG-22).
//!
//! Differs (CG-02): where no bus answers, slices of the systemd driver are made as directories;
//! systemd makes the unit when the runtime puts the first container there, and may set values of its
//! own then. [`PodCgroups::ensure_pod`] may be called again after the sandbox has started.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use daemon::ErrorChain;
use k8s_openapi::api::core::v1::Pod;
use kubelet_core::{
    cgroup_name::{CgroupDriver, CgroupName, directory_name, is_pod_directory},
    ids::PodUid,
    qos::{QosClass, pod_qos},
    resources::{CgroupValues, PageSize, PodCgroupSettings, pod_cgroup_values, qos_cgroup_values},
};
use node_os::cgroups::{
    CgroupError, CgroupPath, CgroupPathError, Cgroups, CpuQuota, Limit, Resources,
};

use crate::events::{EventType, Events, ObjectRef};

const CLASSES: [QosClass; 3] = [
    QosClass::Guaranteed,
    QosClass::Burstable,
    QosClass::BestEffort,
];

/// What [`PodCgroups`] is told.
#[derive(Debug, Clone)]
pub(crate) struct CgroupsConfig {
    /// The driver that the runtime uses (PROC-34).
    pub(crate) driver: CgroupDriver,
    /// `cgroupRoot`; `/` where it is not set.
    pub(crate) root: CgroupPath,
    /// Settings that bear on pods.
    pub(crate) pods: PodCgroupSettings,
    /// Huge pages that the kernel has.
    pub(crate) page_sizes: Vec<PageSize>,
    /// The node's name, for its events.
    pub(crate) node_name: String,
}

/// A cgroup could not be made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodCgroupError {
    /// A uid or `cgroupRoot` that names no group.
    #[error(transparent)]
    Name(#[from] CgroupPathError),
    /// `cgroupRoot` is not there.
    #[error(
        "invalid configuration: cgroup root {0} does not exist: create it, or leave cgroupRoot out"
    )]
    NoRoot(CgroupPath),
    /// We may not write.
    #[error(
        "cgroups cannot be written: mount /sys/fs/cgroup read-write into the kubelet's container \
         (privileged), or set cgroupsPerQOS: false and enforceNodeAllocatable: []"
    )]
    ReadOnly(#[source] CgroupError),
    /// Without cpu and memory there is nothing to enforce with.
    #[error(
        "cgroup controller {controller} is missing: enable it on the kernel's command line, or set \
         cgroupsPerQOS: false and enforceNodeAllocatable: []"
    )]
    NoController {
        /// The controller.
        controller: &'static str,
    },
    /// Anything else.
    #[error(transparent)]
    Cgroup(CgroupError),
}

impl From<CgroupError> for PodCgroupError {
    fn from(error: CgroupError) -> Self {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        match error {
            CgroupError::NoController { controller, .. } => Self::NoController { controller },
            CgroupError::Create(_, ref source) | CgroupError::Write { ref source, .. }
                if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem) =>
            {
                Self::ReadOnly(error)
            }
            other => Self::Cgroup(other),
        }
    }
}

/// The group of a pod, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundCgroup {
    class: QosClass,
    directory: String,
    group: CgroupPath,
}

impl std::fmt::Display for FoundCgroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.group.fmt(f)
    }
}

/// Makes and removes the pods' cgroups. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PodCgroups {
    /// `None` without `cgroupsPerQOS`.
    inner: Option<Arc<Inner>>,
    events: Events,
}

#[derive(Debug)]
struct Inner {
    kernel: Arc<dyn Cgroups>,
    config: CgroupsConfig,
    /// Whether missing controllers were told of.
    warned: AtomicBool,
}

impl PodCgroups {
    /// Groups of pods (`cgroupsPerQOS: true`). Touches nothing yet.
    pub(crate) fn new(config: CgroupsConfig, kernel: Arc<dyn Cgroups>, events: Events) -> Self {
        let inner = Inner {
            kernel,
            config,
            warned: AtomicBool::new(false),
        };
        Self {
            inner: Some(Arc::new(inner)),
            events,
        }
    }

    /// No groups (`cgroupsPerQOS: false`, CG-22).
    pub(crate) fn off(events: Events) -> Self {
        Self {
            inner: None,
            events,
        }
    }

    /// Makes the groups that pods are put in (CG-05), with the node's values (CG-10). Call it before
    /// the first pod; what exists is brought up to date.
    ///
    /// # Errors
    /// Where pods could not be given groups at all; the text names the fix.
    pub(crate) async fn start(&self, node: CgroupValues) -> Result<(), PodCgroupError> {
        self.act(move |inner| {
            if !inner.kernel.exists(&inner.config.root) {
                return Err(PodCgroupError::NoRoot(inner.config.root.clone()));
            }
            let group = inner.node()?;
            if !inner.kernel.exists(&group) {
                inner.create(&group, &inner.resources(&node))?;
            }
            let values = qos_cgroup_values([], &inner.config.pods);
            for (class, values) in [
                (QosClass::Burstable, values.burstable),
                (QosClass::BestEffort, values.best_effort),
            ] {
                let group = inner.class(class)?;
                let mut resources = inner.resources(&values);
                // Pods of a class that were running before keep their share until the next refresh.
                if class == QosClass::Burstable && inner.kernel.exists(&group) {
                    resources.cpu_shares = None;
                }
                inner.create(&group, &resources)?;
            }
            Ok(())
        })
        .await
    }

    /// Sets the node's values on the group of all pods, and tells of it (CG-21).
    ///
    /// # Errors
    /// When the kernel refuses: pods may use more memory than they are now to have. To be tried again
    /// each minute, while evictions bring the use down.
    pub(crate) async fn enforce_node(&self, node: CgroupValues) -> Result<(), PodCgroupError> {
        let Some(inner) = &self.inner else {
            return Ok(());
        };
        let result = self
            .act(move |inner| inner.apply(&inner.node()?, &inner.resources(&node)))
            .await;
        let object = ObjectRef::node(&inner.config.node_name);
        match &result {
            Ok(()) => self.events.record(
                &object,
                EventType::Normal,
                "NodeAllocatableEnforced",
                "Updated Node Allocatable limit across pods",
            ),
            Err(error) => self.events.record(
                &object,
                EventType::Warning,
                "FailedNodeAllocatableEnforcement",
                &format!(
                    "Failed to update Node Allocatable Limits {:?}: {}",
                    inner
                        .node()
                        .map(|group| group.as_str().to_owned())
                        .unwrap_or_default(),
                    ErrorChain(error)
                ),
            ),
        }
        result
    }

    /// The group that the runtime is to put the pod's containers in, in the form of CG-03; empty
    /// without groups.
    ///
    /// # Errors
    /// When the pod's uid names no group.
    pub(crate) fn parent_of(&self, pod: &Pod) -> Result<String, PodCgroupError> {
        let Some(inner) = &self.inner else {
            return Ok(String::new());
        };
        let group = inner.pod(pod_qos(pod), PodUid::of(pod).as_str())?;
        Ok(group.as_str().to_owned())
    }

    /// Makes the pod's group with its values (CG-14 to CG-17), or brings them up to date.
    ///
    /// Differs (CTR-01): it is made before something starts; upstream also looks at each sync, and restarts
    /// a pod that runs without, as after a start with `cgroupsPerQOS: false`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) async fn ensure_pod(&self, pod: &Pod) -> Result<(), PodCgroupError> {
        let Some(inner) = &self.inner else {
            return Ok(());
        };
        let group = inner.pod(pod_qos(pod), PodUid::of(pod).as_str())?;
        let values = pod_cgroup_values(pod, &inner.config.pods);
        self.act(move |inner| {
            let mut resources = inner.resources(&values);
            // Huge pages that the pod does not ask for are not its own.
            for size in &inner.config.page_sizes {
                resources
                    .hugetlb_max_bytes
                    .entry(size.name.clone())
                    .or_insert(0);
            }
            inner.create(&group, &resources)
        })
        .await
    }

    /// Gives the classes their weight, and with gate `MemoryQoS` the memory that they keep, from the pods
    /// that are active (CG-11, CG-12). Call it when a pod comes or goes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) async fn refresh_classes<'a>(
        &self,
        active: impl IntoIterator<Item = &'a Pod>,
    ) -> Result<(), PodCgroupError> {
        let Some(inner) = &self.inner else {
            return Ok(());
        };
        let values = qos_cgroup_values(active, &inner.config.pods);
        self.act(move |inner| {
            for (class, values) in [
                (QosClass::Guaranteed, &values.all),
                (QosClass::Burstable, &values.burstable),
                (QosClass::BestEffort, &values.best_effort),
            ] {
                if *values != CgroupValues::default() {
                    inner.apply(&inner.class(class)?, &inner.resources(values))?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Kills what is left in the pod's group and removes it. Done when there is none.
    ///
    /// # Errors
    /// When processes stay, or the kernel refuses.
    pub(crate) async fn remove_pod(&self, uid: &str) -> Result<(), PodCgroupError> {
        let Some(inner) = &self.inner else {
            return Ok(());
        };
        // In any class: the manifest may be gone.
        let groups = CLASSES
            .map(|class| inner.pod(class, uid))
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        self.act(move |inner| {
            for group in groups {
                inner.kernel.remove(&group)?;
            }
            Ok(())
        })
        .await
    }

    /// The groups of all pods.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub(crate) async fn found(&self) -> Result<Vec<FoundCgroup>, PodCgroupError> {
        self.act(move |inner| {
            let mut found = Vec::new();
            for class in CLASSES {
                let group = inner.class(class)?;
                for directory in inner.kernel.children(&group)? {
                    if is_pod_directory(&directory) {
                        found.push(FoundCgroup {
                            class,
                            group: group.child(&directory)?,
                            directory,
                        });
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    /// Whether a group is of none of the pods that are `known` (CG-05).
    pub(crate) fn is_orphan(&self, found: &FoundCgroup, known: &BTreeSet<String>) -> bool {
        // Names are compared as they are written: what systemd's form leaves of a uid does not tell
        // "_" from "-".
        self.inner.as_ref().is_some_and(|inner| {
            let is_its = |uid: &String| inner.directory_of(found.class, uid) == found.directory;
            !known.iter().any(is_its)
        })
    }

    /// Kills what is in an orphan and removes it.
    ///
    /// # Errors
    /// When processes stay, or the kernel refuses.
    pub(crate) async fn remove_orphan(&self, orphan: FoundCgroup) -> Result<(), PodCgroupError> {
        self.act(move |inner| Ok(inner.kernel.remove(&orphan.group)?))
            .await
    }

    async fn act<T: Default + Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, PodCgroupError> + Send + 'static,
    ) -> Result<T, PodCgroupError> {
        let Some(inner) = self.inner.clone() else {
            return Ok(T::default());
        };
        daemon::blocking(move || work(&inner)).await
    }
}

impl Inner {
    /// The group of all pods.
    fn node(&self) -> Result<CgroupPath, CgroupPathError> {
        self.class(QosClass::Guaranteed)
    }

    /// The group that pods of a class are in; guaranteed ones are directly in the node's (CG-01).
    fn class(&self, class: QosClass) -> Result<CgroupPath, CgroupPathError> {
        let name = CgroupName::qos(self.config.root.as_str(), class);
        CgroupPath::new(&name.path(self.config.driver))
    }

    /// A pod's group. The uid is checked as one name before the driver makes it part of another.
    fn pod(&self, class: QosClass, uid: &str) -> Result<CgroupPath, CgroupPathError> {
        CgroupPath::root().child(uid)?;
        let name = CgroupName::pod_of(self.config.root.as_str(), class, &PodUid::from(uid));
        CgroupPath::new(&name.path(self.config.driver))
    }

    /// The name that a pod's group has in the directory of its class.
    fn directory_of(&self, class: QosClass, uid: &str) -> String {
        let name = CgroupName::pod_of(self.config.root.as_str(), class, &PodUid::from(uid));
        directory_name(&name, self.config.driver)
    }

    fn create(&self, group: &CgroupPath, resources: &Resources) -> Result<(), PodCgroupError> {
        let missing = self.kernel.create(group, resources)?;
        self.tell(&missing);
        Ok(())
    }

    fn apply(&self, group: &CgroupPath, resources: &Resources) -> Result<(), PodCgroupError> {
        let missing = self.kernel.apply(group, resources)?;
        self.tell(&missing);
        Ok(())
    }

    /// Once: the same is missing for every pod.
    fn tell(&self, missing: &[&'static str]) {
        if !missing.is_empty() && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                controllers = missing.join(","),
                "cgroup controllers are missing, their limits do not apply"
            );
        }
    }

    fn resources(&self, values: &CgroupValues) -> Resources {
        resources(values, &self.config.page_sizes)
    }
}

/// The kernel's terms for a group's values. Zero and negative amounts stand for "not set", as they do
/// for the library that upstream uses; a negative quota is "no bound".
fn resources(values: &CgroupValues, page_sizes: &[PageSize]) -> Resources {
    let positive = |amount: Option<i64>| {
        amount
            .and_then(|amount| u64::try_from(amount).ok())
            .filter(|amount| *amount > 0)
    };
    let quota = match values.cpu_quota_micros {
        Some(quota) if quota < 0 => Some(Limit::Max),
        quota => positive(quota).map(Limit::At),
    };
    Resources {
        cpu_shares: values.cpu_shares,
        cpu_quota: quota.map(|quota_micros| CpuQuota {
            quota_micros,
            period_micros: values.cpu_period_micros.unwrap_or(100_000),
        }),
        memory_max_bytes: positive(values.memory_max_bytes).map(Limit::At),
        pids_max: positive(values.pids_max).map(Limit::At),
        hugetlb_max_bytes: page_sizes
            .iter()
            .filter_map(|size| {
                let limit = values.hugepage_max_bytes.get(&size.bytes)?;
                Some((size.name.clone(), u64::try_from(*limit).unwrap_or(0)))
            })
            .collect(),
        unified: values.unified.clone(),
        ..Resources::default()
    }
}

#[cfg(test)]
mod tests;
