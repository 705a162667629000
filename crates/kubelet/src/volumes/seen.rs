//! Host paths of a pod that have been looked at. Pure.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::api::core::v1::{HostPathVolumeSource, Pod, Volume};

use super::plan;

/// By volume. What has another path or type now counts as not seen.
#[derive(Debug, Default)]
pub(crate) struct SeenHostPaths(BTreeMap<String, HostPathVolumeSource>);

impl SeenHostPaths {
    /// The pod with no type at paths that have been seen: nothing of them is checked or made.
    pub(crate) fn untyped<'a>(&self, pod: &'a Pod) -> Cow<'a, Pod> {
        if self.0.is_empty() {
            return Cow::Borrowed(pod);
        }
        let mut pod = Cow::Borrowed(pod);
        let spec = pod.to_mut().spec.as_mut();
        for volume in spec
            .into_iter()
            .flat_map(|spec| spec.volumes.iter_mut().flatten())
        {
            if let Some(source) = &mut volume.host_path
                && self.0.get(&volume.name) == Some(source)
            {
                source.type_ = None;
            }
        }
        pod
    }

    /// Takes note of those that the pod mounts and that were found good.
    pub(crate) fn note(&mut self, pod: &Pod, good: impl Fn(&str) -> bool) {
        let mounted = plan::mounted(pod).into_iter();
        let seen = mounted.filter(|volume| good(&volume.name)).filter_map(
            |Volume {
                 name, host_path, ..
             }| Some((name.clone(), host_path.clone()?)),
        );
        self.0 = seen.collect();
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec, VolumeMount};

    use super::*;

    fn pod(path: &str) -> Pod {
        let volume = Volume {
            name: "v".to_owned(),
            host_path: Some(HostPathVolumeSource {
                path: path.to_owned(),
                type_: Some("Directory".to_owned()),
            }),
            ..Volume::default()
        };
        let mount = VolumeMount {
            name: "v".to_owned(),
            ..VolumeMount::default()
        };
        let container = Container {
            volume_mounts: Some(vec![mount]),
            ..Container::default()
        };
        Pod {
            spec: Some(PodSpec {
                containers: vec![container],
                volumes: Some(vec![volume]),
                ..PodSpec::default()
            }),
            ..Pod::default()
        }
    }

    fn kind(pod: &Pod) -> Option<&str> {
        let volume = &pod.spec.as_ref()?.volumes.as_ref()?[0];
        volume.host_path.as_ref()?.type_.as_deref()
    }

    #[test]
    fn vol_20_only_a_path_that_was_good_and_is_the_same_is_not_looked_at_again() {
        let (here, there) = (pod("/here"), pod("/there"));
        let mut seen = SeenHostPaths::default();
        assert_eq!(kind(&seen.untyped(&here)), Some("Directory"));
        seen.note(&here, |_| false);
        assert_eq!(kind(&seen.untyped(&here)), Some("Directory"));
        seen.note(&here, |_| true);
        assert_eq!(kind(&seen.untyped(&here)), None);
        assert_eq!(kind(&seen.untyped(&there)), Some("Directory"));
    }
}
