//! Says when the node becomes ready and when it stops being so (kubelet CONN-52). Kubernetes
//! kubelet, `ReadyCondition`: the runtime and its network make a node ready.
//!
//! Owner task: [`tell`]. Nothing survives a restart: the first verdict is always told.

use tokio_util::sync::CancellationToken;

use crate::{
    events::{EventType, Events, ObjectRef},
    runtime::health::{Health, HealthView},
};

/// Tells of each change until the token is cancelled.
pub(crate) async fn tell(
    mut health: HealthView,
    events: Events,
    node_name: String,
    shutdown: CancellationToken,
) {
    let node = ObjectRef::node(&node_name);
    let mut told = None;
    let work = async {
        health.up().await;
        loop {
            let ready = is_ready(&health.now());
            if told != Some(ready) {
                let reason = if ready { "NodeReady" } else { "NodeNotReady" };
                let message = format!("Node {node_name} status is now: {reason}");
                events.record(&node, EventType::Normal, reason, &message);
                told = Some(ready);
            }
            health.changed().await;
        }
    };
    tokio::select! {
        biased;
        // cancel-safe: a token.
        () = shutdown.cancelled() => {}
        // cancel-safe: dropped for good.
        () = work => {}
    }
}

fn is_ready(health: &Health) -> bool {
    health.is_up() && health.network.is_none()
}
