//! The server over loopback, with our own client and with hand-made bytes.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod closing;
mod forwarding;
mod fuzz;
mod harness;
mod hostile;
mod remote_commands;
mod tls;
