use std::{convert::Infallible, future::Ready, io};

use daemon::TaskGroup;
use futures_util::{StreamExt as _, stream::BoxStream};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    body::Body,
    codegen::http,
    server::{NamedService, UnaryService},
};

use super::*;

/// Says what the service's name asks for.
#[derive(Clone)]
struct Health;

impl NamedService for Health {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl UnaryService<HealthCheckRequest> for Health {
    type Response = HealthCheckResponse;
    type Future = Ready<Result<tonic::Response<HealthCheckResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<HealthCheckRequest>) -> Self::Future {
        let agent = request.metadata().get("user-agent").cloned();
        let agent = agent.and_then(|agent| agent.to_str().map(str::to_owned).ok());
        std::future::ready(match request.into_inner().service.as_str() {
            "" if agent.is_some_and(|agent| agent.starts_with("kube-probe/1.34")) => {
                Ok(tonic::Response::new(HealthCheckResponse {
                    status: SERVING,
                }))
            }
            "away" => Ok(tonic::Response::new(HealthCheckResponse { status: 2 })),
            _ => Err(Status::not_found("unknown service")),
        })
    }
}

impl tower::Service<http::Request<Body>> for Health {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(
        &mut self,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let codec: ProstCodec<HealthCheckResponse, HealthCheckRequest> = ProstCodec::default();
            Ok(tonic::server::Grpc::new(codec)
                .unary(service, request)
                .await)
        })
    }
}

async fn serve(tasks: &TaskGroup) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    serve_on(tasks, TcpListenerStream::new(listener).boxed());
    port
}

fn serve_on(tasks: &TaskGroup, incoming: BoxStream<'static, io::Result<TcpStream>>) {
    let stop = tasks.token().clone().cancelled_owned();
    tasks.spawn_job(
        "server",
        tonic::transport::Server::builder()
            .add_service(Health)
            .serve_with_incoming_shutdown(incoming, stop),
    );
}

fn probe(port: u16, service: &str) -> GrpcProbe {
    GrpcProbe {
        host: "127.0.0.1".to_owned(),
        port,
        service: service.to_owned(),
        user_agent: "kube-probe/1.34".to_owned(),
        timeout: Duration::from_secs(5),
    }
}

fn failure(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Failure(text) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn probe_11_health_by_service() {
    let tasks = TaskGroup::new("server");
    let port = serve(&tasks).await;
    assert_eq!(check(&probe(port, "")).await, Verdict::Success);
    let away = check(&probe(port, "away")).await;
    assert_eq!(
        failure(&away),
        "service unhealthy (responded with \"NOT_SERVING\")"
    );
    let unknown = check(&probe(port, "other")).await;
    assert_eq!(
        failure(&unknown),
        "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"
    );
}

#[tokio::test]
async fn probe_11_nobody_there_and_nobody_who_answers() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = GrpcProbe {
        timeout: Duration::from_millis(100),
        ..probe(port, "")
    };
    let late = check(&silent).await;
    assert_eq!(
        failure(&late),
        format!(
            "timeout: failed to connect service \"127.0.0.1:{port}\" within 100ms: \
             context deadline exceeded"
        )
    );
    drop(listener);
    // Whoever comes may come within the time.
    let refused = check(&silent).await;
    assert_eq!(failure(&refused), failure(&late));
}

#[tokio::test]
async fn probe_11_a_server_that_comes_late_is_dialled_again() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tasks = TaskGroup::new("server");
    let mut first = true;
    let incoming = TcpListenerStream::new(listener).filter_map(move |stream| {
        let first = std::mem::take(&mut first);
        async move {
            let mut stream = stream.unwrap();
            if !first {
                return Some(Ok(stream));
            }
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
            None
        }
    });
    serve_on(&tasks, incoming.boxed());
    let patient = GrpcProbe {
        timeout: Duration::from_secs(20),
        ..probe(port, "")
    };
    assert_eq!(check(&patient).await, Verdict::Success);
}

#[test]
fn only_settings_greet() {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let mut whole = Greeting::default();
    assert!(whole.hear(&settings));
    assert!(!whole.hear(&settings), "told once");
    let mut slow = Greeting::default();
    assert!(!slow.hear(&settings[..5]));
    assert!(slow.hear(&settings[5..]));
    assert!(!Greeting::default().hear(b"HTTP/1.1 400 Bad Request"));
    assert!(!Greeting::default().hear(&[0, 0, 0, 4, 0, 0, 0, 0, 1]));
}

#[tokio::test]
async fn probe_11_whoever_speaks_the_protocol_may_still_be_late() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tasks = TaskGroup::new("server");
    tasks.spawn_job("server", async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // Settings without any.
        stream
            .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        std::future::pending::<()>().await;
        drop(stream);
    });
    let slow = GrpcProbe {
        timeout: Duration::from_millis(300),
        ..probe(port, "")
    };
    assert_eq!(
        failure(&check(&slow).await),
        "timeout: health rpc did not complete within 300ms"
    );
}
