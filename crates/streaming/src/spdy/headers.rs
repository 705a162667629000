//! Header blocks: names and values behind zlib, whose state lasts as long as the connection.
//!
//! Reading needs a window of 32 KiB, made when the first block comes. Writing compresses nothing
//! (stored blocks are valid zlib): what a stream says about itself is shorter than the state that
//! would be kept to shorten it.

use bytes::{BufMut as _, Bytes, BytesMut};
use miniz_oxide::inflate::{
    TINFLStatus,
    core::{DecompressorOxide, decompress, inflate_flags::TINFL_FLAG_HAS_MORE_INPUT},
};

use super::{
    dictionary,
    error::{FrameError, MAX_BLOCK},
};

/// The farthest that a back reference of deflate reaches; a power of two.
const WINDOW: usize = 32 << 10;
/// Method deflate with a window of 32 KiB, as every zlib writes it.
const CMF: u8 = 0x78;
/// Flags that make the checksum of the zlib header right and announce a dictionary.
const FLG: u8 = 0xbb;
/// Announces a dictionary.
const HAS_DICTIONARY: u8 = 0x20;

/// Names and values, in the order of the wire. Names are lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header. The name is made lower case; several values are joined by NUL.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// The (first) value of a header; `name` is in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, values) = self.0.iter().find(|(own, _)| own == name)?;
        values.split('\0').next()
    }
}

/// Unpacks the blocks that one side of a connection sends.
#[derive(Debug, Default)]
pub(super) struct Unpacker(Option<Box<State>>);

struct State {
    inflate: DecompressorOxide,
    window: Vec<u8>,
    position: usize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl Unpacker {
    /// Unpacks and reads one block.
    pub(super) fn headers(&mut self, block: &[u8]) -> Result<Headers, FrameError> {
        let (state, packed) = match &mut self.0 {
            Some(state) => (state, block),
            empty => {
                let (with_dictionary, packed) = zlib_header(block)?;
                let mut window = if with_dictionary {
                    dictionary::bytes()
                } else {
                    Vec::new()
                };
                let position = window.len();
                window.resize(WINDOW, 0);
                let state = State {
                    inflate: DecompressorOxide::new(),
                    window,
                    position,
                };
                (empty.insert(Box::new(state)), packed)
            }
        };
        parse(state.unpack(packed)?)
    }
}

impl State {
    fn unpack(&mut self, mut packed: &[u8]) -> Result<Bytes, FrameError> {
        let mut plain = BytesMut::new();
        loop {
            let (status, read, written) = decompress(
                &mut self.inflate,
                packed,
                &mut self.window,
                self.position,
                TINFL_FLAG_HAS_MORE_INPUT,
            );
            packed = packed.get(read..).unwrap_or_default();
            let end = self.position + written;
            if plain.len() + written > MAX_BLOCK {
                return Err(FrameError::HeadersTooLarge);
            }
            plain.extend_from_slice(&self.window[self.position..end]);
            self.position = end % WINDOW;
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if packed.is_empty() => return Ok(plain.freeze()),
                // Done too: the stream of blocks has no end.
                _ => return Err(FrameError::Compression),
            }
        }
    }
}

/// Whether the dictionary is used, and what stands behind the header.
fn zlib_header(block: &[u8]) -> Result<(bool, &[u8]), FrameError> {
    let Some((&[cmf, flg], rest)) = block.split_first_chunk::<2>() else {
        return Err(FrameError::Compression);
    };
    let is_deflate = cmf & 0x0f == 8 && u16::from_be_bytes([cmf, flg]).is_multiple_of(31);
    if !is_deflate {
        return Err(FrameError::Compression);
    }
    if flg & HAS_DICTIONARY == 0 {
        return Ok((false, rest));
    }
    match rest.split_first_chunk::<4>() {
        Some((name, rest)) if u32::from_be_bytes(*name) == dictionary::CHECKSUM => Ok((true, rest)),
        _ => Err(FrameError::Compression),
    }
}

/// Reads names and values of an unpacked block.
fn parse(mut block: Bytes) -> Result<Headers, FrameError> {
    let count = number(&mut block)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut block)?;
        let value = text(&mut block)?;
        if headers.get(&name).is_some() {
            return Err(FrameError::HeaderBlock);
        }
        headers = headers.with(&name, value);
    }
    if block.is_empty() {
        Ok(headers)
    } else {
        Err(FrameError::HeaderBlock)
    }
}

fn number(block: &mut Bytes) -> Result<usize, FrameError> {
    let (number, _) = block
        .split_first_chunk::<4>()
        .ok_or(FrameError::HeaderBlock)?;
    let number = u32::from_be_bytes(*number) as usize;
    let _ = block.split_to(4);
    Ok(number)
}

fn text(block: &mut Bytes) -> Result<String, FrameError> {
    let length = number(block)?;
    if length > block.len() {
        return Err(FrameError::HeaderBlock);
    }
    Ok(String::from_utf8_lossy(&block.split_to(length)).into_owned())
}

/// Packs the blocks that we send.
#[derive(Debug, Default)]
pub(super) struct Packer {
    begun: bool,
}

impl Packer {
    /// Appends a block. Headers must be within [`MAX_BLOCK`].
    pub(super) fn pack(&mut self, headers: &Headers, out: &mut BytesMut) {
        let mut plain = BytesMut::new();
        put_number(&mut plain, headers.0.len());
        for (name, value) in &headers.0 {
            for text in [name, value] {
                put_number(&mut plain, text.len());
                plain.put_slice(text.as_bytes());
            }
        }
        if !self.begun {
            self.begun = true;
            out.put_slice(&[CMF, FLG]);
            out.put_u32(dictionary::CHECKSUM);
        }
        for chunk in plain.chunks(usize::from(u16::MAX)) {
            stored(chunk, out);
        }
        // What Go's reader waits for before it hands out what it has.
        stored(&[], out);
    }
}

/// A stored block of deflate.
fn stored(chunk: &[u8], out: &mut BytesMut) {
    let length = u16::try_from(chunk.len()).expect("cut to this size");
    out.put_u8(0);
    out.put_u16_le(length);
    out.put_u16_le(!length);
    out.put_slice(chunk);
}

fn put_number(out: &mut BytesMut, number: usize) {
    out.put_u32(u32::try_from(number).expect("header blocks are small"));
}
