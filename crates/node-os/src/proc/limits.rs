//! Changing what the kernel allows us. Without the capability these fail, and the caller warns and
//! goes on (DEC-48).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A limit could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// A file took no new value.
    #[error("write {value} to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The number of open files could not be raised.
    #[error("raise the limit of open files from {from} to {to}")]
    OpenFiles {
        /// The limit in force.
        from: u64,
        /// The limit that was wanted.
        to: u64,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl LimitError {
    /// Whether we lack the right (CAP_SYS_RESOURCE, or a read-only `/proc/sys`), so that the same
    /// will happen each time: a reason to warn, not to fail.
    pub fn is_denied(&self) -> bool {
        let (Self::Write { source, .. } | Self::OpenFiles { source, .. }) = self;
        matches!(
            source.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        )
    }
}

/// Sets how readily the kernel kills a process (-1000 to 1000).
///
/// # Errors
/// When it is gone, or going down is not allowed.
pub fn set_oom_score_adj(pid: u32, score: i32) -> Result<(), LimitError> {
    put(
        &PathBuf::from(format!("/proc/{pid}/oom_score_adj")),
        &score.to_string(),
    )
}

/// Sets a kernel setting such as `vm.overcommit_memory`.
///
/// # Errors
/// When there is no such setting, or changing it is not allowed.
pub fn write_sysctl(name: &str, value: &str) -> Result<(), LimitError> {
    put(
        &Path::new("/proc/sys").join(super::machine::sysctl_path(name)),
        value,
    )
}

fn put(path: &Path, value: &str) -> Result<(), LimitError> {
    fs::write(path, value).map_err(|source| LimitError::Write {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// Lets this process open at least `wanted` files: raises the hard limit where allowed, and in any
/// case the soft limit as far as it goes. Returns the limit then in force.
///
/// # Errors
/// When the limit stays below `wanted`.
pub fn raise_open_files(wanted: u64) -> Result<u64, LimitError> {
    let now = getrlimit(Resource::Nofile);
    let (soft, hard) = (
        now.current.unwrap_or(u64::MAX),
        now.maximum.unwrap_or(u64::MAX),
    );
    if soft >= wanted {
        return Ok(soft);
    }
    let both = Rlimit {
        current: Some(wanted),
        maximum: Some(hard.max(wanted)),
    };
    let Err(errno) = setrlimit(Resource::Nofile, both) else {
        return Ok(wanted);
    };
    if soft < hard {
        let best = Rlimit {
            current: Some(hard),
            maximum: Some(hard),
        };
        // The first failure is the one to report.
        let _ = setrlimit(Resource::Nofile, best);
    }
    Err(LimitError::OpenFiles {
        from: soft,
        to: wanted,
        source: errno.into(),
    })
}
