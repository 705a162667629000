//! Reaching into volumes that containers write in: files of variables, parts that are mounted.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use daemon::ErrorChain;
use kubelet_core::env::EnvFile;
use node_os::beneath::{Beneath, BeneathError, Missing};

use super::{
    config::{Visibility, VolumesConfig},
    host_path,
    prepared::{PreparedVolume, VolumeKind},
    sub_path::{self, SubPathError},
};

/// Largest file of variables that is read, in bytes (SPEC-33).
const MAX_ENV_FILE_BYTES: u64 = 1 << 20;

/// Reads a file in a volume, not led out of it: as if the volume were the root of everything.
pub(super) fn read_in_volume(
    config: &VolumesConfig,
    volume: &PreparedVolume,
    path: &Path,
) -> Result<EnvFile, String> {
    let place;
    let base = if volume.kind == VolumeKind::Host {
        place = host_path::Place::of(&config.host, &volume.path)
            .ok_or_else(|| format!("{} is out of sight", volume.path.display()))?
            .find()
            .map_err(|error| ErrorChain(&error).to_string())?;
        place.proc_path()
    } else {
        volume.path.clone()
    };
    // The volume is the root of all paths.
    let path = path.strip_prefix("/").unwrap_or(path);
    let found = Beneath::find(&base, &[Path::new("/")], path, Missing::Refuse)
        .map_err(|error| ErrorChain(&error).to_string())?;
    let mut bytes = Vec::new();
    found
        .open_regular()
        .and_then(|file| file.take(MAX_ENV_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| ErrorChain(&error).to_string())?;
    if bytes.len() as u64 > MAX_ENV_FILE_BYTES {
        return Err(format!("more than {MAX_ENV_FILE_BYTES} bytes"));
    }
    Ok(EnvFile {
        path: volume.path.join(found.relative()),
        bytes,
    })
}

/// Finds a part of a volume and pins it.
pub(super) fn resolve(
    config: &VolumesConfig,
    volume: &PreparedVolume,
    requested: &str,
    target: &Path,
) -> Result<PathBuf, SubPathError> {
    let (found, real) = match volume.kind {
        VolumeKind::Host => find_on_host(config, &volume.path, requested)?,
        VolumeKind::Own | VolumeKind::Content | VolumeKind::Image => (
            sub_path::find(&volume.path, &[&volume.path], requested)?,
            volume.path.clone(),
        ),
    };
    // A mount of another mount namespace cannot be bound here.
    let foreign = volume.kind == VolumeKind::Host && !config.host.is_identity();
    if foreign || config.visibility == Visibility::Private {
        return Ok(real.join(found.relative()));
    }
    sub_path::bind(&*config.mounts, &found, target)?;
    Ok(target.to_owned())
}

/// Finds a part of a host path; also the host's name of the volume itself, without links where it is
/// known. Those who make links in the volume may use either name.
fn find_on_host(
    config: &VolumesConfig,
    volume: &Path,
    requested: &str,
) -> Result<(Beneath, PathBuf), SubPathError> {
    let failed = |error| match error {
        BeneathError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            SubPathError::NoVolume(volume.to_owned())
        }
        source => SubPathError::Find {
            path: volume.display().to_string(),
            missing: false,
            source,
        },
    };
    let place = host_path::Place::of(&config.host, volume)
        .ok_or_else(|| SubPathError::OutOfSight(volume.to_owned()))?;
    let base = place.find().map_err(failed)?;
    let real = place.host_name(&base).unwrap_or_else(|| volume.to_owned());
    let found = sub_path::find(&base.proc_path(), &[volume, &real], requested)?;
    Ok((found, real))
}
