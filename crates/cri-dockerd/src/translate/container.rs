//! CreateContainer as a create request (CTR-02..12).

use cri_api::v1::{
    self, ContainerConfig, KeyValue, LinuxContainerSecurityContext, NamespaceMode,
    PodSandboxConfig, Signal,
};

use super::identity::{self, ImageUsers};
use super::{Facts, SHM_SIZE, mounts, resources, security};
use crate::engine::model::{
    CreateContainer, Device, DeviceRequest, Healthcheck, HostConfig, LogConfig, Resources,
    RestartPolicy,
};
use crate::invalid::Invalid;
use crate::labels;
use crate::unified;

/// The kubelet puts a hash of the container's spec on everything it creates (LBL-06).
const KUBELET_HASH: &str = "io.kubernetes.container.hash";

/// What the caller has looked up already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// The sandbox's id.
    pub(crate) sandbox_id: &'a str,
    /// Docker runtime of the sandbox; empty for the engine's default.
    pub(crate) runtime: &'a str,
    /// Content of the seccomp profile, when the request names a file.
    pub(crate) seccomp_json: Option<&'a str>,
    /// What the image says about users, if that is known.
    pub(crate) users: Option<&'a ImageUsers>,
    /// Docker's own copy of the log (DEC-10).
    pub(crate) log_config: &'a LogConfig,
}

/// The absolute path of the container's log: the sandbox's directory and the container's path, without `.` and
/// `..` (LBL-02).
pub(crate) fn log_path(config: &ContainerConfig, sandbox: &PodSandboxConfig) -> String {
    if config.log_path.is_empty() || sandbox.log_directory.is_empty() {
        return config.log_path.clone();
    }
    let joined = format!("{}/{}", sandbox.log_directory, config.log_path);
    path_clean::clean(joined).to_string_lossy().into_owned()
}

/// The security context, or what holds without one.
pub(crate) fn security_context(config: &ContainerConfig) -> LinuxContainerSecurityContext {
    config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.clone())
        .unwrap_or_default()
}

/// The create request of a container. Host paths in `config` are the engine's already.
///
/// # Errors
/// [`Invalid`] for what Docker can't do or the request contradicts.
pub(crate) fn translate(
    config: &ContainerConfig,
    sandbox: &PodSandboxConfig,
    plan: Plan<'_>,
    facts: &Facts,
) -> Result<CreateContainer, Invalid> {
    let image = config
        .image
        .as_ref()
        .map(|image| image.image.clone())
        .unwrap_or_default();
    if image.is_empty() {
        return Err(Invalid(
            "image: the container's image must be named".to_owned(),
        ));
    }
    let context = security_context(config);
    let limits = config
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.as_ref());
    security::check(&context)?;
    if let Some(limits) = limits {
        unified::check(&limits.unified)?;
    }
    let identity = identity::resolve(&context, plan.users)?;
    let mounts = mounts::translate(&config.mounts, facts)?;
    let from_kubelet = config.annotations.contains_key(KUBELET_HASH);
    let (masked_paths, readonly_paths) = security::paths(&context, from_kubelet);
    let (cap_add, cap_drop) = context
        .capabilities
        .clone()
        .map(|c| (c.add_capabilities, c.drop_capabilities))
        .unwrap_or_default();
    let cgroup_parent = sandbox
        .linux
        .as_ref()
        .map(|l| l.cgroup_parent.as_str())
        .unwrap_or_default();
    let namespaces = context.namespace_options.clone().unwrap_or_default();
    let join = format!("container:{}", plan.sandbox_id);
    // A missing security context means pid mode POD, the enum's zero (CTR-11). Differs: a missing
    // `linux` part joins the pod's namespaces too; upstream left such containers outside.
    let pid_mode = match namespaces.pid() {
        NamespaceMode::Pod => join.clone(),
        NamespaceMode::Container => String::new(),
        NamespaceMode::Node => "host".to_owned(),
        NamespaceMode::Target => format!("container:{}", namespaces.target_id),
    };

    Ok(CreateContainer {
        image,
        entrypoint: config.command.clone(),
        cmd: config.args.clone(),
        env: env(config)?,
        working_dir: config.working_dir.clone(),
        user: identity.user,
        tty: config.tty,
        open_stdin: config.stdin,
        stdin_once: config.stdin_once,
        healthcheck: Some(Healthcheck {
            test: vec!["NONE".to_owned()],
        }),
        labels: labels::for_container(
            &config.labels,
            &config.annotations,
            plan.sandbox_id,
            &log_path(config, sandbox),
            limits.map_or(&unified::Files::new(), |limits| &limits.unified),
        ),
        stop_signal: stop_signal(config.stop_signal()),
        host_config: HostConfig {
            binds: mounts.binds,
            mounts: mounts.mounts,
            log_config: Some(plan.log_config.clone()),
            network_mode: join.clone(),
            ipc_mode: join,
            pid_mode,
            uts_mode: if namespaces.network() == NamespaceMode::Node {
                "host"
            } else {
                ""
            }
            .to_owned(),
            restart_policy: Some(RestartPolicy {
                name: "no".to_owned(),
            }),
            cap_add,
            cap_drop,
            group_add: identity.groups,
            cgroup_parent: facts.cgroup_driver.parent(cgroup_parent),
            oom_score_adj: facts.oom_score(limits.map_or(0, |l| l.oom_score_adj)),
            privileged: context.privileged,
            readonly_rootfs: context.readonly_rootfs,
            security_opt: security::container_options(&context, plan.seccomp_json),
            shm_size: SHM_SIZE,
            runtime: plan.runtime.to_owned(),
            devices: config.devices.iter().map(device).collect(),
            device_requests: cdi(config, facts)?,
            masked_paths,
            readonly_paths,
            resources: limits.map_or_else(Resources::default, resources::limits),
            ..HostConfig::default()
        },
        ..CreateContainer::default()
    })
}

/// `K=V` in order. Docker's JSON carries text only.
fn env(config: &ContainerConfig) -> Result<Vec<String>, Invalid> {
    let pair = |env: &KeyValue| match str::from_utf8(&env.value) {
        Ok(value) => Ok(format!("{}={value}", env.key)),
        Err(_) => Err(Invalid(format!(
            "envs: the value of {:?} is not UTF-8, which Docker can't take",
            env.key
        ))),
    };
    config.envs.iter().map(pair).collect()
}

/// A host's device (CTR-08). Without permissions it may be used in every way, as Docker's client
/// has it; Docker itself would allow nothing.
fn device(device: &v1::Device) -> Device {
    Device {
        path_on_host: device.host_path.clone(),
        path_in_container: device.container_path.clone(),
        cgroup_permissions: match device.permissions.as_str() {
            "" => "rwm".to_owned(),
            permissions => permissions.to_owned(),
        },
    }
}

/// Devices by their CDI names. Differs: upstream drops them. Docker would find out at start that it
/// has no driver for them.
fn cdi(config: &ContainerConfig, facts: &Facts) -> Result<Vec<DeviceRequest>, Invalid> {
    if config.cdi_devices.is_empty() {
        return Ok(Vec::new());
    }
    if !facts.has_cdi {
        let names: Vec<_> = config.cdi_devices.iter().map(|d| d.name.as_str()).collect();
        return Err(Invalid(format!(
            "CDI_devices: docker has no CDI for {}: use Docker 25 or newer with \"features\": \
             {{\"cdi\": true}} in daemon.json",
            names.join(", ")
        )));
    }
    let device_ids = config
        .cdi_devices
        .iter()
        .map(|device| device.name.clone())
        .collect();
    Ok(vec![DeviceRequest {
        driver: "cdi".to_owned(),
        device_ids,
    }])
}

fn stop_signal(signal: Signal) -> String {
    match signal {
        Signal::RuntimeDefault => String::new(),
        // The enum can't hold the signs of `SIGRTMIN+1` and `SIGRTMAX-1`.
        signal => signal
            .as_str_name()
            .replace("PLUS", "+")
            .replace("MINUS", "-"),
    }
}
