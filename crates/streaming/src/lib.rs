//! Transport of exec, attach and port-forward: SPDY/3.1 and WebSocket, server and client.
//!
//! ```text
//!  RPC ──▶ Urls ─ token ─┐                        ┌─▶ Runtime::exec, attach, port_forward
//!                        ▼                        │       Input, Output, sizes
//!  client ──HTTP──▶ Server ─ negotiate ─▶ mux ◀── spdy
//!                                             ◀── websocket (channels, or SPDY in messages)
//! ```
//!
//! Parsers ([`spdy::frame`], [`websocket::frame`], [`websocket::ChannelDecoder`],
//! [`remote_command`]) are free of I/O. Everything that a peer can fill has a bound; see
//! [`Input::next`] for what a slow reader does.

pub mod client;
mod mux;
mod negotiate;
mod port_forward;
mod protocol;
mod random;
pub mod remote_command;
pub mod server;
mod side;
pub mod spdy;
mod stream;
mod tokens;
pub mod websocket;

pub use mux::{ConnectionError, End, Limits, Mux};
pub use protocol::ProtocolError;
pub use remote_command::{Outcome, TerminalSize, Wanted};
pub use server::{
    Attach, Config, Exec, PortForward, Request, Runtime, Server, Streams, Tls, TlsError, TlsFiles,
    Urls,
};
pub use side::Side;
pub use spdy::Headers;
pub use stream::{Gone, Input, Output, Stream};
pub use tokens::TooMany;
