//! Writes the image to standard output: `cargo run -p pause --example image NAME:TAG | docker load`.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    let reference = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "pause:built-in".to_owned());
    std::io::stdout().write_all(&pause::image_tar(&reference))
}
