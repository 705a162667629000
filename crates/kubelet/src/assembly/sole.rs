//! One kubelet for one runtime: each takes pods that it does not know for leftovers and removes them, so two
//! would remove each other's. The place is an abstract socket, which the kernel frees however its holder
//! ends, and which is seen from every container in the same network namespace.
//!
//! Differs: a kubelet that finds another one at its runtime names it and ends. Upstream has no such check: two
//! of its kubelets on one runtime remove each other's pods.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::fs::MetadataExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
};

use cri_api::Endpoint;
use daemon::ErrorChain;
use tokio::net::UnixStream;

use crate::runtime::client::CriClient;

/// The longest name: an abstract address holds 107 bytes.
const NAME_MAX: usize = 107;

/// Held as long as this kubelet lives. Nobody is ever answered: who connects learns whose it is.
#[derive(Debug)]
pub(super) struct Place {
    _listener: Option<UnixListener>,
}

/// Another kubelet has the place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "another kubelet ({holder}) runs its pods on {runtime}, and each would remove the other's pods: stop one \
     of the two, or give each a container runtime of its own"
)]
pub(crate) struct TakenError {
    holder: String,
    runtime: String,
}

/// Takes the place at the runtime: at the Docker Engine behind it where it tells, else at its socket.
pub(super) async fn take(runtime: &CriClient, endpoint: &Endpoint) -> Result<Place, TakenError> {
    let engine = runtime.engine_id().await.unwrap_or_else(|error| {
        tracing::warn!(error = %ErrorChain(&error), "ask the runtime for its engine");
        None
    });
    let (key, told) = match engine {
        Some(engine) => (
            format!("docker/{engine}"),
            format!("the same Docker Engine ({engine})"),
        ),
        None => (
            format!("cri/{endpoint}"),
            format!("the same runtime ({endpoint})"),
        ),
    };
    claim(&key, &told).await
}

async fn claim(key: &str, runtime: &str) -> Result<Place, TakenError> {
    let mut name = format!("berth-kubelet/{key}");
    // The end tells more of a path than its beginning.
    while name.len() > NAME_MAX {
        name.remove(0);
    }
    let address = SocketAddr::from_abstract_name(&name);
    match address.and_then(|address| UnixListener::bind_addr(&address)) {
        Ok(listener) => Ok(Place {
            _listener: Some(listener),
        }),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let peer = UnixStream::connect(format!("\0{name}")).await;
            let peer = peer.and_then(|peer| peer.peer_cred()).ok();
            if let Some(uid) = peer.map(|peer| peer.uid()).filter(|uid| !is_trusted(*uid)) {
                tracing::warn!(
                    uid,
                    name,
                    "a process that cannot be a kubelet has this kubelet's place at its runtime: end it"
                );
                return Ok(Place { _listener: None });
            }
            Err(TakenError {
                holder: holder(peer.and_then(|peer| peer.pid())).await,
                runtime: runtime.to_owned(),
            })
        }
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "cannot tell whether another kubelet uses this runtime");
            Ok(Place { _listener: None })
        }
    }
}

/// Anybody may bind an abstract address, and whoever cannot run a kubelet must not keep one from running.
fn is_trusted(uid: u32) -> bool {
    uid == 0 || std::fs::metadata("/proc/self").is_ok_and(|ours| ours.uid() == uid)
}

/// Who has the place, for people.
async fn holder(pid: Option<i32>) -> String {
    let Some(pid) = pid else {
        return "of which no more is known".to_owned();
    };
    if pid == 0 {
        return "in a PID namespace out of sight".to_owned();
    }
    let words = daemon::blocking(move || std::fs::read(format!("/proc/{pid}/cmdline"))).await;
    let words = words.unwrap_or_default();
    let line = String::from_utf8_lossy(&words).replace('\0', " ");
    format!("pid {pid}: {}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_place_has_one_holder_who_is_named_until_it_ends() {
        let key = format!("test/{}", "x".repeat(200)) + &std::process::id().to_string();
        let place = claim(&key, "it").await.unwrap();
        let error = claim(&key, "it").await.unwrap_err();
        let ours = format!("pid {}: ", std::process::id());
        assert!(error.holder.starts_with(&ours), "{error}");
        assert_eq!(error.runtime, "it");
        drop(place);
        claim(&key, "it").await.unwrap();
    }

    #[test]
    fn only_root_and_we_ourselves_are_taken_for_a_kubelet() {
        assert!(is_trusted(0) && is_trusted(rustix::process::geteuid().as_raw()));
        assert!(!is_trusted(65_534));
    }
}
