//! The node's own resolver file, looked at once: pods get what fits of it (kubelet SPEC-24).

use std::{io, path::Path};

use kubelet_core::dns::{self, ResolvConf};

use crate::events::{EventType, Events, ObjectRef};

const REASON: &str = "CheckLimitsForResolvConf";

/// Tells of a file that cannot be read, or that says more than a pod may be told. Kubernetes kubelet,
/// `CheckLimitsForResolvConf`. Blocks.
pub(crate) fn check(path: &Path, cluster_domain: &str, node_name: &str, events: &Events) {
    let fault = match read(path) {
        Ok(conf) => {
            let shown = path.display().to_string();
            dns::check_resolv_conf(&conf, &shown, cluster_domain)
        }
        Err(why) => Some(why),
    };
    if let Some(fault) = fault {
        let node = ObjectRef::node(node_name);
        events.record(&node, EventType::Warning, REASON, &fault);
    }
}

/// What the file says; bytes that are no UTF-8 are replaced. Blocks.
///
/// # Errors
/// Why it cannot be read, in Go's words.
pub(crate) fn read(path: &Path) -> Result<ResolvConf, String> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(dns::parse_resolv_conf(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!(
            "open {}: no such file or directory",
            path.display()
        )),
        Err(error) => Err(format!("open {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{control_plane::Standalone, events::keeper::EventStore};

    #[test]
    fn spec_24_a_resolver_file_that_says_too_much_or_is_not_there_is_told_of_on_the_node() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        let told = |text: Option<&str>| {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let store = Arc::new(EventStore::default());
            let events: Events = Arc::new(Standalone::new(store.clone()));
            check(&path, "cluster.local", "node", &events);
            let events = store.events().into_iter().map(|seen| {
                assert_eq!(
                    (seen.event.kind, seen.event.reason),
                    ("Node".into(), REASON.into())
                );
                seen.event.message
            });
            events.collect::<Vec<_>>()
        };
        let path = path.display().to_string();
        assert_eq!(
            told(None),
            [format!("open {path}: no such file or directory")]
        );
        assert_eq!(
            told(Some("nameserver 10.0.0.1\nsearch a.example\n")),
            [""; 0]
        );
        assert_eq!(
            told(Some("nameserver\nsearch a.example\n")),
            ["nameserver list is empty "]
        );
        let many: Vec<String> = (0..30).map(|number| format!("d{number}.example")).collect();
        assert_eq!(
            told(Some(&format!("search {}\n", many.join(" ")))),
            [format!(
                "Resolv.conf file '{path}' contains search line consisting of more than 29 domains!"
            )]
        );
    }
}
