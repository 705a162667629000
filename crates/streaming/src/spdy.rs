//! SPDY/3.1 as the Kubernetes clients speak it (SPD rows).

mod codec;
mod dictionary;
mod error;
pub mod frame;
mod headers;
#[cfg(test)]
mod tests;

pub(crate) use codec::{Reader, Writer};
pub use error::{FrameError, MAX_BLOCK, MAX_CONTROL};
pub use headers::Headers;
