//! `berth cleanup`: takes every pod away, and all that the node left on this machine (NODE-04).
//!
//! ```text
//! gather (reads Docker, cgroups, mounts, directories) ──▶ Found ──plan (pure)──▶ Steps
//!                                               shown ◀──────┘      └──▶ act, with --yes
//! ```
//!
//! Nothing is remembered between runs: what is left is found again, so a run that was cut off is
//! finished by the next one. The steps of a pod whose containers stay are not taken.

mod act;
mod gather;
mod plan;

use std::{ffi::OsString, net::SocketAddr, process::ExitCode, time::Duration};

use cri_dockerd::{Attachments, CNI_BIN_DIR, CNI_CACHE_DIR};
use daemon::pflag::{Flag, Kind};
use kubelet_config::Settings;

use crate::{
    docker::Docker,
    doctor::Holders,
    http::{self, Peer},
    output,
    tool::{self, CRI_DOCKERD_ROOT, DOCKER_ENDPOINT, EXIT_USAGE, HELP, Tool},
};
use plan::{Others, Plan};

/// `berth cleanup`.
pub(crate) const TOOL: Tool = Tool {
    name: "cleanup",
    about: "Usage: berth cleanup [flags] [kubelet flags]

Removes what a stopped node left: its pods' containers, CNI networks, cgroups, mounts, log links,
logs, volumes and checkpoints. Containers are killed. Without --yes it only shows what it would remove.
Exits with 0 when nothing is left, 1 when something could not be removed.",
    flags: &[
        HELP,
        Flag::new(
            "yes",
            Kind::Bool,
            "false",
            "remove it; without this flag it is only shown",
        ),
        Flag::new(
            "all-pods",
            Kind::Bool,
            "false",
            "also take the pods that another kubelet made over the same Docker",
        ),
        DOCKER_ENDPOINT,
        CRI_DOCKERD_ROOT,
        CNI_BIN_DIR,
        CNI_CACHE_DIR,
    ],
    describes_node: true,
};

/// How long the health port may take to say that a kubelet runs.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the tool.
pub(crate) fn run(words: Vec<OsString>) -> ExitCode {
    let (parsed, settings) = match TOOL.begin(words) {
        Ok(begun) => begun,
        Err(code) => return code,
    };
    if !tool::is_root() {
        let reason = "not root: mounts, cgroups and pods' files need it; run it with sudo";
        return TOOL.refuse(reason, 1);
    }
    if let Some(reason) = still_runs(&settings) {
        return TOOL.refuse(&reason, 1);
    }
    let endpoint = tool::docker_endpoint(&parsed);
    let docker = match endpoint.as_str() {
        "" => None,
        endpoint => match Docker::at(endpoint) {
            Ok(docker) => Some(docker),
            Err(error) => return TOOL.refuse(&error.to_string(), EXIT_USAGE),
        },
    };
    let networks = match Attachments::of(&parsed) {
        Ok(networks) => networks,
        Err(error) => return TOOL.refuse(&error.to_string(), 1),
    };
    let places = gather::Places {
        root_dir: settings.paths.root_dir.clone(),
        pod_logs_dir: settings.paths.pod_logs_dir.clone(),
        links_dir: kubelet_config::CONTAINER_LOG_LINKS.into(),
        checkpoints_dir: parsed_path(&parsed).join("sandbox"),
        cgroup_root: settings.cgroups.root.clone(),
    };
    let others = if parsed.bool("all-pods") {
        Others::Taken
    } else {
        Others::Left
    };
    let found = match gather::found(&places, docker.as_ref(), &networks) {
        Ok(found) => found,
        Err(error) => {
            return TOOL.refuse(
                &format!(
                    "{error}\n(start Docker, or pass --docker-endpoint= where it is gone for good)"
                ),
                1,
            );
        }
    };
    let plan = plan::plan(&found, others);
    show(&plan);
    if plan.steps.is_empty() {
        return ExitCode::SUCCESS;
    }
    if !parsed.bool("yes") {
        output::line("\nnothing was touched; do it with --yes");
        return ExitCode::SUCCESS;
    }
    let failures = act::act(&plan.steps, docker.as_ref(), &networks);
    for failure in &failures {
        output::complain(&format!("berth cleanup: {failure}"));
    }
    if failures.is_empty() {
        output::line("removed");
        ExitCode::SUCCESS
    } else {
        output::complain("berth cleanup: not all of it is gone; mend that and run it again");
        ExitCode::FAILURE
    }
}

fn parsed_path(parsed: &daemon::pflag::Parsed) -> std::path::PathBuf {
    parsed.text(CRI_DOCKERD_ROOT.name).into()
}

/// Why cleaning would fight a kubelet that runs.
fn still_runs(settings: &Settings) -> Option<String> {
    if let Some(address) = settings.servers.health.filter(|address| answers(*address)) {
        return Some(format!(
            "a kubelet still runs ({address} answers): stop it first, or name the configuration \
             of the one that stopped with --config"
        ));
    }
    let root = &settings.paths.root_dir;
    let kubelets = Holders::sweep(Some(root)).kubelets();
    let holder = kubelets.into_iter().find(|kubelet| kubelet.shares_root)?;
    Some(format!(
        "{} (pid {}) works in {}: stop it first",
        holder.program,
        holder.pid,
        root.display()
    ))
}

fn answers(address: SocketAddr) -> bool {
    http::ask(&Peer::Tcp(address), "GET", "/healthz", TIMEOUT).is_ok()
}

fn show(plan: &Plan) {
    for step in &plan.steps {
        output::line(&step.to_string());
    }
    for other in &plan.left {
        output::line(&format!("leave   {other}"));
    }
    if plan.steps.is_empty() {
        output::line("nothing of this node is left here");
    }
}
