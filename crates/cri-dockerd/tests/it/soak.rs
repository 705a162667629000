//! `make soak`: many clients, many containers, for long; once in peace, once with dockerd killed
//! under them again and again. No wrong answer, and nothing left of ours.
//!
//! `SOAK_SECONDS` is the length of each of the two (600), `SOAK_CLIENTS` how many work at once (20);
//! each keeps five pods of two containers.
#![expect(
    clippy::print_stderr,
    reason = "a run of ten minutes says how it goes, and what Docker leaks"
)]

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cri_api::v1::{
    self, ContainerState, ExecSyncRequest, ListContainersRequest, RemovePodSandboxRequest,
    StopContainerRequest, StopPodSandboxRequest, runtime_service_client::RuntimeServiceClient,
};
use serde_json::{Value, json};
use testkit::{DockerEngine, EngineOptions, eventually_async};
use tonic::{Code, Status, transport::Channel};

use crate::harness::{IMAGE, Pod, SOON, Server};

type Client = RuntimeServiceClient<Channel>;

const PODS_PER_CLIENT: usize = 5;
const CONTAINERS_PER_POD: usize = 2;
/// How often dockerd is killed in the second run.
const KILLS: u32 = 20;
/// How long it lives at least before it is killed again.
const SHORTEST_LIFE: Duration = Duration::from_secs(2);
/// A call that takes longer has gone wrong.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug, Clone)]
struct Standing {
    sandbox: String,
    containers: Vec<String>,
    log: PathBuf,
    /// Its removal was asked for, perhaps of a Docker that did not live to answer: what it held may
    /// be gone.
    going: bool,
}

/// Why a round of a client ended early.
enum Broken {
    /// The engine is away: no wrong answer where it is killed on purpose.
    Away,
    /// Anything else is.
    Wrong(String),
}

fn wrong(what: impl std::fmt::Debug) -> Broken {
    Broken::Wrong(format!("{what:?}"))
}

/// An answer, or why there is none.
async fn ask<T>(
    what: &str,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Broken> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) if status.code() == Code::Unavailable => Err(Broken::Away),
        Ok(Err(status)) => Err(Broken::Wrong(format!("{what}: {status:?}"))),
        Err(_) => Err(Broken::Wrong(format!("{what}: no answer in {PATIENCE:?}"))),
    }
}

/// One client's work: pods come, are looked at, and go, the oldest first.
struct Worker {
    number: usize,
    client: Client,
    logs: PathBuf,
    standing: VecDeque<Standing>,
    pods: u64,
    away: u64,
}

impl Worker {
    async fn work(mut self, over: Arc<AtomicBool>, may_be_away: bool) -> (u64, u64) {
        while !over.load(Ordering::Relaxed) {
            let round = if self.standing.len() < PODS_PER_CLIENT {
                Box::pin(self.start()).await
            } else {
                self.end_oldest().await
            };
            self.judge(round, may_be_away).await;
        }
        while !self.standing.is_empty() {
            let round = self.end_oldest().await;
            self.judge(round, may_be_away).await;
        }
        (self.pods, self.away)
    }

    async fn judge(&mut self, round: Result<(), Broken>, may_be_away: bool) {
        match round {
            Ok(()) => {}
            Err(Broken::Away) if may_be_away => {
                self.away += 1;
                // A client that calls on and on would only heat the machine.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(Broken::Away) => panic!("client {}: docker was away", self.number),
            Err(Broken::Wrong(what)) => panic!("client {}: {what}", self.number),
        }
    }

    async fn start(&mut self) -> Result<(), Broken> {
        self.pods += 1;
        let name = format!("soak-{}-{}", self.number, self.pods);
        let mut config = Pod::config(&name);
        let log_directory = self.logs.join(&name);
        std::fs::create_dir_all(&log_directory).map_err(wrong)?;
        config.log_directory = log_directory.display().to_string();
        let run = v1::RunPodSandboxRequest {
            config: Some(config.clone()),
            ..Default::default()
        };
        let sandbox = ask("run", self.client.run_pod_sandbox(run)).await?;
        let sandbox = sandbox.pod_sandbox_id;
        // From here on it is ours to remove, whatever happens.
        self.standing.push_back(Standing {
            sandbox: sandbox.clone(),
            containers: Vec::new(),
            log: log_directory.join("c0.log"),
            going: false,
        });
        for number in 0..CONTAINERS_PER_POD {
            let create = v1::CreateContainerRequest {
                pod_sandbox_id: sandbox.clone(),
                config: Some(container(number)),
                sandbox_config: Some(config.clone()),
            };
            let id = Box::pin(ask("create", self.client.create_container(create))).await?;
            let id = id.container_id;
            let request = v1::StartContainerRequest {
                container_id: id.clone(),
            };
            ask("start", self.client.start_container(request)).await?;
            self.standing
                .back_mut()
                .expect("pushed above")
                .containers
                .push(id);
        }
        let standing = self.standing.back().expect("pushed above").clone();
        self.check(&standing).await
    }

    /// What was started stands, is listed and answers.
    async fn check(&mut self, standing: &Standing) -> Result<(), Broken> {
        let filter = v1::ContainerFilter {
            pod_sandbox_id: standing.sandbox.clone(),
            ..Default::default()
        };
        let request = ListContainersRequest {
            filter: Some(filter),
        };
        let listed = ask("list", self.client.list_containers(request)).await?;
        let mut listed: Vec<_> = listed
            .containers
            .iter()
            .map(|one| (one.id.clone(), one.state()))
            .collect();
        listed.sort_unstable();
        let mut wanted: Vec<_> = standing
            .containers
            .iter()
            .map(|id| (id.clone(), ContainerState::ContainerRunning))
            .collect();
        wanted.sort_unstable();
        if listed != wanted {
            return Err(Broken::Wrong(format!("listed {listed:?}, not {wanted:?}")));
        }
        let request = ExecSyncRequest {
            container_id: standing.containers[0].clone(),
            cmd: ["echo", "it", "works"].map(str::to_owned).to_vec(),
            timeout: 60,
        };
        let answer = ask("exec", self.client.exec_sync(request)).await?;
        if (answer.exit_code, answer.stdout.as_slice()) != (0, b"it works\n") {
            return Err(wrong(answer));
        }
        Ok(())
    }

    async fn end_oldest(&mut self) -> Result<(), Broken> {
        let Some(standing) = self.standing.front().cloned() else {
            return Ok(());
        };
        if let Some(id) = standing.containers.first().filter(|_| !standing.going) {
            let stop = StopContainerRequest {
                container_id: id.clone(),
                timeout: 0,
            };
            ask("stop", self.client.stop_container(stop)).await?;
            let request = v1::ContainerStatusRequest {
                container_id: id.clone(),
                verbose: false,
            };
            let status = ask("status", self.client.container_status(request)).await?;
            let state = status.status.as_ref().map(v1::ContainerStatus::state);
            if state != Some(ContainerState::ContainerExited) {
                return Err(wrong(status));
            }
            // Shown as exited, its log is whole (DEC-10).
            let log = std::fs::read_to_string(&standing.log).map_err(wrong)?;
            if log.matches("hello from 0").count() != 1 {
                return Err(Broken::Wrong(format!(
                    "{}: {log:?}",
                    standing.log.display()
                )));
            }
        }
        let id = standing.sandbox.clone();
        let stop = StopPodSandboxRequest {
            pod_sandbox_id: id.clone(),
        };
        ask("stop pod", self.client.stop_pod_sandbox(stop)).await?;
        let remove = RemovePodSandboxRequest { pod_sandbox_id: id };
        self.standing.front_mut().expect("it is the oldest").going = true;
        ask("remove pod", self.client.remove_pod_sandbox(remove)).await?;
        self.standing.pop_front();
        Ok(())
    }
}

fn container(number: usize) -> v1::ContainerConfig {
    let script = format!("echo hello from {number}; exec sleep 100000");
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: format!("c{number}"),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: IMAGE.to_owned(),
            ..Default::default()
        }),
        command: ["sh", "-c", &script].map(str::to_owned).to_vec(),
        log_path: format!("c{number}.log"),
        linux: Some(v1::LinuxContainerConfig::default()),
        ..Default::default()
    }
}

/// What cri-dockerd itself holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    descriptors: usize,
    threads: usize,
    rss_kib: u64,
}

fn held(pid: u32) -> Held {
    let count =
        |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Held {
        descriptors: count("fd"),
        threads: count("task"),
        rss_kib: rss
            .and_then(|text| text.split_whitespace().next()?.parse().ok())
            .unwrap_or_default(),
    }
}

/// A number from the environment.
fn setting(name: &str, otherwise: u64) -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the length of a run is the caller's"
    )]
    let value = std::env::var(name);
    value.map_or(otherwise, |text| {
        text.parse()
            .unwrap_or_else(|error| panic!("{name}={text}: {error}"))
    })
}

fn engine(arguments: &[&str]) -> Arc<DockerEngine> {
    tokio::task::block_in_place(|| {
        let engine = DockerEngine::start_with(EngineOptions {
            arguments: arguments.iter().map(ToString::to_string).collect(),
        });
        testkit::test_image(&engine);
        Arc::new(engine)
    })
}

/// Runs the clients for as long as `beside` takes beside them, and checks that nothing is left.
async fn soak<F: Future<Output = ()>>(
    engine: &Arc<DockerEngine>,
    may_be_away: bool,
    beside: impl FnOnce(Instant) -> F,
) {
    let server = Server::start(&engine.host()).await;
    let logs = tempfile::tempdir().unwrap();
    let before = held(server.pid());
    let until = Instant::now() + Duration::from_secs(setting("SOAK_SECONDS", 600));
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..usize::try_from(setting("SOAK_CLIENTS", 20)).unwrap() {
        let worker = Worker {
            number,
            client: Client::new(server.channel().await),
            logs: logs.path().to_owned(),
            standing: VecDeque::new(),
            pods: 0,
            away: 0,
        };
        clients.spawn(worker.work(Arc::clone(&over), may_be_away));
    }
    beside(until).await;
    over.store(true, Ordering::Relaxed);
    let (mut pods, mut away) = (0, 0);
    while let Some(done) = clients.join_next().await {
        let (more_pods, more_away) = done.expect("a client failed");
        pods += more_pods;
        away += more_away;
    }
    // What a call began whose answer was lost: its caller asks for it again or lets it go.
    remove_what_nobody_knows(&server).await;
    nothing_is_left(&server, engine).await;
    let after = held(server.pid());
    eprintln!(
        "soak: {pods} pods, {away} calls while docker was away; held {before:?}, then {after:?}"
    );
    assert!(after.descriptors <= before.descriptors + 20, "{after:?}");
    assert!(after.threads <= before.threads + 8, "{after:?}");
    assert!(after.rss_kib < 30 * 1024, "{after:?}");
}

async fn remove_what_nobody_knows(server: &Server) {
    let mut client = server.client.clone();
    // The last kill may have been a moment ago.
    let left = eventually_async(SOON, || async {
        let request = v1::ListPodSandboxRequest::default();
        let listed = server.client.clone().list_pod_sandbox(request).await;
        listed.map_err(|status| status.to_string())
    });
    for sandbox in left.await.into_inner().items {
        let id = sandbox.id;
        let stop = StopPodSandboxRequest {
            pod_sandbox_id: id.clone(),
        };
        client.stop_pod_sandbox(stop).await.unwrap();
        let remove = RemovePodSandboxRequest { pod_sandbox_id: id };
        client.remove_pod_sandbox(remove).await.unwrap();
    }
}

/// Ours: no sandbox, container, checkpoint. Docker's own leaks are told, and those removed that its
/// API can remove.
async fn nothing_is_left(server: &Server, engine: &DockerEngine) {
    let mut client = server.client.clone();
    let request = ListContainersRequest::default();
    let containers = client.list_containers(request).await.unwrap().into_inner();
    assert_eq!(containers.containers, []);
    let checkpoints = server.path("root/sandbox");
    eventually_async(SOON, || async {
        let left = std::fs::read_dir(&checkpoints).map_or(0, Iterator::count);
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} checkpoints"))
        }
    })
    .await;
    tokio::task::block_in_place(|| {
        let all = engine.json("GET", "/containers/json?all=1", &Value::Null);
        assert_eq!(all, json!([]));
        tell_leaks_of_docker(engine);
    });
}

/// What Docker keeps of containers that it does not have any more. Its API removes volumes only.
fn tell_leaks_of_docker(engine: &DockerEngine) {
    let bridge = engine.json("GET", "/networks/bridge", &Value::Null);
    let volumes = engine.json("POST", "/volumes/prune", &Value::Null);
    let (data, exec) = (engine.data_root(), engine.exec_root());
    let data_text = data.display().to_string();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter(|line| line.contains(&data_text));
    // One graph driver's directory of writable layers, whichever it is.
    let layers = std::fs::read_dir(data.join("image")).into_iter().flatten();
    let layers = layers.filter_map(|driver| Some(driver.ok()?.path().join("layerdb/mounts")));
    // The engine's parent of cgroups is called as its directory; shims name its socket.
    let name = data.parent().and_then(Path::file_name);
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    let shims = processes("cmdline", &format!("{}/containerd", exec.display()));
    let shims = shims.iter().filter(|line| line.contains("shim"));
    eprintln!(
        "soak: docker leaves {} mounts, {} container directories, {} writable layers, {} shims, \
         {} processes in containers, endpoints {}, volumes (removed) {}",
        mounts.count(),
        directories(&data.join("containers")),
        layers.map(|path| directories(&path)).sum::<usize>(),
        shims.count(),
        processes("cgroup", &format!("/{name}/")).len(),
        bridge["Containers"],
        volumes["VolumesDeleted"],
    );
}

/// What stands in this file of each process, where it holds `text`.
fn processes(file: &str, text: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").into_iter().flatten();
    let all = all.filter_map(|process| std::fs::read(process.ok()?.path().join(file)).ok());
    all.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .filter(|found| found.contains(text))
        .collect()
}

fn directories(path: &Path) -> usize {
    std::fs::read_dir(path).map_or(0, Iterator::count)
}

#[ignore = "long: make soak"]
#[tokio::test(flavor = "multi_thread")]
async fn many_clients_get_no_wrong_answer_and_nothing_leaks() {
    let engine = engine(&[]);
    soak(&engine, false, |until| {
        tokio::time::sleep_until(until.into())
    })
    .await;
}

#[ignore = "long: make soak"]
#[tokio::test(flavor = "multi_thread")]
async fn many_clients_outlive_a_dockerd_that_is_killed_again_and_again() {
    let engine = engine(&["--live-restore"]);
    let killed = Arc::clone(&engine);
    soak(&engine, true, |until| async move {
        for kill in 1..=KILLS {
            // A slow start of dockerd is made good; all kills have the clients beside them.
            let left = until.saturating_duration_since(Instant::now());
            tokio::time::sleep((left / (KILLS + 2 - kill)).max(SHORTEST_LIFE)).await;
            eprintln!("soak: dockerd killed, {kill} of {KILLS}");
            tokio::task::block_in_place(|| {
                killed.kill();
                killed.restart();
            });
        }
    })
    .await;
}
