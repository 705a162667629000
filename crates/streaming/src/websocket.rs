//! WebSocket (RFC 6455) as the Kubernetes clients speak it (WSK rows): channels in the first byte of
//! each message, or SPDY inside binary messages.

mod channels;
pub mod frame;
mod handshake;
mod message;
#[cfg(test)]
mod tests;
mod tunnel;

pub use channels::{ChannelDecoder, Encoding, Item};
pub(crate) use channels::{Reader, Writer};
pub use frame::WebSocketError;
pub use handshake::accept_key;
pub(crate) use handshake::random_key;
pub(crate) use message::{TunnelReader, TunnelWriter};
pub(crate) use tunnel::tunnel;
