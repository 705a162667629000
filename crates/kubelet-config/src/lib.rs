//! What a kubelet is told: flags, the configuration file and its drop-ins become one validated,
//! immutable [`Settings`] (Kubernetes 1.34; section 1 of the kubelet's reference).
//!
//! ```text
//! command line ──parse──▶ raw flags ─────────────────────────┐
//! --config ──decode, default──▶ KubeletConfiguration          │ over it
//! --config-dir ──merge patches over it──▶ default again ──────▼
//!                                          KubeletConfiguration ──validate, build──▶ Settings
//! ```
//!
//! [`load`] does all of it and reads the files; nothing below this crate reads flags, environment or
//! configuration files. A start with flags only gets upstream's legacy defaults, one with a file the
//! secure ones (PROC-12, PROC-13). Every option that upstream knows is known here with a [`Status`]:
//! [`flag_rows`] and [`field_rows`] list them, and [`Settings::warnings`] names what a user set in
//! vain.

mod compatibility;
mod config;
mod cpu_set;
mod fields;
mod file;
mod flags;
mod gates;
mod load;
mod names;
mod paths;
mod settings;
mod status;
mod validate;
mod version;

use daemon::pflag::FlagSet;

pub use compatibility::{
    FieldInfo, FlagInfo, field_rows, fields_markdown, flag_rows, flags_markdown,
};
pub use config::Taint;
pub use cpu_set::{CpuSet, CpuSetError};
pub use file::{DropInError, FileError};
pub use gates::{FeatureGates, Gate, GateError, Stage, known_gates};
pub use load::{Command, Failure, LoadError, Run, load};
pub use paths::{
    CONTAINER_LOG_LINKS, DIRECTORY_MODE, HOSTS_FILE_MODE, LOG_DIRECTORY_MODE, Paths,
    TERMINATION_LOG_MODE, escape_plugin_name,
};
pub use settings::{
    ApiSettings, AuthorizationMode, CgroupDriver, CgroupSettings, ContainerGcSettings,
    ContainerLogSettings, DnsSettings, Enforcement, EvictionSettings, ImagePulls, ImageSettings,
    LogFormat, LogLine, LoggingSettings, MemoryReserve, NodeSettings, Reservation,
    ResourceSettings, RuntimeSettings, SecuritySettings, ServerSettings, Settings, Severity,
    ShutdownSettings, Signal, SourceSettings, StaticPodUrl, SwapBehavior, SyncSettings, Threshold,
    ThresholdValue, TlsSettings,
};
pub use status::Status;
pub use validate::HostFacts;
pub use version::Version;

/// The kubelet's flags, for shell completion.
pub fn command_line() -> FlagSet {
    flags::flag_set()
}
