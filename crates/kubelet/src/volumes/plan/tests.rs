use k8s_openapi::{
    api::core::v1::{
        ConfigMapVolumeSource, HostPathVolumeSource, ImageVolumeSource, NFSVolumeSource, PodSpec,
        ResourceRequirements, VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use proptest::prelude::*;

use super::{super::testing::NoObjects, *};

const BOUNDS: MemoryBounds = MemoryBounds {
    allocatable_bytes: 1000,
    pod_limit_bytes: None,
};

fn planned_for(pod: &Pod, volume: &Volume) -> Result<VolumePlan, PlanError> {
    let given = Given {
        pod,
        bounds: BOUNDS,
        allocatable: &Allocatable::default(),
        objects: &NoObjects,
        image_volumes: ImageVolumes::Disabled,
    };
    plan(volume, &given)
}

fn planned(volume: &Volume) -> Result<VolumePlan, PlanError> {
    planned_for(&Pod::default(), volume)
}

fn volume(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        ..Volume::default()
    }
}

fn memory(limit: Option<&str>) -> Volume {
    Volume {
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: limit.map(|limit| Quantity(limit.to_owned())),
        }),
        ..volume("v")
    }
}

fn container(mounts: &[&str]) -> Container {
    Container {
        volume_mounts: Some(
            mounts
                .iter()
                .map(|name| VolumeMount {
                    name: (*name).to_owned(),
                    ..VolumeMount::default()
                })
                .collect(),
        ),
        ..Container::default()
    }
}

#[test]
fn only_volumes_that_a_container_mounts_are_prepared() {
    let pod = Pod {
        spec: Some(PodSpec {
            volumes: Some(vec![volume("a"), volume("unused"), volume("b")]),
            init_containers: Some(vec![container(&["b"])]),
            containers: vec![container(&["a"]), container(&["a", "undeclared"])],
            ..PodSpec::default()
        }),
        ..Pod::default()
    };
    let names: Vec<_> = mounted(&pod)
        .into_iter()
        .map(|volume| &*volume.name)
        .collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn each_source_has_its_plan() {
    assert_eq!(planned(&volume("v")), Ok(VolumePlan::EmptyDir));
    assert_eq!(
        planned(&memory(Some("500"))),
        Ok(VolumePlan::MemoryDir { size_bytes: 500 })
    );
    assert_eq!(
        planned(&memory(None)),
        Ok(VolumePlan::MemoryDir { size_bytes: 1000 })
    );
    let host = Volume {
        host_path: Some(HostPathVolumeSource {
            path: "/data".to_owned(),
            type_: None,
        }),
        ..volume("v")
    };
    assert_eq!(
        planned(&host),
        Ok(VolumePlan::HostPath {
            path: "/data".to_owned(),
            kind: String::new()
        })
    );
    let refused = |volume: Volume| planned(&volume).unwrap_err().to_string();
    let config = Volume {
        config_map: Some(ConfigMapVolumeSource {
            name: "c".to_owned(),
            ..ConfigMapVolumeSource::default()
        }),
        ..volume("v")
    };
    assert_eq!(refused(config), "configmap \"c\" not found");
    let nfs = Volume {
        nfs: Some(NFSVolumeSource::default()),
        ..volume("v")
    };
    assert!(refused(nfs).starts_with("no volume plugin matched: volumes of type nfs "));
    let image = Volume {
        image: Some(ImageVolumeSource::default()),
        ..volume("v")
    };
    assert!(refused(image).contains("ImageVolume"));
}

#[test]
fn unknown_medium_is_named() {
    let mut odd = memory(None);
    odd.empty_dir.as_mut().unwrap().medium = Some("Disk".to_owned());
    assert!(
        planned(&odd)
            .unwrap_err()
            .to_string()
            .starts_with("unknown storage medium \"Disk\"")
    );
}

#[test]
fn tmpfs_without_a_known_size_gets_the_kernels() {
    assert_eq!(tmpfs_options(4096, Swap::Forbidden).size_bytes, Some(4096));
    assert_eq!(tmpfs_options(0, Swap::Allowed).size_bytes, None);
}

#[test]
fn vol_12_pages_are_the_mediums_or_the_only_ones_asked_for() {
    let pod = |sizes: &[&str]| {
        let requests = sizes
            .iter()
            .map(|size| (format!("hugepages-{size}"), Quantity("4Mi".to_owned())))
            .collect();
        let container = Container {
            resources: Some(ResourceRequirements {
                requests: Some(requests),
                ..ResourceRequirements::default()
            }),
            ..Container::default()
        };
        Pod {
            spec: Some(PodSpec {
                containers: vec![container],
                ..PodSpec::default()
            }),
            ..Pod::default()
        }
    };
    let of = |sizes: &[&str], medium: &str| {
        let mut volume = memory(None);
        volume.empty_dir.as_mut().unwrap().medium = Some(medium.to_owned());
        planned_for(&pod(sizes), &volume).map_err(|error| error.to_string())
    };
    let pages = |page_bytes| Ok(VolumePlan::HugePages { page_bytes });
    assert_eq!(of(&["2Mi"], "HugePages"), pages(2 << 20));
    assert_eq!(of(&["2Mi", "1Gi"], "HugePages-1Gi"), pages(1 << 30));
    assert_eq!(
        of(&["2Mi", "1Gi"], "HugePages").unwrap_err(),
        "medium: HugePages can't be used if container requests multiple huge page sizes"
    );
    for (sizes, medium) in [(&[][..], "HugePages"), (&["2Mi"], "HugePages-1Gi")] {
        assert_eq!(
            of(sizes, medium).unwrap_err(),
            format!(
                "medium {medium}: hugePages storage requested, but there is no resource request for huge pages"
            )
        );
    }
}

proptest! {
    #[test]
    fn memory_size_never_exceeds_any_bound_that_is_set(
        allocatable in 1..u64::MAX,
        pod in proptest::option::of(any::<u64>()),
        limit in proptest::option::of(any::<u64>()),
    ) {
        let bounds = MemoryBounds { allocatable_bytes: allocatable, pod_limit_bytes: pod };
        let size = memory_size(bounds, limit);
        prop_assert!(size > 0 && size <= allocatable);
        for bound in [pod, limit].into_iter().flatten().filter(|bound| *bound > 0) {
            prop_assert!(size <= bound);
        }
    }
}
