//! Last words of containers and their limits (CTR-50).

use std::{io, path::PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::observed::{ContainerState, ObservedContainer};
use crate::spec;

/// Most bytes read from a container's message file, from its end.
pub const MAX_MESSAGE_BYTES: usize = 4096;
/// Most bytes taken from the log instead.
pub const MAX_LOG_BYTES: usize = 2048;
/// Most lines taken from the log instead.
pub const MAX_LOG_LINES: usize = 80;
/// Most bytes of all messages of a pod.
pub const MAX_POD_BYTES: usize = 12 * 1024;

/// Where the last words of an ended container are to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageSource {
    /// The file, if it has one: the last [`MAX_MESSAGE_BYTES`] count. A missing file is no message.
    pub file: Option<PathBuf>,
    /// The log to take the last lines of when the file says nothing.
    pub log: Option<PathBuf>,
}

/// Where to look, for a container that has ended; `None` for any other.
pub fn message_source(container: &ObservedContainer) -> Option<MessageSource> {
    if container.state != ContainerState::Exited {
        return None;
    }
    // What never ran has no log of its own.
    let falls_back = container.termination_message_policy == "FallbackToLogsOnError"
        && container.exit_code != 0
        && container.reason != "ContainerCannotRun";
    Some(MessageSource {
        file: container
            .termination_message_host_path
            .as_deref()
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        log: (falls_back && !container.log_path.is_empty())
            .then(|| PathBuf::from(&container.log_path)),
    })
}

/// Adds the container's last words to what the runtime says.
pub fn add_message(container: &mut ObservedContainer, words: &str) {
    if words.is_empty() {
        return;
    }
    if !container.message.is_empty() {
        container.message.push_str(": ");
    }
    container.message.push_str(words);
}

/// The end of a message file as text; broken characters are replaced.
pub fn tail_text(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(MAX_MESSAGE_BYTES);
    String::from_utf8_lossy(&bytes[start..]).into_owned()
}

/// The last lines of a log within both limits: the newest bytes count.
pub fn tail_lines(lines: &[&str]) -> String {
    let start = lines.len().saturating_sub(MAX_LOG_LINES);
    let text = lines[start..].concat();
    let cut = text.ceil_char_boundary(text.len().saturating_sub(MAX_LOG_BYTES));
    text[cut..].to_owned()
}

/// A container's share of the pod's budget, in bytes.
pub fn message_limit_bytes(pod: &Pod) -> usize {
    let count = spec::containers(pod).len()
        + spec::init_containers(pod).len()
        + spec::ephemeral_containers(pod).len();
    MAX_POD_BYTES / count.max(1)
}

/// What the message says when the end of the log was to be it and cannot be read (CTR-50). Source:
/// Kubernetes kubelet, `readLastStringFromContainerLogs`.
pub fn log_error(path: &str, error: &io::Error) -> String {
    let why = if error.kind() == io::ErrorKind::NotFound {
        format!(
            "failed to try resolving symlinks in path {path:?}: lstat {path}: no such file or directory"
        )
    } else {
        format!("failed to open log file {path:?}: {error}")
    };
    format!("Error on reading termination message from logs: {why}")
}

/// Text for a message file that could not be read.
pub fn read_error(path: &str, error: &str) -> String {
    format!("Error on reading termination log {path}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::container_from_status;

    fn exited(policy: &str, exit_code: i32, reason: &str) -> ObservedContainer {
        let mut status = cri_api::v1::ContainerStatus {
            id: "c".to_owned(),
            metadata: Some(cri_api::v1::ContainerMetadata::default()),
            state: cri_api::v1::ContainerState::ContainerExited as i32,
            exit_code,
            reason: reason.to_owned(),
            log_path: "/var/log/pods/x/0.log".to_owned(),
            ..Default::default()
        };
        status.annotations.insert(
            crate::observed::ANNOTATION_MESSAGE_POLICY.to_owned(),
            policy.to_owned(),
        );
        container_from_status(&status, None).unwrap()
    }

    #[test]
    fn ctr_50_log_counts_only_after_an_error_with_the_policy() {
        let has_log =
            |container: &ObservedContainer| message_source(container).unwrap().log.is_some();
        assert!(has_log(&exited("FallbackToLogsOnError", 1, "Error")));
        assert!(!has_log(&exited("FallbackToLogsOnError", 0, "Completed")));
        assert!(!has_log(&exited(
            "FallbackToLogsOnError",
            127,
            "ContainerCannotRun"
        )));
        assert!(!has_log(&exited("File", 1, "Error")));
    }

    #[test]
    fn ctr_50_limits() {
        assert_eq!(tail_text(&[b'x'; 5000]).len(), 4096);
        let lines = vec!["0123456789\n"; 100];
        assert_eq!(tail_lines(&lines), "0123456789\n".repeat(80));
        let long = "é".repeat(3000);
        assert!(tail_lines(&[&long]).len() <= 2048);
        let mut pod = Pod::default();
        pod.spec.get_or_insert_default().containers =
            vec![k8s_openapi::api::core::v1::Container::default(); 3];
        assert_eq!(message_limit_bytes(&pod), 4096);
    }

    #[test]
    fn ctr_50_own_words_follow_the_runtimes() {
        let mut container = exited("File", 1, "Error");
        add_message(&mut container, "");
        assert_eq!(container.message, "");
        add_message(&mut container, "bye");
        add_message(&mut container, "again");
        assert_eq!(container.message, "bye: again");
    }
}
