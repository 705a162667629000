//! The program as a user runs it.
//!
//! `CONCURRENTLY_UNDER_TEST=/path/to/concurrently` runs the same transcripts on another program, such as the
//! original; what must differ from it is left out then.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod differs;
mod golden;
mod harness;
mod init;
mod signals;
