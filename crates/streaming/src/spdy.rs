//! SPDY/3.1 as the Kubernetes clients speak it (SPD rows).

mod codec;
mod dictionary;
pub mod frame;
mod headers;
#[cfg(test)]
mod tests;

pub(crate) use codec::{Reader, Writer};
pub use headers::{Headers, MAX_BLOCK};
