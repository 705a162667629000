//! What Docker says by itself: one open stream of container events, so that nothing is asked of
//! Docker while something is measured.

use std::{
    collections::{HashMap, HashSet},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::net::Shutdown;
use serde_json::Value;

use crate::figures::since;

/// Which pod of the floor a container belongs to.
pub(crate) const POD_LABEL: &str = "bench.pod";
/// `pause` or `app`.
pub(crate) const PART_LABEL: &str = "bench.part";
/// No pod and no batch of pods takes longer.
const PATIENCE: Duration = Duration::from_mins(3);
/// `{"type":["container"],"event":["create","start","die","destroy"]}`
const PATH: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22\
                    create%22%2C%22start%22%2C%22die%22%2C%22destroy%22%5D%7D";

/// The stream, and what it told so far.
#[derive(Debug)]
pub(crate) struct Events {
    told: Arc<(Mutex<Told>, Condvar)>,
    stream: UnixStream,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Told {
    /// When Docker called the app container of a pod running, in nanoseconds since the epoch.
    running: HashMap<String, i64>,
    /// Starts of app containers.
    starts: u32,
    /// What exists: pods by container id.
    present: HashMap<String, String>,
    /// App containers of each pod in the order Docker made them, and when.
    made: HashMap<String, Vec<(String, i64)>>,
    /// When app containers died, by id.
    died: HashMap<String, i64>,
    ended: bool,
}

impl Events {
    /// Opens the stream.
    pub(crate) fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("dockerd answers");
        // HTTP/1.0: the answer comes as it is, one JSON object a line.
        write!(&stream, "GET {PATH} HTTP/1.0\r\nHost: docker\r\n\r\n").expect("dockerd listens");
        let mut lines = BufReader::new(stream.try_clone().expect("a socket can be shared"));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let length = lines.read_line(&mut head).expect("dockerd answers");
            assert!(length > 0, "no stream of events: {head}");
        }
        assert!(head.contains(" 200 "), "no stream of events: {head}");
        let told = Arc::<(Mutex<Told>, Condvar)>::default();
        let shared = Arc::clone(&told);
        let reader = thread::spawn(move || {
            for line in lines.lines().map_while(io::Result::ok) {
                if let Ok(event) = serde_json::from_str(&line) {
                    lock(&shared.0).note(&event);
                    shared.1.notify_all();
                }
            }
            lock(&shared.0).ended = true;
            shared.1.notify_all();
        });
        Self {
            told,
            stream,
            reader: Some(reader),
        }
    }

    /// Waits until all these pods run; when each began to, in nanoseconds since the epoch.
    pub(crate) fn running(&self, pods: &[String]) -> Vec<i64> {
        self.wait("running", |told| {
            pods.iter()
                .map(|pod| told.running.get(pod).copied().ok_or_else(|| pod.clone()))
                .collect()
        })
    }

    /// Waits until nothing is left of these pods.
    pub(crate) fn gone(&self, pods: &[String]) {
        let pods: HashSet<&String> = pods.iter().collect();
        self.wait("gone", |told| {
            match told.present.values().find(|pod| pods.contains(pod)) {
                Some(pod) => Err(pod.clone()),
                None => Ok(()),
            }
        });
    }

    /// The id of a pod's latest app container.
    pub(crate) fn container(&self, pod: &str) -> Option<String> {
        let told = lock(&self.told.0);
        told.made.get(pod)?.last().map(|(id, _)| id.clone())
    }

    /// Waits until a pod's container is dead and another one made in its place; what lay between.
    pub(crate) fn replaced(&self, pod: &str, container: &str) -> Duration {
        let (died, made) = self.wait("replaced", |told| {
            let made = told.made.get(pod).into_iter().flatten();
            let next = made.skip_while(|(id, _)| id != container).nth(1);
            match (told.died.get(container), next) {
                (Some(died), Some((_, made))) => Ok((*died, *made)),
                _ => Err(pod.to_owned()),
            }
        });
        since(died, &[made])
    }

    /// How many app containers were started up to now.
    pub(crate) fn starts(&self) -> u32 {
        lock(&self.told.0).starts
    }

    fn wait<T>(&self, what: &str, look: impl Fn(&Told) -> Result<T, String>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut told = lock(&self.told.0);
        loop {
            let missing = match look(&told) {
                Ok(found) => return found,
                Err(missing) => missing,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !told.ended,
                "pod {missing} is not {what} after {PATIENCE:?}, or dockerd ended"
            );
            let waited = self.told.1.wait_timeout(told, left);
            told = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Ends the reader.
        let _ = rustix::net::shutdown(&self.stream, Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Told {
    fn note(&mut self, event: &Value) {
        let attributes = &event["Actor"]["Attributes"];
        let Some((pod, is_app)) = whose(attributes) else {
            return;
        };
        let id = event["Actor"]["ID"].as_str().unwrap_or_default();
        let at = event["timeNano"].as_i64().unwrap_or_default();
        match event["Action"].as_str().unwrap_or_default() {
            "create" => {
                if is_app {
                    let made = self.made.entry(pod.clone()).or_default();
                    made.push((id.to_owned(), at));
                }
                self.present.insert(id.to_owned(), pod);
            }
            "start" if is_app => {
                self.starts += 1;
                self.running.entry(pod).or_insert(at);
            }
            "die" if is_app => {
                self.died.insert(id.to_owned(), at);
            }
            "destroy" => {
                self.present.remove(id);
            }
            _ => {}
        }
    }
}

/// The pod a container belongs to, ours or the floor's, and whether it is more than its sandbox.
fn whose(attributes: &Value) -> Option<(String, bool)> {
    if let Some(pod) = attributes[POD_LABEL].as_str() {
        return Some((pod.to_owned(), attributes[PART_LABEL] == "app"));
    }
    let pod = attributes["io.kubernetes.pod.name"].as_str()?;
    let pod = pod.strip_suffix("-n").unwrap_or(pod);
    let is_app = attributes["io.kubernetes.docker.type"] == "container";
    Some((pod.to_owned(), is_app))
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn start_of_the_sandbox_is_not_the_pods() {
        let mut told = Told::default();
        let mut tell = |action: &str, id: &str, kind: &str, at: i64| {
            told.note(
                &json!({"Action": action, "timeNano": at, "Actor": {"ID": id, "Attributes": {
                "io.kubernetes.pod.name": "web-n", "io.kubernetes.docker.type": kind}}}),
            );
        };
        tell("create", "a", "podsandbox", 1);
        tell("start", "a", "podsandbox", 2);
        tell("create", "b", "container", 3);
        tell("start", "b", "container", 4);
        tell("destroy", "a", "podsandbox", 5);
        tell("die", "b", "container", 6);
        tell("create", "c", "container", 7);
        assert_eq!(told.running.get("web"), Some(&4));
        assert_eq!(told.present.len(), 2);
        assert_eq!(told.starts, 1);
        assert_eq!(told.died.get("b"), Some(&6));
        assert_eq!(told.made["web"], [("b".to_owned(), 3), ("c".to_owned(), 7)]);
    }
}
