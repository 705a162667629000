//! Docker's images as the CRI shows them (IMG-02, IMG-03, IMG-05, IMG-06). Pure.

use std::collections::BTreeMap;

use cri_api::v1;
use serde_json::json;

use super::reference::names;
use crate::engine::model::{ImageHistory, ImageInspect, ImageSummary};

fn image(
    id: &str,
    tags: &[String],
    digests: &[String],
    size: i64,
    sandbox_image: &str,
) -> v1::Image {
    v1::Image {
        id: id.to_owned(),
        // Differs from upstream, which compares texts: a digest or a short name pins too.
        pinned: names(sandbox_image, id, tags, digests),
        repo_tags: tags.to_vec(),
        repo_digests: digests.to_vec(),
        size: u64::try_from(size).unwrap_or(0),
        ..v1::Image::default()
    }
}

/// An item of ListImages.
pub(super) fn summary(found: &ImageSummary, sandbox_image: &str) -> v1::Image {
    image(
        &found.id,
        &found.repo_tags,
        &found.repo_digests,
        found.size,
        sandbox_image,
    )
}

/// The image of ImageStatus: with the user its containers run as.
pub(super) fn inspect(found: &ImageInspect, sandbox_image: &str) -> v1::Image {
    let mut image = image(
        &found.id,
        &found.repo_tags,
        &found.repo_digests,
        found.size,
        sandbox_image,
    );
    let user = found
        .config
        .as_ref()
        .map_or("", |config| config.user.as_str());
    let user = user.split(':').next().unwrap_or_default();
    match user.parse() {
        Ok(value) => image.uid = Some(v1::Int64Value { value }),
        Err(_) => user.clone_into(&mut image.username),
    }
    image
}

/// The verbose part of ImageStatus: labels and the OCI image configuration.
pub(super) fn info(
    found: &ImageInspect,
    newest_first: &[ImageHistory],
) -> BTreeMap<String, String> {
    let config = found.config.clone().unwrap_or_default();
    let history: Vec<_> = newest_first
        .iter()
        .rev()
        .map(|layer| {
            let created = jiff::Timestamp::from_second(layer.created).unwrap_or_default();
            json!({
                "created": created.to_string(),
                "created_by": layer.created_by,
                "comment": layer.comment,
                "empty_layer": layer.size == 0,
            })
        })
        .collect();
    let spec = json!({
        "created": found.created,
        "author": found.author,
        "architecture": found.architecture,
        "os": found.os,
        "config": {
            "User": config.user,
            "ExposedPorts": config.exposed_ports,
            "Env": config.env,
            "Entrypoint": config.entrypoint,
            "Cmd": config.cmd,
            "Volumes": config.volumes,
            "WorkingDir": config.working_dir,
            "Labels": config.labels,
            "StopSignal": config.stop_signal,
        },
        "rootfs": { "type": found.root_fs.kind, "diff_ids": found.root_fs.layers },
        "history": history,
    });
    let info = json!({ "labels": config.labels, "imageSpec": spec });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::ImageConfig;

    fn found(user: &str) -> ImageInspect {
        ImageInspect {
            id: format!("sha256:{}", "a".repeat(64)),
            repo_tags: vec!["registry.k8s.io/pause:3.9".into()],
            size: 7,
            config: Some(ImageConfig {
                user: user.into(),
                ..ImageConfig::default()
            }),
            ..ImageInspect::default()
        }
    }

    #[test]
    fn user_is_a_number_or_a_name_and_the_group_is_left_out() {
        let shown = |user: &str| {
            let image = inspect(&found(user), "other");
            (image.uid.map(|uid| uid.value), image.username)
        };
        assert_eq!(shown("1002"), (Some(1002), String::new()));
        assert_eq!(shown("1003:users"), (Some(1003), String::new()));
        assert_eq!(shown("www-data:1"), (None, "www-data".into()));
        assert_eq!(shown(""), (None, String::new()));
        let image = inspect(
            &ImageInspect {
                config: None,
                ..found("")
            },
            "other",
        );
        assert_eq!((image.uid, image.username), (None, String::new()));
    }

    #[test]
    fn sandbox_image_is_pinned_under_any_of_its_names() {
        let pinned = |name: &str| inspect(&found(""), name).pinned;
        assert!(pinned("registry.k8s.io/pause:3.9") && pinned(&"a".repeat(64)));
        assert!(!pinned("registry.k8s.io/pause") && !pinned("registry.k8s.io/pause:3.10"));
    }

    #[test]
    fn verbose_answer_is_an_oci_configuration() {
        let layer = |by: &str, size| ImageHistory {
            created_by: by.into(),
            size,
            ..ImageHistory::default()
        };
        let info = info(&found("1"), &[layer("new", 0), layer("old", 5)]);
        let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
        assert_eq!(info["imageSpec"]["config"]["User"], "1");
        assert_eq!(info["imageSpec"]["history"][0]["created_by"], "old");
        assert_eq!(info["imageSpec"]["history"][1]["empty_layer"], true);
    }
}
