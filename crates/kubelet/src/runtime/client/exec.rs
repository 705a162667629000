//! Commands in containers (CRI-20).

use std::time::Duration;

use cri_api::{Code, v1};

use super::{CriClient, CriError};

/// What a command left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExecOutput {
    pub(crate) exit_code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl ExecOutput {
    /// What it said, standard output first, as far as the limit goes; broken characters replaced.
    pub(crate) fn text(&self, limit_bytes: usize) -> String {
        let both: Vec<u8> = self
            .stdout
            .iter()
            .chain(&self.stderr)
            .copied()
            .take(limit_bytes)
            .collect();
        String::from_utf8_lossy(&both).into_owned()
    }
}

impl CriClient {
    /// Runs a command and waits for its end; without `timeout` as long as it takes (CRI-01). Dropping
    /// the call ends the command. The runtime ends it at the timeout: see
    /// [`CriError::is_deadline_exceeded`].
    pub(crate) async fn exec_sync(
        &self,
        container_id: &str,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, CriError> {
        let mut client = self.runtime.clone();
        let seconds = timeout.map_or(0, |timeout| timeout.as_secs());
        let request = v1::ExecSyncRequest {
            container_id: container_id.to_owned(),
            cmd: command,
            timeout: i64::try_from(seconds).unwrap_or(i64::MAX),
        };
        let limit = timeout.map(|timeout| timeout.saturating_add(self.request_timeout));
        let answer = self
            .call("exec_sync", limit, Box::pin(client.exec_sync(request)))
            .await?;
        Ok(ExecOutput {
            exit_code: answer.exit_code,
            stdout: answer.stdout,
            stderr: answer.stderr,
        })
    }
}

impl CriError {
    /// The time for it was over.
    pub(crate) fn is_deadline_exceeded(&self) -> bool {
        match self {
            Self::Call { source, .. } => source.code == Code::DeadlineExceeded,
            Self::Timeout { .. } => true,
            Self::Incomplete { .. } => false,
        }
    }
}
