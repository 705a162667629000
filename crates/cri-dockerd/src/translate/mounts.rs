//! Mounts (CTR-04..06).

use cri_api::v1::{Mount, MountPropagation};

use crate::engine::model::{self, BindOptions, ImageOptions};
use crate::engine::{API_IMAGE_MOUNTS, API_RECURSIVE_READ_ONLY, ApiVersion};
use crate::invalid::Invalid;

use super::Facts;

/// `Binds` and `Mounts` of a container, in the order of the request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    pub(super) binds: Vec<String>,
    pub(super) mounts: Vec<model::Mount>,
}

/// Translates mounts whose host paths are the engine's.
///
/// `Binds` is the usual form because upstream uses it and Docker makes missing host directories for
/// it. The long form is taken where `Binds` can't say it: a read-only mount whose submounts stay
/// writable on API 1.44 and newer, a recursive read-only one, and paths with a colon.
///
/// Differs: a read-only mount with `selinux_relabel`, where Docker labels files for SELinux and has API 1.44
/// or newer, is read-only with all that is mounted below it: only `Binds` can have files relabelled, and
/// there such a Docker makes read-only mounts recursive.
pub(super) fn translate(mounts: &[Mount], facts: &Facts) -> Result<Mounts, Invalid> {
    let api = facts.api;
    let mut out = Mounts::default();
    for mount in mounts {
        if let Some(image) = image_of(mount) {
            out.mounts.push(image_mount(mount, image, api)?);
            continue;
        }
        // Without SELinux there is nothing to relabel.
        let relabel = mount.selinux_relabel && facts.has_selinux;
        check(mount, api, relabel)?;
        let knows_recursion = api >= API_RECURSIVE_READ_ONLY;
        let has_colon = mount.host_path.contains(':') || mount.container_path.contains(':');
        // `Mounts` has no SELinux relabelling, so that wish keeps the short form.
        let long = (mount.readonly && knows_recursion && !relabel) || has_colon;
        if long {
            // Left to Docker, which takes private, and slave for what holds its own directory: there it
            // refuses private. A recursive read-only mount must say it.
            let private = if mount.recursive_read_only {
                "rprivate"
            } else {
                ""
            };
            let word = propagation(mount).unwrap_or(private);
            out.mounts.push(model::Mount {
                kind: "bind".to_owned(),
                source: mount.host_path.clone(),
                target: mount.container_path.clone(),
                read_only: mount.readonly,
                image_options: None,
                bind_options: BindOptions {
                    propagation: word.to_owned(),
                    // Known since API 1.42; older ones ignore it.
                    create_mountpoint: true,
                    read_only_non_recursive: mount.readonly
                        && knows_recursion
                        && !mount.recursive_read_only,
                    read_only_force_recursive: mount.recursive_read_only,
                },
            });
        } else {
            out.binds.push(bind(mount));
        }
    }
    Ok(out)
}

fn image_of(mount: &Mount) -> Option<&str> {
    let image = mount.image.as_ref()?.image.as_str();
    (!image.is_empty()).then_some(image)
}

/// An image as a volume, which is always read-only (KEP-4639). Unproven: written after Docker 28's
/// API.
fn image_mount(mount: &Mount, image: &str, api: ApiVersion) -> Result<model::Mount, Invalid> {
    let at = &mount.container_path;
    if api < API_IMAGE_MOUNTS {
        return Err(Invalid(format!(
            "ImageVolumeMountFailed: mount {at:?}: image volumes need Docker 28 (API \
             {API_IMAGE_MOUNTS}), this one speaks {api}"
        )));
    }
    Ok(model::Mount {
        kind: "image".to_owned(),
        source: image.to_owned(),
        target: at.clone(),
        read_only: true,
        image_options: (!mount.image_sub_path.is_empty()).then(|| ImageOptions {
            subpath: mount.image_sub_path.clone(),
        }),
        bind_options: BindOptions::default(),
    })
}

fn check(mount: &Mount, api: ApiVersion, relabel: bool) -> Result<(), Invalid> {
    let at = &mount.container_path;
    if at.is_empty() || mount.host_path.is_empty() {
        let text = format!("mount {at:?}: host_path and container_path must be set");
        return Err(Invalid(text));
    }
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        let text = format!("mount {at:?}: id-mapped mounts are not supported by Docker");
        return Err(Invalid(text));
    }
    if mount.recursive_read_only {
        if !mount.readonly {
            let text = format!("mount {at:?}: recursive_read_only needs readonly");
            return Err(Invalid(text));
        }
        if propagation(mount).is_some() {
            let text = format!("mount {at:?}: recursive_read_only needs private propagation");
            return Err(Invalid(text));
        }
        if api < API_RECURSIVE_READ_ONLY || relabel {
            let text = format!(
                "RROUnsupported: mount {at:?}: recursive read-only mounts need Docker 25 and no \
                 SELinux relabelling"
            );
            return Err(Invalid(text));
        }
    }
    Ok(())
}

/// Docker's word; `None` for private, which is its default.
fn propagation(mount: &Mount) -> Option<&'static str> {
    match mount.propagation() {
        MountPropagation::PropagationPrivate => None,
        MountPropagation::PropagationHostToContainer => Some("rslave"),
        MountPropagation::PropagationBidirectional => Some("rshared"),
    }
}

fn bind(mount: &Mount) -> String {
    let options: Vec<&str> = [
        mount.readonly.then_some("ro"),
        mount.selinux_relabel.then_some("Z"),
        propagation(mount),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut text = format!("{}:{}", mount.host_path, mount.container_path);
    if !options.is_empty() {
        text.push(':');
        text.push_str(&options.join(","));
    }
    text
}
