//! Quality-of-service class of a pod (STAT-21).

use std::fmt;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

use crate::quantity::{Amounts, amounts};
use crate::spec;

/// The three classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QosClass {
    /// Every container has cpu and memory limits equal to its requests.
    Guaranteed,
    /// Anything in between.
    Burstable,
    /// No container asks for cpu or memory.
    BestEffort,
}

impl QosClass {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The pod's class. Kubernetes, `ComputePodQOS`: pod-level resources count alone where they are
/// given, else all regular and init containers; ephemeral ones never.
pub fn pod_qos(pod: &Pod) -> QosClass {
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    let mut bounded = true;
    let mut consider = |resources: Option<&ResourceRequirements>, limits_needed: bool| {
        let own = |list: Option<&std::collections::BTreeMap<_, _>>| {
            let mut own = list.map(amounts).unwrap_or_default();
            own.retain(|name, amount| {
                matches!(name.as_str(), "cpu" | "memory")
                    && !amount.is_zero()
                    && !amount.is_negative()
            });
            own
        };
        let own_requests = own(resources.and_then(|resources| resources.requests.as_ref()));
        let own_limits = own(resources.and_then(|resources| resources.limits.as_ref()));
        bounded &= !limits_needed || own_limits.len() == 2;
        for (sum, own) in [(&mut requests, own_requests), (&mut limits, own_limits)] {
            for (name, amount) in own {
                let entry = sum.entry(name).or_default();
                *entry = entry.plus(amount);
            }
        }
    };
    if let Some(resources) = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref()) {
        let has_limits = resources
            .limits
            .as_ref()
            .is_some_and(|limits| !limits.is_empty());
        consider(Some(resources), has_limits);
    } else {
        for container in spec::containers(pod)
            .iter()
            .chain(spec::init_containers(pod))
        {
            consider(container.resources.as_ref(), true);
        }
    }
    if requests.is_empty() && limits.is_empty() {
        QosClass::BestEffort
    } else if bounded && requests == limits {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Container;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;

    fn resources(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> ResourceRequirements {
        let map = |list: &[(&str, &str)]| {
            Some(
                list.iter()
                    .map(|(n, q)| ((*n).to_owned(), Quantity((*q).to_owned())))
                    .collect(),
            )
        };
        ResourceRequirements {
            requests: map(requests),
            limits: map(limits),
            ..Default::default()
        }
    }

    fn pod(containers: &[ResourceRequirements]) -> Pod {
        let mut pod = Pod::default();
        pod.spec.get_or_insert_default().containers = containers
            .iter()
            .map(|r| Container {
                resources: Some(r.clone()),
                ..Default::default()
            })
            .collect();
        pod
    }

    #[test]
    fn stat_21_classes() {
        let full = [("cpu", "1"), ("memory", "1Gi")];
        let cases = [
            (vec![resources(&[], &[])], QosClass::BestEffort),
            (vec![resources(&[("cpu", "0")], &[])], QosClass::BestEffort),
            (
                vec![resources(&[("nvidia.com/gpu", "1")], &[])],
                QosClass::BestEffort,
            ),
            (vec![resources(&full, &full)], QosClass::Guaranteed),
            (
                vec![resources(&[("cpu", "1000m"), ("memory", "1024Mi")], &full)],
                QosClass::Guaranteed,
            ),
            (
                vec![resources(&full, &full), resources(&[], &[])],
                QosClass::Burstable,
            ),
            (vec![resources(&[], &full)], QosClass::Burstable),
            (vec![resources(&[("cpu", "1")], &full)], QosClass::Burstable),
            (
                vec![resources(&[("cpu", "1")], &[("cpu", "1")])],
                QosClass::Burstable,
            ),
        ];
        for (containers, class) in cases {
            assert_eq!(pod_qos(&pod(&containers)), class, "{containers:?}");
        }
    }

    #[test]
    fn stat_21_pod_level_resources_count_alone() {
        let full = [("cpu", "1"), ("memory", "1Gi")];
        let mut pod = pod(&[resources(&[], &[])]);
        pod.spec.as_mut().unwrap().resources = Some(resources(&full, &full));
        assert_eq!(pod_qos(&pod), QosClass::Guaranteed);
    }
}
