use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::atomic::{AtomicI32, Ordering},
};

use cri_api::v1;
use daemon::TaskGroup;
use k8s_openapi::{
    api::core::v1::{ExecAction, HTTPGetAction, PodSpec, PodStatus, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kubelet_core::{actions::ProbeResult, observed::container_from_status};
use testkit::{Call, FakeCri, eventually_async};

use super::*;
use crate::{events::EventSink, runtime::fixture};

const SOON: Duration = Duration::from_secs(20);

/// Keeps what it is told.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl EventSink for Told {
    fn record(&self, _object: &ObjectRef, _kind: EventType, reason: &str, message: &str) {
        let line = format!("{reason} {message}");
        self.0.lock().unwrap().push(line);
    }
}

/// A prober over a fake runtime, and a pod that runs in it.
struct World {
    cri: FakeCri,
    probes: Probes,
    statuses: Arc<StatusStore>,
    told: Arc<Told>,
    registry: daemon::metrics::Metrics,
    pod: Arc<Pod>,
    one: String,
    two: String,
    _tasks: TaskGroup,
}

fn exec_probe(failures: i32) -> Probe {
    Probe {
        exec: Some(ExecAction {
            // The second variable has no value of its own, the third is nobody's.
            command: Some(
                ["check", "$(WHO)$(FROM)", "$(NONE)"]
                    .map(str::to_owned)
                    .into(),
            ),
        }),
        period_seconds: Some(1),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

async fn world(container: Container) -> World {
    let cri = FakeCri::start();
    let registry = daemon::metrics::Metrics::new();
    let (runtime, _) = fixture::client(&cri).await;
    let one = fixture::running_container(&cri, &runtime, "one").await;
    let two = fixture::running_container(&cri, &runtime, "two").await;
    let (statuses, told) = (Arc::new(StatusStore::default()), Arc::new(Told::default()));
    let (probes, prober) = Probes::new(ProbesConfig {
        runtime,
        runtime_name: "docker".to_owned(),
        events: told.clone(),
        statuses: statuses.clone(),
        wakes: Arc::default(),
        series: ProbeSeries::register(&registry).unwrap(),
        version: "1.34".to_owned(),
    });
    let tasks = TaskGroup::new("test");
    let token = tasks.token().clone();
    tasks.spawn("prober", async move { prober.run(token).await });
    let mut pod = Pod {
        spec: Some(PodSpec {
            containers: vec![container],
            ..PodSpec::default()
        }),
        ..Pod::default()
    };
    pod.metadata.uid = Some("u".to_owned());
    World {
        cri,
        probes,
        statuses,
        told,
        registry,
        pod: Arc::new(pod),
        one,
        two,
        _tasks: tasks,
    }
}

fn container(probe: impl FnOnce(&mut Container)) -> Container {
    let mut container = Container {
        name: "c".to_owned(),
        ..Container::default()
    };
    let mut who = k8s_openapi::api::core::v1::EnvVar::default();
    (who.name, who.value) = ("WHO".to_owned(), Some("me".to_owned()));
    let from = k8s_openapi::api::core::v1::EnvVar {
        name: "FROM".to_owned(),
        value_from: Some(k8s_openapi::api::core::v1::EnvVarSource::default()),
        ..Default::default()
    };
    container.env = Some(vec![who, from]);
    probe(&mut container);
    container
}

/// What the runtime would say of a container of this id.
fn observed(world: &World, id: &str, state: v1::ContainerState) -> ObservedPod {
    let status = v1::ContainerStatus {
        id: id.to_owned(),
        metadata: Some(v1::ContainerMetadata {
            name: "c".to_owned(),
            attempt: 0,
        }),
        state: state as i32,
        created_at: 1,
        labels: [("io.kubernetes.pod.uid".to_owned(), "u".to_owned())].into(),
        ..v1::ContainerStatus::default()
    };
    let container = container_from_status(&status, None).unwrap();
    ObservedPod::new(PodUid::of(&world.pod), Vec::new(), vec![container])
}

fn answer(code: i32, output: &str) -> v1::ExecSyncResponse {
    v1::ExecSyncResponse {
        exit_code: code,
        stdout: output.into(),
        stderr: Vec::new(),
    }
}

impl World {
    fn results(&self) -> ProbeResults {
        let results = self.probes.results(&PodUid::of(&self.pod));
        results.values().next().copied().unwrap_or_default()
    }

    async fn becomes(&self, what: &str, wanted: impl Fn(ProbeResults) -> bool) {
        eventually_async(SOON, async || {
            let results = self.results();
            if wanted(results) {
                Ok(())
            } else {
                Err(format!(
                    "{what}: {results:?} {:?}",
                    self.told.0.lock().unwrap()
                ))
            }
        })
        .await;
    }

    fn told(&self, text: &str) -> usize {
        let told = self.told.0.lock().unwrap();
        told.iter().filter(|line| line.as_str() == text).count()
    }
}

#[tokio::test]
async fn a_failing_container_is_told_of_and_its_successor_begins_anew() {
    let world = world(container(|c| c.liveness_probe = Some(exec_probe(2)))).await;
    let one = world.one.clone();
    world.cri.on_exec(move |request| {
        assert_eq!(request.cmd, ["check", "me", "$(NONE)"]);
        if request.container_id == one {
            answer(1, "not well")
        } else {
            answer(0, "")
        }
    });
    let running = v1::ContainerState::ContainerRunning;
    world
        .probes
        .look(&world.pod, &observed(&world, &world.one, running), None);
    assert_eq!(world.results().liveness, Some(ProbeResult::Success));
    let failed = |results: ProbeResults| results.liveness == Some(ProbeResult::Failure);
    world.becomes("the first fails", failed).await;
    assert_eq!(world.told("Unhealthy Liveness probe failed: not well"), 2);
    world
        .probes
        .look(&world.pod, &observed(&world, &world.two, running), None);
    assert_eq!(world.results().liveness, Some(ProbeResult::Success));
    let text = world.registry.render().unwrap();
    assert!(text.contains("prober_probe_total"), "{text}");
    world.probes.remove(&PodUid::of(&world.pod));
    let text = world.registry.render().unwrap();
    assert!(!text.contains("pod_uid=\"u\""), "{text}");
}

#[tokio::test]
async fn readiness_reaches_the_status_without_the_worker() {
    let world = world(container(|c| c.readiness_probe = Some(exec_probe(1)))).await;
    let mut pod = (*world.pod).clone();
    pod.status = Some(PodStatus {
        phase: Some("Running".to_owned()),
        container_statuses: Some(vec![k8s_openapi::api::core::v1::ContainerStatus {
            name: "c".to_owned(),
            container_id: Some(format!("docker://{}", world.one)),
            state: Some(k8s_openapi::api::core::v1::ContainerState {
                running: Some(k8s_openapi::api::core::v1::ContainerStateRunning::default()),
                ..Default::default()
            }),
            ..Default::default()
        }]),
        ..PodStatus::default()
    });
    world.statuses.set_desired(&Arc::new(pod));
    let code = Arc::new(AtomicI32::new(0));
    let told = code.clone();
    world
        .cri
        .on_exec(move |_| answer(told.load(Ordering::SeqCst), "no"));
    let running = v1::ContainerState::ContainerRunning;
    world
        .probes
        .look(&world.pod, &observed(&world, &world.one, running), None);
    let ready = || {
        let status = world.statuses.status(&PodUid::of(&world.pod));
        status.container_statuses.unwrap()[0].ready
    };
    for wanted in [true, false] {
        eventually_async(SOON, async || {
            if ready() == wanted {
                Ok(())
            } else {
                Err(format!("ready is {}", ready()))
            }
        })
        .await;
        code.store(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn an_edit_of_something_else_keeps_what_the_probes_have_said() {
    let mut world = world(container(|c| {
        c.startup_probe = Some(exec_probe(1));
        c.readiness_probe = Some(exec_probe(1));
    }))
    .await;
    world.cri.on_exec(|request| {
        let edited = request.cmd[1] == "us";
        answer(i32::from(edited), "edited")
    });
    let running = v1::ContainerState::ContainerRunning;
    let seen = observed(&world, &world.one, running);
    world.probes.look(&world.pod, &seen, None);
    let ready = |results: ProbeResults| results.readiness == Some(ProbeResult::Success);
    world.becomes("ready", ready).await;
    let mut pod = (*world.pod).clone();
    let container = &mut pod.spec.as_mut().unwrap().containers[0];
    container.env.as_mut().unwrap()[0].value = Some("us".to_owned());
    world.pod = Arc::new(pod);
    world.probes.look(&world.pod, &seen, None);
    let expected = ProbeResults {
        startup: Some(ProbeResult::Success),
        readiness: Some(ProbeResult::Success),
        ..ProbeResults::default()
    };
    assert_eq!(world.results(), expected);
    // What is asked from now on is of the container as edited.
    world.becomes("unready", |results| !ready(results)).await;
    assert_eq!(world.results().startup, Some(ProbeResult::Success));
}

#[tokio::test]
async fn a_container_that_is_not_ready_is_asked_again_when_its_pod_is_looked_at() {
    let mut rare = exec_probe(1);
    rare.period_seconds = Some(600);
    let world = world(container(|c| c.readiness_probe = Some(rare))).await;
    let code = Arc::new(AtomicI32::new(1));
    let told = code.clone();
    world
        .cri
        .on_exec(move |_| answer(told.load(Ordering::SeqCst), "no"));
    start(&world);
    eventually_async(SOON, async || {
        match world.told("Unhealthy Readiness probe failed: no") {
            0 => Err("not asked".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    code.store(0, Ordering::SeqCst);
    let running = v1::ContainerState::ContainerRunning;
    let seen = observed(&world, &world.two, running);
    world.probes.look(&world.pod, &seen, None);
    let ready = |results: ProbeResults| results.readiness == Some(ProbeResult::Success);
    world.becomes("ready", ready).await;
}

#[tokio::test]
async fn probe_05_a_question_that_cannot_be_asked_counts_for_nothing() {
    let world = world(container(|c| c.liveness_probe = Some(exec_probe(1)))).await;
    world
        .cri
        .fail(Call::ExecSync, cri_api::Code::Internal, "no such container");
    let running = v1::ContainerState::ContainerRunning;
    world
        .probes
        .look(&world.pod, &observed(&world, &world.one, running), None);
    let event = "Unhealthy Liveness probe errored and resulted in unknown state: \
                 rpc error: code = Internal desc = no such container";
    eventually_async(SOON, async || {
        if world.told(event) > 0 {
            Ok(())
        } else {
            Err(format!("{:?}", world.told.0.lock().unwrap()))
        }
    })
    .await;
    assert_eq!(world.results().liveness, Some(ProbeResult::Success));
    assert_eq!(world.cri.call_count(Call::ExecSync), 3);
}

#[tokio::test]
async fn a_command_that_ended_with_its_container_is_not_told_of() {
    let world = world(container(|c| c.readiness_probe = Some(exec_probe(1)))).await;
    world.cri.exit("one", 1);
    let running = v1::ContainerState::ContainerRunning;
    world
        .probes
        .look(&world.pod, &observed(&world, &world.one, running), None);
    // The second question comes when the answer to the first has been dealt with.
    eventually_async(SOON, async || match world.cri.call_count(Call::ExecSync) {
        0 | 1 => Err("not asked twice".to_owned()),
        _ => Ok(()),
    })
    .await;
    assert_eq!(*world.told.0.lock().unwrap(), Vec::<String>::new());
}

/// Kubernetes kubelet, `StopLivenessAndStartup`: regular containers alone.
#[tokio::test]
async fn probe_06_a_sidecar_is_asked_for_its_health_to_the_end() {
    let mut world = world(container(|c| c.liveness_probe = Some(exec_probe(1)))).await;
    let mut pod = (*world.pod).clone();
    let mut sidecar = container(|c| c.liveness_probe = Some(exec_probe(1)));
    sidecar.name = "s".to_owned();
    sidecar.restart_policy = Some("Always".to_owned());
    pod.spec.as_mut().unwrap().init_containers = Some(vec![sidecar]);
    world.pod = Arc::new(pod);
    let running = v1::ContainerState::ContainerRunning;
    let mut seen = observed(&world, &world.one, running);
    let mut second = observed(&world, &world.two, running).containers.remove(0);
    second.name = "s".into();
    seen.containers.push(second);
    world.cri.on_exec(|_| answer(1, "not well"));
    world.probes.look(&world.pod, &seen, None);
    world
        .probes
        .stop_liveness_and_startup(&PodUid::of(&world.pod));
    eventually_async(SOON, async || {
        let results = world.probes.results(&PodUid::of(&world.pod));
        let of = |id: &String| results[&ContainerId::from(id.as_str())].liveness;
        match of(&world.two) {
            Some(ProbeResult::Failure) if of(&world.one) == Some(ProbeResult::Success) => Ok(()),
            _ => Err(format!("{results:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_is_asked_of_a_container_that_does_not_run() {
    let world = world(container(|c| c.liveness_probe = Some(exec_probe(1)))).await;
    let exited = v1::ContainerState::ContainerExited;
    world
        .probes
        .look(&world.pod, &observed(&world, &world.one, exited), None);
    let state = world.probes.shared.lock();
    assert!(state.queue.is_empty());
}

/// Asked once, half a second after the start: its next tick wakes nobody in time.
fn lone_http_probe(port: u16) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some("/".to_owned()),
            port: IntOrString::Int(port.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(60),
        failure_threshold: Some(1),
        ..Probe::default()
    }
}

/// Shows the container's start.
fn start(world: &World) {
    let exited = v1::ContainerState::ContainerExited;
    let running = v1::ContainerState::ContainerRunning;
    for (id, state) in [(&world.one, exited), (&world.two, running)] {
        let seen = observed(world, id, state);
        world.probes.look(&world.pod, &seen, Some("127.0.0.1"));
    }
}

#[tokio::test]
async fn answers_count_that_come_at_once_and_that_come_later() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let at_once = "HTTP/1.1 302 Found\r\nLocation: /later\r\nContent-Length: 0\r\n\r\n";
    let later = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
    let server = std::thread::spawn(move || {
        [(at_once, Duration::ZERO), (later, 20 * REST)].map(|(answer, after)| {
            let (mut peer, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = peer.read(&mut request).unwrap();
            std::thread::sleep(after);
            peer.write_all(answer.as_bytes()).unwrap();
            let line = request[..read].split(|byte| *byte == b'\r').next();
            String::from_utf8_lossy(line.unwrap()).into_owned()
        })
    });
    let world = world(container(|c| {
        c.readiness_probe = Some(lone_http_probe(port));
    }))
    .await;
    start(&world);
    let ready = |results: ProbeResults| results.readiness == Some(ProbeResult::Success);
    world.becomes("ready", ready).await;
    assert_eq!(
        server.join().unwrap(),
        ["GET / HTTP/1.1", "GET /later HTTP/1.1"]
    );
}

#[tokio::test]
async fn probe_10_a_timeout_after_a_redirect_names_where_it_led() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        let answer = "HTTP/1.1 302 Found\r\nLocation: /slow\r\nContent-Length: 0\r\n\r\n";
        let _ = first.read(&mut [0; 1024]).unwrap();
        first.write_all(answer.as_bytes()).unwrap();
        // The second one waits until the probe has given it up.
        listener.accept().unwrap().0.read_to_end(&mut Vec::new())
    });
    let world = world(container(|c| {
        c.readiness_probe = Some(lone_http_probe(port));
    }))
    .await;
    start(&world);
    let event = format!(
        "Unhealthy Readiness probe failed: Get \"http://127.0.0.1:{port}/slow\": context deadline \
         exceeded (Client.Timeout exceeded while awaiting headers)"
    );
    eventually_async(SOON, async || match world.told(&event) {
        1 => Ok(()),
        _ => Err(format!("{:?}", world.told.0.lock().unwrap())),
    })
    .await;
    server.join().unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_says_nothing_fails_in_time_though_nothing_else_happens() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let world = world(container(|c| {
        c.readiness_probe = Some(lone_http_probe(port));
    }))
    .await;
    start(&world);
    let event = format!(
        "Unhealthy Readiness probe failed: Get \"http://127.0.0.1:{port}/\": context deadline \
         exceeded (Client.Timeout exceeded while awaiting headers)"
    );
    eventually_async(SOON, async || match world.told(&event) {
        1 => Ok(()),
        _ => Err(format!("{:?}", world.told.0.lock().unwrap())),
    })
    .await;
}

#[tokio::test]
async fn a_body_that_does_not_end_in_time_leaves_the_question_open() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        // Whoever asks in vain asks twice more.
        [(); 3].map(|()| {
            let (mut peer, _) = listener.accept().unwrap();
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
            peer.write_all(head).unwrap();
            peer
        })
    });
    let world = world(container(|c| {
        c.readiness_probe = Some(lone_http_probe(port));
    }))
    .await;
    start(&world);
    let event = "Unhealthy Readiness probe errored and resulted in failure state: context deadline \
                 exceeded (Client.Timeout or context cancellation while reading body)";
    eventually_async(SOON, async || match world.told(event) {
        1 => Ok(()),
        _ => Err(format!("{:?}", world.told.0.lock().unwrap())),
    })
    .await;
    drop(server.join().unwrap());
}
