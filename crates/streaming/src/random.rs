//! Bytes that nobody can guess.

use rustix::rand::{GetRandomFlags, getrandom};

/// So many bytes from the kernel.
///
/// # Panics
/// When the kernel has no random numbers: it always has once it has started.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(read) => filled += read,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("getrandom: {error}"),
        }
    }
    bytes
}
