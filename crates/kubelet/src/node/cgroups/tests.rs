use std::{collections::BTreeMap, path::PathBuf, sync::Mutex};

use k8s_openapi::{
    api::core::v1::{Container, PodSpec, ResourceRequirements},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use node_os::cgroups::{CgroupStats, Version};

use super::*;
use crate::events::EventSink;

/// Groups in memory, with the limits written to them.
#[derive(Debug, Default)]
struct FakeCgroups {
    groups: Mutex<BTreeMap<String, Resources>>,
    refuse: Option<std::io::ErrorKind>,
}

impl FakeCgroups {
    fn refused(&self) -> Result<(), CgroupError> {
        match self.refuse {
            Some(kind) => Err(CgroupError::Create(
                PathBuf::from("/sys/fs/cgroup/x"),
                kind.into(),
            )),
            None => Ok(()),
        }
    }

    fn names(&self) -> Vec<String> {
        self.groups.lock().unwrap().keys().cloned().collect()
    }

    fn shares(&self, group: &str) -> Option<u64> {
        self.groups.lock().unwrap()[group].cpu_shares
    }
}

impl Cgroups for FakeCgroups {
    fn version(&self) -> Version {
        Version::V2
    }

    fn controllers(&self) -> Vec<String> {
        vec!["cpu".to_owned(), "memory".to_owned()]
    }

    fn create(
        &self,
        group: &CgroupPath,
        resources: &Resources,
    ) -> Result<Vec<&'static str>, CgroupError> {
        self.refused()?;
        self.groups
            .lock()
            .unwrap()
            .entry(group.to_string())
            .or_default();
        self.apply(group, resources)
    }

    fn apply(
        &self,
        group: &CgroupPath,
        resources: &Resources,
    ) -> Result<Vec<&'static str>, CgroupError> {
        self.refused()?;
        let mut groups = self.groups.lock().unwrap();
        let known = groups
            .get_mut(group.as_str())
            .ok_or_else(|| CgroupError::NotFound(group.clone()))?;
        if resources.cpu_shares.is_some() {
            known.cpu_shares = resources.cpu_shares;
        }
        if resources.memory_max_bytes.is_some() {
            known.memory_max_bytes = resources.memory_max_bytes;
        }
        known
            .hugetlb_max_bytes
            .extend(resources.hugetlb_max_bytes.clone());
        known.unified.extend(resources.unified.clone());
        Ok(Vec::new())
    }

    fn read(&self, group: &CgroupPath) -> Result<Resources, CgroupError> {
        Ok(self.groups.lock().unwrap()[group.as_str()].clone())
    }

    fn stats(&self, _: &CgroupPath) -> Result<CgroupStats, CgroupError> {
        unreachable!("not asked for here")
    }

    fn exists(&self, group: &CgroupPath) -> bool {
        group.as_str() == "/" || self.groups.lock().unwrap().contains_key(group.as_str())
    }

    fn remove(&self, group: &CgroupPath) -> Result<(), CgroupError> {
        self.groups.lock().unwrap().remove(group.as_str());
        Ok(())
    }

    fn children(&self, group: &CgroupPath) -> Result<Vec<String>, CgroupError> {
        let prefix = format!("{group}/");
        Ok(self
            .names()
            .iter()
            .filter_map(|name| name.strip_prefix(&prefix))
            .filter(|rest| !rest.contains('/'))
            .map(ToOwned::to_owned)
            .collect())
    }

    fn pids(&self, _: &CgroupPath) -> Result<Vec<u32>, CgroupError> {
        Ok(Vec::new())
    }
}

#[derive(Debug, Default)]
struct Recorded(Mutex<Vec<String>>);

impl EventSink for Recorded {
    fn record(&self, object: &ObjectRef, kind: EventType, reason: &str, message: &str) {
        let line = format!("{} {} {reason}: {message}", object.name, kind.as_str());
        self.0.lock().unwrap().push(line);
    }
}

struct Setup {
    kernel: Arc<FakeCgroups>,
    events: Arc<Recorded>,
    cgroups: PodCgroups,
}

const PODS: PodCgroupSettings = PodCgroupSettings {
    enforce_cpu_quota: true,
    cpu_period_micros: 100_000,
    pids_limit: 0,
    memory_qos: false,
};

fn setup_with(driver: CgroupDriver, kernel: FakeCgroups, root: &str) -> Setup {
    setup_for(PODS, driver, kernel, root)
}

fn setup_for(
    pods: PodCgroupSettings,
    driver: CgroupDriver,
    kernel: FakeCgroups,
    root: &str,
) -> Setup {
    let kernel = Arc::new(kernel);
    let events = Arc::new(Recorded::default());
    let config = CgroupsConfig {
        driver,
        root: CgroupPath::new(root).unwrap(),
        pods,
        page_sizes: vec![PageSize {
            name: "2MB".to_owned(),
            bytes: 2 << 20,
        }],
        node_name: "node".to_owned(),
    };
    let cgroups = PodCgroups::new(
        config,
        Arc::clone(&kernel) as Arc<dyn Cgroups>,
        Arc::clone(&events) as Events,
    );
    Setup {
        kernel,
        events,
        cgroups,
    }
}

fn setup() -> Setup {
    setup_with(CgroupDriver::Cgroupfs, FakeCgroups::default(), "/")
}

fn pod(uid: &str, cpu: Option<&str>) -> Pod {
    let requests = cpu.map(|cpu| BTreeMap::from([("cpu".to_owned(), Quantity(cpu.to_owned()))]));
    let container = Container {
        name: "main".to_owned(),
        resources: Some(ResourceRequirements {
            requests,
            ..ResourceRequirements::default()
        }),
        ..Container::default()
    };
    Pod {
        metadata: ObjectMeta {
            uid: Some(uid.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers: vec![container],
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

fn node_values() -> CgroupValues {
    CgroupValues {
        cpu_shares: Some(2048),
        memory_max_bytes: Some(1 << 30),
        ..CgroupValues::default()
    }
}

#[tokio::test]
async fn groups_of_node_and_classes_are_made_at_start() {
    let setup = setup();
    setup.cgroups.start(node_values()).await.unwrap();
    assert_eq!(
        setup.kernel.names(),
        ["/kubepods", "/kubepods/besteffort", "/kubepods/burstable"]
    );
    assert_eq!(setup.kernel.shares("/kubepods"), Some(2048));
    assert_eq!(setup.kernel.shares("/kubepods/besteffort"), Some(2));
}

#[tokio::test]
async fn restart_leaves_running_pods_their_share() {
    let setup = setup();
    setup.cgroups.start(node_values()).await.unwrap();
    let active = [pod("a", Some("1")), pod("b", Some("500m")), pod("c", None)];
    setup.cgroups.refresh_classes(&active).await.unwrap();
    assert_eq!(setup.kernel.shares("/kubepods/burstable"), Some(1536));
    setup.cgroups.start(node_values()).await.unwrap();
    assert_eq!(setup.kernel.shares("/kubepods/burstable"), Some(1536));
    setup.cgroups.refresh_classes(&[]).await.unwrap();
    assert_eq!(setup.kernel.shares("/kubepods/burstable"), Some(2));
}

#[tokio::test]
async fn pod_gets_a_group_of_its_class_and_loses_it() {
    let setup = setup();
    setup.cgroups.start(node_values()).await.unwrap();
    let pod = pod("uid", Some("1"));
    assert_eq!(
        setup.cgroups.parent_of(&pod).unwrap(),
        "/kubepods/burstable/poduid"
    );
    setup.cgroups.ensure_pod(&pod).await.unwrap();
    assert_eq!(
        setup.kernel.shares("/kubepods/burstable/poduid"),
        Some(1024)
    );
    let own = setup.kernel.groups.lock().unwrap()["/kubepods/burstable/poduid"].clone();
    assert_eq!(
        own.hugetlb_max_bytes,
        BTreeMap::from([("2MB".to_owned(), 0)])
    );
    for _ in 0..2 {
        setup.cgroups.remove_pod("uid").await.unwrap();
    }
    assert_eq!(setup.kernel.names().len(), 3);
}

#[tokio::test]
async fn groups_of_unknown_pods_are_orphans_with_either_driver() {
    for driver in [CgroupDriver::Cgroupfs, CgroupDriver::Systemd] {
        let setup = setup_with(driver, FakeCgroups::default(), "/");
        setup.cgroups.start(node_values()).await.unwrap();
        // An underscore and a dash look the same in the name of a slice.
        for uid in ["kept_1", "gone-1"] {
            setup.cgroups.ensure_pod(&pod(uid, None)).await.unwrap();
        }
        let known = BTreeSet::from(["kept_1".to_owned()]);
        let orphans = || async {
            let mut found = setup.cgroups.found().await.unwrap();
            found.retain(|one| setup.cgroups.is_orphan(one, &known));
            found
        };
        let found = orphans().await;
        assert_eq!(found.len(), 1, "{driver:?}");
        assert!(found[0].to_string().contains("gone"), "{driver:?}");
        let orphan = found[0].clone();
        setup.cgroups.remove_orphan(orphan).await.unwrap();
        assert_eq!(orphans().await, [], "{driver:?}");
    }
}

#[tokio::test]
async fn limit_of_the_node_is_told_of() {
    let setup = setup();
    setup.cgroups.start(node_values()).await.unwrap();
    setup.cgroups.enforce_node(node_values()).await.unwrap();
    setup.kernel.groups.lock().unwrap().clear();
    setup.cgroups.enforce_node(node_values()).await.unwrap_err();
    assert_eq!(
        *setup.events.0.lock().unwrap(),
        [
            "node Normal NodeAllocatableEnforced: Updated Node Allocatable limit across pods",
            "node Warning FailedNodeAllocatableEnforcement: Failed to update Node Allocatable \
             Limits \"/kubepods\": cgroup /kubepods does not exist",
        ]
    );
}

#[tokio::test]
async fn what_keeps_pods_from_having_groups_is_named_with_its_fix() {
    let refuse = Some(std::io::ErrorKind::ReadOnlyFilesystem);
    let kernel = FakeCgroups {
        refuse,
        ..FakeCgroups::default()
    };
    let error = setup_with(CgroupDriver::Cgroupfs, kernel, "/")
        .cgroups
        .start(node_values())
        .await;
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("/sys/fs/cgroup") && text.contains("cgroupsPerQOS: false"),
        "{text}"
    );

    let setup = setup_with(CgroupDriver::Cgroupfs, FakeCgroups::default(), "/missing");
    let text = setup
        .cgroups
        .start(node_values())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("cgroup root /missing does not exist"),
        "{text}"
    );
}

#[tokio::test]
async fn without_groups_nothing_is_done() {
    let cgroups = PodCgroups::off(Arc::new(Recorded::default()));
    let pod = pod("uid", None);
    cgroups.start(node_values()).await.unwrap();
    cgroups.ensure_pod(&pod).await.unwrap();
    cgroups.remove_pod("uid").await.unwrap();
    assert_eq!(cgroups.parent_of(&pod).unwrap(), "");
    assert_eq!(cgroups.found().await.unwrap(), []);
}

#[test]
fn values_that_say_nothing_are_not_written() {
    let values = CgroupValues {
        cpu_quota_micros: Some(-1),
        cpu_period_micros: Some(100_000),
        memory_max_bytes: Some(0),
        pids_max: Some(-1),
        hugepage_max_bytes: BTreeMap::from([(2 << 20, 4 << 20), (1 << 30, 0)]),
        ..CgroupValues::default()
    };
    let sizes = [PageSize {
        name: "2MB".to_owned(),
        bytes: 2 << 20,
    }];
    let resources = resources(&values, &sizes);
    assert_eq!(
        resources.cpu_quota,
        Some(CpuQuota {
            quota_micros: Limit::Max,
            period_micros: 100_000
        })
    );
    assert_eq!(
        (resources.memory_max_bytes, resources.pids_max),
        (None, None)
    );
    assert_eq!(
        resources.hugetlb_max_bytes,
        BTreeMap::from([("2MB".to_owned(), 4 << 20)])
    );
    let quota = CgroupValues {
        cpu_quota_micros: Some(50_000),
        ..CgroupValues::default()
    };
    let resources = super::resources(&quota, &sizes);
    assert_eq!(
        resources.cpu_quota,
        Some(CpuQuota {
            quota_micros: Limit::At(50_000),
            period_micros: 100_000
        })
    );
}

/// Kubernetes kubelet, `setMemoryQoS`.
#[tokio::test]
async fn cri_76_memory_that_pods_request_is_kept_for_each_group_of_theirs() {
    let kept = async |memory_qos| {
        let pods = PodCgroupSettings { memory_qos, ..PODS };
        let kernel = FakeCgroups::default();
        let Setup {
            kernel, cgroups, ..
        } = setup_for(pods, CgroupDriver::Cgroupfs, kernel, "/");
        cgroups.start(node_values()).await.unwrap();
        let mut pod = pod("u", None);
        let container = &mut pod.spec.as_mut().unwrap().containers[0];
        let resources = container.resources.as_mut().unwrap();
        let request = ("memory".to_owned(), Quantity("64Mi".to_owned()));
        resources.requests = Some([request].into());
        cgroups.ensure_pod(&pod).await.unwrap();
        cgroups.refresh_classes([&pod]).await.unwrap();
        let groups = kernel.groups.lock().unwrap();
        [
            "/kubepods",
            "/kubepods/burstable",
            "/kubepods/burstable/podu",
            "/kubepods/besteffort",
        ]
        .map(|group| groups[group].unified.get("memory.min").cloned())
    };
    let bytes = Some((64 << 20).to_string());
    assert_eq!(
        kept(true).await,
        [bytes.clone(), bytes.clone(), bytes, None]
    );
    assert_eq!(kept(false).await, [None, None, None, None]);
}

/// The kernel's own groups, under a root of our own that is removed again.
#[tokio::test]
async fn real_groups_are_made_and_removed() {
    let Ok(kernel) = node_os::cgroups::CgroupFs::open() else {
        return;
    };
    let root = CgroupPath::new(&format!("/berth-test-{}", std::process::id())).unwrap();
    if kernel.create(&root, &Resources::default()).is_err() {
        return; // no right to make groups here
    }
    let kernel = Arc::new(kernel);
    let config = CgroupsConfig {
        driver: CgroupDriver::Cgroupfs,
        root: root.clone(),
        pods: PodCgroupSettings {
            pids_limit: 100,
            ..PODS
        },
        page_sizes: Vec::new(),
        node_name: "node".to_owned(),
    };
    let cgroups = PodCgroups::new(
        config,
        Arc::clone(&kernel) as Arc<dyn Cgroups>,
        Arc::new(Recorded::default()),
    );
    let done = async {
        cgroups.start(node_values()).await?;
        let pod = pod("uid", Some("1"));
        cgroups.ensure_pod(&pod).await?;
        let group = CgroupPath::new(&cgroups.parent_of(&pod)?)?;
        let shares = kernel.read(&group)?.cpu_shares;
        cgroups.remove_pod("uid").await?;
        Ok::<_, PodCgroupError>((shares, kernel.exists(&group)))
    }
    .await;
    kernel.remove(&root).unwrap();
    let (shares, left) = done.unwrap();
    // Version 2 keeps a weight, which is coarser: 999 are the fewest shares of the same one.
    assert!(matches!(shares, Some(999 | 1024)), "{shares:?}");
    assert!(!left);
}
