//! Starts the program and talks to it.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cri_api::v1;
use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use tempfile::TempDir;
use testkit::{DockerEngine, eventually_async};
use tonic::transport::Channel;

pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Set in the process that is to be the program.
const ARGUMENTS: &str = "CRI_DOCKERD_TEST_ARGUMENTS";

/// Not a test of its own: the process that [`Server::start`] makes runs the program here.
#[test]
fn the_program() {
    #[expect(
        clippy::disallowed_methods,
        reason = "how a test process learns what it is to be"
    )]
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return;
    };
    let code = cri_dockerd::run(arguments.split('\n').map(Into::into).collect());
    assert_eq!(
        format!("{code:?}"),
        format!("{:?}", std::process::ExitCode::SUCCESS)
    );
}

/// The program with its arguments.
pub(crate) fn program(arguments: &[String]) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the program under test")]
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["harness::the_program", "--exact", "--nocapture"])
        .env(ARGUMENTS, arguments.join("\n"));
    command
}

/// A running cri-dockerd; ends with the value.
pub(crate) struct Server {
    process: Child,
    directory: TempDir,
    flags: Vec<String>,
    pub(crate) client: RuntimeServiceClient<Channel>,
}

impl Server {
    /// Starts it over the engine at `docker` (a `DOCKER_HOST`) and waits until its socket answers.
    pub(crate) async fn start(docker: &str) -> Self {
        Self::start_with(docker, vec!["--network-plugin=".to_owned()]).await
    }

    /// As [`Server::start`], with these flags for the network.
    pub(crate) async fn start_with(docker: &str, flags: Vec<String>) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), docker, flags).await
    }

    async fn start_in(directory: TempDir, docker: &str, flags: Vec<String>) -> Self {
        let socket = directory.path().join("cri.sock");
        let mut arguments = flags.clone();
        arguments.extend([
            "--log-level=debug".to_owned(),
            format!("--docker-endpoint={docker}"),
            format!("--container-runtime-endpoint=unix://{}", socket.display()),
            format!(
                "--cri-dockerd-root-directory={}",
                directory.path().join("root").display()
            ),
            "--pod-infra-container-image=registry.k8s.io/pause:3.9".to_owned(),
        ]);
        let process = program(&arguments).process_group(0).spawn().unwrap();
        let client = client(&socket).await;
        Self {
            process,
            directory,
            flags,
            client,
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A path below its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A connection of its own, for other clients.
    pub(crate) async fn channel(&self) -> Channel {
        let socket = self.directory.path().join("cri.sock");
        channel(&socket).await
    }

    /// Kills it where it stands and starts it again on the same directory.
    pub(crate) async fn crash_and_restart(mut self, docker: &str) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        let flags = std::mem::take(&mut self.flags);
        Self::start_in(directory, docker, flags).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn client(socket: &Path) -> RuntimeServiceClient<Channel> {
    RuntimeServiceClient::new(channel(socket).await)
}

pub(crate) async fn channel(socket: &Path) -> Channel {
    let endpoint = cri_api::Endpoint::parse(socket.to_str().unwrap()).unwrap();
    eventually_async(SOON, || async {
        cri_api::connect(&endpoint)
            .await
            .map_err(|error| error.to_string())
    })
    .await
}

/// The pod of one test: its own name, removed at the end by [`Pod::remove`].
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) config: v1::PodSandboxConfig,
    pub(crate) id: String,
}

impl Pod {
    /// A pod's settings; names differ between tests and runs.
    pub(crate) fn config(name: &str) -> v1::PodSandboxConfig {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let uid = format!("{name}-{}-{count}", std::process::id());
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.to_owned(),
                uid,
                namespace: "it".to_owned(),
                attempt: 0,
            }),
            labels: BTreeMap::from([("test".to_owned(), name.to_owned())]),
            annotations: BTreeMap::from([("note".to_owned(), "x".to_owned())]),
            linux: Some(v1::LinuxPodSandboxConfig::default()),
            ..Default::default()
        }
    }

    pub(crate) async fn run(server: &mut Server, config: v1::PodSandboxConfig) -> Self {
        let request = v1::RunPodSandboxRequest {
            config: Some(config.clone()),
            ..Default::default()
        };
        let answer = server.client.run_pod_sandbox(request).await.unwrap();
        Self {
            config,
            id: answer.into_inner().pod_sandbox_id,
        }
    }

    /// Creates a container that runs `script`.
    pub(crate) async fn create(&self, server: &mut Server, name: &str, script: &str) -> String {
        let config = Self::container(name, script);
        self.create_with(server, config).await.unwrap()
    }

    /// The settings of a container that runs `script`.
    pub(crate) fn container(name: &str, script: &str) -> v1::ContainerConfig {
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: name.to_owned(),
                attempt: 0,
            }),
            image: Some(v1::ImageSpec {
                image: IMAGE.to_owned(),
                ..Default::default()
            }),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            linux: Some(v1::LinuxContainerConfig::default()),
            ..Default::default()
        }
    }

    /// Creates a container.
    pub(crate) async fn create_with(
        &self,
        server: &mut Server,
        config: v1::ContainerConfig,
    ) -> Result<String, tonic::Status> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(config),
            sandbox_config: Some(self.config.clone()),
        };
        let answer = server.client.create_container(request).await?;
        Ok(answer.into_inner().container_id)
    }

    pub(crate) async fn remove(self, server: &mut Server) {
        let id = self.id;
        let stop = v1::StopPodSandboxRequest {
            pod_sandbox_id: id.clone(),
        };
        server.client.stop_pod_sandbox(stop).await.unwrap();
        let remove = v1::RemovePodSandboxRequest { pod_sandbox_id: id };
        server.client.remove_pod_sandbox(remove).await.unwrap();
    }
}

/// A pod's settings with sysctls of its interface and one of its own; see [`has_sysctls`].
pub(crate) fn with_sysctls(name: &str) -> v1::PodSandboxConfig {
    let mut config = Pod::config(name);
    config.linux.as_mut().unwrap().sysctls = SYSCTLS
        .map(|(name, value)| (name.replace('/', "."), value.to_owned()))
        .into();
    config
}

const SYSCTLS: [(&str, &str); 3] = [
    ("net/ipv4/conf/eth0/arp_ignore", "1"),
    ("net/ipv4/conf/eth0/rp_filter", "2"),
    ("net/ipv4/tcp_syncookies", "0"),
];

/// Sees to it that a pod has the sysctls of [`with_sysctls`].
pub(crate) fn has_sysctls(engine: &DockerEngine, pod: &Pod) {
    let path = format!("/containers/{}/json", pod.id);
    let inspect = engine.json("GET", &path, &serde_json::Value::Null);
    let pid = inspect["State"]["Pid"].as_u64().unwrap();
    let namespace = node_os::netns::of_process(u32::try_from(pid).unwrap());
    let read = |(name, value): (&str, &str)| {
        let seen = std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap();
        assert_eq!(seen.trim(), value, "{name}");
    };
    node_os::netns::run(&namespace, || SYSCTLS.map(read)).unwrap();
}

/// The image of workload containers.
pub(crate) const IMAGE: &str = "berth.test/busybox:1";

pub(crate) async fn start(server: &mut Server, id: &str) {
    let request = v1::StartContainerRequest {
        container_id: id.to_owned(),
    };
    server.client.start_container(request).await.unwrap();
}

pub(crate) async fn status(server: &mut Server, id: &str) -> v1::ContainerStatus {
    let request = v1::ContainerStatusRequest {
        container_id: id.to_owned(),
        verbose: false,
    };
    server
        .client
        .container_status(request)
        .await
        .unwrap()
        .into_inner()
        .status
        .unwrap()
}

/// Waits until a container is in `state`.
pub(crate) async fn reaches(
    server: &Server,
    id: &str,
    state: v1::ContainerState,
) -> v1::ContainerStatus {
    eventually_async(SOON, || async {
        let request = v1::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        let answer = server.client.clone().container_status(request).await;
        let status = answer
            .map_err(|error| error.to_string())?
            .into_inner()
            .status
            .unwrap();
        if status.state() == state {
            Ok(status)
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await
}

/// An engine with the test image.
pub(crate) async fn engine_with_image<E>(engine: E) -> E
where
    E: std::ops::Deref<Target = DockerEngine> + Clone + Send + 'static,
{
    let copy = engine.clone();
    tokio::task::block_in_place(move || testkit::test_image(&copy));
    engine
}
