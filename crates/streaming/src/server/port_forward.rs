//! Connections of port-forward: many forwarded connections in one (PFW rows).

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{config::Shared, remote_command::finish, request::PortForward, runtime::Runtime};
use crate::{
    mux::{self, Limits},
    negotiate::{self, Upgrade},
    port_forward::{Added, Kind, Pairs, role},
    side::Side,
    spdy,
    stream::{Output, Stream},
    websocket::{self, Encoding},
};

/// Streams of one connection: two for each forwarded connection.
const MAX_STREAMS: usize = 1024;
/// Ports of one connection by channels: a channel's number is a byte, and 255 is none.
pub(super) const MAX_CHANNEL_PORTS: usize = 127;
/// Bytes between a WebSocket and the SPDY inside it.
const TUNNEL: usize = 32 << 10;

/// Serves an upgraded connection to its end.
pub(super) async fn serve<R: Runtime>(
    shared: Arc<Shared<R>>,
    io: TokioIo<Upgraded>,
    upgrade: Upgrade<negotiate::PortForward>,
    request: PortForward,
    shutdown: CancellationToken,
) {
    match upgrade {
        Upgrade::Spdy(_) => spdy(&shared, io, &request, &shutdown).await,
        Upgrade::WebSocket {
            inside: negotiate::PortForward::Spdy,
            ..
        } => {
            let limits = Limits {
                idle: shared.config.idle,
                streams: 1,
            };
            let (mux, driver, _) = mux::connection(
                io,
                Side::Server,
                limits,
                websocket::TunnelReader::new(Side::Server),
                websocket::TunnelWriter::new(Side::Server),
            );
            let (outer, inner) = tokio::io::duplex(TUNNEL);
            let stream = mux.channel(0);
            let main = Box::pin(async {
                tokio::join!(
                    websocket::tunnel(mux.clone(), stream, outer),
                    spdy(&shared, inner, &request, &shutdown),
                );
            });
            finish(Box::pin(driver.run()), mux.clone(), main, &shutdown).await;
        }
        Upgrade::WebSocket {
            inside: negotiate::PortForward::Channels(encoding),
            ..
        } => channels(&shared, io, encoding, &request, &shutdown).await,
    }
}

/// Pairs of SPDY streams.
async fn spdy<R: Runtime>(
    shared: &Shared<R>,
    io: impl AsyncRead + AsyncWrite + Send + 'static,
    request: &PortForward,
    shutdown: &CancellationToken,
) {
    let limits = Limits {
        idle: shared.config.idle,
        streams: MAX_STREAMS,
    };
    let (mux, driver, incoming) = mux::connection(
        io,
        Side::Server,
        limits,
        spdy::Reader::new(Side::Server),
        spdy::Writer::new(),
    );
    let main = Box::pin(until(shutdown, pairs(shared, incoming, request)));
    finish(Box::pin(driver.run()), mux.clone(), main, shutdown).await;
}

async fn until(shutdown: &CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        // Forwarded connections are dropped with the work: the server ends.
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

async fn pairs<R: Runtime>(
    shared: &Shared<R>,
    mut incoming: mpsc::Receiver<Stream>,
    request: &PortForward,
) {
    let mut pairs = Pairs::new(shared.config.stream_creation);
    let mut running = FuturesUnordered::new();
    loop {
        let expiry = pairs.next_expiry();
        tokio::select! {
            // cancel-safe, all: a stream is taken only when it is returned, running ones stay in
            // their set, a timer is made anew.
            stream = incoming.recv() => {
                let Some(stream) = stream else {
                    return;
                };
                let Some(role) = role(stream.id, &stream.headers) else {
                    tracing::info!(headers = ?stream.headers, "port-forward: stream refused");
                    stream.output.reset().await;
                    continue;
                };
                if stream.accept().await.is_err() {
                    continue;
                }
                // Or they would pile up: a stream that was reset is none of those that there may be.
                pairs.retain(|half: &Stream| !half.output.is_cut_off());
                match pairs.add(&role, stream, Instant::now()) {
                    Added::Waits => {}
                    Added::Pair { data, error } => {
                        let port = role.port.get();
                        running.push(forward(shared, request, port, data, error.output));
                    }
                    Added::Twice { stream, text } => {
                        if let Some(error) = pairs.error_stream(&role.request) {
                            // Gone: nobody to tell.
                            let _ = error.output.write(text.into()).await;
                        }
                        stream.output.reset().await;
                    }
                }
            }
            Some(()) = running.next() => {}
            () = sleep_until(expiry) => {
                for (request, kind, stream) in pairs.expire(Instant::now()) {
                    give_up(&request, kind, &stream.output).await;
                }
            }
        }
    }
}

/// Ends a stream whose other half did not come; on an error stream it says so.
///
/// Differs (PFW-02): the text on an error stream whose data stream did not come does not name the
/// connection, which upstream does by an address in its memory, and that stream ends with it.
async fn give_up(request: &str, kind: Kind, output: &Output) {
    let text = format!("(request={request}) timed out waiting for streams");
    tracing::info!(error = text, "port-forward failed");
    if kind == Kind::Error {
        // Gone: nobody to tell.
        let _ = output.write(text.into()).await;
    }
    output.reset().await;
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Carries one connection. However it ends both streams end with it, whatever the client does:
/// clients wait for the error stream's end, and each that stays is one of those that there may be.
async fn forward<R: Runtime>(
    shared: &Shared<R>,
    request: &PortForward,
    port: u16,
    data: Stream,
    error: Output,
) {
    let output = data.output.clone();
    let done = tokio::select! {
        biased;
        // A connection that is done keeps its outcome.
        done = carry(shared, request, port, data) => done,
        // Reset by the client: what was under way is dropped, and the pod's connection with it.
        () = output.cut_off() => Ok(()),
    };
    match done {
        Ok(()) => {
            output.leave().await;
            error.leave().await;
        }
        Err(text) => {
            // Clients give the connection up when a stream is reset after its error (PFW-04).
            let _ = error.write(text.into()).await;
            output.reset().await;
            error.reset().await;
        }
    }
}

/// The runtime's part; the error is upstream's text.
async fn carry<R: Runtime>(
    shared: &Shared<R>,
    request: &PortForward,
    port: u16,
    data: Stream,
) -> Result<(), String> {
    let sandbox = request.sandbox.as_str();
    shared
        .runtime
        .port_forward(sandbox, port, data.input, data.output)
        .await
        .map_err(|error| {
            let text = format!("error forwarding port {port} to pod {sandbox}, uid : {error}");
            tracing::info!(error = text, "port-forward failed");
            text
        })
}

/// Two channels for each port of the request (WSK-06): even ones carry data, odd ones errors; the
/// first message on each is the port.
async fn channels<R: Runtime>(
    shared: &Shared<R>,
    io: TokioIo<Upgraded>,
    encoding: Encoding,
    request: &PortForward,
    shutdown: &CancellationToken,
) {
    let limits = Limits {
        idle: shared.config.idle,
        streams: MAX_STREAMS,
    };
    let (mux, driver, _) = mux::connection(
        io,
        Side::Server,
        limits,
        websocket::Reader::new(Side::Server, encoding),
        websocket::Writer::new(Side::Server, encoding),
    );
    let ports = request.ports.iter().zip((0..).step_by(2));
    let forwards: Vec<_> = ports
        .map(|(port, channel)| {
            let data = mux.channel(channel);
            let error = mux.channel(channel + 1).output;
            forward_channel(shared, request, *port, data, error)
        })
        .collect();
    let main = Box::pin(until(shutdown, async {
        join_all(forwards).await;
    }));
    finish(Box::pin(driver.run()), mux.clone(), main, shutdown).await;
}

async fn forward_channel<R: Runtime>(
    shared: &Shared<R>,
    request: &PortForward,
    port: u16,
    data: Stream,
    error: Output,
) {
    let first = Bytes::copy_from_slice(&port.to_le_bytes());
    for output in [&data.output, &error] {
        // Gone: the driver ends.
        let _ = output.write(first.clone()).await;
    }
    if let Err(text) = carry(shared, request, port, data).await {
        let _ = error.write(text.into()).await;
    }
}
