//! What becomes of an option: the truth that `COMPATIBILITY.md` repeats.

/// Does an option act?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does what upstream's does.
    Supported,
    /// Read and validated, then nothing; the text says why, or which later part brings it. A user
    /// who sets it gets one log line at start.
    Ignored(&'static str),
    /// Setting it ends the start; the text says why.
    Refused(&'static str),
}

impl Status {
    /// Cell of a table: `supported`, `ignored: why`, `refused: why`.
    pub fn describe(self) -> String {
        match self {
            Self::Supported => "supported".to_owned(),
            Self::Ignored(reason) => format!("ignored: {reason}"),
            Self::Refused(reason) => format!("refused: {reason}"),
        }
    }
}

/// Memory, disk and CPU pressure: image and container GC, eviction, allocatable, CPU and memory
/// managers, node shutdown.
pub(crate) const PRESSURE: Status = Status::Ignored("no pressure handling yet (D)");
/// The kubelet's API on its own port, with TLS, streaming, stats.
pub(crate) const API: Status = Status::Ignored("no kubelet API on 10250 yet (E)");
/// What needs an API server.
pub(crate) const CONNECTED: Status = Status::Ignored("only with an API server, not yet (H)");
/// What completes pods: pods from a URL, user namespaces.
pub(crate) const PODS: Status = Status::Ignored("pods are not complete yet (C)");
/// The reasons that no later part changes.
pub(crate) const NO_EFFECT_UPSTREAM: Status = Status::Ignored("has no effect upstream either");
pub(crate) const NO_CADVISOR: Status =
    Status::Ignored("there is no embedded cAdvisor, numbers are read when asked for");
pub(crate) const GO_RUNTIME: Status = Status::Ignored("concerns the Go runtime");
pub(crate) const FLEX_VOLUME: Status = Status::Ignored("FlexVolume is not planned");
pub(crate) const UNBUFFERED_LOG: Status =
    Status::Ignored("log lines are written at once, on stderr");
