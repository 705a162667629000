//! A Docker Engine in a thread, as wrong and as slow as a test wants it.
//!
//! It knows containers as inspects, changes them as calls ask, and sends no event unless told to.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use serde_json::{Value, json};
use testkit::eventually_async;

use crate::harness::{Pod, SOON, Server, start};

/// What happens to a request before it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It waits until the trouble is over.
    Held,
    /// It is answered with 500.
    Failing,
    /// It is answered with this status and this message.
    Answered(u16, &'static str),
    /// It is answered with 404: something that it needs is missing.
    Lacking,
    /// It is served, and the connection breaks before the answer.
    Unanswered,
}

/// What the engine speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Docker 20.10: API 1.41.
    #[default]
    Old,
    /// Docker 29 as its API's changelog has it, with containerd's image store: API 1.52, nothing below
    /// 1.44, and none of the fields that were taken out on the way.
    New,
}

impl Dialect {
    fn version(self) -> &'static str {
        match self {
            Self::Old => "1.41",
            Self::New => "1.52",
        }
    }

    /// What a request with this version in its path is refused with.
    fn refusal(self, asked: &str) -> Option<String> {
        let minor = |version: &str| -> u16 { version.strip_prefix("1.").unwrap().parse().unwrap() };
        let oldest = match self {
            Self::Old => "1.12",
            Self::New => "1.44",
        };
        if minor(asked) > minor(self.version()) {
            let newest = self.version();
            return Some(format!(
                "client version {asked} is too new. Maximum supported API version is {newest}"
            ));
        }
        (minor(asked) < minor(oldest)).then(|| {
            format!(
                "client version {asked} is too old. Minimum supported API version is {oldest}, please upgrade \
                 your client to a newer version"
            )
        })
    }
}

#[derive(Default)]
struct State {
    dialect: Dialect,
    containers: BTreeMap<String, Value>,
    created: usize,
    execs: BTreeMap<String, Value>,
    /// `METHOD path-beginning` to what happens to it.
    troubles: BTreeMap<String, Trouble>,
    /// Requests as `METHOD path`.
    log: Vec<String>,
    /// Where events go; all are closed when cleared.
    streams: Vec<UnixStream>,
    /// All connections since it came up.
    clients: Vec<UnixStream>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// See the module.
pub(crate) struct FakeEngine {
    shared: Arc<Shared>,
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

pub(crate) fn now() -> String {
    let out = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    nanoseconds_as_text(out.unwrap().as_nanos())
}

/// A day of 2030 and the nanoseconds of it, which is all that differs between times here.
fn nanoseconds_as_text(nanoseconds: u128) -> String {
    let day = nanoseconds % 86_400_000_000_000;
    let (seconds, rest) = (day / 1_000_000_000, day % 1_000_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("2030-01-01T{hours:02}:{minutes:02}:{seconds:02}.{rest:09}Z")
}

impl FakeEngine {
    pub(crate) fn start() -> Self {
        Self::speaking(Dialect::Old)
    }

    /// An engine, a server over it, and in it a pod whose containers of these names run; their ids.
    pub(crate) async fn with_pod<const N: usize>(
        pod: &str,
        containers: [&str; N],
    ) -> (Self, Server, Pod, [String; N]) {
        // Boxed: the requests are large.
        Box::pin(async {
            let engine = Self::start();
            let mut server = Server::start(&engine.host()).await;
            let pod = Pod::run(&mut server, Pod::config(pod)).await;
            let mut ids = containers.map(str::to_owned);
            for id in &mut ids {
                *id = pod.create(&mut server, id, "sleep 1000").await;
                start(&mut server, id).await;
            }
            (engine, server, pod, ids)
        })
        .await
    }

    pub(crate) fn speaking(dialect: Dialect) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let engine = Self {
            shared,
            socket,
            _directory: directory,
        };
        engine.state().dialect = dialect;
        engine.up();
        engine
    }

    /// Is another one at once, and keeps its connections, as behind a proxy.
    pub(crate) fn becomes(&self, dialect: Dialect) {
        self.state().dialect = dialect;
    }

    /// Listens, at first or again.
    pub(crate) fn up(&self) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let copy = client.try_clone().unwrap();
                shared.state.lock().unwrap().clients.push(copy);
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    while serve(&shared, &client).is_some() {}
                    let _ = client.shutdown(std::net::Shutdown::Both);
                });
            }
        });
    }

    /// Takes no more connections, as a Docker that was told to end; those that it has are served.
    pub(crate) fn closes(&self) {
        std::fs::remove_file(&self.socket).unwrap();
    }

    /// Is gone, with its socket, until it is up again.
    pub(crate) fn down(&self) {
        let _ = std::fs::remove_file(&self.socket);
        self.cut();
        for client in self.state().clients.drain(..) {
            let _ = client.shutdown(std::net::Shutdown::Both);
        }
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Requests that begin like this have trouble from now on; `None` ends it.
    pub(crate) fn trouble(&self, request: &str, trouble: Option<Trouble>) {
        let mut state = self.state();
        match trouble {
            Some(trouble) => drop(state.troubles.insert(request.to_owned(), trouble)),
            None => drop(state.troubles.remove(request)),
        }
        self.shared.changed.notify_all();
    }

    /// How many requests began like this.
    pub(crate) fn count(&self, request: &str) -> usize {
        let state = self.state();
        state
            .log
            .iter()
            .filter(|line| line.starts_with(request))
            .count()
    }

    /// Ends a container without an event.
    pub(crate) fn end(&self, id: &str, exit_code: i64) {
        end(self.state().containers.get_mut(id).unwrap(), exit_code);
    }

    /// Removes a container without an event.
    pub(crate) fn lose(&self, id: &str) {
        self.state().containers.remove(id);
    }

    /// As a Docker that was killed and started again.
    pub(crate) fn forget_execs(&self) {
        self.state().execs.clear();
    }

    /// Waits until so many requests began like this.
    pub(crate) async fn asked(&self, request: &str, times: usize) {
        eventually_async(SOON, || async {
            let count = self.count(request);
            if count >= times { Ok(()) } else { Err(count) }
        })
        .await;
    }

    /// Tells all streams of an event about a container.
    pub(crate) fn event(&self, action: &str, id: &str) {
        let mut state = self.state();
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let labels = state
            .containers
            .get(id)
            .map(|c| c["Config"]["Labels"].clone());
        let event = json!({
            "Type": if id.is_empty() { "image" } else { "container" },
            "Action": action,
            "Actor": {"ID": id, "Attributes": labels.unwrap_or_default()},
            "timeNano": u64::try_from(time.unwrap().as_nanos()).unwrap(),
        });
        let text = format!("{event}\n");
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        state
            .streams
            .retain_mut(|stream| stream.write_all(chunk.as_bytes()).is_ok());
    }

    /// Breaks all event streams.
    pub(crate) fn cut(&self) {
        for stream in self.state().streams.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn end(container: &mut Value, exit_code: i64) {
    let started = container["State"]["StartedAt"].clone();
    container["State"] = json!({
        "Status": "exited", "Running": false, "Pid": 0, "ExitCode": exit_code,
        "StartedAt": started, "FinishedAt": now(),
    });
}

/// Serves one request; `None` when the connection is over.
fn serve(shared: &Arc<Shared>, client: &UnixStream) -> Option<()> {
    let mut reader = BufReader::new(client);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|size| *size > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if header.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let dialect = shared.state.lock().unwrap().dialect;
    let version = dialect.version();
    let (asked, path) = match path
        .strip_prefix("/v")
        .and_then(|rest| rest.split_once('/'))
    {
        Some((asked, rest)) => (asked, format!("/{rest}")),
        None => (version, path.to_owned()),
    };
    let refusal = dialect.refusal(asked);
    let request = format!("{method} {path}");
    let trouble = wait_for_trouble(shared, &request);
    let mut out = client;
    if path == "/events" && refusal.is_none() {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        out.write_all(head.as_bytes()).ok()?;
        let stream = client.try_clone().ok()?;
        shared.state.lock().unwrap().streams.push(stream);
        // The stream's other side closes it.
        let mut rest = Vec::new();
        let _ = reader.read_to_end(&mut rest);
        return None;
    }
    if trouble.is_none()
        && refusal.is_none()
        && method == "POST"
        && let Some(exec) = path
            .strip_prefix("/exec/")
            .and_then(|rest| rest.strip_suffix("/start"))
        && let Some(output) = run_exec(&mut shared.state.lock().unwrap(), exec)
    {
        let head = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
        let length = u8::try_from(output.len()).unwrap();
        let frame = [
            head.as_bytes(),
            &[1, 0, 0, 0, 0, 0, 0, length],
            output.as_bytes(),
        ];
        out.write_all(&frame.concat()).ok()?;
        return None;
    }
    let (status, answer) = match trouble {
        None if refusal.is_some() => (400, json!({"message": refusal})),
        Some(Trouble::Failing) => (500, json!({"message": "out of order"})),
        Some(Trouble::Answered(status, message)) => (status, json!({"message": message})),
        Some(Trouble::Lacking) => (404, json!({"message": "network x not found"})),
        _ => answer(
            &mut shared.state.lock().unwrap(),
            &method,
            &path,
            query,
            &body,
        ),
    };
    if trouble == Some(Trouble::Unanswered) {
        return None;
    }
    let text = if answer.is_null() {
        String::new()
    } else {
        answer.to_string()
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nAPI-Version: {version}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    let body = if method == "HEAD" { "" } else { text.as_str() };
    out.write_all(format!("{head}{body}").as_bytes()).ok()
}

/// Runs an exec, if there is one, at once; answers its output. One whose container has ended is
/// answered as by Docker 20.10: with its complaint for output, and no exit code.
fn run_exec(state: &mut State, id: &str) -> Option<&'static str> {
    let exec = state.execs.get_mut(id)?;
    let container = exec["ContainerID"].as_str().unwrap();
    if state.containers.get(container)?["State"]["Running"] == true {
        exec["ExitCode"] = json!(0);
        return Some("it works\n");
    }
    Some("No such exec instance\n")
}

fn wait_for_trouble(shared: &Shared, request: &str) -> Option<Trouble> {
    let mut state = shared.state.lock().unwrap();
    state.log.push(request.to_owned());
    loop {
        let found = state
            .troubles
            .iter()
            .find(|(begin, _)| request.starts_with(*begin));
        match found.map(|(_, trouble)| *trouble) {
            Some(Trouble::Held) => state = shared.changed.wait(state).unwrap(),
            other => return other,
        }
    }
}

fn answer(state: &mut State, method: &str, path: &str, query: &str, body: &Value) -> (u16, Value) {
    let not_found = |id: &str| (404, json!({"message": format!("No such container: {id}")}));
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method, parts.as_slice()) {
        (_, ["_ping"]) => (200, json!("OK")),
        (_, ["version"]) => (
            200,
            json!({"Version": "20.10.24", "ApiVersion": state.dialect.version()}),
        ),
        (_, ["info"]) if state.dialect == Dialect::New => (
            200,
            json!({
                "ID": "FAKE", "CgroupDriver": "cgroupfs", "DockerRootDir": "/", "Driver": "overlayfs",
                "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
                "Runtimes": {"runc": {"path": "runc"}}, "DefaultRuntime": "runc",
                "FirewallBackend": {"Driver": "iptables"}, "DiscoveredDevices": [],
            }),
        ),
        (_, ["system", "df"]) => (
            200,
            json!({"ImageUsage": {"ActiveCount": 1, "TotalCount": 1, "Reclaimable": 0, "TotalSize": 7}}),
        ),
        ("GET", ["images", "json"]) => (
            200,
            json!([{
                "Id": "sha256:1", "RepoTags": ["berth.test/busybox:1"],
                "RepoDigests": ["berth.test/busybox@sha256:1"], "Created": 1, "Size": 7, "SharedSize": -1,
                "Containers": 1, "Labels": null, "ParentId": "",
                "Descriptor": {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": "sha256:1", "size": 1},
            }]),
        ),
        ("GET", ["images", .., "history"]) => (
            200,
            json!([{"Id": "sha256:1", "Created": 1, "CreatedBy": "CMD", "Tags": null, "Size": 0, "Comment": ""}]),
        ),
        // No Parent, Comment, DockerVersion, Author, Container, VirtualSize, GraphDriver; an empty Config.
        ("GET", ["images", name @ .., "json"]) if state.dialect == Dialect::New => (
            200,
            json!({
                "Id": "sha256:1", "RepoTags": [name.join("/")], "RepoDigests": ["berth.test/busybox@sha256:1"],
                "Size": 7, "Architecture": "amd64", "Os": "linux", "Config": {}, "Metadata": {},
                "RootFS": {"Type": "layers"}, "Identity": {},
                "Descriptor": {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": "sha256:1", "size": 1},
            }),
        ),
        (_, ["info"]) => (
            200,
            json!({"ID": "FAKE", "CgroupDriver": "cgroupfs", "DockerRootDir": "/nowhere"}),
        ),
        ("GET", ["images", name @ .., "json"]) => (
            200,
            json!({"Id": "sha256:1", "RepoTags": [name.join("/")], "RepoDigests": [], "Size": 1, "Config": {}}),
        ),
        ("GET", ["containers", "json"]) => {
            let list: Vec<Value> = state
                .containers
                .values()
                // The only ids in a query are those of a filter.
                .filter(|c| !query.contains("%22id%22") || query.contains(c["Id"].as_str().unwrap()))
                .map(|c| json!({"Id": c["Id"], "Names": [c["Name"]], "Labels": c["Config"]["Labels"], "State": c["State"]["Status"]}))
                .collect();
            (200, json!(list))
        }
        ("POST", ["containers", "create"]) => {
            let name = query.split('&').find_map(|pair| pair.strip_prefix("name="));
            let full = format!("/{}", name.unwrap_or_default());
            if let Some(holder) = state.containers.values().find(|c| c["Name"] == full) {
                let text = format!(
                    "Conflict. The container name {full:?} is already in use by container {}.",
                    holder["Id"]
                );
                return (409, json!({"message": text}));
            }
            state.created += 1;
            let id = format!("{:064x}", state.created);
            let container = json!({
                "Id": id, "Name": full, "Created": now(), "Image": "sha256:1",
                "State": {"Status": "created", "StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z"},
                "Config": {"Image": body["Image"], "Labels": body["Labels"]},
                "HostConfig": {"NetworkMode": body["HostConfig"]["NetworkMode"]},
                "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.9"}}},
            });
            state.containers.insert(id.clone(), container);
            (201, json!({"Id": id}))
        }
        (_, ["containers", id, rest @ ..]) => {
            let Some(container) = state.containers.get_mut(*id) else {
                return not_found(id);
            };
            match (method, rest) {
                ("GET", ["json"]) => (200, container.clone()),
                ("POST", ["start"]) => {
                    container["State"] = json!({
                        "Status": "running", "Running": true, "Pid": 1, "StartedAt": now(),
                        "FinishedAt": "0001-01-01T00:00:00Z",
                    });
                    (204, Value::Null)
                }
                ("POST", ["stop"]) => {
                    end(container, 137);
                    (204, Value::Null)
                }
                ("POST", ["exec"]) => {
                    let exec = format!("{:064x}", state.execs.len());
                    let inspect = json!({
                        "ID": exec, "ContainerID": id, "Running": false, "ExitCode": null, "Pid": 0,
                    });
                    state.execs.insert(exec.clone(), inspect);
                    (201, json!({"Id": exec}))
                }
                ("DELETE", []) => {
                    state.containers.remove(*id);
                    (204, Value::Null)
                }
                _ => (404, json!({"message": "page not found"})),
            }
        }
        (_, ["exec", id, what]) => match (state.execs.get(*id), *what) {
            (Some(exec), "json") => (200, exec.clone()),
            _ => (
                404,
                json!({"message": format!("No such exec instance: {id}")}),
            ),
        },
        _ => (404, json!({"message": "page not found"})),
    }
}
