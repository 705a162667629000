//! Sysctls of a pod's interface.
//!
//! Differs (SBX-06): with CNI a pod's sysctls that name `eth0` are set once the plugins have made it, as with
//! containerd; upstream's are lost on Docker 27 and newer, and fail the pod on older ones.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use node_os::netns;

use super::error::CniError;

/// Sets sysctls, whose names are checked, in a network namespace, and stops at the first that can't be
/// set. Blocks.
pub(super) fn set(netns: &Path, sysctls: &BTreeMap<String, String>) -> Result<(), CniError> {
    if sysctls.is_empty() {
        return Ok(());
    }
    // `/proc/sys/net` is that of the thread's namespace.
    let all = || -> Result<(), (String, io::Error)> {
        sysctls
            .iter()
            .try_for_each(|(name, value)| write(name, value).map_err(|e| (name.clone(), e)))
    };
    match netns::run(netns, all) {
        Ok(done) => done.map_err(|(name, source)| CniError::Sysctl { name, source }),
        Err(error) => Err(CniError::Namespace(error)),
    }
}

fn write(name: &str, value: &str) -> io::Result<()> {
    let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(value.as_bytes())
}
