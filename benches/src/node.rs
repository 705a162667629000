//! The node under test, as it is shipped: concurrently around cri-dockerd and kubelet.
//!
//! It lives in the directory and cgroup of its engine, whose keeper removes whatever is left of it,
//! however the bench ends.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use testkit::{DockerEngine, eventually};

use crate::figures::{Memory, Work, now};

/// The image of every container here: cri-dockerd brings it along.
pub(crate) const PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.9";
const PATIENCE: Duration = Duration::from_mins(1);

/// Where a node keeps its things; a node that is started again finds its pods here.
#[derive(Debug)]
pub(crate) struct Place {
    binary: PathBuf,
    root: PathBuf,
    health_port: u16,
    read_only_port: u16,
}

impl Place {
    /// Directories, cgroup and configuration.
    pub(crate) fn prepare(binary: &Path, engine: &DockerEngine) -> Self {
        let data = engine.data_root();
        let directory = data.parent().expect("the engine has a directory");
        let root = directory.join("node");
        for name in ["manifests", "root", "logs", "cri"] {
            fs::create_dir_all(root.join(name)).expect("it is ours");
        }
        let name = directory
            .file_name()
            .expect("it has a name")
            .to_string_lossy();
        let cgroup = format!("{name}/node");
        make_cgroup(&cgroup);
        let place = Self {
            binary: binary.to_owned(),
            root,
            health_port: free_port(),
            read_only_port: free_port(),
        };
        // config/dockerd.yml with directories, ports and cgroup of our own.
        let text = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
             containerRuntimeEndpoint: unix://{root}/cri.sock\nstaticPodPath: {root}/manifests\n\
             podLogsDir: {root}/logs/pods\nreadOnlyPort: {read_only}\nhealthzPort: {health}\n\
             maxPods: 200\n\
             address: 127.0.0.1\nfailSwapOn: false\ncgroupRoot: /{cgroup}\n\
             authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}\n\
             authorization: {{mode: AlwaysAllow}}\nlogging: {{verbosity: 2}}\n",
            root = place.root.display(),
            read_only = place.read_only_port,
            health = place.health_port,
        );
        fs::write(place.path("kubelet.yaml"), text).expect("it is ours");
        place
    }

    /// The program under test.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// A path below the node's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Puts manifests of pods in place that need no registry: one container from the pause image,
    /// which ends at once when told. See [`Place::apply_as`].
    pub(crate) fn apply(&self, pods: &[String]) -> i64 {
        self.apply_as(pods, |pod| manifest(pod, "", &[("app", PAUSE_IMAGE)]))
    }

    /// Puts manifests in place, one rename each; the moment before the first, in nanoseconds since
    /// the epoch.
    pub(crate) fn apply_as(&self, pods: &[String], manifest: impl Fn(&str) -> String) -> i64 {
        let hidden = |pod: &String| self.path(&format!("manifests/.{pod}"));
        for pod in pods {
            fs::write(hidden(pod), manifest(pod)).expect("it is ours");
        }
        let begin = now();
        for pod in pods {
            fs::rename(hidden(pod), self.manifest_file(pod)).expect("it is ours");
        }
        begin
    }

    /// Takes manifests away.
    pub(crate) fn withdraw(&self, pods: &[String]) {
        for pod in pods {
            fs::remove_file(self.manifest_file(pod)).expect("it is ours");
        }
    }

    /// Starts the three daemons; `docker_host` is the engine or what stands before it.
    pub(crate) fn start(&self, docker_host: &str) -> Node<'_> {
        let (binary, root) = (self.binary.display(), self.root.display());
        let cri_dockerd = format!(
            "exec {binary} cri-dockerd --docker-endpoint={docker_host} \
             --container-runtime-endpoint=unix://{root}/cri.sock \
             --cri-dockerd-root-directory={root}/cri --cni-conf-dir={root}/no-cni \
             --network-plugin=cni --cni-fallback=bridge --pod-infra-container-image={PAUSE_IMAGE}"
        );
        let kubelet = format!(
            "exec {binary} kubelet --config={root}/kubelet.yaml --root-dir={root}/root \
             --cert-dir={root}/pki --hostname-override=n"
        );
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("node.log"))
            .expect("it is ours");
        #[expect(
            clippy::disallowed_methods,
            reason = "the daemons are what is measured"
        )]
        let child = Command::new(&self.binary)
            .args([
                "concurrently",
                "--names=cri-dockerd,kubelet",
                "--restart-tries=-1",
            ])
            .args(["--restart-after=exponential", &cri_dockerd, &kubelet])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{binary}: {error}; `make bench` builds it"));
        Node { place: self, child }
    }

    fn manifest_file(&self, pod: &str) -> PathBuf {
        self.path(&format!("manifests/{pod}.yaml"))
    }
}

/// The running daemons. Dropping it stops them; the pods stay.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    place: &'a Place,
    child: Child,
}

impl Node<'_> {
    /// Waits until the kubelet answers.
    pub(crate) fn wait_until_up(&self) {
        eventually(PATIENCE, || match get(self.place.health_port, "/healthz") {
            Ok(body) if body == "ok" => Ok(()),
            other => Err(format!("{other:?}\n{}", self.log_tail())),
        });
    }

    /// What the kubelet's read-only port answers.
    pub(crate) fn read_only(&self, path: &str) -> String {
        get(self.place.read_only_port, path).expect("the kubelet answers")
    }

    /// The process ids of the three daemons, by name.
    pub(crate) fn daemons(&self) -> Vec<(String, u32)> {
        let parent = self.child.id();
        let children = fs::read_dir(format!("/proc/{parent}/task"))
            .expect("concurrently runs")
            .flatten()
            .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default())
            .collect::<String>();
        let children: Vec<u32> = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect();
        let mut all = vec![("concurrently".to_owned(), parent)];
        for name in ["cri-dockerd", "kubelet"] {
            let pid = children
                .iter()
                .find(|pid| second_word(**pid).as_deref() == Some(name));
            let pid = pid.unwrap_or_else(|| panic!("no {name} runs:\n{}", self.log_tail()));
            all.push((name.to_owned(), *pid));
        }
        all
    }

    /// Memory of each daemon.
    pub(crate) fn memory(&self) -> Vec<(String, Memory)> {
        let each = self.daemons().into_iter();
        each.map(|(name, pid)| (name, Memory::of(pid))).collect()
    }

    /// What each daemon did since its start.
    pub(crate) fn work(&self) -> Vec<(String, Work)> {
        let each = self.daemons().into_iter();
        each.map(|(name, pid)| (name, Work::of(pid))).collect()
    }

    /// The last lines that the daemons wrote.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.place.path("node.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut stderr = io::stderr().lock();
            let _ = writeln!(stderr, "--- the node's log ends with\n{}", self.log_tail());
        }
        // concurrently stops the others, and kills what does not end.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// A pod of these containers, by name and image; `more` is what else each of them says, in YAML.
pub(crate) fn manifest(pod: &str, more: &str, containers: &[(&str, &str)]) -> String {
    let containers = containers.iter().map(|(name, image)| {
        format!("  - {{name: {name}, image: {image}, imagePullPolicy: Never{more}}}\n")
    });
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}}}\nspec:\n  \
         terminationGracePeriodSeconds: 5\n  containers:\n{}",
        containers.collect::<String>()
    )
}

fn second_word(pid: u32) -> Option<String> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    line.split('\0').nth(1).map(str::to_owned)
}

/// In every hierarchy of version 1, or in the one of version 2.
fn make_cgroup(cgroup: &str) {
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.controllers").exists() {
        fs::create_dir_all(top.join(cgroup)).expect("root makes cgroups");
        return;
    }
    for hierarchy in fs::read_dir(top).expect("cgroups are mounted").flatten() {
        let name = hierarchy.file_name();
        if name != "systemd" && name != "unified" && hierarchy.path().is_dir() {
            fs::create_dir_all(hierarchy.path().join(cgroup)).expect("root makes cgroups");
        }
    }
}

fn get(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    body.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, answer))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}
