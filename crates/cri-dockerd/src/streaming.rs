//! Exec, Attach and PortForward: the calls that answer a URL, and what the streaming server does
//! with Docker when a client comes (EXE-08..15, PFW rows).
//!
//! ```text
//!  Exec ─▶ running? ─▶ token ─▶ URL        client ─▶ streaming::Server ─▶ Containers
//!                                                     ├ exec, attach: hijacked connection (carry)
//!                                                     └ port-forward: TCP inside the pod's network
//! ```

mod carry;
mod port_forward;

use std::{io, net::SocketAddr, sync::Arc};

use ::streaming::{
    Attach, Config, Exec, Input, Output, PortForward, Request, Server, Streams, Tls, Wanted,
    server::Failure,
};
use carry::{Terminal, carry};
use cri_api::{Code, RpcError, v1};
use daemon::ErrorChain;

use crate::{
    engine::{Engine, EngineError, NO_DETACH, model::ExecCreate},
    error::Error,
    exec::{Execs, KillOnDrop, Orphans},
    hub::Hub,
    runtime::Runtime,
    state::Record,
};

/// Path before the methods, as upstream's.
const BASE_PATH: &str = "/cri";

/// Binds the server; it serves when it is run.
///
/// Differs (STR-05): streams on which nothing moves for four hours are closed, as the streaming library of
/// Kubernetes has it by default; upstream never sets that limit.
///
/// Differs: URLs have their scheme (STR-01), which clients of a runtime with any name need; upstream's begin
/// with `//`.
///
/// # Errors
/// When the address is taken or not ours.
pub(crate) async fn bind(
    address: SocketAddr,
    tls: Option<Tls>,
    engine: &Engine,
    hub: &Arc<Hub>,
    execs: &Execs,
) -> io::Result<Server<Containers>> {
    let containers = Containers {
        engine: engine.clone(),
        hub: Arc::clone(hub),
        execs: execs.clone(),
    };
    let mut config = Config::new(address, BASE_PATH);
    config.tls = tls;
    Server::bind(config, containers).await
}

impl Runtime {
    /// Exec: the URL at which a client runs the command.
    pub(crate) async fn exec(&self, request: v1::ExecRequest) -> Result<v1::ExecResponse, Error> {
        let mut exec = Exec {
            container: request.container_id,
            command: request.cmd,
            wanted: Wanted {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                tty: request.tty,
            },
        };
        validate(&Request::Exec(exec.clone()))?;
        exec.container = self.execs.running(&exec.container).await?;
        let url = self.url(Request::Exec(exec))?;
        Ok(v1::ExecResponse { url })
    }

    /// Attach: the URL at which a client attaches.
    pub(crate) async fn attach(
        &self,
        request: v1::AttachRequest,
    ) -> Result<v1::AttachResponse, Error> {
        let mut attach = Attach {
            container: request.container_id,
            wanted: Wanted {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                tty: request.tty,
            },
        };
        validate(&Request::Attach(attach.clone()))?;
        attach.container = self.execs.running(&attach.container).await?;
        let url = self.url(Request::Attach(attach))?;
        Ok(v1::AttachResponse { url })
    }

    /// PortForward: the URL at which a client forwards ports.
    pub(crate) async fn port_forward(
        &self,
        request: v1::PortForwardRequest,
    ) -> Result<v1::PortForwardResponse, Error> {
        let mut ports = Vec::new();
        for port in request.port {
            let port = u16::try_from(port).ok().filter(|port| *port != 0);
            let invalid = || Error::Invalid("port: write numbers from 1 to 65535".to_owned());
            ports.push(port.ok_or_else(invalid)?);
        }
        let mut forward = PortForward {
            sandbox: request.pod_sandbox_id,
            ports,
        };
        validate(&Request::PortForward(forward.clone()))?;
        let record = self.hub.find(&forward.sandbox).await?;
        forward.sandbox = running_sandbox(record.as_deref(), &forward.sandbox)?
            .id
            .clone();
        let url = self.url(Request::PortForward(forward))?;
        Ok(v1::PortForwardResponse { url })
    }

    fn url(&self, request: Request) -> Result<String, Error> {
        let url = self.streams.insert(request);
        let full = |error: ::streaming::TooMany| {
            Error::Rpc(RpcError::new(Code::ResourceExhausted, error.to_string()))
        };
        url.map_err(full)
    }
}

fn validate(request: &Request) -> Result<(), Error> {
    request
        .validate()
        .map_err(|text| Error::Invalid(text.to_owned()))
}

/// The sandbox that was found, which must run.
fn running_sandbox<'a>(record: Option<&'a Record>, id: &str) -> Result<&'a Record, RpcError> {
    let sandbox = record.filter(|record| record.sandbox().is_some());
    let Some(sandbox) = sandbox else {
        let text = format!("Error response from daemon: No such container: {id}");
        return Err(RpcError::new(Code::NotFound, text));
    };
    if sandbox.life.is_running() {
        return Ok(sandbox);
    }
    let text = format!("container not running ({})", sandbox.id);
    Err(RpcError::new(Code::FailedPrecondition, text))
}

/// What the streaming server works with.
#[derive(Debug)]
pub(crate) struct Containers {
    engine: Engine,
    hub: Arc<Hub>,
    execs: Execs,
}

fn failure(error: &EngineError) -> Failure {
    Failure(ErrorChain(error).to_string())
}

impl ::streaming::Runtime for Containers {
    /// The command is killed, with all that it started, when the future is dropped: its client is
    /// gone. Differs: upstream leaves it running.
    async fn exec(&self, request: Exec, streams: Streams) -> Result<i32, Failure> {
        let rpc = |error: RpcError| Failure(error.message);
        let container = self.execs.running(&request.container).await.map_err(rpc)?;
        let tty = request.wanted.tty;
        let exec = ExecCreate {
            cmd: request.command,
            attach_stdin: request.wanted.stdin,
            attach_stdout: request.wanted.stdout,
            attach_stderr: request.wanted.stderr,
            tty,
            detach_keys: NO_DETACH.to_owned(),
        };
        let created = self.engine.exec_create(&container, &exec).await;
        let exec = created.map_err(|error| {
            let error = ErrorChain(&error);
            Failure(format!(
                "failed to exec in container - Exec setup failed - {error}"
            ))
        })?;
        // Before the start, or the event could be missed.
        let exit = self.hub.exec_exit(&exec);
        let mut guard = KillOnDrop {
            execs: self.execs.clone(),
            exec: exec.clone(),
            orphans: Orphans::Spared,
            armed: true,
        };
        let connection = match self.engine.exec_start(&exec, tty).await {
            Ok(connection) => connection,
            Err(error) if error.is_not_found() => {
                guard.armed = false;
                let lost = self.execs.lost(&container, "the command was started");
                return Err(rpc(lost.await));
            }
            Err(error) => {
                // Docker's refusal: nothing was started.
                guard.armed = !matches!(error, EngineError::Api { .. });
                return Err(failure(&error));
            }
        };
        let terminal = Terminal::Exec(&self.engine, &exec);
        carry(connection, tty, streams, terminal)
            .await
            .map_err(|error| failure(&error))?;
        let code = self.execs.exit_code(&container, &exec, exit);
        let code = code.await.map_err(rpc)?;
        guard.armed = false;
        Ok(code)
    }

    async fn attach(&self, request: Attach, streams: Streams) -> Result<(), Failure> {
        // It may have ended since the URL was given out: Docker would wait for its next start.
        let running = self.execs.running(&request.container).await;
        let container = running.map_err(|error| Failure(error.message))?;
        let record = self.hub.known(&container);
        // How output comes is the container's choice, not the request's (EXE-12).
        let facts = record.as_deref().and_then(Record::container);
        let tty = facts.map_or(request.wanted.tty, |facts| facts.tty);
        let Wanted {
            stdin,
            stdout,
            stderr,
            ..
        } = request.wanted;
        let container = container.as_str();
        let connection = self.engine.attach(container, stdin, stdout, stderr).await;
        let connection = connection.map_err(|error| failure(&error))?;
        let terminal = Terminal::Container(&self.engine, container);
        carry(connection, tty, streams, terminal)
            .await
            .map_err(|error| failure(&error))
    }

    async fn port_forward(
        &self,
        sandbox: &str,
        port: u16,
        input: Input,
        output: Output,
    ) -> Result<(), Failure> {
        let record = self.hub.find(sandbox).await;
        let record = record.map_err(|error| Failure(ErrorChain(&error).to_string()))?;
        let record =
            running_sandbox(record.as_deref(), sandbox).map_err(|error| Failure(error.message))?;
        port_forward::forward(record, port, input, output)
            .await
            .map_err(|error| Failure(ErrorChain(&error).to_string()))
    }
}
