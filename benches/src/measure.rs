//! The measurements, in the order in which one leaves the node as the next needs it.

use std::{collections::BTreeMap, thread, time::Duration};

use crate::{
    bench::Bench,
    figures::{Memory, counters, median, megabytes, now, since},
    floor,
    node::Node,
    proxy::Proxy,
    report::Report,
};

/// Pods that the floor starts at a time.
const LEVELS: [usize; 5] = [1, 2, 4, 8, 16];
const RUNTIME_CALLS: &str = "kubelet_runtime_operations_total";

/// Between two pods, so that what follows the start of one is no part of the next.
pub(crate) const REST: Duration = Duration::from_millis(300);

/// All of them.
pub(crate) fn all(bench: &Bench, report: &mut Report) {
    start_to_first_pod(bench, report);
    let host = bench.engine.host();
    let many = {
        let node = bench.place.start(&host);
        node.wait_until_up();
        thread::sleep(bench.plan.settle);
        memory(&node, report, "0 pods", 20.0, "131 + Node's 57 MB");
        one_after_the_other(bench, report);
        let many = all_at_once(bench, &node, report);
        thread::sleep(bench.plan.settle);
        memory(
            &node,
            report,
            &format!("{} pods", bench.plan.many),
            30.0,
            "143 MB",
        );
        many
    };
    silence(bench, report, &many);
}

/// From the start of the processes to the first pod's container running.
fn start_to_first_pod(bench: &Bench, report: &mut Report) {
    let mut took = Vec::new();
    let mut floors = Vec::new();
    // The first start also loads the pause image: told, not counted.
    for round in 0..=bench.plan.rounds {
        bench.say(&format!("start to first pod, run {round}"));
        let pods = [format!("first-{round}")];
        bench.place.apply(&pods);
        let begin = now();
        let node = bench.place.start(&bench.engine.host());
        let running = bench.events.running(&pods);
        took.push(since(begin, &running));
        node.wait_until_up();
        withdraw(bench, &pods);
        drop(node);
        let (floor, pod) = floor::one(
            &bench.engine,
            &bench.events,
            &format!("floor-first-{round}"),
        );
        floor::remove(&bench.engine, &[pod]);
        floors.push(milliseconds(floor));
    }
    let first = milliseconds(took.remove(0));
    let took: Vec<f64> = took.into_iter().map(milliseconds).collect();
    let middle = median(&took);
    report.figure(
        "start of the processes to first pod running",
        format!("{middle:.0} ms"),
        "<= 1000 ms",
        "1200 ms, cri-dockerd being up",
        middle <= 1000.0,
    );
    report.beside("  runs", list(&took));
    report.beside("  the floor then took", list(&floors[1..]));
    report.beside(
        "  the very first, which loads the pause image",
        format!("{first:.0} ms"),
    );
}

/// Manifest in place to container running, pod after pod, in turns with the floor.
fn one_after_the_other(bench: &Bench, report: &mut Report) {
    let (mut ours, mut floors, mut over) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.plan.rounds {
        bench.say(&format!("pods one after the other, run {round}"));
        let (mut our_times, mut floor_times) = (Vec::new(), Vec::new());
        let (mut pods, mut floor_pods) = (Vec::new(), Vec::new());
        for number in 0..bench.plan.sequence {
            let mut run_floor = || {
                thread::sleep(REST);
                let name = format!("floor-{round}-{number}");
                let (took, pod) = floor::one(&bench.engine, &bench.events, &name);
                floor_times.push(milliseconds(took));
                floor_pods.push(pod);
            };
            // In turns also here: what follows a start may reach into the next.
            if number % 2 == 0 {
                run_floor();
            }
            thread::sleep(REST);
            let pod = [format!("seq-{round}-{number}")];
            let begin = bench.place.apply(&pod);
            let took = since(begin, &bench.events.running(&pod));
            our_times.push(milliseconds(took));
            pods.extend(pod);
            if number % 2 == 1 {
                run_floor();
            }
        }
        floor::remove(&bench.engine, &floor_pods);
        withdraw(bench, &pods);
        over.push(median(&our_times) - median(&floor_times));
        ours.push(median(&our_times));
        floors.push(median(&floor_times));
    }
    let middle = median(&over);
    report.figure(
        "manifest written to container running, p50",
        format!("floor {middle:+.1} ms"),
        "<= floor + 30 ms",
        "+75 ms",
        middle <= 30.0,
    );
    report.beside("  runs, ours", list(&ours));
    report.beside("  runs, floor", list(&floors));
}

/// Many pods at once, in turns with the floor at its best. Leaves the last ones running.
fn all_at_once(bench: &Bench, node: &Node<'_>, report: &mut Report) -> Vec<String> {
    let plan = bench.plan;
    let names = |prefix: &str, count: usize| -> Vec<String> {
        (0..count)
            .map(|number| format!("{prefix}-{number}"))
            .collect()
    };
    let floor = |prefix: &str, count: usize, parallel: usize| {
        bench.say(&format!("{count} pods at once: {prefix}"));
        let names = names(prefix, count);
        let (took, pods) = floor::batch(&bench.engine, &bench.events, &names, parallel);
        floor::remove(&bench.engine, &pods);
        milliseconds(took)
    };
    let sweep = LEVELS.map(|level| (level, floor(&format!("sweep-{level}"), plan.sweep, level)));
    let best = sweep.iter().min_by(|one, other| one.1.total_cmp(&other.1));
    let best = best.map_or(1, |(level, _)| *level);

    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    let (mut left, mut memories) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        // In turns also within the runs; the last is ours.
        let floor_first = (plan.rounds - round) % 2 == 1;
        let mut run_floor = || floors.push(floor(&format!("floor-many-{round}"), plan.many, best));
        if floor_first {
            run_floor();
        }
        bench.say(&format!("{} pods at once: ours, run {round}", plan.many));
        left = names(&format!("many-{round}"), plan.many);
        let begin = bench.place.apply(&left);
        ours.push(milliseconds(since(begin, &bench.events.running(&left))));
        thread::sleep(REST);
        let all = node.memory().into_iter();
        memories.push(all.map(|(_, memory)| megabytes(memory.rss)).sum::<f64>());
        if round + 1 < plan.rounds {
            withdraw(bench, &left);
        }
        if !floor_first {
            run_floor();
        }
    }
    let ratios: Vec<f64> = ours
        .iter()
        .zip(&floors)
        .map(|(ours, floor)| ours / floor)
        .collect();
    let middle = median(&ratios);
    report.figure(
        &format!("{} pods at once, until the last runs", plan.many),
        format!("{middle:.2} x floor"),
        "<= 1.10 x floor",
        "1.06-1.18 x",
        middle <= 1.10,
    );
    report.beside("  runs, ours", list(&ours));
    report.beside(&format!("  runs, floor, {best} at a time"), list(&floors));
    let memories: Vec<String> = memories.iter().map(|rss| format!("{rss:.1}")).collect();
    report.beside(
        "  runs, RSS at the end",
        format!("{} MB", memories.join(", ")),
    );
    let sweep: Vec<String> = sweep
        .iter()
        .map(|(level, took)| format!("{level}: {took:.0} ms"))
        .collect();
    report.beside(
        &format!("  floor, {} pods, so many at a time", plan.sweep),
        sweep.join(", "),
    );
    left
}

/// Rest with many pods: CPU, wake-ups and requests to Docker. Begins with a restart of the daemons,
/// so that the proxy stands between them; the pods have to stay.
fn silence(bench: &Bench, report: &mut Report, pods: &[String]) {
    let plan = bench.plan;
    let starts = bench.events.starts();
    // Dropped after the node, which is its client.
    let proxy = Proxy::start(&bench.place.path("docker.sock"), &bench.engine.socket());
    let node = bench.place.start(&proxy.host());
    node.wait_until_up();
    thread::sleep(plan.settle);
    let adoption = proxy.kinds(0);
    memory(
        &node,
        report,
        &format!("{} adopted pods", plan.many),
        30.0,
        "143 MB",
    );

    bench.say(&format!("silence with {} pods", plan.many));
    let (asked, before) = (proxy.count(), node.work());
    thread::sleep(plan.silence);
    let (kinds, after) = (proxy.kinds(asked), node.work());
    let pairs = || {
        after
            .iter()
            .zip(&before)
            .map(|((name, after), (_, before))| (name, after, before))
    };
    let percent = |cpu: Duration| 100.0 * cpu.as_secs_f64() / plan.silence.as_secs_f64();
    let idle = percent(
        pairs()
            .map(|(_, after, before)| after.cpu_since(before))
            .sum(),
    );
    report.figure(
        &format!("idle CPU, {} pods, {} s", plan.many, plan.silence.as_secs()),
        format!("{idle:.2} % of a core"),
        "<= 1 %",
        "4.5 %",
        idle <= 1.0,
    );
    let each = pairs().map(|(name, after, before)| {
        let (cpu, waits) = (after.cpu_since(before), after.waits_since(before));
        format!("{name} {:.2} % and {waits} wake-ups", percent(cpu))
    });
    report.beside("  of which", each.collect::<Vec<_>>().join(", "));
    let requests = total(&kinds);
    report.figure(
        &format!(
            "requests to Docker in {} s of silence",
            plan.silence.as_secs()
        ),
        requests.to_string(),
        "0",
        "10 a second, 20 pods",
        requests == 0,
    );
    report.figure(
        "containers started again by the restart of the daemons",
        (bench.events.starts() - starts).to_string(),
        "0",
        "",
        bench.events.starts() == starts,
    );
    calls_of_one_pod(bench, report, &node, &proxy);
    report.remark(format!(
        "Docker, adoption of {} pods: {}",
        plan.many,
        counts(&adoption)
    ));
    if requests > 0 {
        report.remark(format!("Docker, in the silence: {}", counts(&kinds)));
    }
    bench.say("cleaning up");
    withdraw(bench, pods);
}

/// What one pod's start takes in calls, as an explanation of the latencies.
fn calls_of_one_pod(bench: &Bench, report: &mut Report, node: &Node<'_>, proxy: &Proxy) {
    bench.say("calls of one pod");
    let runtime_calls = || counters(&node.read_only("/metrics"), RUNTIME_CALLS);
    let (asked, before) = (proxy.count(), runtime_calls());
    let pods = ["counted".to_owned()];
    bench.place.apply(&pods);
    bench.events.running(&pods);
    // What follows the start belongs to it.
    thread::sleep(Duration::from_secs(2));
    let docker = proxy.kinds(asked);
    let runtime: BTreeMap<String, usize> = runtime_calls()
        .into_iter()
        .map(|(call, count)| {
            let new = count - before.get(&call).copied().unwrap_or_default();
            (call, usize::try_from(new).unwrap_or_default())
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    report.beside(
        "calls for one pod's start",
        format!("{} CRI, {} Docker", total(&runtime), total(&docker)),
    );
    report.remark(format!("CRI, one pod: {}", counts(&runtime)));
    report.remark(format!("Docker, one pod: {}", counts(&docker)));
    withdraw(bench, &pods);
}

/// Takes manifests away and waits until nothing of the pods is left in Docker.
pub(crate) fn withdraw(bench: &Bench, pods: &[String]) {
    bench.place.withdraw(pods);
    bench.events.gone(pods);
}

fn memory(node: &Node<'_>, report: &mut Report, when: &str, target: f64, original: &str) {
    let each = node.memory();
    let sum: Memory = each.iter().map(|(_, memory)| *memory).sum();
    report.figure(
        &format!("RSS of the three daemons, {when}"),
        format!("{:.1} MB", megabytes(sum.rss)),
        &format!("<= {target} MB"),
        original,
        megabytes(sum.rss) <= target,
    );
    report.beside("  PSS", format!("{:.1} MB", megabytes(sum.pss)));
    let each = each
        .iter()
        .map(|(name, memory)| format!("{name} {:.1}", megabytes(memory.rss)));
    report.beside("  RSS of each", each.collect::<Vec<_>>().join(", "));
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

pub(crate) fn list(times: &[f64]) -> String {
    let times: Vec<String> = times.iter().map(|time| format!("{time:.0}")).collect();
    format!("{} ms", times.join(", "))
}

fn total(kinds: &BTreeMap<String, usize>) -> usize {
    kinds.values().sum()
}

fn counts(kinds: &BTreeMap<String, usize>) -> String {
    let kinds: Vec<String> = kinds
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    if kinds.is_empty() {
        "none".to_owned()
    } else {
        kinds.join(", ")
    }
}
