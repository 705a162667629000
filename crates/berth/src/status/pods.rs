//! The pods of `/pods`, and their table. Pure.

use jiff::Timestamp;
use serde::Deserialize;

use super::manifests::Broken;
use crate::output;

/// The phase that is shown of a pod that goes.
const TERMINATING: &str = "Terminating";

/// A pod, as far as the table shows it. Read leniently, since any kubelet may answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Pod {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Metadata {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(rename = "deletionTimestamp")]
    deletion: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    #[serde(default)]
    containers: Vec<Anything>,
    #[serde(default)]
    init_containers: Vec<InitContainer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InitContainer {
    #[serde(default)]
    name: String,
    restart_policy: Option<String>,
}

/// Only its being there matters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Anything {}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    phase: String,
    reason: Option<String>,
    message: Option<String>,
    start_time: Option<Timestamp>,
    #[serde(default)]
    init_container_statuses: Vec<Container>,
    #[serde(default)]
    container_statuses: Vec<Container>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    name: String,
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    restart_count: u32,
    #[serde(default)]
    state: State,
    #[serde(default)]
    last_state: State,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct State {
    waiting: Option<Why>,
    running: Option<Running>,
    terminated: Option<Why>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    started_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Why {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    exit_code: i32,
    started_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct List {
    items: Option<Vec<Pod>>,
}

/// The pods of a PodList, by namespace and name.
///
/// # Errors
/// When it is none.
pub(super) fn parse(body: &[u8]) -> Result<Vec<Pod>, serde_json::Error> {
    let list: List = serde_json::from_slice(body)?;
    let mut pods = list.items.unwrap_or_default();
    pods.sort_by(|a, b| {
        (&a.metadata.namespace, &a.metadata.name).cmp(&(&b.metadata.namespace, &b.metadata.name))
    });
    Ok(pods)
}

/// Adds the pods that have containers yet and that no manifest wants any more: `/runningpods/` has
/// them, `/pods` no longer.
pub(super) fn add_leaving(pods: &mut Vec<Pod>, mut running: Vec<Pod>) {
    running.retain(|pod| {
        pods.iter()
            .all(|known| known.metadata.uid != pod.metadata.uid)
    });
    for pod in &mut running {
        TERMINATING.clone_into(&mut pod.status.phase);
    }
    pods.extend(running);
}

/// What the node calls itself, by the pods that it lists.
pub(super) fn node_name(pods: &[Pod]) -> Option<&str> {
    pods.iter().find_map(|pod| pod.spec.node_name.as_deref())
}

impl Pod {
    /// All of it runs, or has done what it had to do. A pod's phase is Running already when one
    /// container was started once.
    pub(super) fn is_content(&self) -> bool {
        let is_fine = |container: &Container| container.trouble().is_none();
        match self.status.phase.as_str() {
            "Running" => self.status.container_statuses.iter().all(is_fine),
            phase => phase == "Succeeded",
        }
    }

    /// Whether it goes on as the file had it before.
    pub(super) fn is_kept_by(&self, file: &Broken) -> bool {
        file.keeps(&self.metadata.namespace, &self.metadata.name)
    }

    /// Sidecars count, as kubectl counts them.
    fn ready(&self) -> String {
        let sidecars: Vec<&str> = self
            .spec
            .init_containers
            .iter()
            .filter(|init| init.restart_policy.as_deref() == Some("Always"))
            .map(|init| init.name.as_str())
            .collect();
        let of_sidecars = self
            .status
            .init_container_statuses
            .iter()
            .filter(|status| sidecars.contains(&status.name.as_str()));
        let ready = of_sidecars
            .chain(&self.status.container_statuses)
            .filter(|status| status.ready)
            .count();
        let all = self
            .spec
            .containers
            .len()
            .max(self.status.container_statuses.len());
        format!("{ready}/{}", all + sidecars.len())
    }

    fn restarts(&self) -> u32 {
        let all = self.all_containers();
        all.map(|status| status.restart_count).sum()
    }

    fn all_containers(&self) -> impl Iterator<Item = &Container> {
        let init = self.status.init_container_statuses.iter();
        init.chain(&self.status.container_statuses)
    }

    /// Since when it is here. Without an API server a kubelet that starts anew takes its own start
    /// for the pod's (upstream too), so what its containers tell counts as well.
    fn start(&self) -> Option<Timestamp> {
        let of_containers = self.all_containers().filter_map(Container::first_start);
        of_containers.chain(self.status.start_time).min()
    }

    /// Why it is not as it should be: of the pod, else of its first container in trouble.
    fn trouble(&self) -> String {
        let of_pod = [&self.status.reason, &self.status.message]
            .map(|text| text.clone().unwrap_or_default());
        if !of_pod[0].is_empty() || !of_pod[1].is_empty() {
            return joined(&of_pod[0], &of_pod[1]);
        }
        if self.status.phase == "Succeeded" {
            return String::new();
        }
        self.all_containers()
            .find_map(Container::trouble)
            .unwrap_or_default()
    }
}

impl Container {
    fn first_start(&self) -> Option<Timestamp> {
        let started = |state: &State| {
            let running = state.running.as_ref().and_then(|state| state.started_at);
            let ended = state.terminated.as_ref().and_then(|state| state.started_at);
            running.into_iter().chain(ended)
        };
        let all = started(&self.state).chain(started(&self.last_state));
        // A container that never ran has the epoch there.
        all.filter(|start| *start > Timestamp::UNIX_EPOCH).min()
    }

    fn trouble(&self) -> Option<String> {
        let told = |reason: &Why| {
            let mut text = format!("{}: {}", self.name, joined(&reason.reason, &reason.message));
            if let (true, Some(last)) = (
                reason.reason == "CrashLoopBackOff",
                &self.last_state.terminated,
            ) {
                text = format!("{text} (last exit code {})", last.exit_code);
            }
            text
        };
        match (&self.state.waiting, &self.state.terminated) {
            (Some(reason), _) => Some(told(reason)),
            (None, Some(ended)) if ended.exit_code != 0 => {
                Some(format!("{} (exit code {})", told(ended), ended.exit_code))
            }
            _ => None,
        }
    }
}

fn joined(reason: &str, message: &str) -> String {
    [reason, &output::brief(message)]
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}

/// One row per pod, with what is wrong with its manifest.
pub(super) fn table(pods: &[Pod], broken: &[Broken], now: Timestamp) -> String {
    let mut rows = vec![
        ["POD", "PHASE", "READY", "RESTARTS", "AGE", "WHY"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(pods.iter().map(|pod| {
        let phase = match (&pod.metadata.deletion, pod.status.phase.as_str()) {
            (Some(_), _) => TERMINATING,
            (None, "") => "Unknown",
            (None, phase) => phase,
        };
        let kept = broken.iter().find(|file| pod.is_kept_by(file));
        let kept = kept.map(|file| format!("as before an edit broke {}", file.why()));
        let trouble = Some(pod.trouble()).filter(|text| !text.is_empty());
        let why: Vec<_> = trouble.into_iter().chain(kept).collect();
        vec![
            format!("{}/{}", pod.metadata.namespace, pod.metadata.name),
            phase.to_owned(),
            pod.ready(),
            pod.restarts().to_string(),
            pod.start().map_or("-".to_owned(), |start| age(start, now)),
            why.join("; "),
        ]
    }));
    output::columns(&rows)
}

/// As kubectl shows ages: the largest unit, two of them while the first is small.
fn age(start: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(start.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => format!("{minutes}m{}s", seconds % 60),
        600..7200 => format!("{minutes}m"),
        7200..172_800 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::manifests, *};

    const LIST: &str = r#"{"kind":"PodList","items":[
        {"metadata":{"namespace":"default","name":"b-n1"},
         "spec":{"containers":[{"name":"c"},{"name":"d"}]},
         "status":{"phase":"Pending","startTime":"2026-11-22T10:00:00Z","containerStatuses":[
            {"name":"c","ready":true,"restartCount":1,"state":{"running":{"startedAt":"2026-11-22T10:00:00Z"}}},
            {"name":"d","ready":false,"restartCount":2,"lastState":{"terminated":{"exitCode":3}},
             "state":{"waiting":{"reason":"CrashLoopBackOff","message":"back-off 10s"}}}]}},
        {"metadata":{"namespace":"default","name":"a-n1"},"spec":{"containers":[{"name":"c"}]},
         "status":{"phase":"Running","containerStatuses":[
            {"name":"c","ready":true,"restartCount":0,"state":{"running":{}}}]}}]}"#;

    #[test]
    fn the_table_tells_what_is_wrong_with_which_container() {
        let pods = parse(LIST.as_bytes()).unwrap();
        let now = "2026-11-22T10:01:05Z".parse().unwrap();
        let expected = "\
POD           PHASE    READY  RESTARTS  AGE  WHY
default/a-n1  Running  1/1    0         -
default/b-n1  Pending  1/2    3         65s  d: CrashLoopBackOff: back-off 10s (last exit code 3)
";
        assert_eq!(table(&pods, &[], now), expected);
        assert!(pods[0].is_content() && !pods[1].is_content());
        let mut crashing = pods[1].clone();
        crashing.status.phase = "Running".to_owned();
        assert!(!crashing.is_content(), "one of its containers waits");
        let ended = Why {
            exit_code: 1,
            ..Why::default()
        };
        crashing.status.container_statuses[0].state = State {
            terminated: Some(ended),
            ..State::default()
        };
        crashing.status.container_statuses.truncate(1);
        assert!(!crashing.is_content(), "one of its containers failed");
    }

    #[test]
    fn a_broken_edit_is_told_beside_the_pod_that_goes_on() {
        let files = r#"{"items":[{"path":"/m/a.yaml","errors":["kind: missing"],
            "pod":{"namespace":"default","name":"a-n1"}}]}"#;
        let broken = manifests::parse(files.as_bytes()).unwrap().broken;
        let pods = parse(LIST.as_bytes()).unwrap();
        let text = table(&pods, &broken, Timestamp::UNIX_EPOCH);
        let rows: Vec<_> = text.lines().collect();
        assert!(
            rows[1].ends_with("  as before an edit broke /m/a.yaml: kind: missing"),
            "{text}"
        );
        assert!(!rows[2].contains("a.yaml"), "{text}");
    }

    #[test]
    fn a_pod_that_no_manifest_wants_is_shown_until_its_containers_are_gone() {
        let mut pods = parse(LIST.as_bytes()).unwrap();
        let running = r#"{"items":[{"metadata":{"namespace":"default","name":"a-n1","uid":"1"}},
            {"metadata":{"namespace":"default","name":"old-n1","uid":"9"},
             "spec":{"containers":[{"name":"c"}]},"status":{}}]}"#;
        for (pod, uid) in pods.iter_mut().zip(["1", "2"]) {
            pod.metadata.uid = uid.to_owned();
        }
        add_leaving(&mut pods, parse(running.as_bytes()).unwrap());
        assert_eq!(pods.len(), 3);
        let text = table(&pods, &[], Timestamp::UNIX_EPOCH);
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("default/old-n1  Terminating"), "{text}");
    }

    #[test]
    fn the_age_outlives_a_restart_of_the_kubelet() {
        let pod = r#"{"items":[{"status":{"startTime":"2026-11-22T10:00:00Z","containerStatuses":[
            {"name":"c","state":{"running":{"startedAt":"2026-11-22T09:59:00Z"}},
             "lastState":{"terminated":{"startedAt":"2026-11-22T09:58:20Z"}}},
            {"name":"d","state":{"terminated":{"startedAt":"1970-01-01T00:00:00Z"}}}]}}]}"#;
        let pods = parse(pod.as_bytes()).unwrap();
        let text = table(&pods, &[], "2026-11-22T10:00:00Z".parse().unwrap());
        assert!(text.trim_end().ends_with(" 100s"), "{text}");
    }

    #[test]
    fn the_node_is_called_what_its_pods_say() {
        let pods = parse(br#"{"items":[{"spec":{}},{"spec":{"nodeName":"n1"}}]}"#).unwrap();
        assert_eq!(node_name(&pods), Some("n1"));
        assert_eq!(node_name(&[]), None);
    }

    #[test]
    fn no_pods_are_an_empty_list() {
        assert_eq!(
            parse(br#"{"kind":"PodList","items":null}"#).unwrap(),
            Vec::new()
        );
        assert!(parse(b"404 page not found").is_err());
    }

    #[test]
    fn sidecars_count_as_containers_and_other_init_containers_do_not() {
        let pod = r#"{"items":[{"spec":{"containers":[{"name":"c"}],"initContainers":[
            {"name":"once"},{"name":"side","restartPolicy":"Always"}]},
            "status":{"phase":"Running","containerStatuses":[{"name":"c","ready":false}],
            "initContainerStatuses":[{"name":"once","ready":true},{"name":"side","ready":true}]}}]}"#;
        assert_eq!(parse(pod.as_bytes()).unwrap()[0].ready(), "1/2");
    }

    #[test]
    fn a_refused_pod_shows_its_own_reason() {
        let pod = r#"{"items":[{"status":{"phase":"Failed","reason":"OutOfcpu","message":"too\nmuch"}}]}"#;
        assert_eq!(
            parse(pod.as_bytes()).unwrap()[0].trouble(),
            "OutOfcpu: too much"
        );
    }

    #[test]
    fn ages_have_one_or_two_units() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        for (seconds, expected) in [
            (-5, "0s"),
            (119, "119s"),
            (125, "2m5s"),
            (3599, "59m"),
            (7260, "2h1m"),
            (259_200, "3d"),
        ] {
            assert_eq!(age(at(0), at(seconds)), expected);
        }
    }
}
