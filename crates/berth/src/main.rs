//! The multi-call binary. The program is picked by the name it was started under, else by the first
//! word, before any flag is looked at (style 2.4); the rest is handed over untouched.
//!
//! Beside the daemons it holds the node operator's tools (`doctor`, `status`, `validate`, `cleanup`,
//! `completion`): clients that ask, decide in pure functions, and end.

use std::{env, ffi::OsString, path::Path, process::ExitCode};

mod cleanup;
mod completion;
mod docker;
mod doctor;
mod hello;
mod http;
mod manifests;
mod output;
mod probe;
mod programs;
mod status;
mod tool;
mod validate;

fn main() -> ExitCode {
    node_os::memory::keep_heap_small();
    let mut words = env::args_os();
    let started_as = words.next().unwrap_or_default();
    let words: Vec<OsString> = words.collect();
    let name = Path::new(&started_as)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    programs::run(&name, words)
}
