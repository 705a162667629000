//! The HTTP servers of settings.

use std::time::Duration;

use kubelet_config::Settings;

use super::StartError;
use crate::{
    runtime::health::HealthView,
    server::{Answers, HealthChecks, HttpServer, Surface},
};

/// No sync for that long is a failure, or for twice `syncFrequency` (LIFE-07).
const LEAST_SYNC_LIMIT: Duration = Duration::from_mins(5);

/// What `/healthz` looks at (HTTP-20).
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) health: HealthView,
    pub(super) sync_frequency: Duration,
}

impl HealthChecks for Checks {
    fn checks(&self) -> Vec<(&'static str, Result<(), String>)> {
        let down_since = self.health.now().down_since;
        let away = down_since.map(|since| since.elapsed());
        vec![
            ("ping", Ok(())),
            ("log", Ok(())),
            ("syncloop", sync_loop(away, self.sync_frequency)),
            ("device-plugin", Ok(())),
        ]
    }
}

/// Pods are not synced while the runtime is away. A loop that ends takes the process with it: its tasks
/// are owned.
fn sync_loop(away: Option<Duration>, sync_frequency: Duration) -> Result<(), String> {
    let limit = sync_frequency.saturating_mul(2).max(LEAST_SYNC_LIMIT);
    match away {
        Some(away) if away > limit => Err("sync Loop took longer than expected".to_owned()),
        _ => Ok(()),
    }
}

pub(super) async fn bind_servers(
    settings: &Settings,
    answers: &Answers,
) -> Result<Vec<HttpServer>, StartError> {
    let wanted = [
        ("healthzPort", settings.servers.health, Surface::Health),
        (
            "readOnlyPort",
            settings.servers.read_only,
            Surface::ReadOnly,
        ),
    ];
    let mut servers = Vec::new();
    for (field, address, surface) in wanted {
        let Some(address) = address else { continue };
        let server = HttpServer::bind(address, surface, answers.clone())
            .await
            .map_err(|source| StartError::Listen {
                address,
                field,
                source,
            })?;
        tracing::info!(address = %address, port = field, "Starting to listen");
        servers.push(server);
    }
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sync_loop_fails_once_the_runtime_was_away_for_five_minutes_or_two_syncs() {
        let minutes = |count| Some(Duration::from_mins(count));
        for (away, every, good) in [
            (None, 1, true),
            (minutes(5), 1, true),
            (minutes(6), 1, false),
            (minutes(6), 4, true),
            (minutes(9), 4, false),
        ] {
            let every = Duration::from_mins(every);
            assert_eq!(sync_loop(away, every).is_ok(), good, "{away:?} {every:?}");
        }
    }
}
