//! Long answers: plain bytes, objects in JSON, and Docker's framed output.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::EngineError;

/// Largest single JSON object accepted in a stream. Events and progress messages are a few KiB.
const MAX_OBJECT: usize = 4 << 20;
/// Largest frame accepted; Docker writes frames of at most 16 KiB plus attributes.
const MAX_FRAME: usize = 16 << 20;

/// The body of a streamed answer. Dropping it closes the connection and ends the operation in Docker.
#[derive(Debug)]
pub(crate) struct ByteStream {
    call: &'static str,
    body: Incoming,
}

impl ByteStream {
    pub(super) fn new(call: &'static str, body: Incoming) -> Self {
        Self { call, body }
    }

    /// The next piece, `None` at the end. Cancel-safe. No time limit: the caller knows how long
    /// silence is normal.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, EngineError>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    // Trailers carry nothing here.
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Some(Ok(data));
                    }
                }
                Err(source) => {
                    let call = self.call.to_owned();
                    return Some(Err(EngineError::Http {
                        call,
                        source: source.into(),
                    }));
                }
            }
        }
    }
}

/// A stream of JSON objects, with or without separators between them (DKR-19, API 1.52 events).
#[derive(Debug)]
pub(super) struct JsonStream {
    bytes: ByteStream,
    buffer: BytesMut,
}

impl JsonStream {
    pub(super) fn new(bytes: ByteStream) -> Self {
        Self {
            bytes,
            buffer: BytesMut::new(),
        }
    }

    /// The next object, `None` at a clean end. Cancel-safe.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Option<Result<T, EngineError>> {
        loop {
            match take_object(&mut self.buffer) {
                Ok(Some(object)) => return Some(Ok(object)),
                Ok(None) if self.buffer.len() > MAX_OBJECT => {
                    let call = self.bytes.call.to_owned();
                    return Some(Err(EngineError::TooLarge {
                        call,
                        limit: MAX_OBJECT,
                    }));
                }
                Ok(None) => {}
                Err(source) => {
                    let call = self.bytes.call.to_owned();
                    return Some(Err(EngineError::Decode { call, source }));
                }
            }
            match self.bytes.next().await? {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Takes one complete object off the front of `buffer`; `None` when it is not complete yet.
fn take_object<T: DeserializeOwned>(buffer: &mut BytesMut) -> Result<Option<T>, serde_json::Error> {
    // 0x1e separates records in `application/json-seq`.
    let blank = buffer
        .iter()
        .take_while(|b| b.is_ascii_whitespace() || **b == 0x1e)
        .count();
    buffer.advance(blank);
    if buffer.is_empty() {
        return Ok(None);
    }
    let mut objects = serde_json::Deserializer::from_slice(buffer).into_iter::<T>();
    match objects.next() {
        None => Ok(None),
        Some(Ok(object)) => {
            let used = objects.byte_offset();
            buffer.advance(used);
            Ok(Some(object))
        }
        Some(Err(error)) if error.is_eof() => Ok(None),
        Some(Err(error)) => Err(error),
    }
}

/// Which stream a piece of container output belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// Standard output; everything of a TTY.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Splits Docker's output of attach, exec and logs into streams (DKR-06).
///
/// Whether output is framed follows from the container's or exec's TTY setting and is told at
/// construction; it is never guessed.
#[derive(Debug)]
pub(crate) struct FrameDecoder {
    framed: bool,
    buffer: BytesMut,
}

impl FrameDecoder {
    /// A decoder for output of something with (`tty`) or without a terminal.
    pub(crate) fn new(tty: bool) -> Self {
        Self {
            framed: !tty,
            buffer: BytesMut::new(),
        }
    }

    /// Adds bytes as they came.
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next complete piece.
    ///
    /// # Errors
    /// [`EngineError::Progress`] for Docker's own error message on stream 3 and for a frame header
    /// that can't be one.
    pub(crate) fn next(&mut self) -> Result<Option<(StreamKind, Bytes)>, EngineError> {
        if !self.framed {
            let all = self.buffer.split().freeze();
            return Ok((!all.is_empty()).then_some((StreamKind::Stdout, all)));
        }
        let Some((header, _)) = self.buffer.split_first_chunk::<8>() else {
            return Ok(None);
        };
        let [kind, pad @ .., l0, l1, l2, l3] = *header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if kind > 3 || pad != [0; 3] || length > MAX_FRAME {
            let message =
                format!("docker sent a broken output frame (stream {kind}, {length} bytes)");
            return Err(EngineError::Progress {
                code: None,
                message,
            });
        }
        if self.buffer.len() < 8 + length {
            return Ok(None);
        }
        self.buffer.advance(8);
        let payload = self.buffer.split_to(length).freeze();
        match kind {
            2 => Ok(Some((StreamKind::Stderr, payload))),
            3 => {
                let message = String::from_utf8_lossy(&payload).into_owned();
                Err(EngineError::Progress {
                    code: None,
                    message,
                })
            }
            // Docker never sends 0 (stdin) this way round, but old versions printed to it.
            _ => Ok(Some((StreamKind::Stdout, payload))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, text: &[u8]) -> Vec<u8> {
        let mut out = vec![kind, 0, 0, 0];
        out.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        out.extend(text);
        out
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let wire = [frame(1, b"out"), frame(2, b"\x01err"), frame(1, b"")].concat();
        for cut in 0..wire.len() {
            let mut decoder = FrameDecoder::new(false);
            let mut got = Vec::new();
            for part in [&wire[..cut], &wire[cut..]] {
                decoder.push(part);
                while let Some(item) = decoder.next().unwrap() {
                    got.push(item);
                }
            }
            let expected = [
                (StreamKind::Stdout, Bytes::from_static(b"out")),
                (StreamKind::Stderr, Bytes::from_static(b"\x01err")),
                (StreamKind::Stdout, Bytes::new()),
            ];
            assert_eq!(got, expected);
            assert!(decoder.buffer.is_empty());
        }
    }

    #[test]
    fn terminal_output_passes_unchanged_even_if_it_looks_like_a_frame() {
        let mut decoder = FrameDecoder::new(true);
        decoder.push(b"\x01\0\0\0\0\0\0\x05x");
        let (kind, data) = decoder.next().unwrap().unwrap();
        assert_eq!(
            (kind, &data[..]),
            (StreamKind::Stdout, &b"\x01\0\0\0\0\0\0\x05x"[..])
        );
        assert!(decoder.next().unwrap().is_none());
    }

    #[test]
    fn garbage_instead_of_a_frame_is_an_error() {
        let mut decoder = FrameDecoder::new(false);
        decoder.push(b"plain text without frames");
        assert!(decoder.next().is_err());
    }

    #[test]
    fn objects_are_found_with_and_without_separators() {
        let mut buffer = BytesMut::from(&b"{\"a\":1}{\"a\":2}\r\n\x1e{\"a\":3}\n{\"a\""[..]);
        let mut seen = Vec::new();
        while let Some(value) = take_object::<serde_json::Value>(&mut buffer).unwrap() {
            seen.push(value["a"].as_i64().unwrap());
        }
        assert_eq!(seen, [1, 2, 3]);
        assert_eq!(&buffer[..], b"{\"a\"");
    }
}
