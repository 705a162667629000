//! Volumes with content of the kubelet's, images, and files of variables.

use std::fs;

use k8s_openapi::api::core::v1::{
    DownwardAPIProjection, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EnvVar, EnvVarSource,
    FileKeySelector, ImageVolumeSource, ObjectFieldSelector, ProjectedVolumeSource,
    SecretVolumeSource, VolumeMount, VolumeProjection,
};
use kubelet_core::env::EnvFile;

use super::{
    testing::{NoObjects, empty_dir, host_path, node, node_seen, pod},
    *,
};

fn files() -> Vec<DownwardAPIVolumeFile> {
    let file = |path: &str, field: &str| DownwardAPIVolumeFile {
        field_ref: Some(ObjectFieldSelector {
            api_version: None,
            field_path: field.to_owned(),
        }),
        path: path.to_owned(),
        ..DownwardAPIVolumeFile::default()
    };
    vec![
        file("uid", "metadata.uid"),
        file("notes/all", "metadata.annotations"),
    ]
}

fn downward(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        downward_api: Some(DownwardAPIVolumeSource {
            default_mode: Some(0o644),
            items: Some(files()),
        }),
        ..Volume::default()
    }
}

fn projected(name: &str) -> Volume {
    let source = VolumeProjection {
        downward_api: Some(DownwardAPIProjection {
            items: Some(files()),
        }),
        ..VolumeProjection::default()
    };
    Volume {
        name: name.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o400),
            sources: Some(vec![source]),
        }),
        ..Volume::default()
    }
}

fn annotate(pod: &mut Pod, value: &str) {
    pod.metadata.annotations = Some(BTreeMap::from([("a".to_owned(), value.to_owned())]));
}

#[tokio::test]
async fn vol_50_content_follows_the_pod() {
    let node = node();
    let mut pod = pod(vec![downward("d"), projected("p"), empty_dir("e", None)]);
    annotate(&mut pod, "one");
    let prepared = node
        .volumes
        .prepare(&pod, Some(4096), &NoObjects)
        .await
        .unwrap();
    let (d, p) = (&prepared["d"], &prepared["p"]);
    assert!(
        d.path
            .ends_with("pods/uid/volumes/kubernetes.io~downward-api/d")
    );
    assert!(
        p.path
            .ends_with("pods/uid/volumes/kubernetes.io~projected/p")
    );
    assert!(d.kind.is_own() && d.kind.is_read_only());
    let marks = node.dirs.notes_of("uid", "kubernetes.io/empty-dir");
    assert!(marks.join("wrapped_d/ready").exists() && marks.join("e/ready").exists());
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    assert_eq!(read(&d.path.join("uid")), "uid");
    assert_eq!(read(&p.path.join("notes/all")), "a=\"one\"");

    annotate(&mut pod, "two");
    node.volumes
        .refresh(&pod, Some(4096), &NoObjects)
        .await
        .unwrap();
    assert_eq!(read(&d.path.join("notes/all")), "a=\"two\"");
    assert_eq!(
        node.mounts.log(),
        ["tmpfs 4096 Forbidden", "tmpfs 4096 Forbidden"],
        "each mounted once"
    );
    node.volumes.teardown("uid").await.unwrap();
    assert!(!d.path.exists() && !p.path.exists());
    node.dirs.remove_pod("uid").unwrap();
}

/// One key in every Secret.
struct OneSecret;
impl Objects for OneSecret {
    fn config_map(&self, _name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        None
    }

    fn secret(&self, _name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        Some(BTreeMap::from([("k".to_owned(), vec![1])]))
    }
}

#[tokio::test]
async fn content_that_is_no_secret_is_on_disk_where_mounts_are_not_seen() {
    let node = node_seen(Visibility::Private);
    let good = pod(vec![downward("d")]);
    let prepared = node.volumes.prepare(&good, None, &NoObjects).await.unwrap();
    assert!(prepared["d"].path.join("uid").exists());
    assert!(node.mounts.log().is_empty());

    let secret = Volume {
        name: "s".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some("s".to_owned()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let secret = pod(vec![secret]);
    let error = node
        .volumes
        .prepare(&secret, None, &OneSecret)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"s\" : secret: mounts made by this kubelet"),
        "{error}"
    );
}

#[tokio::test]
async fn vol_34_image_is_passed_on_with_the_part_that_is_asked_for() {
    let node = node();
    let image = Volume {
        name: "i".to_owned(),
        image: Some(ImageVolumeSource {
            pull_policy: Some("Never".to_owned()),
            reference: Some("web:1".to_owned()),
        }),
        ..Volume::default()
    };
    let pod = pod(vec![image]);
    let prepared = node.volumes.prepare(&pod, None, &NoObjects).await.unwrap();
    assert!(prepared["i"].kind.is_read_only() && !prepared["i"].kind.is_own());
    let container = Container {
        volume_mounts: Some(
            ["", "html"]
                .map(|part| VolumeMount {
                    name: "i".to_owned(),
                    sub_path: Some(part.to_owned()),
                    ..VolumeMount::default()
                })
                .into(),
        ),
        ..Container::default()
    };
    let paths = node
        .volumes
        .mount_paths(&pod, &container, &prepared, &BTreeMap::new())
        .await
        .unwrap();
    assert_eq!(paths, [Path::new(""), Path::new("html")]);
    node.volumes.teardown("uid").await.unwrap();
}

#[tokio::test]
async fn spec_33_files_of_variables_are_read_within_their_volume() {
    let node = node();
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("vars"), "A=1").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", host.path().join("link")).unwrap();
    std::os::unix::fs::symlink("/../vars", host.path().join("inside")).unwrap();
    let pod = pod(vec![host_path("h", host.path(), "Directory")]);
    let prepared = node.volumes.prepare(&pod, None, &NoObjects).await.unwrap();
    let variable = |volume: &str, path: &str| EnvVar {
        name: "X".to_owned(),
        value_from: Some(EnvVarSource {
            file_key_ref: Some(FileKeySelector {
                key: "A".to_owned(),
                path: path.to_owned(),
                volume_name: volume.to_owned(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let container = Container {
        env: Some(vec![
            variable("h", "vars"),
            variable("h", "/vars"),
            variable("h", "//./vars"),
            variable("h", "inside"),
            variable("h", "/etc/passwd"),
            variable("h", "/"),
            variable("h", "link"),
            variable("h", "."),
            variable("none", "vars"),
        ]),
        ..Container::default()
    };
    let EnvFiles::Read(files) = node.volumes.env_files(&container, &prepared).await else {
        panic!("the gate is not asked here");
    };
    let of = |volume: &str, path: &str| files.get(&(volume.to_owned(), path.to_owned()));
    let vars = EnvFile {
        path: host.path().join("vars"),
        bytes: b"A=1".to_vec(),
    };
    for path in ["vars", "/vars", "//./vars", "inside"] {
        assert_eq!(of("h", path), Some(&Ok(vars.clone())), "{path}");
    }
    for path in ["/etc/passwd", "/", "link", "."] {
        assert_eq!(of("h", path), Some(&Err(EnvError::File)), "{path}");
    }
    assert_eq!(of("none", "vars"), None);
}
