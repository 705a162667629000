//! Versions of Docker's API: which are spoken, and what came with which.

/// Oldest API spoken: Docker 20.10 (DKR-03). Older engines are refused (Differs: upstream accepts 1.26).
pub(crate) const OLDEST_API: ApiVersion = ApiVersion(41);
/// Newest API this client was written against: Docker 29.
pub(crate) const NEWEST_API: ApiVersion = ApiVersion(52);
/// First API where a read-only bind is recursive by default (DKR-04).
pub(crate) const API_RECURSIVE_READ_ONLY: ApiVersion = ApiVersion(44);
/// First API that takes sysctls of an interface with its endpoint alone.
pub(crate) const API_ENDPOINT_SYSCTLS: ApiVersion = ApiVersion(48);
/// First API that mounts images.
pub(crate) const API_IMAGE_MOUNTS: ApiVersion = ApiVersion(48);

/// The minor number of a Docker API version `1.N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion(pub(crate) u16);

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

impl std::str::FromStr for ApiVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let minor = text.trim().strip_prefix("1.").ok_or(())?;
        minor.parse().map(ApiVersion).map_err(|_| ())
    }
}
