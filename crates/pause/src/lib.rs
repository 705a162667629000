//! The pause program and an image that holds it (PAU-01..08, DEC-44).
//!
//! Every pod sandbox is one container whose only process is pause: it keeps the pod's namespaces
//! alive, reaps orphans where the PID namespace is shared, and ends at once when told to. The
//! program is `src/pause.rs`, compiled by `build.rs` and embedded here, so that a node needs no
//! registry for its sandboxes (NODE-31).

mod tar;

use std::fmt::Write as _;

use serde_json::json;
use sha2::{Digest, Sha256};

/// The pause program: a static executable of a few KB for the architecture of this build.
pub const PAUSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// Label key of the image that [`image_tar`] makes: it tells our own pause image from a pulled one.
pub const IMAGE_LABEL: &str = "io.berth.built-in";

/// A fixed time, so that equal programs make equal images.
const CREATED: &str = "2025-01-01T00:00:00Z";

/// The pause image as `docker load` takes it, tagged `reference`, which is a name with a tag
/// (`registry.k8s.io/pause:3.9`).
///
/// The image id depends on the program alone: same build, same id. Entry point `/pause`, user
/// `65535:65535` (PAU-05), one layer, no shell.
pub fn image_tar(reference: &str) -> Vec<u8> {
    let layer = tar::archive(&[tar::Entry {
        path: "pause",
        mode: 0o755,
        data: PAUSE,
    }]);
    let layer_digest = sha256_hex(&layer);
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "created": CREATED,
        "config": {
            "User": "65535:65535",
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": ["/pause"],
            "WorkingDir": "/",
            "Labels": {
                IMAGE_LABEL: "pause",
                "org.opencontainers.image.title": "pause",
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        "history": [{ "created": CREATED, "created_by": "berth: built-in pause" }],
    })
    .to_string();
    let config_path = format!("{}.json", sha256_hex(config.as_bytes()));
    let layer_path = format!("{layer_digest}.tar");
    let manifest = json!([{
        "Config": config_path,
        "RepoTags": [reference],
        "Layers": [layer_path],
    }])
    .to_string();
    tar::archive(&[
        tar::Entry {
            path: &config_path,
            mode: 0o644,
            data: config.as_bytes(),
        },
        tar::Entry {
            path: &layer_path,
            mode: 0o644,
            data: &layer,
        },
        tar::Entry {
            path: "manifest.json",
            mode: 0o644,
            data: manifest.as_bytes(),
        },
    ])
}

/// The architecture's name in image configurations, which is Go's.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn sha256_hex(data: &[u8]) -> String {
    Sha256::digest(data)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and contents of an archive that [`tar::archive`] made.
    fn entries(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut rest = archive;
        let mut found = Vec::new();
        while rest[0] != 0 {
            let name = rest[..100].split(|byte| *byte == 0).next().unwrap();
            let size = std::str::from_utf8(&rest[124..135]).unwrap();
            let size = usize::from_str_radix(size, 8).unwrap();
            found.push((
                String::from_utf8_lossy(name).into_owned(),
                rest[512..512 + size].to_vec(),
            ));
            rest = &rest[512 + size.next_multiple_of(512)..];
        }
        assert_eq!(rest.len(), 1024, "two empty blocks end an archive");
        found
    }

    #[test]
    fn image_is_small_and_equal_each_time() {
        let first = image_tar("registry.k8s.io/pause:3.9");
        assert_eq!(first, image_tar("registry.k8s.io/pause:3.9"));
        assert!(PAUSE.len() < 8 * 1024, "pause has {} bytes", PAUSE.len());
        assert!(
            first.len() < 24 * 1024,
            "the image has {} bytes",
            first.len()
        );
    }

    #[test]
    fn another_tag_is_the_same_image() {
        let config = |tag| entries(&image_tar(tag)).swap_remove(0);
        assert_eq!(
            config("registry.k8s.io/pause:3.9"),
            config("example.org/mine:1")
        );
    }

    #[test]
    fn manifest_names_config_layer_and_tag() {
        let entries = entries(&image_tar("registry.k8s.io/pause:3.9"));
        let file = |name: &str| &entries.iter().find(|(n, _)| n == name).expect("listed").1;
        let manifest: serde_json::Value = serde_json::from_slice(file("manifest.json")).unwrap();
        assert_eq!(
            manifest[0]["RepoTags"],
            json!(["registry.k8s.io/pause:3.9"])
        );
        let config_path = manifest[0]["Config"].as_str().unwrap();
        assert_eq!(
            config_path,
            format!("{}.json", sha256_hex(file(config_path)))
        );
        let config: serde_json::Value = serde_json::from_slice(file(config_path)).unwrap();
        assert_eq!(config["config"]["Entrypoint"], json!(["/pause"]));
        assert_eq!(config["config"]["User"], "65535:65535");
        assert_eq!(config["config"]["Labels"][IMAGE_LABEL], "pause");
        let layer = file(manifest[0]["Layers"][0].as_str().unwrap());
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            format!("sha256:{}", sha256_hex(layer))
        );
        assert_eq!(
            super::tests::entries(layer),
            [("pause".to_owned(), PAUSE.to_vec())]
        );
    }
}
