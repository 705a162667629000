//! Who is asked first, and who has to wait for whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use k8s_openapi::api::core::v1::{Pod, Volume};

use super::HostPort;
use crate::{
    ids::{PodKey, PodUid},
    spec,
};

/// The order in which new pods are decided about (ADM-01): by time of creation. Static pods have
/// none; of those, what runs already keeps its place before anything new (so a restart of the kubelet
/// refuses nobody that an earlier one took), then comes the higher priority, then the name. Upstream
/// takes equals in any order.
pub fn admission_order<'a>(
    pods: impl IntoIterator<Item = (&'a PodUid, &'a Pod)>,
    adopted: &BTreeSet<PodUid>,
) -> Vec<PodUid> {
    let mut pods: Vec<_> = pods.into_iter().collect();
    pods.sort_by_cached_key(|(uid, pod)| {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority);
        (
            !adopted.contains(*uid),
            created,
            std::cmp::Reverse(priority.unwrap_or(0)),
            PodKey::of(pod),
            (*uid).clone(),
        )
    });
    pods.into_iter().map(|(uid, _)| uid.clone()).collect()
}

/// What is everybody's: that two pods write there does not make one the other's successor.
const SHARED: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/var/run"];

/// Whether a new pod may not start while an old one still ends.
///
/// Differs: a pod waits for one that ends if it wants a host port of it, or if both write to one `hostPath` (other than
/// `/` and what is in `/dev`, `/proc`, `/run`, `/sys` and `/var/run`, such as Docker's socket): one manifest edited, with
/// the pod's name among what changed, is such a pair. Upstream starts the new pod at once; it fails until the port is
/// free, or writes beside the old one.
pub fn must_wait_for(new: &Pod, old: &Pod) -> bool {
    let held = super::host_ports(old);
    let wanted = super::host_ports(new);
    let port = |port: &HostPort| held.iter().any(|other| port.conflicts(other));
    wanted.iter().any(port) || {
        let held = written_paths(old);
        written_paths(new).iter().any(|path| held.contains(path))
    }
}

/// Directories of the host that a container may write to, but for those that are everybody's.
fn written_paths(pod: &Pod) -> BTreeSet<&str> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let paths: BTreeMap<&str, &str> = volumes
        .filter_map(|volume: &Volume| {
            let path = volume.host_path.as_ref()?.path.trim_end_matches('/');
            let within = |shared: &&str| Path::new(path).starts_with(shared);
            // Without its slashes the root is empty.
            let shared = path.is_empty() || SHARED.iter().any(within);
            (!shared).then_some((volume.name.as_str(), path))
        })
        .collect();
    spec::containers(pod)
        .iter()
        .chain(spec::init_containers(pod))
        .flat_map(|container| container.volume_mounts.iter().flatten())
        .filter(|mount| mount.read_only != Some(true))
        .filter_map(|mount| paths.get(mount.name.as_str()).copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{
        Container, ContainerPort, HostPathVolumeSource, PodSpec, VolumeMount,
    };

    use super::*;

    fn pod(name: &str, port: Option<i32>, path: Option<(&str, bool)>) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.uid = Some(name.to_owned());
        pod.spec = Some(PodSpec {
            containers: vec![Container {
                ports: port.map(|port| {
                    vec![ContainerPort {
                        host_port: Some(port),
                        ..Default::default()
                    }]
                }),
                volume_mounts: path.map(|(_, read_only)| {
                    vec![VolumeMount {
                        name: "v".to_owned(),
                        read_only: Some(read_only),
                        ..Default::default()
                    }]
                }),
                ..Default::default()
            }],
            volumes: path.map(|(path, _)| {
                vec![Volume {
                    name: "v".to_owned(),
                    host_path: Some(HostPathVolumeSource {
                        path: path.to_owned(),
                        type_: None,
                    }),
                    ..Default::default()
                }]
            }),
            ..Default::default()
        });
        pod
    }

    #[test]
    fn what_runs_keeps_its_place_then_priority_then_name() {
        let mut pods = ["d", "c", "b", "a"].map(|name| pod(name, None, None));
        pods[1].spec.as_mut().unwrap().priority = Some(10);
        let adopted = BTreeSet::from([PodUid::new("d")]);
        let uids = pods.each_ref().map(PodUid::of);
        let order = admission_order(uids.iter().zip(&pods), &adopted);
        assert_eq!(order, ["d", "c", "a", "b"].map(PodUid::new));
    }

    #[test]
    fn a_pod_waits_for_the_port_or_directory_of_one_that_ends() {
        let (port, other) = (pod("a", Some(80), None), pod("b", Some(81), None));
        assert!(must_wait_for(&port, &port));
        assert!(!must_wait_for(&other, &port));
        let writer = pod("a", None, Some(("/data", false)));
        assert!(must_wait_for(
            &pod("b", None, Some(("/data/", false))),
            &writer
        ));
        assert!(!must_wait_for(
            &pod("b", None, Some(("/data", true))),
            &writer
        ));
        assert!(!must_wait_for(
            &pod("b", None, Some(("/other", false))),
            &writer
        ));
    }

    #[test]
    fn nobody_waits_for_a_place_that_is_everybodys() {
        let both_write = |path: &str| {
            let pods = ["a", "b"].map(|name| pod(name, None, Some((path, false))));
            must_wait_for(&pods[1], &pods[0])
        };
        for shared in ["/", "/dev", "/run/", "/var/run/docker.sock", "/sys/fs/bpf"] {
            assert!(!both_write(shared), "{shared}");
        }
        for own in ["/var/lib/db", "/runs", "/var", "/srv/dev"] {
            assert!(both_write(own), "{own}");
        }
    }
}
