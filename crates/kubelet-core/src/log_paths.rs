//! Names of log directories, files and links (DIR-04, DIR-05, CRI-32, CRI-57, CRI-80).

use crate::ids::{ContainerId, ContainerName, PodKey, PodUid};

/// Longest name of a link, in bytes.
const MAX_LINK_BYTES: usize = 255;
/// What a link's name ends with.
const LINK_SUFFIX: &str = ".log";

/// `<ns>_<name>_<uid>`: a pod's directory below the logs directory.
pub fn pod_directory(key: &PodKey, uid: &PodUid) -> String {
    format!("{}_{}_{uid}", key.namespace, key.name)
}

/// The parts of a pod's directory name; names and uids hold no `_` in namespace and name.
pub fn parse_pod_directory(name: &str) -> Option<(PodKey, PodUid)> {
    let mut parts = name.splitn(3, '_');
    let (namespace, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
    Some((PodKey::new(namespace, name), PodUid::from(uid)))
}

/// `<container>/<restart>.log`, relative to the pod's directory.
pub fn container_log(container: &ContainerName, restart: u32) -> String {
    format!("{container}/{restart}.log")
}

/// The restart count after the newest of the log files in a container's directory (CTR-21); 0 when
/// there is none. Rotated and compressed files count by their first number.
pub fn next_restart<'a>(file_names: impl IntoIterator<Item = &'a str>) -> u32 {
    file_names
        .into_iter()
        .filter_map(|name| name.split_once(".log")?.0.parse::<u32>().ok())
        .max()
        .map_or(0, |newest| newest.saturating_add(1))
}

/// `<pod>_<ns>_<container>-<id>.log` below `/var/log/containers`; a name that is too long loses the
/// end of its stem.
pub fn legacy_link(key: &PodKey, container: &ContainerName, id: &ContainerId) -> String {
    let stem = format!("{}_{}_{container}-{id}", key.name, key.namespace);
    let room = MAX_LINK_BYTES - LINK_SUFFIX.len();
    format!("{}{LINK_SUFFIX}", &stem[..stem.floor_char_boundary(room)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dir_04_and_05_names() {
        let key = PodKey::new("default", "web-node");
        let uid = PodUid::from("1234");
        let directory = pod_directory(&key, &uid);
        assert_eq!(directory, "default_web-node_1234");
        assert_eq!(parse_pod_directory(&directory), Some((key.clone(), uid)));
        assert_eq!(container_log(&ContainerName::from("app"), 3), "app/3.log");
        let link = legacy_link(&key, &ContainerName::from("app"), &ContainerId::from("abc"));
        assert_eq!(link, "web-node_default_app-abc.log");
    }

    #[test]
    fn cri_80_long_link_is_cut() {
        let key = PodKey::new("default", "n".repeat(250));
        let link = legacy_link(&key, &ContainerName::from("app"), &ContainerId::from("abc"));
        assert_eq!(link.len(), 255);
        assert_eq!(link.strip_suffix(".log").map(str::len), Some(251));
    }

    #[test]
    fn ctr_21_restart_follows_from_the_log_files() {
        assert_eq!(next_restart([]), 0);
        assert_eq!(
            next_restart(["0.log", "2.log.20260101-000000.gz", "1.log", "x.log", "9"]),
            3
        );
    }
}
