//! Frames of SPDY/3 (SPD-04..06): bytes to frames and back, without I/O.
//!
//! Payload is handed on in the pieces in which it comes, so a frame's announced length costs no
//! memory; all else is small and bounded by [`MAX_CONTROL`].

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::error::{FrameError, MAX_CONTROL};
use super::headers::{Headers, Packer, Unpacker};

/// Version in control frames.
const VERSION: u16 = 3;
/// Length of the part that all frames have.
const HEAD: usize = 8;
/// Bit that tells control frames from data.
const CONTROL: u32 = 1 << 31;
/// Flag: the sender's last frame of the stream.
const FIN: u8 = 1;
/// Largest payload that the length field can say.
const MAX_DATA: usize = (1 << 24) - 1;

/// A frame; for data a piece of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// Its number: odd from clients, rising.
        stream: u32,
        /// What it is for.
        headers: Headers,
        /// The opener sends no data.
        fin: bool,
    },
    /// Accepts a stream.
    SynReply {
        /// Its number.
        stream: u32,
        /// Empty here.
        headers: Headers,
        /// The acceptor sends no data.
        fin: bool,
    },
    /// Ends a stream in both directions.
    Reset {
        /// Its number.
        stream: u32,
        /// Why: 1 protocol error, 3 refused, 5 cancelled.
        status: u32,
    },
    /// Asks for an echo.
    Ping(u32),
    /// The peer is about to close.
    GoAway {
        /// The last stream that it has accepted.
        last: u32,
        /// Why: 0 is all well.
        status: u32,
    },
    /// More headers; unused here.
    Headers {
        /// The stream.
        stream: u32,
        /// The headers.
        headers: Headers,
        /// The sender's last frame of the stream.
        fin: bool,
    },
    /// Flow control. The Go implementation neither sends nor obeys it, so nor do we (SPD-07).
    WindowUpdate {
        /// The stream; 0 is the connection.
        stream: u32,
        /// Bytes more.
        delta: u32,
    },
    /// A control frame without meaning here: settings, or one from the future.
    Ignored(u16),
    /// A piece of a data frame.
    Data {
        /// The stream.
        stream: u32,
        /// The piece; empty only in an empty frame.
        data: Bytes,
        /// The sender's last bytes of the stream.
        fin: bool,
    },
}

/// Cuts the peer's bytes into frames. After an error the connection is of no use.
#[derive(Debug, Default)]
pub struct Decoder {
    unpacker: Unpacker,
    data: Option<DataFrame>,
}

/// A data frame whose payload is still to come.
#[derive(Debug)]
struct DataFrame {
    stream: u32,
    left: usize,
    fin: bool,
}

impl Decoder {
    /// A decoder for the start of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next frame, or piece of data, off `buffer`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the bytes are no frame. The buffer never has to hold more than [`MAX_CONTROL`] and a
    /// frame's head.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if let Some(frame) = self.data.take() {
            return Ok(self.piece(frame, buffer));
        }
        let Some((&[a, b, c, d, flags, length @ ..], _)) = buffer.split_first_chunk::<HEAD>()
        else {
            return Ok(None);
        };
        let word = u32::from_be_bytes([a, b, c, d]);
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
        let fin = flags & FIN != 0;
        if word & CONTROL == 0 {
            if word == 0 {
                return Err(FrameError::StreamZero);
            }
            buffer.advance(HEAD);
            let frame = DataFrame {
                stream: word,
                left: length,
                fin,
            };
            return Ok(self.piece(frame, buffer));
        }
        let version = u16::from_be_bytes([a & 0x7f, b]);
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if length > MAX_CONTROL {
            return Err(FrameError::TooLarge(length));
        }
        if buffer.len() < HEAD + length {
            return Ok(None);
        }
        buffer.advance(HEAD);
        let payload = buffer.split_to(length).freeze();
        self.control(u16::from_be_bytes([c, d]), fin, payload)
            .map(Some)
    }

    fn piece(&mut self, mut frame: DataFrame, buffer: &mut BytesMut) -> Option<Frame> {
        let data = buffer.split_to(frame.left.min(buffer.len())).freeze();
        frame.left -= data.len();
        let stream = frame.stream;
        let done = frame.left == 0;
        let fin = done && frame.fin;
        let waiting = !done && data.is_empty();
        if !done {
            self.data = Some(frame);
        }
        (!waiting).then_some(Frame::Data { stream, data, fin })
    }

    fn control(&mut self, kind: u16, fin: bool, payload: Bytes) -> Result<Frame, FrameError> {
        let length = payload.len();
        let wrong = FrameError::Length { kind, length };
        // Numbers before the header block, or all there is.
        let numbers = match kind {
            SYN_STREAM => 10,
            SYN_REPLY | HEADERS | PING => 4,
            RST_STREAM | GO_AWAY | WINDOW_UPDATE => 8,
            _ => return Ok(Frame::Ignored(kind)),
        };
        let has_block = matches!(kind, SYN_STREAM | SYN_REPLY | HEADERS);
        if length < numbers || (!has_block && length != numbers) {
            return Err(wrong);
        }
        let mut rest = payload;
        let block = rest.split_off(numbers);
        let word = rest.get_u32();
        // The highest bit is reserved.
        let stream = word & !CONTROL;
        if stream == 0 && !matches!(kind, GO_AWAY | WINDOW_UPDATE | PING) {
            return Err(FrameError::StreamZero);
        }
        Ok(match kind {
            PING => Frame::Ping(word),
            RST_STREAM => Frame::Reset {
                stream,
                status: rest.get_u32(),
            },
            GO_AWAY => Frame::GoAway {
                last: stream,
                status: rest.get_u32(),
            },
            WINDOW_UPDATE => Frame::WindowUpdate {
                stream,
                delta: rest.get_u32() & !CONTROL,
            },
            _ => {
                let headers = self.unpacker.headers(&block)?;
                match kind {
                    SYN_STREAM => Frame::SynStream {
                        stream,
                        headers,
                        fin,
                    },
                    SYN_REPLY => Frame::SynReply {
                        stream,
                        headers,
                        fin,
                    },
                    _ => Frame::Headers {
                        stream,
                        headers,
                        fin,
                    },
                }
            }
        })
    }
}

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// Writes frames.
#[derive(Debug, Default)]
pub struct Encoder {
    packer: Packer,
}

impl Encoder {
    /// An encoder for the start of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a frame to `out`. A payload of 16 MiB or more is cut off there: callers send less.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) {
        match frame {
            Frame::SynStream {
                stream,
                headers,
                fin,
            } => self.with_block(out, SYN_STREAM, *stream, *fin, headers),
            Frame::SynReply {
                stream,
                headers,
                fin,
            } => self.with_block(out, SYN_REPLY, *stream, *fin, headers),
            Frame::Headers {
                stream,
                headers,
                fin,
            } => self.with_block(out, HEADERS, *stream, *fin, headers),
            Frame::Reset { stream, status } => numbers(out, RST_STREAM, &[*stream, *status]),
            Frame::Ping(id) => numbers(out, PING, &[*id]),
            Frame::GoAway { last, status } => numbers(out, GO_AWAY, &[*last, *status]),
            Frame::WindowUpdate { stream, delta } => {
                numbers(out, WINDOW_UPDATE, &[*stream, *delta]);
            }
            Frame::Ignored(kind) => numbers(out, *kind, &[0]),
            Frame::Data { stream, data, fin } => {
                let data = &data[..data.len().min(MAX_DATA)];
                out.put_u32(*stream);
                put_length(out, *fin, data.len());
                out.put_slice(data);
            }
        }
    }

    fn with_block(
        &mut self,
        out: &mut BytesMut,
        kind: u16,
        stream: u32,
        fin: bool,
        headers: &Headers,
    ) {
        let mut block = BytesMut::new();
        block.put_u32(stream);
        if kind == SYN_STREAM {
            // No associated stream, highest priority, no slot.
            block.put_slice(&[0; 6]);
        }
        self.packer.pack(headers, &mut block);
        control_head(out, kind);
        put_length(out, fin, block.len());
        out.put_slice(&block);
    }
}

fn numbers(out: &mut BytesMut, kind: u16, numbers: &[u32]) {
    control_head(out, kind);
    put_length(out, false, numbers.len() * 4);
    for number in numbers {
        out.put_u32(*number);
    }
}

fn control_head(out: &mut BytesMut, kind: u16) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
}

fn put_length(out: &mut BytesMut, fin: bool, length: usize) {
    out.put_u8(if fin { FIN } else { 0 });
    out.put_uint(length as u64, 3);
}
