//! The plain HTTP servers: health on 10248 and the read-only port 10255 (kubelet section 8).
//!
//! Config → bind → run: sockets are bound first, so addresses are known before the first request.
//!
//! Differs (HTTP-04): `HEAD` is answered as `GET` without its body, a path may end with a slash, and `/metrics` can only
//! be read; upstream refuses `HEAD` of pods, does not find `/healthz/`, redirects unclean paths, and takes a `POST` of
//! `/metrics` for a `GET`.
//!
//! Owner task: [`HttpServer::run`], one child task per connection, at most [`MAX_CONNECTIONS`].

mod events;
mod manifests;
mod pods;
mod shape;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    events::keeper::EventStore, metrics::Metrics, sources::ManifestFile, status_store::StatusStore,
};

/// Connections at once per server; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// A connection that sends no request for this long is closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(90);

/// What a server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface {
    /// `/healthz` alone, the ping check (PROC-32).
    Health,
    /// `/healthz`, `/pods`, `/runningpods/`, `/metrics`, `/events`, `/manifests`; debugging paths are
    /// refused (HTTP-04).
    ReadOnly,
}

/// What the answers are made from.
#[derive(Debug, Clone)]
pub(crate) struct Answers {
    /// Pods and their statuses.
    pub(crate) statuses: Arc<StatusStore>,
    /// The files and the URL that pods come from, by source.
    pub(crate) manifests: Vec<watch::Receiver<Vec<ManifestFile>>>,
    /// What happened.
    pub(crate) events: Arc<EventStore>,
    /// Whose events they are.
    pub(crate) node_name: String,
    /// The series of `/metrics`.
    pub(crate) registry: daemon::metrics::Metrics,
    /// The series of `/metrics/probes`.
    pub(crate) probe_registry: daemon::metrics::Metrics,
    /// Those of `/metrics` that are set when somebody asks.
    pub(crate) metrics: Metrics,
    /// Checks of `/healthz` beyond the ping.
    pub(crate) health: Arc<dyn HealthChecks>,
}

/// The health checks of this process.
pub(crate) trait HealthChecks: std::fmt::Debug + Send + Sync {
    /// Name and outcome of each check, in upstream's order (HTTP-20).
    fn checks(&self) -> Vec<(&'static str, Result<(), String>)>;
}

/// A bound server.
#[derive(Debug)]
pub(crate) struct HttpServer {
    listener: TcpListener,
    surface: Surface,
    answers: Answers,
}

impl HttpServer {
    /// Binds.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub(crate) async fn bind(
        address: SocketAddr,
        surface: Surface,
        answers: Answers,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            surface,
            answers,
        })
    }

    /// Serves until the token is cancelled; open connections are then dropped.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let connections = daemon::TaskGroup::new("http connections");
        self.accept(&connections, &shutdown).await;
        // Open connections are cut: nobody is owed an answer at this point.
        drop(connections);
    }

    /// Gives each connection a task of its own, which ends when the peer hangs up.
    async fn accept(&self, connections: &daemon::TaskGroup, shutdown: &CancellationToken) {
        let places = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                break;
            };
            let accepted = tokio::select! {
                biased;
                // cancel-safe: a token.
                () = shutdown.cancelled() => break,
                // cancel-safe: no connection is lost by a dropped accept.
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(error = %error, "accept");
                    // Out of descriptors, most likely: let some close.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (surface, answers) = (self.surface, self.answers.clone());
            connections.spawn_job("http connection", async move {
                let _place = place;
                let service = service_fn(move |request: Request<Incoming>| {
                    let response = answer(surface, &answers, &request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let served = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(error = %error, "http connection");
                }
            });
        }
    }
}

type Answer = Response<Full<Bytes>>;

fn answer(surface: Surface, answers: &Answers, request: &Request<Incoming>) -> Answer {
    route(
        surface,
        answers,
        request.method(),
        request.uri().path(),
        request.uri().query(),
    )
}

fn route(
    surface: Surface,
    answers: &Answers,
    method: &Method,
    path: &str,
    query: Option<&str>,
) -> Answer {
    let get = method == Method::GET || method == Method::HEAD;
    let path = path.trim_end_matches('/');
    match (surface, path) {
        (Surface::Health, "/healthz") => text(StatusCode::OK, "ok"),
        (Surface::ReadOnly, _) if path == "/healthz" || path.starts_with("/healthz/") => {
            healthz(answers, path, query)
        }
        (Surface::ReadOnly, "/pods") if get => pods::pods(&answers.statuses),
        (Surface::ReadOnly, "/runningpods") if get => pods::running_pods(&answers.statuses),
        (Surface::ReadOnly, "/events") if get => {
            events::events(&answers.events, &answers.node_name)
        }
        (Surface::ReadOnly, "/manifests") if get => {
            manifests::manifests(&answers.manifests, &answers.node_name)
        }
        (Surface::ReadOnly, "/metrics") if get => metrics(answers),
        (Surface::ReadOnly, "/metrics/probes") if get => rendered(&answers.probe_registry),
        (Surface::ReadOnly, _) if is_debugging(path) => text(
            StatusCode::METHOD_NOT_ALLOWED,
            "Debug endpoints are disabled.\n",
        ),
        (
            Surface::ReadOnly,
            "/pods" | "/runningpods" | "/metrics" | "/metrics/probes" | "/events" | "/manifests",
        ) => only_read(),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// The paths that only the authenticated port may serve (TOP-11, HTTP-41).
fn is_debugging(path: &str) -> bool {
    let first = path.split('/').nth(1).unwrap_or_default();
    ["run", "exec", "attach", "portForward", "containerLogs"].contains(&first)
}

/// `ok`, or 500 with a line per check (HTTP-20).
fn healthz(answers: &Answers, path: &str, query: Option<&str>) -> Answer {
    let wanted = path
        .strip_prefix("/healthz")
        .unwrap_or_default()
        .trim_start_matches('/');
    let verbose = query.is_some_and(|q| {
        q.split('&')
            .any(|p| p == "verbose" || p.starts_with("verbose="))
    });
    let excluded: Vec<&str> = query
        .iter()
        .flat_map(|query| query.split('&'))
        .filter_map(|pair| pair.strip_prefix("exclude="))
        .collect();
    let mut lines = String::new();
    let mut failed = false;
    let mut known = false;
    for (name, outcome) in answers.health.checks() {
        if !wanted.is_empty() && wanted != name {
            continue;
        }
        known = true;
        if excluded.contains(&name) {
            lines.extend(["[+]", name, " excluded: ok\n"]);
            continue;
        }
        match outcome {
            Ok(()) => lines.extend(["[+]", name, " ok\n"]),
            Err(reason) => {
                tracing::warn!(check = name, reason = %reason, "healthz check failed");
                lines.extend(["[-]", name, " failed: reason withheld\n"]);
                failed = true;
            }
        }
    }
    if !known {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    if failed {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{lines}healthz check failed\n"),
        );
    }
    if verbose {
        return text(StatusCode::OK, format!("{lines}healthz check passed\n"));
    }
    text(StatusCode::OK, "ok")
}

fn metrics(answers: &Answers) -> Answer {
    answers.metrics.set_counts(answers.statuses.counts());
    rendered(&answers.registry)
}

fn rendered(registry: &daemon::metrics::Metrics) -> Answer {
    match registry.render() {
        Ok(body) => with_type(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            body,
        ),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// The path is there, to be read and nothing else.
fn only_read() -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

/// Words for people, which a browser is not to take for anything else.
fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = with_type(status, "text/plain; charset=utf-8", body);
    answer
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests;
