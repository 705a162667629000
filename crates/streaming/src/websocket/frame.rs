//! Frames of RFC 6455: bytes to frames and back, without I/O.
//!
//! Payload is handed on in the pieces in which it comes, so neither frames nor messages need a
//! limit; control frames have at most 125 bytes.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::side::Side;

/// Most of a control frame.
const MAX_CONTROL: u64 = 125;
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
/// Says that the length stands in the next two bytes.
const MEDIUM: u8 = 126;
/// Says that the length stands in the next eight bytes.
const LONG: u8 = 127;

/// Why the peer's bytes are not what was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebSocketError {
    /// Bits that belong to extensions.
    #[error("reserved bits without an extension")]
    Reserved,
    /// An opcode without meaning.
    #[error("frame with opcode {0}")]
    Opcode(u8),
    /// Clients mask, servers don't.
    #[error("frame is masked, or not, against the rules")]
    Mask,
    /// A control frame in parts or too long.
    #[error("control frame in parts, or of more than {MAX_CONTROL} bytes")]
    Control,
    /// A length with the highest bit set.
    #[error("frame length beyond 2^63")]
    Length,
    /// A message within a message, or a continuation without one.
    #[error("frames of messages are mixed up")]
    Continuation,
    /// A close signal of `v5.channel.k8s.io` that doesn't name one channel.
    #[error("close signal must name one channel")]
    CloseSignal,
    /// Text of a base64 sub-protocol that is none.
    #[error("message is not base64")]
    Base64,
    /// Text where bytes are due.
    #[error("text message where binary ones are due")]
    Text,
    /// A close frame that says why in no way that there is.
    #[error("close frame with half a status, one that is none, or a reason that is no text")]
    Close,
}

impl WebSocketError {
    /// The status with which the peer is told (RFC 6455, 7.4.1).
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Reserved
            | Self::Opcode(_)
            | Self::Mask
            | Self::Control
            | Self::Length
            | Self::Continuation
            | Self::CloseSignal
            | Self::Close => 1002,
            Self::Text => 1003,
            Self::Base64 => 1007,
        }
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// Goes on with a message.
    Continuation,
    /// Begins a text message.
    Text,
    /// Begins a binary message.
    Binary,
    /// The sender closes.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Result<Self, WebSocketError> {
        Ok(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            other => return Err(WebSocketError::Opcode(other)),
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A piece of a message.
    Piece {
        /// The first of its message.
        first: bool,
        /// The last of its message.
        last: bool,
        /// The message is text.
        text: bool,
        /// The bytes; empty only at an end.
        data: Bytes,
    },
    /// A question for a pong with the same bytes.
    Ping(Bytes),
    /// An answer.
    Pong,
    /// The peer closes; with a status, if it gives one.
    Close(Option<u16>),
}

/// Cuts the peer's bytes into pieces. After an error the connection is of no use.
#[derive(Debug)]
pub struct Decoder {
    /// Ours; the peer is on the other.
    side: Side,
    frame: Option<DataFrame>,
    message: Option<Message>,
}

/// A data frame whose payload is still to come.
#[derive(Debug)]
struct DataFrame {
    fin: bool,
    left: u64,
    mask: Mask,
}

/// A message that has begun.
#[derive(Debug)]
struct Message {
    text: bool,
    /// Pieces of it were handed on.
    seen: bool,
}

impl Decoder {
    /// For our `side` of a new connection.
    pub fn new(side: Side) -> Self {
        Self {
            side,
            frame: None,
            message: None,
        }
    }

    /// Takes the next piece or control frame off `buffer`; `None` when more bytes are needed, which
    /// is never more than a head and a control frame.
    ///
    /// # Errors
    /// When the bytes are no frame.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Received>, WebSocketError> {
        loop {
            if let Some(frame) = self.frame.take() {
                let piece = self.piece(frame, buffer);
                // An empty frame in the middle of a message says nothing: on to the next.
                if piece.is_some() || self.frame.is_some() {
                    return Ok(piece);
                }
            }
            let Some(head) = head(buffer, self.side)? else {
                return Ok(None);
            };
            if head.opcode.is_control() {
                let length = usize::try_from(head.length).unwrap_or(usize::MAX);
                if buffer.len() < head.size + length {
                    return Ok(None);
                }
                buffer.advance(head.size);
                let mut payload = buffer.split_to(length);
                let mut mask = head.mask;
                mask.apply(&mut payload);
                return Ok(Some(match head.opcode {
                    Opcode::Ping => Received::Ping(payload.freeze()),
                    Opcode::Pong => Received::Pong,
                    _ => Received::Close(close_status(&payload)?),
                }));
            }
            match (head.opcode, &self.message) {
                (Opcode::Continuation, Some(_)) => {}
                (Opcode::Continuation, None) | (_, Some(_)) => {
                    return Err(WebSocketError::Continuation);
                }
                (opcode, None) => {
                    let text = opcode == Opcode::Text;
                    self.message = Some(Message { text, seen: false });
                }
            }
            buffer.advance(head.size);
            self.frame = Some(DataFrame {
                fin: head.fin,
                left: head.length,
                mask: head.mask,
            });
        }
    }

    fn piece(&mut self, mut frame: DataFrame, buffer: &mut BytesMut) -> Option<Received> {
        let most = usize::try_from(frame.left).unwrap_or(usize::MAX);
        let mut data = buffer.split_to(most.min(buffer.len()));
        frame.mask.apply(&mut data);
        frame.left -= data.len() as u64;
        let done = frame.left == 0;
        let last = done && frame.fin;
        if !done {
            self.frame = Some(frame);
        }
        if data.is_empty() && !last {
            return None;
        }
        let message = self.message.as_mut()?;
        let first = !std::mem::replace(&mut message.seen, true);
        let text = message.text;
        if last {
            self.message = None;
        }
        Some(Received::Piece {
            first,
            last,
            text,
            data: data.freeze(),
        })
    }
}

struct Head {
    opcode: Opcode,
    fin: bool,
    length: u64,
    mask: Mask,
    /// Bytes of the head itself.
    size: usize,
}

/// Reads a frame's head, and leaves it in the buffer.
fn head(buffer: &[u8], side: Side) -> Result<Option<Head>, WebSocketError> {
    let Some((&[first, second], rest)) = buffer.split_first_chunk::<2>() else {
        return Ok(None);
    };
    if first & RESERVED != 0 {
        return Err(WebSocketError::Reserved);
    }
    let opcode = Opcode::from_bits(first & OPCODE)?;
    let masked = second & MASKED != 0;
    if masked != (side == Side::Server) {
        return Err(WebSocketError::Mask);
    }
    let (length, rest) = match second & !MASKED {
        MEDIUM => match rest.split_first_chunk::<2>() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
            None => return Ok(None),
        },
        LONG => match rest.split_first_chunk::<8>() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest),
            None => return Ok(None),
        },
        short => (u64::from(short), rest),
    };
    if length >> 63 != 0 {
        return Err(WebSocketError::Length);
    }
    let fin = first & FIN != 0;
    if opcode.is_control() && (!fin || length > MAX_CONTROL) {
        return Err(WebSocketError::Control);
    }
    let (key, rest) = match (masked, rest.split_first_chunk::<4>()) {
        (false, _) => ([0; 4], rest),
        (true, Some((key, rest))) => (*key, rest),
        (true, None) => return Ok(None),
    };
    Ok(Some(Head {
        opcode,
        fin,
        length,
        mask: Mask { key },
        size: buffer.len() - rest.len(),
    }))
}

/// What a close frame says: nothing, or a status and a reason.
fn close_status(payload: &[u8]) -> Result<Option<u16>, WebSocketError> {
    let Some((status, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(WebSocketError::Close)
        };
    };
    // The others are never sent, or mean nothing yet.
    match u16::from_be_bytes(*status) {
        status @ (1000..=1003 | 1007..=1014 | 3000..=4999)
            if std::str::from_utf8(reason).is_ok() =>
        {
            Ok(Some(status))
        }
        _ => Err(WebSocketError::Close),
    }
}

/// The mask of a frame, turned so that its first byte is the next one's.
#[derive(Debug, Clone, Copy)]
struct Mask {
    key: [u8; 4],
}

impl Mask {
    fn apply(&mut self, data: &mut [u8]) {
        if self.key == [0; 4] {
            return;
        }
        for (byte, key) in data.iter_mut().zip(self.key.iter().cycle()) {
            *byte ^= key;
        }
        self.key.rotate_left(data.len() % 4);
    }
}

/// Appends a whole message, or control frame, whose payload comes in parts. A client gives the mask.
pub fn encode(out: &mut BytesMut, opcode: Opcode, mask: Option<[u8; 4]>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.put_u8(FIN | opcode.bits());
    let masked = if mask.is_some() { MASKED } else { 0 };
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..MEDIUM), _) => out.put_u8(masked | short),
        (_, Ok(medium)) => {
            out.put_u8(masked | MEDIUM);
            out.put_u16(medium);
        }
        _ => {
            out.put_u8(masked | LONG);
            out.put_u64(length as u64);
        }
    }
    if let Some(key) = mask {
        out.put_slice(&key);
    }
    let start = out.len();
    for part in parts {
        out.put_slice(part);
    }
    if let Some(key) = mask {
        Mask { key }.apply(&mut out[start..]);
    }
}
