use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use k8s_openapi::api::core::v1::{PodSecurityContext, VolumeMount};
use kubelet_core::downward::Allocatable;
use node_os::{
    host_view::HostView,
    mounts::{Access, Depth, KernelMounts, Mounts as _, Swap, Unmount},
};

use super::{testing::*, *};
use crate::pod_dirs::PodDirs;

fn container_with_sub_path(volume: &str, sub_path: &str) -> Container {
    Container {
        name: "main".to_owned(),
        volume_mounts: Some(vec![VolumeMount {
            name: volume.to_owned(),
            sub_path: Some(sub_path.to_owned()),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

#[tokio::test]
async fn plain_volume_is_open_to_every_user_and_keeps_its_content() {
    let node = node();
    let pod = pod(vec![empty_dir("data", None)]);
    let prepared = node.volumes.prepare(&pod, None, &NoObjects).await.unwrap();
    let path = &prepared["data"].path;
    assert!(path.ends_with("pods/uid/volumes/kubernetes.io~empty-dir/data"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(path), 0o777);
    let of_plugin = path.parent().unwrap();
    assert_eq!(mode(of_plugin), 0o755);
    assert_eq!(mode(of_plugin.parent().unwrap()), 0o750);
    assert!(
        node.dirs
            .pod("uid")
            .join("plugins/kubernetes.io~empty-dir/data/ready")
            .exists()
    );
    fs::write(path.join("file"), "x").unwrap();
    assert_eq!(
        node.volumes.prepare(&pod, None, &NoObjects).await.unwrap(),
        prepared
    );
    assert!(path.join("file").exists());
    assert!(node.mounts.log().is_empty());
}

#[tokio::test]
async fn memory_volume_is_mounted_once_and_again_after_a_reboot() {
    let node = node();
    let pod = pod(vec![empty_dir("mem", Some("Memory"))]);
    for _ in 0..2 {
        node.volumes
            .prepare(&pod, Some(4096), &NoObjects)
            .await
            .unwrap();
    }
    assert_eq!(node.mounts.log(), ["tmpfs 4096 Forbidden"]);
    node.mounts.table.lock().unwrap().clear();
    node.volumes
        .prepare(&pod, Some(4096), &NoObjects)
        .await
        .unwrap();
    assert_eq!(node.mounts.log().len(), 2);
}

#[tokio::test]
async fn memory_volume_that_no_container_would_see_is_refused() {
    let node = node_seen(Visibility::Private);
    let pod = pod(vec![empty_dir("mem", Some("Memory"))]);
    let error = node
        .volumes
        .prepare(&pod, None, &NoObjects)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("MountVolume.SetUp failed for volume \"mem\" : emptyDir"),
        "{error}"
    );
}

#[tokio::test]
async fn failed_volumes_are_named_and_do_not_stop_the_others() {
    let node = node();
    let file = node.directory.path().join("file");
    fs::write(&file, "").unwrap();
    let pod = pod(vec![
        host_path("wrong", &file, "Directory"),
        empty_dir("odd", Some("Disk")),
        empty_dir("good", None),
    ]);
    let VolumeError::SetUp(failures) = node
        .volumes
        .prepare(&pod, None, &NoObjects)
        .await
        .unwrap_err()
    else {
        panic!("not a set-up error");
    };
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts[0],
        format!(
            "MountVolume.SetUp failed for volume \"wrong\" : hostPath type check failed: {} is \
             not a directory",
            file.display()
        )
    );
    assert!(texts[1].contains("unknown storage medium \"Disk\""));
    assert!(
        node.dirs
            .volumes_of("uid", "kubernetes.io/empty-dir")
            .join("good")
            .is_dir()
    );
}

#[tokio::test]
async fn group_of_the_pod_owns_its_volume() {
    let node = node();
    let mut pod = pod(vec![empty_dir("data", None)]);
    let own = own_gid(node.directory.path());
    pod.spec.as_mut().unwrap().security_context = Some(PodSecurityContext {
        fs_group: Some(i64::from(own)),
        ..PodSecurityContext::default()
    });
    let prepared = node.volumes.prepare(&pod, None, &NoObjects).await.unwrap();
    let mode = fs::metadata(&prepared["data"].path)
        .unwrap()
        .permissions()
        .mode()
        & 0o7777;
    assert_eq!(mode, 0o2777);
}

/// A group that this process may give files to: its own.
fn own_gid(path: &Path) -> u32 {
    std::os::unix::fs::MetadataExt::gid(&fs::metadata(path).unwrap())
}

#[tokio::test]
async fn sub_path_is_pinned_by_a_mount_made_once() {
    let node = node();
    let pod = pod(vec![empty_dir("data", None)]);
    let prepared = node.volumes.prepare(&pod, None, &NoObjects).await.unwrap();
    let container = container_with_sub_path("data", "a/b");
    let paths = node
        .volumes
        .mount_paths(&pod, &container, &prepared, &BTreeMap::new())
        .await
        .unwrap();
    assert_eq!(paths, [node.dirs.subpaths("uid").join("data/main/0")]);
    let source = prepared["data"].path.join("a/b");
    assert_eq!(node.mounts.log(), [format!("bind {}", source.display())]);
}

#[tokio::test]
async fn sub_path_out_of_its_volume_is_refused_without_telling_where_to() {
    let node = node();
    let host = node.directory.path().join("host");
    fs::create_dir(&host).unwrap();
    symlink("/etc", host.join("link")).unwrap();
    fs::create_dir(host.join("real")).unwrap();
    symlink(host.join("real"), host.join("inside")).unwrap();
    let pod = pod(vec![host_path("host", &host, "")]);
    let prepared = node.volumes.prepare(&pod, None, &NoObjects).await.unwrap();
    let resolve = async |path| {
        let container = container_with_sub_path("host", path);
        node.volumes
            .mount_paths(&pod, &container, &prepared, &BTreeMap::new())
            .await
    };
    assert_eq!(
        resolve("link/passwd").await.unwrap_err().to_string(),
        "failed to prepare subPath for volumeMount \"host\" of container \"main\""
    );
    resolve("inside/deep").await.unwrap();
    assert!(host.join("real/deep").is_dir());
}

/// Kubernetes kubelet, `makeMounts`: the mode of the volume is asked for, and that error is shown as it is.
#[tokio::test]
async fn vol_60_sub_path_of_a_host_path_that_is_not_there_says_so() {
    let node = node();
    let host = node.directory.path().join("nope");
    let pod = pod(vec![host_path("host", &host, "")]);
    let prepared = node.volumes.prepare(&pod, None, &NoObjects).await.unwrap();
    let container = container_with_sub_path("host", "a");
    let variables = BTreeMap::new();
    let resolve = async || {
        let mounted = node
            .volumes
            .mount_paths(&pod, &container, &prepared, &variables);
        mounted.await.unwrap_err().to_string()
    };
    let message = format!("stat {}: no such file or directory", host.display());
    assert_eq!(resolve().await, message);
    symlink("nothing", &host).unwrap();
    assert_eq!(resolve().await, message);
    fs::remove_file(&host).unwrap();
    fs::write(&host, "").unwrap();
    assert_eq!(
        resolve().await,
        "failed to prepare subPath for volumeMount \"host\" of container \"main\""
    );
}

#[tokio::test]
async fn sub_path_is_passed_resolved_where_mounts_are_not_seen() {
    let node = node_seen(Visibility::Private);
    let pod = pod(vec![empty_dir("data", None)]);
    let prepared = node.volumes.prepare(&pod, None, &NoObjects).await.unwrap();
    let volume = &prepared["data"].path;
    fs::create_dir(volume.join("v1")).unwrap();
    symlink("v1", volume.join("current")).unwrap();
    let container = container_with_sub_path("data", "current");
    let paths = node
        .volumes
        .mount_paths(&pod, &container, &prepared, &BTreeMap::new())
        .await
        .unwrap();
    assert_eq!(paths, [volume.join("v1")]);
}

#[tokio::test]
async fn mount_of_an_unknown_volume_is_a_configuration_error() {
    let node = node();
    let container = container_with_sub_path("data", "");
    let error = node
        .volumes
        .mount_paths(&pod(vec![]), &container, &BTreeMap::new(), &BTreeMap::new())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot find volume \"data\" to mount into container \"main\""
    );
}

#[tokio::test]
async fn teardown_leaves_nothing_and_may_be_repeated() {
    let node = node();
    let host = node.directory.path().join("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("precious"), "x").unwrap();
    let pod = pod(vec![
        empty_dir("data", None),
        empty_dir("mem", Some("Memory")),
        host_path("host", &host, ""),
    ]);
    let prepared = node.volumes.prepare(&pod, None, &NoObjects).await.unwrap();
    fs::write(prepared["data"].path.join("file"), "x").unwrap();
    let container = container_with_sub_path("data", "a");
    node.volumes
        .mount_paths(&pod, &container, &prepared, &BTreeMap::new())
        .await
        .unwrap();
    node.dirs.ensure_pod("uid").unwrap();
    for _ in 0..2 {
        node.volumes.teardown("uid").await.unwrap();
    }
    assert!(node.mounts.table.lock().unwrap().is_empty());
    assert!(!prepared["data"].path.exists());
    assert!(!node.dirs.subpaths("uid").exists());
    assert!(host.join("precious").exists());
    node.dirs.remove_pod("uid").unwrap();
}

#[tokio::test]
async fn foreign_mount_in_a_pod_stops_every_deletion() {
    let node = node();
    let pod = pod(vec![empty_dir("data", None)]);
    let prepared = node.volumes.prepare(&pod, None, &NoObjects).await.unwrap();
    fs::write(prepared["data"].path.join("file"), "x").unwrap();
    let foreign = node.dirs.volumes("uid").join("kubernetes.io~nfs/share");
    node.mounts.add(&foreign, "nfs");
    let error = node.volumes.teardown("uid").await.unwrap_err();
    assert!(matches!(error, VolumeError::StillMounted { path } if path == foreign));
    assert!(prepared["data"].path.join("file").exists());
}

#[tokio::test]
async fn mounts_that_a_container_left_in_its_volume_are_unmounted_first() {
    let node = node();
    let pod = pod(vec![empty_dir("data", None)]);
    let prepared = node.volumes.prepare(&pod, None, &NoObjects).await.unwrap();
    node.mounts.add(&prepared["data"].path.join("left"), "ext4");
    node.volumes.teardown("uid").await.unwrap();
    assert!(!prepared["data"].path.exists());
}

#[tokio::test]
async fn root_directory_may_lead_through_a_link() {
    let node = node();
    let real = node.directory.path().join("real");
    fs::create_dir(&real).unwrap();
    symlink(&real, node.directory.path().join("kubelet")).unwrap();
    let pod = pod(vec![
        empty_dir("mem", Some("Memory")),
        empty_dir("data", None),
    ]);
    for _ in 0..2 {
        node.volumes.prepare(&pod, None, &NoObjects).await.unwrap();
    }
    assert_eq!(node.mounts.log().len(), 1, "mounted once");
    node.volumes.teardown("uid").await.unwrap();
    assert!(node.mounts.table.lock().unwrap().is_empty());
    assert!(
        !real
            .join("pods/uid/volumes/kubernetes.io~empty-dir")
            .exists()
    );
}

#[tokio::test]
async fn pods_that_are_gone_are_found_and_removed() {
    let node = node();
    for uid in ["kept", "gone"] {
        node.dirs.ensure_pod(uid).unwrap();
    }
    let known = BTreeSet::from(["kept".to_owned()]);
    assert_eq!(node.volumes.orphans(known).await.unwrap(), ["gone"]);
    node.volumes.remove_orphan("gone").await.unwrap();
    assert_eq!(node.dirs.pods_on_disk().unwrap(), ["kept"]);
}

/// Mounts of the kernel, taken off again even when the test fails.
struct KernelNode {
    directory: tempfile::TempDir,
}

impl Drop for KernelNode {
    fn drop(&mut self) {
        drop(KernelMounts.unmount_below(self.directory.path(), Unmount::Lazy));
    }
}

#[tokio::test]
async fn kernel_mounts_a_volume_and_its_sub_path_and_loses_both() {
    let node = KernelNode {
        directory: tempfile::tempdir().unwrap(),
    };
    let root = node.directory.path().canonicalize().unwrap();
    let dirs = PodDirs::new(root.join("kubelet"), root.join("logs"));
    let volumes = Volumes::new(VolumesConfig {
        dirs: dirs.clone(),
        host: HostView::identity(),
        visibility: Visibility::Shared,
        mounts: Arc::new(KernelMounts),
        allocatable: Allocatable {
            memory_bytes: 1 << 20,
            ..Allocatable::default()
        },
        image_volumes: ImageVolumes::Disabled,
        tmpfs_swap: Swap::Allowed,
    });
    let pod = pod(vec![
        empty_dir("mem", Some("Memory")),
        empty_dir("data", None),
    ]);
    let prepared = match volumes.prepare(&pod, None, &NoObjects).await {
        Ok(prepared) => prepared,
        Err(error) => {
            let missing = Some(error.to_string());
            assert!(!testkit::prerequisite("root", missing));
            return;
        }
    };
    volumes.prepare(&pod, None, &NoObjects).await.unwrap();
    let mode = fs::metadata(&prepared["mem"].path)
        .unwrap()
        .permissions()
        .mode()
        & 0o7777;
    assert_eq!(mode, 0o1777);

    let data = &prepared["data"].path;
    fs::create_dir(data.join("real")).unwrap();
    fs::write(data.join("real/file"), "content").unwrap();
    symlink("real", data.join("link")).unwrap();
    let container = container_with_sub_path("data", "link/file");
    for _ in 0..2 {
        let paths = volumes
            .mount_paths(&pod, &container, &prepared, &BTreeMap::new())
            .await
            .unwrap();
        assert_eq!(fs::read_to_string(&paths[0]).unwrap(), "content");
    }
    let below = || {
        let list = KernelMounts.list().unwrap();
        list.into_iter()
            .filter(|mount| mount.mount_point.starts_with(&root))
            .count()
    };
    assert_eq!(below(), 2, "each mounted once");

    // A mount that is not ours keeps everything where it is.
    let foreign = dirs.volumes("uid").join("kubernetes.io~nfs/share");
    fs::create_dir_all(&foreign).unwrap();
    KernelMounts
        .bind(data, &foreign, Depth::Single, Access::ReadWrite)
        .unwrap();
    assert!(matches!(
        volumes.teardown("uid").await,
        Err(VolumeError::StillMounted { path }) if path == foreign
    ));
    assert_eq!(
        fs::read_to_string(foreign.join("real/file")).unwrap(),
        "content"
    );
    KernelMounts.unmount(&foreign, Unmount::Strict).unwrap();
    volumes.remove_orphan("uid").await.unwrap();
    assert_eq!(below(), 0);
    assert!(!dirs.pod("uid").exists());
}
