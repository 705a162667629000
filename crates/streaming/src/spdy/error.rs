//! What is refused of a peer's bytes, and the limits of what is taken.

/// Largest control frame that is read. Those of this protocol are about a hundred bytes; upstream
/// takes up to 16 MiB.
pub const MAX_CONTROL: usize = 64 << 10;
/// Most of one block when it is unpacked. Streams of this protocol need about a hundred bytes.
pub const MAX_BLOCK: usize = 8 << 10;

/// Why the peer's bytes are not SPDY/3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another version.
    #[error("control frame of SPDY version {0}, not 3")]
    Version(u16),
    /// A control frame longer than anybody needs.
    #[error("control frame of {0} bytes, {MAX_CONTROL} are allowed")]
    TooLarge(usize),
    /// A control frame too short for its kind, or too long.
    #[error("control frame of kind {kind} with {length} bytes")]
    Length {
        /// The frame's kind.
        kind: u16,
        /// Its length.
        length: usize,
    },
    /// Stream 0 is none.
    #[error("frame for stream 0")]
    StreamZero,
    /// The zlib stream is broken.
    #[error("headers are not compressed as SPDY/3 does")]
    Compression,
    /// Headers unpack to more than anybody needs.
    #[error("headers of more than {} bytes", MAX_BLOCK)]
    HeadersTooLarge,
    /// Names and values don't fill their block, or a name comes twice.
    #[error("header block does not hold what it says")]
    HeaderBlock,
}
