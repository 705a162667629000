//! Where the cgroup file systems are mounted.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::CgroupError;
use crate::mountinfo::{self, MountInfo};

/// Which interface limits are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// A hierarchy per controller, or per group of controllers. Also where version 2 is mounted
    /// beside it without controllers ("hybrid").
    V1,
    /// One hierarchy.
    V2,
}

/// The cgroup file systems of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    /// Version 1: the mount point of each controller, and of named hierarchies as `name=systemd`.
    v1: BTreeMap<String, PathBuf>,
    unified: Option<PathBuf>,
    version: Version,
}

/// Controllers without which a node cannot limit anything; version 1 is what is used when they are
/// there.
const ESSENTIAL: [&str; 2] = ["cpu", "memory"];

impl Hierarchies {
    /// Finds out from the mounts of this process.
    ///
    /// # Errors
    /// When no cgroups are mounted.
    pub fn detect(mounts: &[MountInfo]) -> Result<Self, CgroupError> {
        // A mount that another one hides cannot be used, unless that one is of the same directory:
        // `docker cp` of Docker 20.10 mounts everything in a running container once more.
        let visible = |mount: &&MountInfo| {
            mountinfo::mount_of(mounts, &mount.mount_point)
                .is_some_and(|top| top.device == mount.device && top.root == mount.root)
        };
        let of_cgroups = |mount: &&MountInfo| mount.fs_type.starts_with("cgroup");
        let mut v1: BTreeMap<String, &MountInfo> = BTreeMap::new();
        let mut unified: Option<&MountInfo> = None;
        for mount in mounts.iter().filter(of_cgroups).filter(visible) {
            match mount.fs_type.as_str() {
                "cgroup" => {
                    for option in mount.super_options.iter().filter(|o| is_controller(o)) {
                        let slot = v1.entry(option.clone()).or_insert(mount);
                        *slot = better(slot, mount);
                    }
                }
                "cgroup2" => unified = Some(unified.map_or(mount, |known| better(known, mount))),
                _ => {}
            }
        }
        let place = |mount: &MountInfo| mount.mount_point.clone();
        let v1: BTreeMap<_, _> = v1
            .into_iter()
            .map(|(name, mount)| (name, place(mount)))
            .collect();
        let unified = unified.map(place);
        let version = if ESSENTIAL
            .iter()
            .any(|controller| v1.contains_key(*controller))
        {
            Version::V1
        } else if unified.is_some() {
            Version::V2
        } else {
            return Err(CgroupError::NotMounted);
        };
        Ok(Self {
            v1,
            unified,
            version,
        })
    }

    /// Version 1 hierarchies at given places, for tests.
    pub fn v1(controllers: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        Self {
            v1: controllers.into_iter().collect(),
            unified: None,
            version: Version::V1,
        }
    }

    /// A version 2 hierarchy at a given place, for tests.
    pub fn v2(root: PathBuf) -> Self {
        Self {
            v1: BTreeMap::new(),
            unified: Some(root),
            version: Version::V2,
        }
    }

    /// Which interface limits are written to.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where the files of a controller are.
    pub fn controller(&self, name: &str) -> Option<&Path> {
        match self.version {
            Version::V1 => self.v1.get(name).map(PathBuf::as_path),
            Version::V2 => self.unified.as_deref(),
        }
    }

    /// Whether the kernel counts swap per group (kubelet CRI-75). `own` is this process's group, since
    /// version 2 has no such file at its root. Blocks.
    pub fn limits_swap(&self, own: &Path) -> bool {
        let own = own.strip_prefix("/").unwrap_or(own);
        let file = match self.version {
            Version::V1 => "memory.memsw.limit_in_bytes".into(),
            Version::V2 => own.join("memory.swap.max"),
        };
        let root = self.controller("memory");
        root.is_some_and(|root| root.join(file).exists())
    }

    /// Where version 2 is mounted, if it is.
    pub(super) fn unified(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// Version 1: the controllers that are mounted.
    pub(super) fn v1_controllers(&self) -> impl Iterator<Item = &str> {
        self.v1
            .keys()
            .map(String::as_str)
            .filter(|name| !name.starts_with("name="))
    }

    /// All mount points that groups are made in, each once. In hybrid mode the version 2 tree is
    /// one of them, since container runtimes make their groups there too.
    pub fn roots(&self) -> Vec<&Path> {
        let mut roots: Vec<&Path> = self
            .v1
            .values()
            .chain(&self.unified)
            .map(PathBuf::as_path)
            .collect();
        roots.sort_unstable();
        roots.dedup();
        roots
    }
}

/// Whether an option of a version 1 file system names a hierarchy, as opposed to a setting.
fn is_controller(option: &str) -> bool {
    option.starts_with("name=")
        || matches!(
            option,
            "blkio"
                | "cpu"
                | "cpuacct"
                | "cpuset"
                | "devices"
                | "freezer"
                | "hugetlb"
                | "memory"
                | "misc"
                | "net_cls"
                | "net_prio"
                | "perf_event"
                | "pids"
                | "rdma"
        )
}

/// Of two mounts of one hierarchy the one that shows more of it, and then the one at the usual
/// place. A bind mount of a part (as a container's own group) is not the hierarchy.
fn better<'a>(known: &'a MountInfo, other: &'a MountInfo) -> &'a MountInfo {
    let rank = |mount: &MountInfo| {
        // Seen from a cgroup namespace, what lies above its root has one `..` per level.
        let above = mount
            .root
            .components()
            .filter(|part| part.as_os_str() == "..")
            .count();
        let below = mount.root.components().count() - above;
        (
            below <= 1,
            above,
            mount.mount_point.starts_with("/sys/fs/cgroup"),
        )
    };
    if rank(other) > rank(known) {
        other
    } else {
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(text: &str) -> Result<Hierarchies, CgroupError> {
        Hierarchies::detect(&mountinfo::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn controllers_apart_and_together_are_found() {
        let found = detect(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
             33 31 0:30 / /sys/fs/cgroup/acct rw - cgroup cgroup rw,cpuacct,clone_children\n\
             35 31 0:32 / /sys/fs/cgroup/net rw - cgroup cgroup rw,net_cls,net_prio\n\
             36 31 0:33 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        )
        .unwrap();
        assert_eq!(found.version(), Version::V1);
        assert_eq!(
            found.controller("cpuacct"),
            Some(Path::new("/sys/fs/cgroup/acct"))
        );
        assert_eq!(
            found.controller("net_prio"),
            Some(Path::new("/sys/fs/cgroup/net"))
        );
        assert_eq!(found.controller("memory"), None);
        let roots: Vec<_> = found
            .roots()
            .iter()
            .map(|root| root.to_str().unwrap())
            .collect();
        assert_eq!(
            roots,
            ["acct", "cpu", "net", "systemd", "unified"].map(|n| format!("/sys/fs/cgroup/{n}"))
        );
        assert_eq!(
            found.v1_controllers().collect::<Vec<_>>(),
            ["cpu", "cpuacct", "net_cls", "net_prio"]
        );
    }

    #[test]
    fn of_a_hierarchy_that_is_mounted_over_an_inherited_one_the_visible_counts() {
        // In a cgroup namespace of its own, which began with the mounts of another.
        let found = detect(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             32 31 0:29 /.. /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
             57 32 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n",
        )
        .unwrap();
        assert_eq!(
            found.controller("cpu"),
            Some(Path::new("/sys/fs/cgroup/cpu"))
        );
    }

    #[test]
    fn swap_is_counted_where_the_kernel_has_the_file() {
        let root = tempfile::tempdir().unwrap();
        let v1 = Hierarchies::v1([("memory".to_owned(), root.path().to_owned())]);
        let v2 = Hierarchies::v2(root.path().to_owned());
        let own = Path::new("/system.slice/x.service");
        assert!(!v1.limits_swap(own) && !v2.limits_swap(own));
        std::fs::write(root.path().join("memory.memsw.limit_in_bytes"), "").unwrap();
        std::fs::create_dir_all(root.path().join("system.slice/x.service")).unwrap();
        std::fs::write(
            root.path().join("system.slice/x.service/memory.swap.max"),
            "",
        )
        .unwrap();
        assert!(v1.limits_swap(own) && v2.limits_swap(own));
    }

    #[test]
    fn version_2_alone_is_version_2() {
        let found =
            detect("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n").unwrap();
        assert_eq!(found.version(), Version::V2);
        assert_eq!(
            found.controller("memory"),
            Some(Path::new("/sys/fs/cgroup"))
        );
    }

    #[test]
    fn named_version_1_hierarchy_beside_version_2_is_version_2() {
        let found = detect(
            "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
             31 30 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n",
        )
        .unwrap();
        assert_eq!(found.version(), Version::V2);
    }

    #[test]
    fn hosts_hierarchy_wins_over_a_containers_part_of_it() {
        let found = detect(
            "30 23 0:26 / /sys/fs/own rw - cgroup2 cgroup rw\n\
             31 23 0:26 /docker/abc /part rw - cgroup2 cgroup rw\n\
             32 23 0:26 /../.. /host/cgroup rw - cgroup2 cgroup rw\n",
        )
        .unwrap();
        assert_eq!(found.controller("cpu"), Some(Path::new("/host/cgroup")));
    }

    #[test]
    fn hierarchy_that_is_mounted_on_itself_is_found() {
        let twice = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
             41 23 0:28 / /sys/fs/cgroup rw master:9 - tmpfs tmpfs rw\n\
             42 41 0:29 / /sys/fs/cgroup/cpu rw master:8 - cgroup cgroup rw,cpu\n";
        let found = detect(twice).unwrap();
        assert_eq!(
            found.controller("cpu"),
            Some(Path::new("/sys/fs/cgroup/cpu"))
        );
        let unified = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
             40 30 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(detect(unified).unwrap().version(), Version::V2);
    }

    #[test]
    fn hierarchy_under_something_else_is_not_found() {
        let error = detect(
            "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
             42 31 0:40 / /sys/fs/cgroup/cpu rw - tmpfs tmpfs rw\n",
        )
        .unwrap_err();
        assert!(matches!(error, CgroupError::NotMounted));
    }

    #[test]
    fn nothing_mounted_is_an_error_with_the_fix() {
        let error = detect("27 1 254:0 / / rw - ext4 /dev/vda rw\n").unwrap_err();
        assert!(matches!(error, CgroupError::NotMounted));
        assert!(error.to_string().contains("mount /sys/fs/cgroup"));
    }
}
