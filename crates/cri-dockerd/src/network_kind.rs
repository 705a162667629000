//! The kinds of network that a sandbox can be on, as labels and checkpoints record them (DEC-20).

/// The network of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The node's own.
    Host,
    /// Docker's.
    Bridge,
    /// CNI's.
    Cni,
}

impl Kind {
    /// The word on sandboxes and in checkpoints.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Bridge => "bridge",
            Self::Cni => "cni",
        }
    }

    /// Reads the word back.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Host, Self::Bridge, Self::Cni]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }

    /// The network of a sandbox: its label, or, for upstream's, what its Docker network tells
    /// (SBX-07).
    pub(crate) fn of_sandbox(label: Option<&str>, docker_mode: &str) -> Self {
        match (docker_mode, label.and_then(Self::from_word)) {
            ("host", _) => Self::Host,
            (_, Some(kind)) => kind,
            ("none", None) => Self::Cni,
            _ => Self::Bridge,
        }
    }
}
