//! Many streams over one connection: what SPDY and the channels of a WebSocket have in common.
//!
//! ```text
//!             ┌──────── Driver (one task) ────────┐
//!  socket ───▶│ reader ─ Decode ─▶ streams' inputs │──▶ Input   (8 pieces each)
//!  socket ◀───│ writer ◀ Encode ◀ one queue        │◀── Output  (8 messages together)
//!             └────────────────────────────────────┘
//! ```
//!
//! Nothing is buffered beyond these queues. When one is full its sender waits: a peer that doesn't
//! read stops the outputs, a reader that doesn't read its [`Input`] stops the whole connection,
//! since neither protocol has flow control by stream (SPD-07). Control messages of our own (answers
//! to pings) are dropped when the peer reads nothing.

mod table;

use std::{
    io,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
    time::Instant,
};

use self::table::Table;
use crate::{
    protocol::{Decode, Encode, Event, NORMAL, Outgoing, ProtocolError},
    side::Side,
    spdy::Headers,
    stream::{Gone, Stream},
};

/// Bytes asked from the socket at once, and so the longest piece of data.
const READ: usize = 16 << 10;
/// Bytes put together for one write.
const WRITE: usize = 32 << 10;
/// Messages of all streams that wait for the socket.
const OUTPUT_MESSAGES: usize = 8;
/// Answers to pings and refusals that wait for the socket.
const CONTROL_MESSAGES: usize = 16;
/// How long the peer may take to read that we close, and to close after it.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// `RST_STREAM`: the stream's number is out of order.
const PROTOCOL_ERROR: u32 = 1;
/// `RST_STREAM`: not processed.
const REFUSED: u32 = 3;

/// How a connection ended in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// One of the sides closed.
    Closed,
    /// Nothing was sent or received for as long as was allowed.
    Idle,
}

/// How a connection broke.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The socket failed.
    #[error("connection")]
    Io(#[from] io::Error),
    /// The peer broke the protocol.
    #[error("protocol")]
    Protocol(#[from] ProtocolError),
}

/// Bounds of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Without traffic in either direction for so long it is closed; `None` is never.
    pub idle: Option<Duration>,
    /// Streams open at once; the peer's further ones are refused.
    pub streams: usize,
}

/// A connection's streams: opens them, and closes the connection. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Mux {
    table: Arc<Table>,
    queue: mpsc::Sender<Outgoing>,
}

impl Mux {
    /// A stream that both sides know of without saying so: a channel of a WebSocket.
    pub(crate) fn channel(&self, id: u32) -> Stream {
        self.table.lock().enter(id, Headers::new(), &self.queue)
    }

    /// Opens a stream and waits until the peer accepts it.
    ///
    /// # Errors
    /// When the peer refuses it or the connection has ended.
    pub async fn open(&self, headers: Headers) -> Result<Stream, Gone> {
        let permit = self.queue.reserve().await.map_err(|_| Gone)?;
        let (sender, accepted) = oneshot::channel();
        let stream = {
            // Numbers must rise on the wire: taken and queued under one lock.
            let mut streams = self.table.lock();
            let id = streams.opened * 2 + 1;
            streams.opened += 1;
            let stream = streams.enter(id, headers.clone(), &self.queue);
            if let Some(entry) = streams.open.get_mut(&id) {
                entry.accepted = Some(sender);
            }
            permit.send(Outgoing::Open {
                stream: id,
                headers,
            });
            stream
        };
        accepted.await.map_err(|_| Gone)?;
        Ok(stream)
    }

    /// Waits until all that was sent before is with the kernel; at once when the connection ended.
    pub async fn flush(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.queue.send(Outgoing::Flush(sender)).await.is_ok() {
            // Dropped unanswered: the connection ended.
            let _ = receiver.await;
        }
    }

    /// Closes the connection once all that was sent before is with the kernel.
    pub async fn close(&self) {
        // Closed already.
        let _ = self.queue.send(Outgoing::Close(Some(NORMAL))).await;
    }
}

/// Moves a connection's bytes; to be polled until its end. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Driver<S, D, E> {
    io: S,
    decoder: D,
    encoder: E,
    limits: Limits,
    side: Side,
    table: Arc<Table>,
    outgoing: mpsc::Receiver<Outgoing>,
    queue: mpsc::WeakSender<Outgoing>,
    incoming: mpsc::Sender<Stream>,
}

/// Sets a connection up: its streams, the driver that moves it, and the streams that the peer opens,
/// each to be accepted or refused. When the receiver is dropped further ones are refused.
pub(crate) fn connection<S, D: Decode, E: Encode>(
    io: S,
    side: Side,
    limits: Limits,
    decoder: D,
    encoder: E,
) -> (Mux, Driver<S, D, E>, mpsc::Receiver<Stream>) {
    let (queue, outgoing) = mpsc::channel(OUTPUT_MESSAGES);
    let (incoming, opened) = mpsc::channel(1);
    let table = Arc::new(Table::default());
    let driver = Driver {
        io,
        decoder,
        encoder,
        limits,
        side,
        table: Arc::clone(&table),
        outgoing,
        queue: queue.downgrade(),
        incoming,
    };
    (Mux { table, queue }, driver, opened)
}

impl<S, D, E> Driver<S, D, E>
where
    S: AsyncRead + AsyncWrite + Send,
    D: Decode,
    E: Encode,
{
    /// Moves bytes until one side closes, the connection breaks or nothing happens for too long.
    ///
    /// # Errors
    /// See [`ConnectionError`].
    pub(crate) async fn run(self) -> Result<End, ConnectionError> {
        let (read, write) = tokio::io::split(self.io);
        let (control, controls) = mpsc::channel(CONTROL_MESSAGES);
        let activity = Activity::new();
        let _end = EndAll(&self.table);
        let reader = Incoming {
            table: &self.table,
            queue: self.queue,
            side: self.side,
            most: self.limits.streams,
            opened: self.incoming,
            control: control.clone(),
        };
        let mut reading = pin!(reader.run(read, self.decoder, &activity));
        let mut writing = pin!(write_all(
            write,
            self.encoder,
            self.outgoing,
            controls,
            &self.table,
            &activity,
        ));
        tokio::select! {
            // All three are dropped together with the connection, or carried on below.
            ended = &mut reading => return ended.map(|()| End::Closed),
            written = &mut writing => written?,
            () = activity.idle(self.limits.idle) => {
                // Full: it doesn't read.
                if control.try_send(Outgoing::Close(Some(NORMAL))).is_ok() {
                    let _ = tokio::time::timeout(CLOSE_WAIT, writing).await;
                }
                return Ok(End::Idle);
            }
        }
        // We have closed. Input that nobody has read would make the kernel reset the connection, and
        // with it what the peer has not read yet: so it is read, for a while.
        match tokio::time::timeout(CLOSE_WAIT, reading).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) | Err(_) => Ok(End::Closed),
        }
    }
}

struct EndAll<'a>(&'a Table);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        self.0.end_all();
    }
}

/// The reading half.
struct Incoming<'a> {
    table: &'a Table,
    queue: mpsc::WeakSender<Outgoing>,
    side: Side,
    most: usize,
    opened: mpsc::Sender<Stream>,
    control: mpsc::Sender<Outgoing>,
}

impl Incoming<'_> {
    async fn run(
        self,
        mut io: impl AsyncRead + Unpin,
        decoder: impl Decode,
        activity: &Activity,
    ) -> Result<(), ConnectionError> {
        let ended = self.until_closed(&mut io, decoder, activity).await;
        let status = match &ended {
            Ok(status) => *status,
            Err(ConnectionError::Protocol(error)) => error.status(),
            // Nobody is left to be told.
            Err(ConnectionError::Io(_)) => return ended.map(drop),
        };
        // A peer that does not read, or does not close, has had its time.
        let _ = tokio::time::timeout(CLOSE_WAIT, self.close(io, status)).await;
        ended.map(drop)
    }

    /// Takes all events; the status with which the peer closes.
    async fn until_closed(
        &self,
        io: &mut (impl AsyncRead + Unpin),
        mut decoder: impl Decode,
        activity: &Activity,
    ) -> Result<Option<u16>, ConnectionError> {
        let mut buffer = BytesMut::new();
        loop {
            while let Some(event) = decoder.decode(&mut buffer)? {
                if let Event::Closed(status) = event {
                    return Ok(status);
                }
                self.take(event).await;
            }
            buffer.reserve(READ);
            if io.read_buf(&mut buffer).await? == 0 {
                return Ok(Some(NORMAL));
            }
            activity.happened();
        }
    }

    /// Closes after the peer, or because of it: behind what is being written, before all that waits.
    /// Then reads on to the peer's own end, for the reason that [`Driver::run`] has.
    async fn close(&self, mut io: impl AsyncRead + Unpin, status: Option<u16>) {
        if self.control.send(Outgoing::Close(status)).await.is_ok() {
            // The writer has ended.
            self.control.closed().await;
        }
        // Broken: ended.
        let _ = tokio::io::copy(&mut io, &mut tokio::io::sink()).await;
    }

    async fn take(&self, event: Event) {
        match event {
            Event::Open {
                stream,
                headers,
                fin,
            } => {
                if let Err(status) = self.open(stream, headers, fin).await {
                    self.table.end(stream);
                    self.answer(Outgoing::Reset { stream, status });
                }
            }
            Event::Accepted { stream, fin } => {
                let entry = self
                    .table
                    .lock()
                    .open
                    .get_mut(&stream)
                    .and_then(|entry| entry.accepted.take());
                if let Some(accepted) = entry {
                    // Nobody waits any more.
                    let _ = accepted.send(());
                }
                if fin {
                    self.table.peer_finished(stream);
                }
            }
            Event::Data { stream, data, fin } => {
                // For a stream that has ended it is dropped: the peer did not know yet.
                if !data.is_empty()
                    && let Some(input) = self.table.input(stream)
                    && input.send(data).await.is_err()
                {
                    // Nobody reads it.
                    self.table.finish(stream, |entry| entry.input = None);
                }
                if fin {
                    self.table.peer_finished(stream);
                }
            }
            Event::Reset { stream } => self.table.end(stream),
            Event::Ping(bytes) => self.answer(Outgoing::Pong(bytes)),
            Event::Closed(_) | Event::Nothing => {}
        }
    }

    /// Enters a stream of the peer's; the error is the status of its refusal.
    async fn open(&self, id: u32, headers: Headers, fin: bool) -> Result<(), u32> {
        let Some(queue) = self.queue.upgrade() else {
            return Err(REFUSED);
        };
        let stream = {
            let mut streams = self.table.lock();
            if id.is_multiple_of(2) || id <= streams.received {
                return Err(PROTOCOL_ERROR);
            }
            streams.received = id;
            if self.side == Side::Client || streams.open.len() >= self.most {
                return Err(REFUSED);
            }
            streams.enter(id, headers, &queue)
        };
        if fin {
            self.table.peer_finished(id);
        }
        self.opened.send(stream).await.map_err(|_| REFUSED)
    }

    /// Queues a control message, or drops it when the peer doesn't read those before it.
    fn answer(&self, message: Outgoing) {
        let _ = self.control.try_send(message);
    }
}

/// The writing half: ends after [`Outgoing::Close`], or when nothing can be sent any more.
async fn write_all(
    mut io: impl AsyncWrite + Unpin,
    mut encoder: impl Encode,
    mut outgoing: mpsc::Receiver<Outgoing>,
    mut control: mpsc::Receiver<Outgoing>,
    table: &Table,
    activity: &Activity,
) -> Result<(), ConnectionError> {
    let mut out = BytesMut::new();
    let mut flushed = Vec::new();
    loop {
        let first = tokio::select! {
            biased;
            // cancel-safe, both: a message is taken only when it is returned.
            Some(message) = control.recv() => message,
            message = outgoing.recv() => message.unwrap_or(Outgoing::Close(Some(NORMAL))),
        };
        let is_last_word = matches!(first, Outgoing::Close(_));
        let mut next = Some(first);
        let mut closing = false;
        while let Some(message) = next {
            encoder.encode(&message, &mut out);
            match message {
                Outgoing::Data {
                    stream, fin: true, ..
                } => table.finish(stream, |entry| entry.own_open = false),
                Outgoing::Reset { stream, .. } | Outgoing::Forget { stream } => table.end(stream),
                Outgoing::Flush(told) => flushed.push(told),
                Outgoing::Close(_) => closing = true,
                _ => {}
            }
            next = if closing || out.len() >= WRITE {
                None
            } else {
                outgoing.try_recv().ok()
            };
        }
        match send(&mut io, &out, closing).await {
            // Gone already: it has closed, too.
            Err(_) if is_last_word => return Ok(()),
            sent => sent?,
        }
        activity.happened();
        // A quiet connection keeps no buffer.
        out = BytesMut::new();
        for told in flushed.drain(..) {
            let _ = told.send(());
        }
        if closing {
            return Ok(());
        }
    }
}

async fn send(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8], is_last: bool) -> io::Result<()> {
    io.write_all(bytes).await?;
    io.flush().await?;
    if is_last {
        io.shutdown().await?;
    }
    Ok(())
}

/// When something was last sent or received.
#[derive(Debug)]
struct Activity(Mutex<Instant>);

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn happened(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when nothing has happened for `limit`.
    async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return std::future::pending().await;
        };
        loop {
            let last = self.last();
            tokio::time::sleep_until(last + limit).await;
            if self.last() == last {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
