//! Requests before the upgrade: routes, refusals, and the answer that hands the connection over.

use std::{convert::Infallible, future::Ready, sync::Arc};

use ::http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{self, HeaderName},
};
use http_body_util::Full;
use hyper::{
    Request as HttpRequest,
    body::{Bytes, Incoming},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;

use super::{config::Shared, port_forward, remote_command, request::Request, runtime::Runtime};
use crate::negotiate::{self, Refusal, Upgrade};

type Answer = Response<Full<Bytes>>;

/// Answers the requests of one connection.
#[derive(Debug)]
pub(super) struct Service<R> {
    pub(super) shared: Arc<Shared<R>>,
    pub(super) connections: daemon::Spawner,
    /// Held by the connection and by what it becomes.
    pub(super) place: Arc<OwnedSemaphorePermit>,
}

impl<R: Runtime> hyper::service::Service<HttpRequest<Incoming>> for Service<R> {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn call(&self, request: HttpRequest<Incoming>) -> Self::Future {
        std::future::ready(Ok(self
            .answer(request)
            .unwrap_or_else(|refusal| refuse(&refusal))))
    }
}

impl<R: Runtime> Service<R> {
    fn answer(&self, mut request: HttpRequest<Incoming>) -> Result<Answer, Refusal> {
        let not_found = |text: &str| Refusal {
            status: StatusCode::NOT_FOUND,
            text: text.to_owned(),
            accepted: Vec::new(),
        };
        let (method, token) = route(request.uri().path(), self.shared.config.base_path)
            .ok_or_else(|| not_found("404: Page Not Found"))?;
        if request.method() != Method::GET && request.method() != Method::POST {
            return Err(Refusal {
                status: StatusCode::METHOD_NOT_ALLOWED,
                ..not_found("405: Method Not Allowed")
            });
        }
        // Used up even if the rest of the request is wrong, as upstream.
        let wanted = self
            .shared
            .urls
            .consume(method, token)
            .ok_or_else(|| not_found("404 page not found\n"))?;
        let answer = match wanted {
            Request::Exec(exec) => {
                let upgrade = negotiate::remote_command(request.method(), request.headers())?;
                let work = remote_command::Work::Exec(exec);
                self.remote_command(&mut request, &upgrade, work)
            }
            Request::Attach(attach) => {
                let upgrade = negotiate::remote_command(request.method(), request.headers())?;
                let work = remote_command::Work::Attach(attach);
                self.remote_command(&mut request, &upgrade, work)
            }
            Request::PortForward(forward) => {
                let upgrade = negotiate::port_forward(request.method(), request.headers())?;
                if upgrade.inside() != negotiate::PortForward::Spdy
                    && forward.ports.len() > port_forward::MAX_CHANNEL_PORTS
                {
                    return Err(Refusal {
                        status: StatusCode::BAD_REQUEST,
                        ..not_found("too many ports for one connection")
                    });
                }
                let answer = switching(&upgrade, negotiate::PORT_FORWARD);
                let shared = Arc::clone(&self.shared);
                let shutdown = self.connections.token().clone();
                self.hand_over(&mut request, "port-forward", async move |io| {
                    port_forward::serve(shared, io, upgrade, forward, shutdown).await;
                });
                answer
            }
        };
        Ok(answer)
    }

    fn remote_command(
        &self,
        request: &mut HttpRequest<Incoming>,
        upgrade: &Upgrade<negotiate::RemoteCommand>,
        work: remote_command::Work,
    ) -> Answer {
        let is_spdy = matches!(upgrade, Upgrade::Spdy(_));
        let inside = upgrade.inside();
        let shared = Arc::clone(&self.shared);
        let shutdown = self.connections.token().clone();
        self.hand_over(request, "remote command", async move |io| {
            remote_command::serve(shared, io, is_spdy, inside, work, shutdown).await;
        });
        switching(upgrade, inside.version.name())
    }

    /// Starts what the connection becomes once the answer is sent.
    fn hand_over<F>(
        &self,
        request: &mut HttpRequest<Incoming>,
        name: &'static str,
        work: impl FnOnce(TokioIo<hyper::upgrade::Upgraded>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        let upgraded: OnUpgrade = hyper::upgrade::on(request);
        let place = Arc::clone(&self.place);
        self.connections.spawn_job(name, async move {
            let _place = place;
            // Ends with the connection, which ends with the server.
            match upgraded.await {
                // On the heap: a session is large, and its task is moved about before it runs.
                Ok(io) => Box::pin(work(TokioIo::new(io))).await,
                Err(error) => tracing::debug!(%error, "streaming connection: upgrade"),
            }
        });
    }
}

/// Method and token of a path.
fn route<'a>(path: &'a str, base: &str) -> Option<(&'a str, &'a str)> {
    let rest = path.strip_prefix(base)?.strip_prefix('/')?;
    let (method, token) = rest.split_once('/')?;
    let known = ["exec", "attach", "portforward"].contains(&method);
    (known && !token.is_empty() && !token.contains('/')).then_some((method, token))
}

fn switching<P>(upgrade: &Upgrade<P>, spdy_protocol: &'static str) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    match upgrade {
        Upgrade::Spdy(_) => {
            headers.insert(header::UPGRADE, HeaderValue::from_static(negotiate::SPDY));
            set(headers, negotiate::PROTOCOL_VERSION, spdy_protocol);
        }
        Upgrade::WebSocket {
            accept, protocol, ..
        } => {
            headers.insert(
                header::UPGRADE,
                HeaderValue::from_static(negotiate::WEBSOCKET),
            );
            if let Ok(accept) = accept.parse() {
                headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            }
            if let Some(protocol) = protocol {
                headers.insert(
                    header::SEC_WEBSOCKET_PROTOCOL,
                    HeaderValue::from_static(protocol),
                );
            }
        }
    }
    answer
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &'static str) {
    headers.append(
        HeaderName::from_static(name),
        HeaderValue::from_static(value),
    );
}

fn refuse(refusal: &Refusal) -> Answer {
    let mut answer = Answer::new(refusal.text.clone().into());
    *answer.status_mut() = refusal.status;
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    for name in &refusal.accepted {
        set(headers, negotiate::ACCEPTED_VERSIONS, name);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::route;

    #[test]
    fn paths_have_a_method_and_a_token() {
        assert_eq!(route("/cri/exec/abc", "/cri"), Some(("exec", "abc")));
        assert_eq!(route("/attach/abc", ""), Some(("attach", "abc")));
        for bad in [
            "/exec/abc",
            "/cri/exec/",
            "/cri/run/x",
            "/cri/exec/a/b",
            "/criexec/a",
        ] {
            assert_eq!(route(bad, "/cri"), None, "{bad}");
        }
    }
}
