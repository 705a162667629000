//! Between a connection taken over from Docker and a client's streams (EXE-10..14).

use ::streaming::{Output, Streams, TerminalSize};
use bytes::Bytes;
use daemon::ErrorChain;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
};

use crate::engine::{Engine, EngineError, FrameDecoder, Hijacked, StreamKind};

/// Bytes read at once.
const PIECE: usize = 16 << 10;

/// Whose terminal it is, if there is one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Terminal<'a> {
    /// An exec's.
    Exec(&'a Engine, &'a str),
    /// A container's own.
    Container(&'a Engine, &'a str),
}

impl Terminal<'_> {
    async fn resize(self, width: u16, height: u16) -> Result<(), EngineError> {
        match self {
            Self::Exec(engine, id) => engine.exec_resize(id, width, height).await,
            Self::Container(engine, id) => engine.container_resize(id, width, height).await,
        }
    }
}

/// Carries until Docker's output ends: the process has, or nothing holds its output open any more.
///
/// `tty` says whether Docker sends plain bytes; `terminal` gets the client's sizes.
pub(super) async fn carry(
    connection: Hijacked,
    tty: bool,
    streams: Streams,
    terminal: Terminal<'_>,
) -> Result<(), EngineError> {
    let (mut read, mut write) = tokio::io::split(connection);
    let Streams {
        stdin,
        stdout,
        stderr,
        size,
    } = streams;
    let input = async {
        let Some(mut stdin) = stdin else {
            return;
        };
        while let Some(data) = stdin.next().await {
            if write.write_all(&data).await.is_err() {
                // Nobody reads any more: what comes is dropped with `stdin`.
                return;
            }
        }
        // End of input; Docker may have closed already.
        let _ = write.shutdown().await;
    };
    let output = async {
        let mut outputs = Outputs { stdout, stderr };
        let mut frames = FrameDecoder::new(tty);
        let mut buffer = vec![0; PIECE];
        loop {
            let length = read.read(&mut buffer).await.map_err(|source| {
                let call = "read the output of a process".to_owned();
                EngineError::Http {
                    call,
                    source: source.into(),
                }
            })?;
            if length == 0 {
                return Ok(());
            }
            frames.push(&buffer[..length]);
            while let Some((kind, data)) = frames.next()? {
                outputs.write(kind, data).await;
            }
        }
    };
    tokio::select! {
        // Input and sizes are of no use when it has ended.
        ended = output => ended,
        () = async {
            tokio::join!(input, sizes(size, terminal));
        } => unreachable!("sizes never end"),
    }
}

/// The client's outputs; one that it has closed takes no more, and the process is not held up.
struct Outputs {
    stdout: Option<Output>,
    stderr: Option<Output>,
}

impl Outputs {
    async fn write(&mut self, kind: StreamKind, data: Bytes) {
        let place = match kind {
            StreamKind::Stdout => &mut self.stdout,
            StreamKind::Stderr => &mut self.stderr,
        };
        if let Some(output) = place
            && output.write(data).await.is_err()
        {
            *place = None;
        }
    }
}

/// Passes the newest size on, for ever.
async fn sizes(mut size: watch::Receiver<Option<TerminalSize>>, terminal: Terminal<'_>) {
    loop {
        let newest = *size.borrow_and_update();
        if let Some(TerminalSize { width, height }) = newest
            && width > 0
            && height > 0
            && let Err(error) = terminal.resize(width, height).await
        {
            // It may have ended; upstream ignores it too (EXE-11).
            let error = ErrorChain(&error).to_string();
            tracing::debug!(error, "can't resize a terminal");
        }
        if size.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
