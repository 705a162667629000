//! A CRI runtime in memory, served on a real unix socket: the kubelet under test speaks the real
//! protocol with it, and the test looks at it and disturbs it.
//!
//! It behaves as the protocol's comments ask (idempotent stop and remove, NotFound for what is
//! gone, events for each change); nothing really runs. A test can let calls fail or wait, containers
//! exit, and the whole runtime go away and come back.

mod in_process;
mod model;
mod objects;
mod script;
mod service;

#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cri_api::{
    Code, Endpoint, MAX_MESSAGE_BYTES,
    v1::{
        self, image_service_server::ImageServiceServer,
        runtime_service_server::RuntimeServiceServer,
    },
};
use daemon::TaskGroup;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

pub use in_process::InProcess;
use model::Model;
pub use objects::{FakeContainer, FakeSandbox};
use script::Script;
pub use script::{Call, CallRecord, Held, OnStop};

/// How long the server may take to end its open calls.
const DRAIN: Duration = Duration::from_secs(1);

/// The fake runtime. Dropping it ends the server.
#[derive(Debug)]
pub struct FakeCri {
    directory: tempfile::TempDir,
    shared: Arc<Shared>,
    server: Mutex<Option<TaskGroup>>,
}

/// What the services and the test's handle share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Counts changes, for those who wait for one.
    changed: watch::Sender<u64>,
    /// Cancelled when the server that serves now ends; `None` while there is none.
    open: Mutex<Option<CancellationToken>>,
}

#[derive(Debug, Default)]
struct State {
    model: Model,
    script: Script,
}

impl Shared {
    fn open_until(&self) -> Option<CancellationToken> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.clone()
    }

    fn set_open_until(&self, token: Option<CancellationToken>) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something about the calls, which is no change of what the runtime has.
    fn note<T>(&self, work: impl FnOnce(&mut Script) -> T) -> T {
        let value = work(&mut self.lock().script);
        self.changed.send_modify(|count| *count += 1);
        value
    }

    /// Changes the state and wakes those who wait for a change.
    fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let value = work(&mut state);
        if let Some(watch) = state.script.watch.clone() {
            watch.look(
                &state.model.sandboxes.values().collect::<Vec<_>>(),
                &state.model.containers.values().collect::<Vec<_>>(),
            );
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
        value
    }
}

impl FakeCri {
    /// Starts a runtime with no sandboxes and no images, ready in every respect.
    ///
    /// # Panics
    /// When no temporary socket can be made, or outside a runtime.
    pub fn start() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("fake-cri-")
            .tempdir()
            .expect("a temporary directory can be made");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            open: Mutex::default(),
        });
        let fake = Self {
            directory,
            shared,
            server: Mutex::new(None),
        };
        fake.serve();
        fake
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("cri.sock")
    }

    /// The socket as an endpoint.
    ///
    /// # Panics
    /// Never: a temporary directory's path is absolute.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::parse(&self.socket().display().to_string()).expect("an absolute path")
    }

    /// The way to it that needs no socket: under a paused clock time stands still while a call is
    /// under way. Under a [`crate::Replay`] calls take time, as its seed says.
    pub fn in_process(&self) -> InProcess {
        InProcess::new(Arc::clone(&self.shared))
    }

    /// Ends the server: the socket is gone and open calls are cut off. What it has stays.
    ///
    /// # Panics
    /// When a call panicked.
    pub async fn stop(&self) {
        let server = self
            .server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(server) = server {
            daemon::unix_listener::remove(&self.socket()).expect("it is ours");
            self.shared.set_open_until(None);
            self.shared.change(|state| state.model.drop_listeners());
            match server.shutdown(DRAIN).await {
                Ok(()) | Err(daemon::ShutdownError::Deadline { .. }) => {}
                Err(error) => panic!("{}", daemon::ErrorChain(&error)),
            }
        }
    }

    /// Serves again after [`Self::stop`].
    ///
    /// # Panics
    /// When it serves already, or the socket cannot be made.
    pub fn serve(&self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(server.is_none(), "the fake runtime serves already");
        let listener =
            daemon::unix_listener::bind(&self.socket(), 0o600).expect("the directory is ours");
        let group = TaskGroup::new("fake-cri");
        let service = service::Service::new(Arc::clone(&self.shared));
        let runtime = RuntimeServiceServer::new(service.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let images = ImageServiceServer::new(service)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let router = tonic::transport::Server::builder()
            .add_service(runtime)
            .add_service(images);
        let end = group.token().clone().cancelled_owned();
        group.spawn(
            "server",
            router.serve_with_incoming_shutdown(UnixListenerStream::new(listener), end),
        );
        self.shared.set_open_until(Some(group.token().clone()));
        *server = Some(group);
    }

    // What it has.

    /// All sandboxes, oldest first.
    pub fn sandboxes(&self) -> Vec<FakeSandbox> {
        self.shared
            .lock()
            .model
            .sandboxes
            .values()
            .cloned()
            .collect()
    }

    /// All containers, oldest first.
    pub fn containers(&self) -> Vec<FakeContainer> {
        self.shared
            .lock()
            .model
            .containers
            .values()
            .cloned()
            .collect()
    }

    /// The newest container with this name (CRI metadata), if there is one.
    pub fn container(&self, name: &str) -> Option<FakeContainer> {
        self.shared.lock().model.newest_container(name).cloned()
    }

    /// The calls so far, oldest first.
    pub fn calls(&self) -> Vec<CallRecord> {
        self.shared.lock().script.calls.clone()
    }

    /// How many calls of a kind there were.
    pub fn call_count(&self, call: Call) -> usize {
        self.shared
            .lock()
            .script
            .calls
            .iter()
            .filter(|record| record.call == call)
            .count()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.shared.lock().script.calls.clear();
    }

    /// Waits until the state answers `look` with a value; looks after each call and change.
    ///
    /// # Panics
    /// At the deadline, with what it has then.
    pub async fn wait_for<T>(
        &self,
        deadline: Duration,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        let mut changes = self.shared.changed.subscribe();
        let wait = async {
            loop {
                if let Some(value) = look(self) {
                    return value;
                }
                changes.changed().await.expect("we hold the sender");
            }
        };
        if let Ok(value) = tokio::time::timeout(deadline, wait).await {
            return value;
        }
        panic!(
            "not within {deadline:?}; sandboxes {:#?}, containers {:#?}",
            self.sandboxes(),
            self.containers()
        );
    }

    // What it does.

    /// Puts an image there, as if pulled.
    pub fn add_image(&self, name: &str) {
        self.shared.change(|state| state.model.add_image(name));
    }

    /// The names of the images that are there.
    pub fn images(&self) -> Vec<String> {
        self.shared.lock().model.images.keys().cloned().collect()
    }

    /// Lets pulls of this image fail; without it every pull succeeds.
    pub fn refuse_pull(&self, image: &str, code: Code, message: &str) {
        let refusal = (code, message.to_owned());
        self.shared
            .change(|state| state.script.pulls.insert(image.to_owned(), refusal));
    }

    /// Lets pulls of this image succeed again.
    pub fn allow_pull(&self, image: &str) {
        self.shared.change(|state| state.script.pulls.remove(image));
    }

    /// Lets every call of a kind fail until [`Self::succeed`].
    pub fn fail(&self, call: Call, code: Code, message: &str) {
        self.fail_times(call, usize::MAX, code, message);
    }

    /// Lets the next `times` calls of a kind fail.
    pub fn fail_times(&self, call: Call, times: usize, code: Code, message: &str) {
        let failure = script::Failure {
            times,
            code,
            message: message.to_owned(),
        };
        self.shared
            .change(|state| state.script.failures.insert(call, failure));
    }

    /// Lets the next `times` calls of a kind be done and their answers be lost on the way.
    pub fn lose_answers(&self, call: Call, times: usize) {
        self.shared
            .change(|state| state.script.lost_answers.insert(call, times));
    }

    /// Shows every state that it gets into to `look`, which must not call back.
    pub fn watch(&self, look: impl Fn(&[&FakeSandbox], &[&FakeContainer]) + Send + Sync + 'static) {
        let watch = script::Watch(Arc::new(look));
        self.shared.change(|state| state.script.watch = Some(watch));
    }

    /// Lets calls of a kind succeed again.
    pub fn succeed(&self, call: Call) {
        self.shared.change(|state| {
            state.script.lost_answers.remove(&call);
            state.script.failures.remove(&call)
        });
    }

    /// Lets calls of a kind wait (after being recorded, before doing anything) until the answer is
    /// dropped.
    pub fn hold(&self, call: Call) -> Held {
        let held = Held::new();
        self.shared
            .change(|state| state.script.holds.insert(call, held.gate()));
        held
    }

    /// Lets containers of this name (CRI metadata) exit as soon as they are started.
    pub fn exit_on_start(&self, name: &str, exit_code: i32) {
        self.shared
            .change(|state| state.script.exits.insert(name.to_owned(), exit_code));
    }

    /// Lets containers of this name run when started.
    pub fn run_on_start(&self, name: &str) {
        self.shared.change(|state| state.script.exits.remove(name));
    }

    /// What containers of this name do when stopped; without it they exit with 143.
    pub fn on_stop(&self, name: &str, behaviour: OnStop) {
        self.shared
            .change(|state| state.script.stops.insert(name.to_owned(), behaviour));
    }

    /// Answers `ExecSync`; without it every command prints nothing and exits with 0.
    pub fn on_exec(
        &self,
        answer: impl Fn(&v1::ExecSyncRequest) -> v1::ExecSyncResponse + Send + Sync + 'static,
    ) {
        self.shared
            .change(|state| state.script.exec = Some(Arc::new(answer)));
    }

    /// Lets the newest container of this name exit by itself.
    ///
    /// # Panics
    /// When none of that name runs.
    pub fn exit(&self, name: &str, exit_code: i32) {
        let reason = if exit_code == 0 { "Completed" } else { "Error" };
        self.exit_with(name, exit_code, reason);
    }

    /// As [`Self::exit`], with a reason such as `OOMKilled`.
    ///
    /// # Panics
    /// When none of that name runs.
    pub fn exit_with(&self, name: &str, exit_code: i32, reason: &str) {
        self.shared.change(|state| {
            let newest = state
                .model
                .newest_container(name)
                .map(|container| container.id.clone());
            let ended = newest.is_some_and(|id| state.model.end(&id, exit_code, reason));
            assert!(ended, "no container called {name} runs");
        });
    }

    /// Ends a sandbox and what runs in it behind the kubelet's back.
    ///
    /// # Panics
    /// When there is none of that id.
    pub fn kill_sandbox(&self, id: &str) {
        self.shared.change(|state| {
            assert!(state.model.sandboxes.contains_key(id), "no sandbox {id}");
            state.model.stop_sandbox(id);
        });
    }

    /// Lets the engine below the runtime lose a sandbox, as `docker rm -f` does: the runtime lists it, and
    /// knows no more than its name.
    ///
    /// # Panics
    /// When there is none of that id.
    pub fn lose_sandbox(&self, id: &str) {
        self.shared.change(|state| {
            assert!(state.model.sandboxes.contains_key(id), "no sandbox {id}");
            state.model.lose_sandbox(id);
        });
    }

    /// Removes a container without a trace, as an administrator might.
    ///
    /// # Panics
    /// When there is none of that id.
    pub fn lose_container(&self, id: &str) {
        self.shared.change(|state| {
            assert!(
                state.model.containers.remove(id).is_some(),
                "no container {id}"
            );
        });
    }

    /// Removes everything that does not run, as `docker system prune` does.
    pub fn prune(&self) {
        self.shared.change(|state| state.model.prune());
    }

    /// Sets a condition of the runtime's status, such as `NetworkReady`.
    pub fn set_condition(&self, kind: &str, holds: bool, reason: &str, message: &str) {
        let condition = v1::RuntimeCondition {
            r#type: kind.to_owned(),
            status: holds,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        self.shared.change(|state| {
            state.model.conditions.retain(|known| known.r#type != kind);
            state.model.conditions.push(condition);
        });
    }

    /// Sets the driver that `RuntimeConfig` tells; cgroupfs at first.
    pub fn set_cgroup_driver(&self, driver: v1::CgroupDriver) {
        self.shared
            .change(|state| state.model.cgroup_driver = driver);
    }

    /// Sets where `Exec`, `Attach` and `PortForward` send the client, without a final slash.
    pub fn set_streaming_base(&self, url: &str) {
        self.shared
            .change(|state| url.clone_into(&mut state.model.streaming_base));
    }
}
