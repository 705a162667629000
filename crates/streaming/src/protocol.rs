//! What the streams of a connection and the protocol below them tell each other.

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use crate::{
    spdy::{FrameError, Headers},
    websocket::WebSocketError,
};

/// `RST_STREAM`: no longer needed; what the Go implementation sends for every reset.
pub(crate) const CANCEL: u32 = 5;

/// Status of a WebSocket that has done its work.
pub(crate) const NORMAL: u16 = 1000;

/// What the peer did.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// Opened a stream.
    Open {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    /// Accepted a stream of ours.
    Accepted { stream: u32, fin: bool },
    /// Sent data, and nothing behind it if `fin`.
    Data { stream: u32, data: Bytes, fin: bool },
    /// Ended a stream.
    Reset { stream: u32 },
    /// Asks for an answer with the same bytes.
    Ping(Bytes),
    /// Closes, and is answered; a WebSocket with the status that it gave, if any.
    Closed(Option<u16>),
    /// Nothing that concerns us.
    Nothing,
}

/// What we do.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Open {
        stream: u32,
        headers: Headers,
    },
    Accept {
        stream: u32,
    },
    Data {
        stream: u32,
        data: Bytes,
        fin: bool,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    /// Nothing to the peer: the stream is over here, whatever it still sends.
    Forget {
        stream: u32,
    },
    Pong(Bytes),
    /// Tells when all before it is in the kernel.
    Flush(oneshot::Sender<()>),
    /// Closes. The status is for a WebSocket; SPDY has no words for it.
    Close(Option<u16>),
}

/// The peer doesn't speak the protocol.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// Its SPDY is broken.
    #[error("SPDY")]
    Spdy(#[from] FrameError),
    /// Its WebSocket is broken.
    #[error("websocket")]
    WebSocket(#[from] WebSocketError),
}

impl ProtocolError {
    /// What the peer is told when the connection is closed for it.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Spdy(_) => None,
            Self::WebSocket(error) => Some(error.status()),
        }
    }
}

/// A protocol's way in.
pub(crate) trait Decode: Send {
    /// Takes the next event off the buffer; `None` when more bytes are needed.
    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, ProtocolError>;
}

/// A protocol's way out.
pub(crate) trait Encode: Send {
    /// Appends a message.
    fn encode(&mut self, message: &Outgoing, out: &mut BytesMut);
}
