//! Between SPDY's frames and what [`crate::mux`] works with.

use bytes::{Buf as _, Bytes, BytesMut};

use super::{
    Headers,
    frame::{Decoder, Encoder, Frame},
};
use crate::protocol::{Decode, Encode, Event, Outgoing, ProtocolError};
use crate::side::Side;

/// Reads frames.
#[derive(Debug)]
pub(crate) struct Reader {
    decoder: Decoder,
    side: Side,
}

impl Reader {
    /// For our `side` of a new connection.
    pub(crate) fn new(side: Side) -> Self {
        Self {
            decoder: Decoder::new(),
            side,
        }
    }
}

impl Decode for Reader {
    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, ProtocolError> {
        let Some(frame) = self.decoder.decode(buffer)? else {
            return Ok(None);
        };
        Ok(Some(match frame {
            Frame::SynStream {
                stream,
                headers,
                fin,
            } => Event::Open {
                stream,
                headers,
                fin,
            },
            Frame::SynReply { stream, fin, .. } => Event::Accepted { stream, fin },
            Frame::Data { stream, data, fin } => Event::Data { stream, data, fin },
            Frame::Headers {
                stream, fin: true, ..
            } => Event::Data {
                stream,
                data: Bytes::new(),
                fin: true,
            },
            Frame::Reset { stream, .. } => Event::Reset { stream },
            // The number says who asked; an answer to a question of ours needs none.
            Frame::Ping(id) if (id % 2 == 1) == (self.side == Side::Server) => {
                Event::Ping(Bytes::copy_from_slice(&id.to_be_bytes()))
            }
            // The Go implementation reads nothing behind it either.
            Frame::GoAway { .. } => Event::Closed(None),
            Frame::Ping(_)
            | Frame::Headers { .. }
            | Frame::WindowUpdate { .. }
            | Frame::Ignored(_) => Event::Nothing,
        }))
    }
}

/// Writes frames.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    encoder: Encoder,
}

impl Writer {
    /// For a new connection.
    pub(crate) fn new() -> Self {
        Self::default()
    }
}

impl Encode for Writer {
    fn encode(&mut self, message: &Outgoing, out: &mut BytesMut) {
        let frame = match message {
            Outgoing::Open { stream, headers } => Frame::SynStream {
                stream: *stream,
                headers: headers.clone(),
                fin: false,
            },
            Outgoing::Accept { stream } => Frame::SynReply {
                stream: *stream,
                headers: Headers::new(),
                fin: false,
            },
            Outgoing::Data { stream, data, fin } => Frame::Data {
                stream: *stream,
                data: data.clone(),
                fin: *fin,
            },
            Outgoing::Reset { stream, status } => Frame::Reset {
                stream: *stream,
                status: *status,
            },
            Outgoing::Pong(id) => {
                let mut id = id.clone();
                Frame::Ping(id.try_get_u32().unwrap_or_default())
            }
            Outgoing::Close(_) => Frame::GoAway { last: 0, status: 0 },
            Outgoing::Forget { .. } | Outgoing::Flush(_) => return,
        };
        self.encoder.encode(&frame, out);
    }
}
