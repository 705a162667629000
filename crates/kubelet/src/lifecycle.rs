//! Hooks of containers: what runs after the start and before the stop (kubelet CTR-43 to CTR-45).
//!
//! Called by pod workers, no task of its own. A dropped call ends the command or the request.
//!
//! Differs (CTR-45): a hook by `tcpSocket` fails with a message that names what is known; upstream's prints the handler's
//! Go structure.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::api::core::v1::{ContainerPort, ExecAction, HTTPGetAction, LifecycleHandler, Pod};
use kubelet_core::{
    ids::pod_in_message,
    probes::http::{self, Purpose},
    quote::quote,
};
use prometheus::IntCounter;

use crate::{
    events::{EventType, Events, ObjectRef},
    outbound::http::{Failed, HttpError, Progress, get},
    runtime::client::CriClient,
};

/// A hook's output in messages is cut here.
const MAX_OUTPUT_BYTES: usize = 10 * 1024;

/// What a hook needs to know of its container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HookTarget<'a> {
    /// The pod.
    pub(crate) pod: &'a Pod,
    /// Name of the container.
    pub(crate) name: &'a str,
    /// The runtime's id.
    pub(crate) id: &'a str,
    /// Its ports, which hooks may name.
    pub(crate) ports: &'a [ContainerPort],
    /// The pod's first address.
    pub(crate) ip: Option<IpAddr>,
}

/// A hook that failed, in upstream's words, which become `waiting.message`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HookError(String);

/// Runs hooks.
#[derive(Debug, Clone)]
pub(crate) struct Hooks {
    pub(crate) runtime: CriClient,
    pub(crate) events: Events,
    /// HTTPS hooks that were run without TLS.
    pub(crate) http_fallbacks: IntCounter,
    /// Sleeps that were cut short.
    pub(crate) sleeps_cut_short: IntCounter,
    /// Major and minor, for `User-Agent`.
    pub(crate) version: String,
}

/// How a kind of hook ends: with upstream's error and, of a command, its output.
type Outcome = Result<(), (String, Option<String>)>;

impl Hooks {
    /// Runs one hook to its end. No time limit of its own.
    ///
    /// # Errors
    /// When it failed.
    pub(crate) async fn run(
        &self,
        handler: &LifecycleHandler,
        target: HookTarget<'_>,
    ) -> Result<(), HookError> {
        // Boxed: a worker that runs none shall not carry them.
        let (what, outcome) = if let Some(action) = &handler.exec {
            let words = action.command.as_deref().unwrap_or_default().join(" ");
            let outcome = Box::pin(self.exec(action, target)).await;
            (format!("Exec lifecycle hook ([{words}])"), outcome)
        } else if let Some(action) = &handler.http_get {
            let path = action.path.as_deref().unwrap_or_default();
            let outcome = Box::pin(self.http(action, target)).await;
            (format!("HTTP lifecycle hook ({path})"), outcome)
        } else if let Some(action) = &handler.sleep {
            let cut_short = CutShort(Some(&self.sleeps_cut_short));
            let seconds = u64::try_from(action.seconds).unwrap_or_default();
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            cut_short.not();
            return Ok(());
        } else {
            // Upstream knows no `tcpSocket` here (CTR-45). Its message has the whole handler as Go prints it.
            let text = "Cannot run handler: invalid handler: neither exec, httpGet nor sleep";
            return Err(HookError(text.to_owned()));
        };
        outcome.map_err(|(error, output)| {
            let pod = pod_in_message(target.pod);
            let output = output
                .map(|output| format!(", message: {}", quote(&output)))
                .unwrap_or_default();
            HookError(format!(
                "{what} for Container {} in Pod {} failed - error: {error}{output}",
                quote(target.name),
                quote(&pod)
            ))
        })
    }

    async fn exec(&self, action: &ExecAction, target: HookTarget<'_>) -> Outcome {
        let command = action.command.clone().unwrap_or_default();
        let words = command.join(" ");
        match self.runtime.exec_sync(target.id, command, None).await {
            Ok(output) if output.exit_code == 0 => Ok(()),
            Ok(output) => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                let code = output.exit_code;
                let error = format!("command '{words}' exited with {code}: {stderr}");
                Err((error, Some(output.text(MAX_OUTPUT_BYTES))))
            }
            Err(error) => Err((error.rpc_text(), Some(String::new()))),
        }
    }

    async fn http(&self, action: &HTTPGetAction, target: HookTarget<'_>) -> Outcome {
        let named = action.host.as_deref().is_some_and(|host| !host.is_empty());
        let ip = target.ip.map(|ip| ip.to_string());
        if !named && ip.is_none() {
            return Err(("failed to find networking container".to_owned(), None));
        }
        let ip = ip.unwrap_or_default();
        let who = (Purpose::Lifecycle, self.version.as_str());
        let request = http::request(action, target.ports, &ip, who)
            .map_err(|error| (error.to_string(), None))?;
        let (at_once, progress) = (|| std::future::ready(()), Progress::default());
        let mut result = get(&request, at_once, &progress).await;
        let is_plain = |failed: &Failed| {
            let Failed::Get { error, .. } = failed else {
                return false;
            };
            matches!(error, HttpError::HttpNotTls)
        };
        if result.as_ref().is_err_and(is_plain) {
            let mut plain = request.clone();
            "http".clone_into(&mut plain.url.scheme);
            plain.remove("Authorization");
            let again = get(&plain, at_once, &progress).await;
            if again.is_ok() {
                self.http_fallbacks.inc();
                self.tell_fallback(target, &request.url.host);
                result = again;
            }
        }
        match result {
            // Any answer is a good one.
            Ok(_) | Err(Failed::Body(_)) => Ok(()),
            Err(failed) => Err((failed.to_string(), None)),
        }
    }

    fn tell_fallback(&self, target: HookTarget<'_>, authority: &str) {
        let message = format!(
            "request to HTTPS lifecycle hook {authority} got HTTP response, \
             retry with HTTP succeeded"
        );
        let object = ObjectRef::pod(target.pod);
        let reason = "LifecycleHTTPFallback";
        self.events
            .record(&object, EventType::Warning, reason, &message);
    }
}

/// Counts when it is dropped before its end.
struct CutShort<'a>(Option<&'a IntCounter>);

impl CutShort<'_> {
    fn not(mut self) {
        self.0 = None;
    }
}

impl Drop for CutShort<'_> {
    fn drop(&mut self) {
        if let Some(counter) = self.0 {
            counter.inc();
        }
    }
}

#[cfg(test)]
mod tests;
