//! The program by itself, for work on this crate alone; users have it inside `berth`.

fn main() -> std::process::ExitCode {
    cri_dockerd::run(std::env::args_os().skip(1).collect())
}
