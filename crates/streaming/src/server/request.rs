//! Requests that wait for their connection.

use crate::remote_command::Wanted;

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The container.
    pub container: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Its streams.
    pub wanted: Wanted,
}

/// A container to attach to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The container.
    pub container: String,
    /// Its streams.
    pub wanted: Wanted,
}

/// A pod whose ports are forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortForward {
    /// The sandbox.
    pub sandbox: String,
    /// For clients that forward by channels; others name the port with each connection.
    pub ports: Vec<u16>,
}

/// A request that waits for its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Run a command.
    Exec(Exec),
    /// Attach.
    Attach(Attach),
    /// Forward ports.
    PortForward(PortForward),
}

impl Request {
    /// First word of the path.
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Attach(_) => "attach",
            Self::PortForward(_) => "portforward",
        }
    }

    /// What is wrong with it, in upstream's words (EXE-09).
    ///
    /// # Errors
    /// The text for the caller of the RPC.
    pub fn validate(&self) -> Result<(), &'static str> {
        let (container, wanted, none) = match self {
            Self::Exec(exec) => (
                &exec.container,
                exec.wanted,
                "one of stdin, stdout, or stderr must be set",
            ),
            Self::Attach(attach) => (
                &attach.container,
                attach.wanted,
                "one of stdin, stdout, and stderr must be set",
            ),
            Self::PortForward(forward) if forward.sandbox.is_empty() => {
                return Err("missing required pod_sandbox_id");
            }
            Self::PortForward(_) => return Ok(()),
        };
        if container.is_empty() {
            Err("missing required container_id")
        } else if wanted.tty && wanted.stderr {
            Err("tty and stderr cannot both be true")
        } else if !wanted.stdin && !wanted.stdout && !wanted.stderr {
            Err(none)
        } else {
            Ok(())
        }
    }
}
