//! The process manager by itself; the multi-call binary calls the same door.

use std::process::ExitCode;

fn main() -> ExitCode {
    concurrently::main(std::env::args_os().skip(1), || {})
}
