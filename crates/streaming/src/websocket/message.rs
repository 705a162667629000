//! A byte stream in binary messages: how SPDY is tunnelled (WSK-06).

use bytes::BytesMut;

use super::{
    WebSocketError, channels,
    frame::{self, Decoder, Opcode, Received},
};
use crate::protocol::{Decode, Encode, Event, Outgoing, ProtocolError};
use crate::side::Side;

/// Reads messages; all are of stream 0.
#[derive(Debug)]
pub(crate) struct TunnelReader(Decoder);

impl TunnelReader {
    pub(crate) fn new(side: Side) -> Self {
        Self(Decoder::new(side))
    }
}

impl Decode for TunnelReader {
    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, ProtocolError> {
        let Some(received) = self.0.decode(buffer)? else {
            return Ok(None);
        };
        Ok(Some(match received {
            Received::Piece { text: true, .. } => return Err(WebSocketError::Text.into()),
            Received::Piece { data, .. } => Event::Data {
                stream: 0,
                data,
                fin: false,
            },
            Received::Ping(bytes) => Event::Ping(bytes),
            Received::Pong => Event::Nothing,
            Received::Close(status) => Event::Closed(status),
        }))
    }
}

/// Writes messages.
#[derive(Debug)]
pub(crate) struct TunnelWriter(Side);

impl TunnelWriter {
    pub(crate) fn new(side: Side) -> Self {
        Self(side)
    }
}

impl Encode for TunnelWriter {
    fn encode(&mut self, message: &Outgoing, out: &mut BytesMut) {
        match message {
            Outgoing::Data {
                data, fin: false, ..
            } => {
                frame::encode(out, Opcode::Binary, channels::mask(self.0), &[data]);
            }
            other => channels::control(self.0, other, out),
        }
    }
}
