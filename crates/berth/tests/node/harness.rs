//! A node with directories, ports, cgroups and processes of its own.

mod pods;
mod program;

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{DockerEngine, eventually};

pub(crate) use program::Program;

/// Everything that should happen soon happens within this.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// What a node is made of when it is not the usual.
#[derive(Default)]
pub(crate) struct Setup {
    /// Instead of the engine that all tests share.
    pub(crate) engine: Option<DockerEngine>,
    /// More lines for the kubelet's configuration.
    pub(crate) configuration: String,
    /// Directories of the node that are disks of 1 MiB.
    pub(crate) small_disks: &'static [&'static str],
}

/// A node. Dropping it removes all that it made.
pub(crate) struct Node {
    pub(crate) engine: Arc<DockerEngine>,
    pub(crate) kubelet: Program,
    pub(crate) cri_dockerd: Program,
    pub(crate) image: &'static str,
    directory: TempDir,
    health_port: u16,
    read_only_port: u16,
    cgroup: String,
    _turn: File,
}

impl Node {
    /// Starts a node with an empty manifest directory and waits until it answers.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more lines for the kubelet's configuration.
    pub(crate) fn start_with(configuration: &str) -> Self {
        Self::set_up(Setup {
            configuration: configuration.to_owned(),
            ..Setup::default()
        })
    }

    /// The same with other parts.
    pub(crate) fn set_up(setup: Setup) -> Self {
        let turn = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(std::env::temp_dir().join("berth-node-tests.lock"))
            .unwrap();
        turn.lock().unwrap();
        let engine = setup.engine.map_or_else(DockerEngine::shared, Arc::new);
        let image = testkit::test_image(&engine);
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for name in ["manifests", "root", "logs", "cri"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        for name in setup.small_disks {
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("tmpfs", root.join(name), "tmpfs", flags, c"size=1m").unwrap();
        }
        let configuration = setup.configuration;
        let name = root.file_name().unwrap().to_string_lossy();
        let cgroup = format!("berth-test-{}", name.trim_start_matches('.'));
        for directory in cgroup_directories(&cgroup) {
            fs::create_dir_all(&directory).unwrap();
        }
        let (health_port, read_only_port) = (free_port(), free_port());
        fs::write(
            root.join("kubelet.yaml"),
            format!(
                "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
                 containerRuntimeEndpoint: unix://{0}/cri.sock\nstaticPodPath: {0}/manifests\n\
                 podLogsDir: {0}/logs/pods\nreadOnlyPort: {read_only_port}\n\
                 healthzPort: {health_port}\naddress: 127.0.0.1\nfailSwapOn: false\n\
                 cgroupRoot: /{cgroup}\nauthentication: {{anonymous: {{enabled: true}}, \
                 webhook: {{enabled: false}}}}\nauthorization: {{mode: AlwaysAllow}}\n\
                 logging: {{verbosity: 4}}\n{configuration}\n",
                root.display()
            ),
        )
        .unwrap();
        let cri_dockerd =
            Program::start(&cri_dockerd_arguments(root, &engine), &root.join("cri.log"));
        let kubelet = Program::start(&kubelet_arguments(root), &root.join("kubelet.log"));
        let node = Self {
            engine,
            kubelet,
            cri_dockerd,
            image,
            directory,
            health_port,
            read_only_port,
            cgroup,
            _turn: turn,
        };
        node.wait_until_up();
        node
    }

    pub(crate) fn wait_until_up(&self) {
        self.eventually("the node answers", || {
            match Self::get(self.health_port, "/healthz") {
                Ok(body) if body == "ok" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// Starts the kubelet again, after it ended.
    pub(crate) fn start_kubelet(&mut self) {
        let root = self.directory.path();
        self.kubelet = Program::start(&kubelet_arguments(root), &root.join("kubelet.log"));
        self.wait_until_up();
    }

    /// Starts cri-dockerd again, after it ended.
    pub(crate) fn start_cri_dockerd(&mut self) {
        let root = self.directory.path();
        let arguments = cri_dockerd_arguments(root, &self.engine);
        self.cri_dockerd = Program::start(&arguments, &root.join("cri.log"));
    }

    /// The kubelet again, which may not come up.
    pub(crate) fn try_kubelet(&self) -> Program {
        let root = self.directory.path();
        Program::start(&kubelet_arguments(root), &root.join("kubelet.log"))
    }

    /// Another node, with directories and ports of its own, on the same engine: its kubelet and its
    /// cri-dockerd.
    pub(crate) fn another(&self) -> (Program, Program) {
        let root = self.path("another");
        for name in ["manifests", "root", "logs", "cri"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let configuration = fs::read_to_string(self.path("kubelet.yaml")).unwrap();
        let (ours, theirs) = (self.directory.path(), &root);
        let configuration = configuration
            .replace(&ours.display().to_string(), &theirs.display().to_string())
            .replace(
                &format!("healthzPort: {}", self.health_port),
                &format!("healthzPort: {}", free_port()),
            )
            .replace(
                &format!("Port: {}", self.read_only_port),
                &format!("Port: {}", free_port()),
            );
        fs::write(root.join("kubelet.yaml"), configuration).unwrap();
        let arguments = cri_dockerd_arguments(&root, &self.engine);
        let cri_dockerd = Program::start(&arguments, &root.join("cri.log"));
        let kubelet = Program::start(&kubelet_arguments(&root), &root.join("kubelet.log"));
        (kubelet, cri_dockerd)
    }

    /// Both daemons again, under `concurrently` as it is shipped.
    pub(crate) fn supervise(&self) -> Program {
        let root = self.directory.path();
        let berth = env!("CARGO_BIN_EXE_berth");
        let command = |arguments: Vec<String>| format!("exec {berth} {}", arguments.join(" "));
        let arguments = [
            "concurrently".to_owned(),
            "--restart-tries=-1".to_owned(),
            "--restart-after=exponential".to_owned(),
            command(cri_dockerd_arguments(root, &self.engine)),
            command(kubelet_arguments(root)),
        ];
        Program::start(&arguments, &root.join("kubelet.log"))
    }

    /// What `berth status` shows of this node.
    pub(crate) fn status(&self) -> String {
        program::output("status", &kubelet_arguments(self.directory.path())[1..])
    }

    /// The daemons of this node that run, with their parents, whoever started them.
    pub(crate) fn daemons(&self) -> Vec<(String, u32)> {
        let root = format!("{}/", self.directory.path().display());
        let mut daemons = Vec::new();
        for pid in names_in(Path::new("/proc")) {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let name = line.split('\0').nth(1).unwrap_or_default();
            if !["kubelet", "cri-dockerd"].contains(&name) || !line.contains(&root) {
                continue;
            }
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let mut after_name = stat.rsplit(") ").next().unwrap_or_default().split(' ');
            if let (Some(state), Some(parent)) = (after_name.next(), after_name.next())
                && state != "Z"
            {
                daemons.push((name.to_owned(), parent.parse().unwrap_or_default()));
            }
        }
        daemons.sort();
        daemons
    }

    /// How often the kubelet or cri-dockerd has said something, so far.
    pub(crate) fn said(&self, text: &str) -> usize {
        let count = |log: &str| {
            let log = fs::read_to_string(self.path(log)).unwrap_or_default();
            log.matches(text).count()
        };
        count("kubelet.log") + count("cri.log")
    }

    /// A path below the node's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts a manifest in place in one step.
    pub(crate) fn apply(&self, file: &str, manifest: &str) {
        let (hidden, shown) = (
            self.path(&format!("manifests/.{file}")),
            self.path(&format!("manifests/{file}")),
        );
        fs::write(&hidden, manifest.replace("IMAGE", self.image)).unwrap();
        fs::rename(hidden, shown).unwrap();
    }

    pub(crate) fn remove(&self, file: &str) {
        fs::remove_file(self.path(&format!("manifests/{file}"))).unwrap();
    }

    /// GET on the read-only port.
    pub(crate) fn read_only(&self, path: &str) -> Result<String, String> {
        Self::get(self.read_only_port, path)
    }

    fn get(port: u16, path: &str) -> Result<String, String> {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n"
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = ask().map_err(|error| error.to_string())?;
        let (_, body) = answer
            .split_once("\r\n\r\n")
            .ok_or_else(|| answer.clone())?;
        Ok(body.to_owned())
    }

    /// Waits; at the deadline the node's logs are part of the failure.
    #[track_caller]
    pub(crate) fn eventually<T>(
        &self,
        what: &str,
        mut look: impl FnMut() -> Result<T, String>,
    ) -> T {
        eventually(SOON, || {
            look().map_err(|last| {
                format!(
                    "{what}: {last}\n{}\n{}",
                    self.tail("kubelet.log"),
                    self.tail("cri.log")
                )
            })
        })
    }

    fn remove_containers(&self) {
        let filters = encoded(&json!({"label": ["io.kubernetes.docker.type"]}).to_string());
        let all = self.engine.json(
            "GET",
            &format!("/containers/json?all=1&filters={filters}"),
            &Value::Null,
        );
        for container in all.as_array().into_iter().flatten() {
            let id = container["Id"].as_str().unwrap_or_default();
            self.engine
                .request("DELETE", &format!("/containers/{id}?force=1&v=1"), None);
        }
    }

    fn tail(&self, log: &str) -> String {
        let text = fs::read_to_string(self.path(log)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!(
            "--- {log}\n{}",
            lines[lines.len().saturating_sub(40)..].join("\n")
        )
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for program in [&mut self.kubelet, &mut self.cri_dockerd] {
            program.end();
        }
        // An engine of the test's own goes with all that is in it.
        if self.engine.is_running() {
            self.remove_containers();
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let root = self.directory.path().display().to_string();
        let below = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for mount in below.filter(|mount| mount.starts_with(&root)) {
            let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
        }
        for directory in cgroup_directories(&self.cgroup) {
            remove_cgroup(&directory);
        }
    }
}

fn cri_dockerd_arguments(root: &Path, engine: &DockerEngine) -> Vec<String> {
    let root = root.display();
    vec![
        "cri-dockerd".to_owned(),
        format!("--docker-endpoint={}", engine.host()),
        format!("--container-runtime-endpoint=unix://{root}/cri.sock"),
        format!("--cri-dockerd-root-directory={root}/cri"),
        format!("--cni-conf-dir={root}/no-cni"),
        "--network-plugin=cni".to_owned(),
        "--cni-fallback=bridge".to_owned(),
        "--pod-infra-container-image=registry.k8s.io/pause:3.9".to_owned(),
        "--log-level=debug".to_owned(),
    ]
}

fn kubelet_arguments(root: &Path) -> Vec<String> {
    let root = root.display();
    vec![
        "kubelet".to_owned(),
        format!("--config={root}/kubelet.yaml"),
        format!("--root-dir={root}/root"),
        "--hostname-override=n".to_owned(),
    ]
}

/// The node's group in every hierarchy of version 1, or in the one of version 2.
fn cgroup_directories(group: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.controllers").exists() {
        return vec![top.join(group)];
    }
    names_in(top)
        .into_iter()
        .filter(|name| !["systemd", "unified"].contains(&name.as_str()))
        .map(|name| top.join(name).join(group))
        .collect()
}

fn remove_cgroup(directory: &Path) {
    for name in names_in(directory) {
        let child = directory.join(name);
        if child.is_dir() {
            remove_cgroup(&child);
        }
    }
    let _ = fs::remove_dir(directory);
}

pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
