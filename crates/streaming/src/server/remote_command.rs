//! Connections of exec and attach: streams are opened, the runtime works, the end is told.
//!
//! ```text
//!  upgraded ─▶ streams opened (30 s) ─▶ runtime works ─▶ status sent ─▶ peer closes, or we do
//!                  │                        │
//!                  └──── peer gone, idle, server ends: what runs is dropped
//! ```

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    config::Shared,
    request::{Attach, Exec},
    runtime::{Failure, Runtime, Streams},
};
use crate::{
    mux::{self, ConnectionError, End, Limits, Mux},
    negotiate,
    remote_command::{Outcome, SizeDecoder, StreamKind, Version, Wanted},
    side::Side,
    spdy,
    stream::{Input, Output, Stream},
    websocket,
};

/// How long a SPDY client may take to close after it was told the end. It closes first, so that no
/// close of ours can overtake what it has not read yet (RCM-07).
const LINGER: Duration = Duration::from_secs(10);
/// The same, when the server ends.
const BRIEF: Duration = Duration::from_secs(1);
/// How long all of a connection's end may take when the server ends: [`BRIEF`] and the closing fit in.
/// A client that reads nothing would hold it up for ever.
const LAST_WORDS: Duration = Duration::from_secs(4);
/// Streams of one connection: five are needed.
const MAX_STREAMS: usize = 16;

/// What to do.
#[derive(Debug)]
pub(super) enum Work {
    Exec(Exec),
    Attach(Attach),
}

impl Work {
    fn wanted(&self) -> Wanted {
        match self {
            Self::Exec(exec) => exec.wanted,
            Self::Attach(attach) => attach.wanted,
        }
    }
}

/// Serves an upgraded connection to its end.
pub(super) async fn serve<R: Runtime>(
    shared: Arc<Shared<R>>,
    io: TokioIo<Upgraded>,
    is_spdy: bool,
    inside: negotiate::RemoteCommand,
    work: Work,
    shutdown: CancellationToken,
) {
    let limits = Limits {
        idle: shared.config.idle,
        streams: MAX_STREAMS,
    };
    let version = inside.version;
    let wanted = work.wanted();
    if is_spdy {
        let (mux, driver, incoming) = mux::connection(
            io,
            Side::Server,
            limits,
            spdy::Reader::new(Side::Server),
            spdy::Writer::new(),
        );
        let patience = shared.config.stream_creation;
        let main = Box::pin(async {
            let opened = tokio::select! {
                biased;
                // cancel-safe: a level. What is opened so far ends with the connection.
                () = shutdown.cancelled() => return,
                // cancel-safe: as above.
                opened = tokio::time::timeout(patience, collect(incoming, wanted, version)) => opened,
            };
            match opened {
                Ok(Some(opened)) => {
                    run(&shared.runtime, opened, version, work, &shutdown).await;
                    mux.flush().await;
                    let leave = if shutdown.is_cancelled() {
                        BRIEF
                    } else {
                        LINGER
                    };
                    tokio::time::sleep(leave).await;
                }
                // The connection ends by itself.
                Ok(None) => {}
                Err(_) => tracing::info!("timed out waiting for client to create streams"),
            }
        });
        finish(Box::pin(driver.run()), mux.clone(), main, &shutdown).await;
    } else {
        let (mux, driver, _) = mux::connection(
            io,
            Side::Server,
            limits,
            websocket::Reader::new(Side::Server, inside.encoding),
            websocket::Writer::new(Side::Server, inside.encoding),
        );
        // Before a byte is read: what comes for a channel that is not there yet would be dropped.
        let opened = Opened::channels(&mux, wanted);
        let main = Box::pin(async {
            opened.greet().await;
            run(&shared.runtime, opened, version, work, &shutdown).await;
        });
        finish(Box::pin(driver.run()), mux.clone(), main, &shutdown).await;
    }
}

/// Drives a connection until `main` is done with it and it is closed, or until it ends earlier, or the
/// server has ended for some time: then `main` is dropped.
pub(super) async fn finish(
    mut driving: BoxFuture<'_, Result<End, ConnectionError>>,
    mux: Mux,
    main: BoxFuture<'_, ()>,
    shutdown: &CancellationToken,
) {
    let main = async {
        main.await;
        mux.close().await;
    };
    let work = async {
        tokio::select! {
            // The connection is over, so nobody is left to work for.
            ended = &mut driving => ended,
            () = main => driving.await,
        }
    };
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        // Both are dropped with the connection.
        ended = work => tell(&ended),
        () = overdue => tracing::debug!("the client did not take the end of its connection"),
    }
}

fn tell(ended: &Result<End, ConnectionError>) {
    match ended {
        Ok(End::Closed) => {}
        Ok(End::Idle) => tracing::info!("streaming connection was idle for too long: closed"),
        Err(error) => {
            let error = daemon::ErrorChain(error).to_string();
            tracing::debug!(error, "streaming connection broke");
        }
    }
}

/// The streams of a request.
#[derive(Debug, Default)]
struct Opened {
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    error: Option<Stream>,
    resize: Option<Stream>,
}

impl Opened {
    fn place(&mut self, kind: StreamKind) -> &mut Option<Stream> {
        match kind {
            StreamKind::Stdin => &mut self.stdin,
            StreamKind::Stdout => &mut self.stdout,
            StreamKind::Stderr => &mut self.stderr,
            StreamKind::Error => &mut self.error,
            StreamKind::Resize => &mut self.resize,
        }
    }

    /// The channels of a WebSocket. What was not asked for has none: data for it is dropped.
    fn channels(mux: &Mux, wanted: Wanted) -> Self {
        let mut opened = Self::default();
        for kind in StreamKind::ALL {
            if is_wanted(kind, wanted, true) {
                *opened.place(kind) = Some(mux.channel(kind.channel()));
            }
        }
        opened
    }

    /// Shows clients that the connection is live: one empty message (WSK-03).
    async fn greet(&self) {
        let first = self.stdout.as_ref().or(self.stderr.as_ref());
        if let Some(stream) = first.or(self.error.as_ref()) {
            // Gone already: the driver ends.
            let _ = stream.output.message(Bytes::new()).await;
        }
    }
}

/// Whether a stream of this kind belongs to the request.
fn is_wanted(kind: StreamKind, wanted: Wanted, has_resize: bool) -> bool {
    match kind {
        StreamKind::Stdin => wanted.stdin,
        StreamKind::Stdout => wanted.stdout,
        StreamKind::Stderr => wanted.stderr,
        StreamKind::Error => true,
        StreamKind::Resize => wanted.tty && has_resize,
    }
}

/// Waits until the client has opened all streams (RCM-01). `None` when it went away.
async fn collect(
    mut incoming: mpsc::Receiver<Stream>,
    wanted: Wanted,
    version: Version,
) -> Option<Opened> {
    let mut opened = Opened::default();
    let mut missing: Vec<StreamKind> = StreamKind::ALL.to_vec();
    missing.retain(|kind| is_wanted(*kind, wanted, version.has_resize()));
    while !missing.is_empty() {
        let stream = incoming.recv().await?;
        let kind = stream
            .headers
            .get("streamtype")
            .and_then(StreamKind::from_name);
        let place = kind.map(|kind| opened.place(kind));
        match (kind, place) {
            (Some(kind), Some(place)) if place.is_none() => {
                stream.accept().await.ok()?;
                *place = Some(stream);
                missing.retain(|other| *other != kind);
            }
            _ => {
                tracing::debug!(
                    ?kind,
                    "stream of an unknown type, or a second one, is refused"
                );
                stream.output.reset().await;
            }
        }
    }
    Some(opened)
}

/// Lets the runtime work and tells the client how it ended.
async fn run<R: Runtime>(
    runtime: &R,
    opened: Opened,
    version: Version,
    work: Work,
    shutdown: &CancellationToken,
) {
    let output = |stream: Option<Stream>| stream.map(|stream| stream.output);
    let wanted = work.wanted();
    let (size_sender, size) = watch::channel(None);
    let sizes = sizes(opened.resize.map(|stream| stream.input), size_sender);
    let outputs = [output(opened.stdout), output(opened.stderr)];
    let [stdout, stderr] = outputs.clone();
    let streams = Streams {
        // A client may open more than was asked for in the request.
        stdin: opened
            .stdin
            .filter(|_| wanted.stdin)
            .map(|stream| stream.input),
        stdout: stdout.filter(|_| wanted.stdout),
        stderr: stderr.filter(|_| wanted.stderr),
        size,
    };
    let work = async {
        match work {
            Work::Exec(exec) => match Box::pin(runtime.exec(exec, streams)).await {
                Ok(0) => Outcome::Success,
                Ok(code) => Outcome::ExitCode(code),
                Err(Failure(text)) => {
                    Outcome::Failed(format!("error executing command in container: {text}"))
                }
            },
            Work::Attach(attach) => match Box::pin(runtime.attach(attach, streams)).await {
                Ok(()) => Outcome::Success,
                Err(Failure(text)) => {
                    Outcome::Failed(format!("error attaching to container: {text}"))
                }
            },
        }
    };
    let outcome = tokio::select! {
        biased;
        // The runtime's future is dropped: it knows what to do then.
        () = shutdown.cancelled() => Outcome::Failed("the streaming server is shutting down".to_owned()),
        outcome = work => outcome,
        never = sizes => match never {},
    };
    if let Outcome::Failed(text) = &outcome {
        tracing::info!(error = text, "remote command failed");
    }
    for output in outputs.into_iter().flatten() {
        // Gone: nobody reads it.
        let _ = output.finish().await;
    }
    if let Some(error) = output(opened.error) {
        tell_outcome(&error, version, &outcome).await;
    }
}

async fn tell_outcome(error: &Output, version: Version, outcome: &Outcome) {
    let told = async {
        if let Some(status) = version.error_stream(outcome) {
            error.write(status.into()).await?;
        }
        error.finish().await
    };
    if told.await.is_err() {
        tracing::debug!("the client left before it was told the end");
    }
}

/// Keeps the terminal's newest size.
async fn sizes(
    input: Option<Input>,
    newest: watch::Sender<Option<crate::TerminalSize>>,
) -> std::convert::Infallible {
    if let Some(mut input) = input {
        let mut decoder = SizeDecoder::new();
        while let Some(data) = input.next().await {
            if let Some(size) = decoder.push(&data) {
                newest.send_replace(Some(size));
            }
        }
    }
    // The sender stays: that no more sizes come is no event.
    let never: std::convert::Infallible = std::future::pending().await;
    drop(newest);
    never
}
