//! One stream of a connection, as its users see it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    protocol::{CANCEL, Outgoing},
    spdy::Headers,
};

/// Longest piece that is sent at once.
const MAX_PIECE: usize = 32 << 10;

/// The stream, or the whole connection, has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream has ended")]
pub struct Gone;

/// What the peer sends on a stream.
#[derive(Debug)]
pub struct Input(mpsc::Receiver<Bytes>);

impl Input {
    pub(crate) fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self(receiver)
    }

    /// The next piece, never empty; `None` when the peer has sent all, or is gone. Cancel-safe.
    ///
    /// The connection stands still while pieces wait here, so whoever holds an input reads it or
    /// drops it.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }
}

/// What we send on a stream. Clones send on the same stream.
#[derive(Debug, Clone)]
pub struct Output {
    stream: u32,
    queue: mpsc::Sender<Outgoing>,
    ended: CancellationToken,
    cut_off: CancellationToken,
    finished: Arc<AtomicBool>,
}

impl Output {
    pub(crate) fn new(
        stream: u32,
        queue: mpsc::Sender<Outgoing>,
        ended: CancellationToken,
        cut_off: CancellationToken,
    ) -> Self {
        Self {
            stream,
            queue,
            ended,
            cut_off,
            finished: Arc::default(),
        }
    }

    async fn send(&self, message: Outgoing) -> Result<(), Gone> {
        if self.ended.is_cancelled() {
            return Err(Gone);
        }
        self.queue.send(message).await.map_err(|_| Gone)
    }

    /// Sends data; waits while the peer is slow.
    ///
    /// # Errors
    /// When the peer has ended the stream, or the connection is gone.
    pub async fn write(&self, mut data: Bytes) -> Result<(), Gone> {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(MAX_PIECE));
            self.message(piece).await?;
        }
        Ok(())
    }

    /// Sends data of at most 32 KiB, or none, as one message.
    pub(crate) async fn message(&self, data: Bytes) -> Result<(), Gone> {
        self.send(Outgoing::Data {
            stream: self.stream,
            data,
            fin: false,
        })
        .await
    }

    /// Tells the peer, once, that no more data comes. Nothing may be written behind it.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn finish(&self) -> Result<(), Gone> {
        if self.finished.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        self.send(Outgoing::Data {
            stream: self.stream,
            data: Bytes::new(),
            fin: true,
        })
        .await
    }

    /// Ends the stream in both directions, unless it has ended.
    pub async fn reset(&self) {
        // Ended already.
        let _ = self
            .send(Outgoing::Reset {
                stream: self.stream,
                status: CANCEL,
            })
            .await;
    }

    /// Finishes, and is done with the stream: what the peer still sends there is dropped, and it need
    /// not finish itself. For when its input is not read any more.
    pub(crate) async fn leave(&self) {
        // Ended already, here and below.
        let _ = self.finish().await;
        let _ = self
            .send(Outgoing::Forget {
                stream: self.stream,
            })
            .await;
    }

    /// Waits until the stream is reset by one side, or lost with its connection: not for an orderly
    /// end, behind which input may wait to be read. Cancel-safe.
    pub(crate) async fn cut_off(&self) {
        self.cut_off.cancelled().await;
    }

    /// Whether [`Self::cut_off`] would wait no more.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off.is_cancelled()
    }
}

/// A stream of a connection.
#[derive(Debug)]
pub struct Stream {
    /// Its number.
    pub id: u32,
    /// What its opener said about it.
    pub headers: Headers,
    /// From the peer.
    pub input: Input,
    /// To the peer.
    pub output: Output,
}

impl Stream {
    /// Accepts a stream that the peer has opened; must precede data.
    ///
    /// # Errors
    /// When it is gone already.
    pub async fn accept(&self) -> Result<(), Gone> {
        self.output.send(Outgoing::Accept { stream: self.id }).await
    }
}
