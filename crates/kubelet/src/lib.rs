//! The kubelet's effects and assembly: sources, pod workers, the runtime behind CRI, images,
//! volumes, cgroups, logs, the HTTP servers. Decisions are in `kubelet-core`, configuration in
//! `kubelet-config`.

mod assembly;
mod clock;
mod control_plane;
mod events;
mod images;
mod jitter;
mod lifecycle;
mod logs;
mod main_loop;
mod metrics;
mod node;
mod outbound;
mod pod_dirs;
mod pod_workers;
mod probes;
mod runtime;
mod server;
mod sources;
mod status_store;
mod sync_loop;
mod volumes;

pub use main_loop::run;
