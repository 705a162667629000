use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, DownwardAPIProjection, ObjectFieldSelector,
    SecretProjection, SecretVolumeSource, ServiceAccountTokenProjection,
};
use proptest::prelude::*;

use super::*;

struct Two;

impl Objects for Two {
    fn config_map(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        (name == "map").then(|| BTreeMap::from([("k".to_owned(), b"v".to_vec())]))
    }

    fn secret(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        (name == "secret").then(|| BTreeMap::from([("s".to_owned(), vec![0xff])]))
    }
}

fn pod() -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some("web".into());
    pod
}

fn run(volume: &Volume) -> Result<Payload, String> {
    let node = Allocatable::default();
    content(&pod(), volume, &node, &Two).map_err(|error| error.to_string())
}

fn item(key: &str, path: &str, mode: Option<i32>) -> KeyToPath {
    KeyToPath {
        key: key.into(),
        mode,
        path: path.into(),
    }
}

fn name_at(path: &str) -> DownwardAPIVolumeFile {
    DownwardAPIVolumeFile {
        field_ref: Some(ObjectFieldSelector {
            api_version: None,
            field_path: "metadata.name".into(),
        }),
        path: path.into(),
        ..DownwardAPIVolumeFile::default()
    }
}

fn projected(sources: Vec<VolumeProjection>) -> Volume {
    Volume {
        name: "v".into(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o600),
            sources: Some(sources),
        }),
        ..Volume::default()
    }
}

#[test]
fn vol_30_all_keys_or_the_items_with_their_modes() {
    let map = |items: Option<Vec<KeyToPath>>, name: &str, optional| Volume {
        config_map: Some(ConfigMapVolumeSource {
            default_mode: Some(0o640),
            items,
            name: name.into(),
            optional: Some(optional),
        }),
        ..Volume::default()
    };
    let all = run(&map(None, "map", false)).unwrap();
    assert_eq!(
        (all["k"].data.as_slice(), all["k"].mode),
        (&b"v"[..], 0o640)
    );
    let items = vec![item("k", "a/./b", Some(0o400)), item("k", "c", None)];
    let some = run(&map(Some(items), "map", false)).unwrap();
    assert_eq!((some["a/b"].mode, some["c"].mode), (0o400, 0o640));
    let missing = Some(vec![item("x", "x", None)]);
    assert_eq!(
        run(&map(missing.clone(), "map", false)).unwrap_err(),
        "configmap references non-existent config key: x"
    );
    assert!(run(&map(missing, "map", true)).unwrap().is_empty());
    assert_eq!(
        run(&map(None, "none", false)).unwrap_err(),
        "configmap \"none\" not found"
    );
    assert!(run(&map(None, "none", true)).unwrap().is_empty());
    let secret = Volume {
        secret: Some(SecretVolumeSource {
            items: Some(vec![item("x", "x", None)]),
            secret_name: Some("secret".into()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    assert_eq!(
        run(&secret).unwrap_err(),
        "references non-existent secret key: x"
    );
}

#[test]
fn vol_32_later_sources_are_before_earlier_ones_and_all_errors_are_told() {
    let map = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            items: Some(vec![item("k", "same", None)]),
            name: "map".into(),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    let downward = VolumeProjection {
        downward_api: Some(DownwardAPIProjection {
            items: Some(vec![name_at("same"), name_at("dir/name")]),
        }),
        ..VolumeProjection::default()
    };
    let payload = run(&projected(vec![map.clone(), downward.clone()])).unwrap();
    assert_eq!(payload["same"].data, b"web");
    assert_eq!(payload["dir/name"].mode, 0o600);
    let payload = run(&projected(vec![downward, map])).unwrap();
    assert_eq!(payload["same"].data, b"v");

    let token = VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection::default()),
        ..VolumeProjection::default()
    };
    let secret = VolumeProjection {
        secret: Some(SecretProjection {
            name: "none".into(),
            ..SecretProjection::default()
        }),
        ..VolumeProjection::default()
    };
    assert_eq!(
        run(&projected(vec![secret, token])).unwrap_err(),
        "[secret \"none\" not found, cannot setup projected volume v because kube client is not configured: \
         serviceAccountToken comes from the API server]"
    );
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let file = ProjectedFile {
        data: b"hush".to_vec(),
        mode: 0o400,
    };
    assert_eq!(format!("{file:?}"), "ProjectedFile { bytes: 4, mode: 400 }");
}

#[test]
fn vol_55_paths_that_leave_the_volume_are_refused() {
    for bad in [
        "",
        ".",
        "/a",
        "..",
        "a/../b",
        "..data",
        "./..data",
        "..2020",
        &"n".repeat(256),
    ] {
        assert!(clean_path(bad).is_err(), "{bad:?}");
    }
    assert_eq!(clean_path("a//./b/").unwrap(), "a/b");
    assert_eq!(clean_path("a/..b").unwrap(), "a/..b");
    assert_eq!(
        clean_path("...").unwrap_err().to_string(),
        "invalid path: must not start with '..': ..."
    );
}

proptest! {
    #[test]
    fn clean_paths_stay_as_they_are_and_inside(path in "[./a-c]{0,12}") {
        if let Ok(clean) = clean_path(&path) {
            prop_assert_eq!(clean_path(&clean), Ok(clean.clone()));
            prop_assert!(clean.split('/').all(|name| !matches!(name, "" | "." | "..")));
        }
    }
}
