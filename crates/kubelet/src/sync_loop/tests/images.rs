//! Images that are volumes (VOL-34).

use cri_api::Code;
use k8s_openapi::api::core::v1::{ImageVolumeSource, Volume, VolumeMount};

use super::*;

const MOUNTED: &str = "registry.invalid/mounted:1";
const SPARE: &str = "registry.invalid/spare:1";

/// Two containers mount one image, and none the other.
fn with_images() -> Pod {
    let mut pod = pod("a", "1", "Always");
    let spec = pod.spec.as_mut().unwrap();
    let volume = |name: &str, image: &str| Volume {
        name: name.to_owned(),
        image: Some(ImageVolumeSource {
            reference: Some(image.to_owned()),
            pull_policy: Some("IfNotPresent".to_owned()),
        }),
        ..Volume::default()
    };
    spec.volumes = Some(vec![volume("spare", SPARE), volume("mounted", MOUNTED)]);
    spec.containers[0].volume_mounts = Some(vec![VolumeMount {
        name: "mounted".to_owned(),
        mount_path: "/mnt".to_owned(),
        ..VolumeMount::default()
    }]);
    let mut second = spec.containers[0].clone();
    second.name = "a-second".to_owned();
    spec.containers.push(second);
    pod
}

fn pulled(bench: &Bench) -> Vec<String> {
    let calls = bench.fake.calls().into_iter();
    let pulls = calls.filter(|record| record.call == Call::PullImage);
    pulls.map(|record| record.object).collect()
}

/// Kubernetes, `getImageVolumes`: all volumes of the pod, before any container.
#[tokio::test(start_paused = true)]
async fn vol_34_images_of_all_volumes_are_pulled_once() {
    let bench = Bench::start(&[with_images()], ROOM);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("1"), "Running");
    assert_eq!(pulled(&bench), [SPARE, MOUNTED, IMAGE]);
    let told = bench.life.told.events();
    let of = |image: &str| {
        let named = told
            .iter()
            .filter(|seen| seen.event.message.contains(image));
        named
            .map(|seen| seen.event.reason.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(MOUNTED), ["Pulling", "Pulled"]);
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn vol_34_only_who_mounts_an_image_waits_for_it() {
    let bench = Bench::start(&[], ROOM);
    bench.fake.refuse_pull(SPARE, Code::NotFound, "gone");
    bench.sets.send_replace(set(&[with_images()]));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("1"), "Running");
    bench.life.end().await;

    let bench = Bench::start(&[], ROOM);
    bench.fake.refuse_pull(MOUNTED, Code::NotFound, "gone");
    bench.sets.send_replace(set(&[with_images()]));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("1"), "Pending");
    let containers = bench.status("1").container_statuses.unwrap();
    for status in containers {
        let waiting = status.state.unwrap().waiting.unwrap();
        let reason = waiting.reason.unwrap();
        assert!(
            matches!(&*reason, "ErrImagePull" | "ImagePullBackOff"),
            "{reason}"
        );
    }
    assert!(bench.fake.containers().is_empty());
    bench.life.end().await;
}
