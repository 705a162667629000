//! Where the kubelet keeps its files (rows DIR-01..17), and paths as Go's `filepath` treats them.

use std::path::{Path, PathBuf};

/// Mode of the directories below the root, and of the root (DIR-01, DIR-02, DIR-08).
pub const DIRECTORY_MODE: u32 = 0o750;
/// Mode of a termination message file (DIR-03).
pub const TERMINATION_LOG_MODE: u32 = 0o666;
/// Mode of a pod's `etc-hosts` (DIR-02).
pub const HOSTS_FILE_MODE: u32 = 0o644;
/// Mode of the directories of pods and containers below the log directory (DIR-04).
pub const LOG_DIRECTORY_MODE: u32 = 0o755;
/// Where upstream, and with it every log collector, looks for links to container logs (DIR-05).
pub const CONTAINER_LOG_LINKS: &str = "/var/log/containers";

/// The places a kubelet uses, all absolute and clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// `--root-dir`
    pub root_dir: PathBuf,
    /// `--cert-dir`
    pub cert_dir: PathBuf,
    /// `podLogsDir`
    pub pod_logs_dir: PathBuf,
    /// `volumePluginDir`
    pub volume_plugin_dir: PathBuf,
}

impl Paths {
    /// Directories of pods, one for each UID.
    pub fn pods_dir(&self) -> PathBuf {
        self.root_dir.join("pods")
    }

    /// Directory of one pod.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir().join(uid)
    }

    /// Directory of a pod's volumes of one plugin, such as `kubernetes.io/empty-dir`.
    pub fn pod_volumes_dir(&self, uid: &str, plugin: &str) -> PathBuf {
        self.pod_dir(uid)
            .join("volumes")
            .join(escape_plugin_name(plugin))
    }

    /// What a plugin itself keeps for a pod.
    pub fn pod_plugins_dir(&self, uid: &str, plugin: &str) -> PathBuf {
        self.pod_dir(uid)
            .join("plugins")
            .join(escape_plugin_name(plugin))
    }

    /// Termination message files of a container.
    pub fn pod_container_dir(&self, uid: &str, container: &str) -> PathBuf {
        self.pod_dir(uid).join("containers").join(container)
    }

    /// Mount point of the subPath of one mount, `index` being its place among the container's.
    pub fn pod_subpath(&self, uid: &str, volume: &str, container: &str, index: usize) -> PathBuf {
        let mounts = self
            .pod_dir(uid)
            .join("volume-subpaths")
            .join(volume)
            .join(container);
        mounts.join(index.to_string())
    }

    /// The hosts file that all containers of a pod see.
    pub fn pod_hosts_file(&self, uid: &str) -> PathBuf {
        self.pod_dir(uid).join("etc-hosts")
    }

    /// Log directory of a pod: `<namespace>_<name>_<uid>`.
    pub fn pod_log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.pod_logs_dir.join(format!("{namespace}_{name}_{uid}"))
    }

    /// Sockets and data of plugins.
    pub fn plugins_dir(&self) -> PathBuf {
        self.root_dir.join("plugins")
    }

    /// Sockets by which plugins make themselves known.
    pub fn plugins_registration_dir(&self) -> PathBuf {
        self.root_dir.join("plugins_registry")
    }

    /// Socket of the pod resources API.
    pub fn pod_resources_socket(&self) -> PathBuf {
        self.root_dir.join("pod-resources").join("kubelet.sock")
    }

    /// Sockets of device plugins.
    pub fn device_plugins_dir(&self) -> PathBuf {
        self.root_dir.join("device-plugins")
    }

    /// Container checkpoints; mode 0700.
    pub fn checkpoints_dir(&self) -> PathBuf {
        self.root_dir.join("checkpoints")
    }

    /// Local seccomp profiles.
    pub fn seccomp_dir(&self) -> PathBuf {
        self.root_dir.join("seccomp")
    }

    /// Registry credentials in Docker's form.
    pub fn registry_credentials(&self) -> PathBuf {
        self.root_dir.join("config.json")
    }

    /// Resources that pods were admitted with.
    pub fn allocated_pods_state(&self) -> PathBuf {
        self.root_dir.join("allocated_pods_state")
    }

    /// Resources that containers run with.
    pub fn actuated_pods_state(&self) -> PathBuf {
        self.root_dir.join("actuated_pods_state")
    }
}

/// `kubernetes.io/empty-dir` as a file name: `kubernetes.io~empty-dir` (DIR-16).
pub fn escape_plugin_name(plugin: &str) -> String {
    plugin.replace('/', "~")
}

/// A path without `.`, `..`, doubled and trailing slashes, by text alone (Go's `filepath.Clean`).
pub(crate) fn clean(path: &str) -> String {
    // Text stays text: nothing is lost.
    path_clean::clean(path).to_string_lossy().into_owned()
}

/// A path relative to `directory`, unless empty or absolute already.
pub(crate) fn resolve(path: &str, directory: &Path) -> String {
    if path.is_empty() || path.starts_with('/') {
        return path.to_owned();
    }
    clean(&format!("{}/{path}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_in_go() {
        for (path, expected) in [
            ("", "."),
            ("/", "/"),
            ("/a//b/./c/", "/a/b/c"),
            ("/../a/../../b", "/b"),
            ("../a/..", ".."),
            ("a/../..", ".."),
            ("a/b/..", "a"),
        ] {
            assert_eq!(clean(path), expected, "{path:?}");
        }
        assert_eq!(resolve("x/../y", Path::new("/etc/k")), "/etc/k/y");
        assert_eq!(resolve("/x", Path::new("/etc/k")), "/x");
        assert_eq!(resolve("", Path::new("/etc/k")), "");
    }

    #[test]
    fn files_lie_where_upstream_has_them() {
        let paths = Paths {
            root_dir: "/var/lib/kubelet".into(),
            cert_dir: "/var/lib/kubelet/pki".into(),
            pod_logs_dir: "/var/log/pods".into(),
            volume_plugin_dir: "/x".into(),
        };
        for (path, expected) in [
            (
                paths.pod_volumes_dir("u", "kubernetes.io/empty-dir"),
                "/var/lib/kubelet/pods/u/volumes/kubernetes.io~empty-dir",
            ),
            (
                paths.pod_container_dir("u", "c"),
                "/var/lib/kubelet/pods/u/containers/c",
            ),
            (
                paths.pod_subpath("u", "v", "c", 2),
                "/var/lib/kubelet/pods/u/volume-subpaths/v/c/2",
            ),
            (
                paths.pod_hosts_file("u"),
                "/var/lib/kubelet/pods/u/etc-hosts",
            ),
            (paths.pod_log_dir("ns", "n", "u"), "/var/log/pods/ns_n_u"),
            (
                paths.pod_resources_socket(),
                "/var/lib/kubelet/pod-resources/kubelet.sock",
            ),
            (paths.seccomp_dir(), "/var/lib/kubelet/seccomp"),
            (
                paths.allocated_pods_state(),
                "/var/lib/kubelet/allocated_pods_state",
            ),
        ] {
            assert_eq!(path, Path::new(expected));
        }
    }
}
