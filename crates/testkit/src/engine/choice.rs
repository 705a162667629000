//! Which release and which configuration of Docker Engine the tests run on: the machine's own, or what
//! `make engines` says.
#![expect(
    clippy::disallowed_methods,
    reason = "switches for test runs, not settings"
)]

use std::{
    env,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
};

/// Directories, as in `PATH`, whose programs (dockerd, containerd, runc and so on) go before the
/// machine's.
const PATH: &str = "BERTH_TEST_ENGINE_PATH";
/// What stands in the engine's `daemon.json`, such as
/// `{"features": {"containerd-snapshotter": true}}`.
const CONFIG: &str = "BERTH_TEST_ENGINE_CONFIG";
/// Where a machine has programs, whatever the `PATH` of the one who runs the tests.
const MACHINE: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The `PATH` that an engine runs with.
pub(super) fn path() -> String {
    match env::var(PATH) {
        Ok(first) if !first.is_empty() => format!("{first}:{MACHINE}"),
        _ => MACHINE.to_owned(),
    }
}

/// Whether there is a dockerd to run.
pub(super) fn has_dockerd() -> bool {
    path()
        .split(':')
        .any(|directory| Path::new(directory).join("dockerd").exists())
}

/// The content of `daemon.json`.
pub(super) fn daemon_json() -> String {
    env::var(CONFIG)
        .ok()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "{}".to_owned())
}

/// Short, and another one for each choice: engines that test processes share must be the same.
pub(super) fn fingerprint() -> String {
    let mut hasher = DefaultHasher::new();
    (path(), daemon_json()).hash(&mut hasher);
    format!("{:04x}", hasher.finish() & 0xffff)
}
