//! A full node: what probes cost, how soon a dead container is replaced, how long statistics take.

use std::{fs, thread, time::Duration};

use cri_api::{
    Endpoint,
    v1::{ListContainerStatsRequest, runtime_service_client::RuntimeServiceClient},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::{DockerEngine, eventually};

use crate::{
    bench::Bench,
    figures::{busy, median, megabytes},
    measure::{REST, list, milliseconds, withdraw},
    node::{Node, PAUSE_IMAGE, manifest},
    report::Report,
};

/// The binary under test, which has a web server for the example pod.
const SERVER_IMAGE: &str = "bench.local/hello:1";
const HTTP_PROBE: &str = ", readinessProbe: {periodSeconds: 1, httpGet: {port: 8080, path: /}}";
const EXEC_PROBE: &str =
    ", readinessProbe: {periodSeconds: 1, exec: {command: [/berth, concurrently, --version]}}";
/// Pods with an exec probe; the machine, not the node, sets this limit.
const EXEC_PODS: usize = 10;
/// Containers in a pod that is there for its number of containers.
const CROWD: usize = 9;
const LISTS: usize = 20;
const PATIENCE: Duration = Duration::from_mins(3);

/// All of it, on a node of its own that is left without pods.
pub(crate) fn all(bench: &Bench, report: &mut Report) {
    import_server(&bench.engine, bench.place.binary());
    let node = bench.place.start(&bench.engine.host());
    node.wait_until_up();
    let pods = names("probed", bench.plan.full);
    probes(bench, report, &node, &pods);
    deaths(bench, report, &pods);
    statistics(bench, report, &node);
    withdraw(bench, &pods);
    exec_probes(bench, report, &node);
}

/// An HTTP probe a second in every pod, with nothing else to do.
fn probes(bench: &Bench, report: &mut Report, node: &Node<'_>, pods: &[String]) {
    bench.say(&format!("{} pods with an HTTP probe a second", pods.len()));
    serve(bench, node, pods, HTTP_PROBE);
    let (cpu, failed) = watch(bench, node);
    let total: f64 = cpu.iter().map(|(_, percent)| percent).sum();
    report.figure(
        &format!("{} pods, an HTTP probe a second each: CPU", pods.len()),
        format!("{total:.2} % of a core"),
        "<= 3 %",
        "",
        total <= 3.0,
    );
    report.beside("  of which", shares(&cpu));
    report.beside("  probes that failed meanwhile", failed.to_string());
    for (name, memory) in node.memory() {
        let target = match &*name {
            "kubelet" => 20.0,
            "cri-dockerd" => 16.0,
            _ => continue,
        };
        report.figure(
            &format!("  RSS of {name} then"),
            format!("{:.1} MB", megabytes(memory.rss)),
            &format!("<= {target} MB"),
            if name == "kubelet" {
                "92 MB, 50 pods, no probes"
            } else {
                "46-51 MB, 100 containers"
            },
            megabytes(memory.rss) <= target,
        );
    }
}

/// From Docker's word that a container is dead until it makes the next one.
fn deaths(bench: &Bench, report: &mut Report, pods: &[String]) {
    bench.say("deaths of containers");
    let took = pods.iter().take(bench.plan.deaths).map(|pod| {
        thread::sleep(REST);
        let id = bench.events.container(pod).expect("the pod runs");
        let found = bench
            .engine
            .json("GET", &format!("/containers/{id}/json"), &Value::Null);
        let pid = found["State"]["Pid"]
            .as_i64()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
            .expect("the container runs");
        kill_process(pid, Signal::KILL).expect("it is ours to kill");
        milliseconds(bench.events.replaced(pod, &id))
    });
    let took: Vec<f64> = took.collect();
    let worst = took.iter().copied().fold(0.0, f64::max);
    report.figure(
        "a container's death to the making of the next, at most",
        format!("{worst:.0} ms"),
        "<= 100 ms",
        "up to 1 s",
        worst <= 100.0,
    );
    report.beside("  p50", format!("{:.0} ms", median(&took)));
    report.beside("  each", list(&took));
}

/// ListContainerStats, over some 200 containers.
fn statistics(bench: &Bench, report: &mut Report, node: &Node<'_>) {
    let missing = bench.plan.listed.saturating_sub(bench.plan.full);
    let pods = names("crowd", missing.div_ceil(CROWD));
    let containers: Vec<String> = names("c", CROWD);
    let containers: Vec<(&str, &str)> = containers
        .iter()
        .map(|name| (name.as_str(), PAUSE_IMAGE))
        .collect();
    bench
        .place
        .apply_as(&pods, |pod| manifest(pod, "", &containers));
    bench.events.running(&pods);
    ready(node, bench.plan.full + pods.len());
    thread::sleep(bench.plan.settle);
    bench.say("statistics");
    let socket = bench.place.path("cri.sock");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let (took, count) = runtime.block_on(async {
        let endpoint = Endpoint::parse(&socket.to_string_lossy()).expect("it is a path");
        let channel = cri_api::connect(&endpoint)
            .await
            .expect("cri-dockerd listens");
        let mut client = RuntimeServiceClient::new(channel);
        let (mut took, mut count) = (Vec::new(), 0);
        for _ in 0..LISTS {
            let begin = std::time::Instant::now();
            let request = ListContainerStatsRequest::default();
            let answer = client.list_container_stats(request).await;
            took.push(milliseconds(begin.elapsed()));
            count = answer
                .expect("cri-dockerd answers")
                .into_inner()
                .stats
                .len();
        }
        (took, count)
    });
    let middle = median(&took);
    report.figure(
        &format!("statistics of {count} containers listed, p50 of {LISTS}"),
        format!("{middle:.1} ms"),
        "<= 50 ms",
        "",
        middle <= 50.0,
    );
    let worst = took.iter().copied().fold(0.0, f64::max);
    report.beside("  at most", format!("{worst:.1} ms"));
    let memory = node.memory();
    let of_cri = memory.iter().find(|(name, _)| name == "cri-dockerd");
    if let Some((_, memory)) = of_cri {
        let rss = megabytes(memory.rss);
        report.beside("  RSS of cri-dockerd then", format!("{rss:.1} MB"));
    }
    withdraw(bench, &pods);
}

/// A command a second in some pods: ours beside what the machine then does, which is mostly Docker's.
fn exec_probes(bench: &Bench, report: &mut Report, node: &Node<'_>) {
    let pods = names("asked", EXEC_PODS.min(bench.plan.full));
    bench.say(&format!("{} pods with an exec probe a second", pods.len()));
    serve(bench, node, &pods, EXEC_PROBE);
    let before = busy();
    let (cpu, failed) = watch(bench, node);
    let machine = busy().saturating_sub(before).as_secs_f64() / bench.plan.probing.as_secs_f64();
    report.beside(
        &format!("{} pods, an exec probe a second each: CPU", pods.len()),
        shares(&cpu),
    );
    report.beside(
        "  the whole machine, Docker and the commands with it",
        format!("{:.0} % of a core, {failed} failed", 100.0 * machine),
    );
    withdraw(bench, &pods);
}

/// Starts pods of the web server and waits until they are ready and the node is at rest.
fn serve(bench: &Bench, node: &Node<'_>, pods: &[String], probe: &str) {
    bench
        .place
        .apply_as(pods, |pod| manifest(pod, probe, &[("app", SERVER_IMAGE)]));
    bench.events.running(pods);
    ready(node, pods.len());
    thread::sleep(bench.plan.settle);
}

/// The CPU of each daemon in percent of a core while probes are asked, and how many of those failed.
fn watch(bench: &Bench, node: &Node<'_>) -> (Vec<(String, f64)>, f64) {
    let failed = || {
        let text = node.read_only("/metrics/probes");
        let all = text
            .lines()
            .filter(|line| line.contains("result=\"failed\""))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        all.sum::<f64>()
    };
    let (before, failures) = (node.work(), failed());
    thread::sleep(bench.plan.probing);
    let (after, more) = (node.work(), failed());
    let seconds = bench.plan.probing.as_secs_f64();
    let cpu = after
        .into_iter()
        .zip(before)
        .map(|((name, after), (_, before))| {
            let percent = 100.0 * after.cpu_since(&before).as_secs_f64() / seconds;
            (name, percent)
        });
    (cpu.collect(), more - failures)
}

fn shares(cpu: &[(String, f64)]) -> String {
    let each = cpu
        .iter()
        .map(|(name, percent)| format!("{name} {percent:.2} %"));
    each.collect::<Vec<_>>().join(", ")
}

/// Waits until the kubelet calls so many pods ready.
fn ready(node: &Node<'_>, count: usize) {
    eventually(PATIENCE, || {
        let pods: Value = serde_json::from_str(&node.read_only("/pods")).unwrap_or_default();
        let ready = pods["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|pod| {
                let conditions = pod["status"]["conditions"].as_array();
                conditions
                    .into_iter()
                    .flatten()
                    .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
            });
        match ready.count() {
            found if found == count => Ok(()),
            found => Err(format!("{found} of {count} pods are ready")),
        }
    });
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{prefix}-{number}"))
        .collect()
}

/// Makes [`SERVER_IMAGE`] of the binary.
fn import_server(engine: &DockerEngine, binary: &std::path::Path) {
    let content = fs::read(binary).expect("the binary is there");
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(content.len() as u64);
    let mut archive = tar::Builder::new(Vec::new());
    archive
        .append_data(&mut header, "berth", content.as_slice())
        .expect("memory takes it");
    let archive = archive.into_inner().expect("memory takes it");
    let (repository, tag) = SERVER_IMAGE.rsplit_once(':').expect("it has a tag");
    // ENTRYPOINT ["/berth","hello"]
    let path = format!(
        "/images/create?fromSrc=-&repo={repository}&tag={tag}\
         &changes=ENTRYPOINT%20%5B%22%2Fberth%22%2C%22hello%22%5D"
    );
    engine
        .request("POST", &path, Some(("application/x-tar", &archive)))
        .expect_success("import the server's image");
}
