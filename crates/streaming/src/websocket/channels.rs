//! Channels (WSK-02): the first byte of each message names the stream that it belongs to.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Buf as _, Bytes, BytesMut};

use super::{
    WebSocketError,
    frame::{self, Decoder, Opcode, Received},
};
use crate::protocol::{Decode, Encode, Event, Outgoing, ProtocolError};
use crate::side::Side;

/// Channel of the close signal in `v5.channel.k8s.io`: its one byte of payload names the channel
/// whose sender has sent all.
const CLOSE_SIGNAL: u8 = 255;

/// How messages are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// Text messages: a digit names the channel, the rest is base64.
    pub base64: bool,
    /// The close signal is known (v5).
    pub half_close: bool,
}

/// What a piece of a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Data of a channel; may be empty.
    Data(u8, Bytes),
    /// The channel's sender has sent all.
    Close(u8),
    /// Nothing yet.
    Nothing,
}

/// Finds channels in messages that come in pieces.
#[derive(Debug)]
pub struct ChannelDecoder {
    encoding: Encoding,
    channel: Option<u8>,
    /// Bytes of the running message that don't make a group of base64 yet.
    rest: BytesMut,
}

impl ChannelDecoder {
    /// For a sub-protocol.
    pub fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            channel: None,
            rest: BytesMut::new(),
        }
    }

    /// Reads a piece of a message.
    ///
    /// # Errors
    /// When it is no base64, or a close signal without a channel.
    pub fn piece(&mut self, last: bool, mut data: Bytes) -> Result<Item, WebSocketError> {
        let channel = match self.channel {
            Some(channel) => channel,
            // Upstream skips empty messages.
            None if data.is_empty() => return Ok(Item::Nothing),
            None => data.get_u8(),
        };
        self.channel = (!last).then_some(channel);
        if self.encoding.half_close && channel == CLOSE_SIGNAL {
            self.rest.extend_from_slice(&data);
            return match (&self.rest[..], last) {
                (&[closed], true) => {
                    self.rest.clear();
                    Ok(Item::Close(closed))
                }
                ([] | [_], false) => Ok(Item::Nothing),
                _ => Err(WebSocketError::CloseSignal),
            };
        }
        if !self.encoding.base64 {
            return Ok(Item::Data(channel, data));
        }
        let channel = channel.wrapping_sub(b'0');
        self.rest.extend_from_slice(&data);
        let whole = if last {
            self.rest.len()
        } else {
            self.rest.len() / 4 * 4
        };
        let text = self.rest.split_to(whole);
        match STANDARD.decode(&text) {
            Ok(data) => Ok(Item::Data(channel, data.into())),
            Err(_) => Err(WebSocketError::Base64),
        }
    }
}

/// Reads messages.
#[derive(Debug)]
pub(crate) struct Reader {
    frames: Decoder,
    channels: ChannelDecoder,
}

impl Reader {
    pub(crate) fn new(side: Side, encoding: Encoding) -> Self {
        Self {
            frames: Decoder::new(side),
            channels: ChannelDecoder::new(encoding),
        }
    }
}

impl Decode for Reader {
    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, ProtocolError> {
        let Some(received) = self.frames.decode(buffer)? else {
            return Ok(None);
        };
        Ok(Some(match received {
            Received::Piece { last, data, .. } => match self.channels.piece(last, data)? {
                Item::Data(channel, data) => Event::Data {
                    stream: channel.into(),
                    data,
                    fin: false,
                },
                Item::Close(channel) => Event::Data {
                    stream: channel.into(),
                    data: Bytes::new(),
                    fin: true,
                },
                Item::Nothing => Event::Nothing,
            },
            Received::Ping(bytes) => Event::Ping(bytes),
            Received::Pong => Event::Nothing,
            Received::Close(status) => Event::Closed(status),
        }))
    }
}

/// Writes messages.
#[derive(Debug)]
pub(crate) struct Writer {
    side: Side,
    encoding: Encoding,
}

impl Writer {
    pub(crate) fn new(side: Side, encoding: Encoding) -> Self {
        Self { side, encoding }
    }

    fn data(&self, channel: u32, data: &Bytes, fin: bool, out: &mut BytesMut) {
        // Channels are those that were made with the connection.
        let Ok(channel) = u8::try_from(channel) else {
            return;
        };
        let mask = mask(self.side);
        if fin {
            // Only clients say so: theirs don't know it from a server.
            if self.encoding.half_close && self.side == Side::Client {
                frame::encode(out, Opcode::Binary, mask, &[&[CLOSE_SIGNAL, channel]]);
            }
        } else if self.encoding.base64 {
            let text = STANDARD.encode(data);
            let digit = channel.wrapping_add(b'0');
            frame::encode(out, Opcode::Text, mask, &[&[digit], text.as_bytes()]);
        } else {
            frame::encode(out, Opcode::Binary, mask, &[&[channel], data]);
        }
    }
}

impl Encode for Writer {
    fn encode(&mut self, message: &Outgoing, out: &mut BytesMut) {
        match message {
            Outgoing::Data { stream, data, fin } => self.data(*stream, data, *fin, out),
            other => control(self.side, other, out),
        }
    }
}

/// Writes what all sub-protocols have in common.
pub(super) fn control(side: Side, message: &Outgoing, out: &mut BytesMut) {
    match message {
        Outgoing::Pong(bytes) => frame::encode(out, Opcode::Pong, mask(side), &[bytes]),
        Outgoing::Close(Some(status)) => {
            frame::encode(out, Opcode::Close, mask(side), &[&status.to_be_bytes()]);
        }
        Outgoing::Close(None) => frame::encode(out, Opcode::Close, mask(side), &[]),
        // Streams are neither opened nor reset: they stand and fall with the connection.
        _ => {}
    }
}

/// The mask of the next frame.
pub(super) fn mask(side: Side) -> Option<[u8; 4]> {
    (side == Side::Client).then(crate::random::bytes)
}
