//! The HTTP servers of settings.

use kubelet_config::Settings;

use super::StartError;
use crate::{
    runtime::health::HealthView,
    server::{Answers, HealthChecks, HttpServer, Surface},
};

/// What `/healthz` looks at (HTTP-20).
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) health: HealthView,
}

impl HealthChecks for Checks {
    fn checks(&self) -> Vec<(&'static str, Result<(), String>)> {
        // The sync loop's tasks are owned: when one ends the process ends with it.
        let _ = &self.health;
        ["ping", "log", "syncloop", "device-plugin"]
            .map(|name| (name, Ok(())))
            .to_vec()
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
