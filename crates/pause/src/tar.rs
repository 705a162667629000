//! Just enough of the tar format (POSIX ustar) for an image: regular files owned by root.

/// One regular file of an archive.
pub(crate) struct Entry<'a> {
    /// Path in the archive: at most 100 bytes.
    pub(crate) path: &'a str,
    /// Permission bits.
    pub(crate) mode: u32,
    /// The contents.
    pub(crate) data: &'a [u8],
}

const BLOCK: usize = 512;

/// An archive of `entries` in the order given; times are zero, so equal input gives equal bytes.
pub(crate) fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        archive.extend_from_slice(&header(entry));
        archive.extend_from_slice(entry.data);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

fn header(entry: &Entry<'_>) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |offset: usize, text: &str| {
        header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    };
    assert!(
        entry.path.len() <= 100,
        "a longer path would need a prefix field"
    );
    put(0, entry.path);
    put(100, &format!("{:07o}", entry.mode));
    put(108, "0000000"); // uid
    put(116, "0000000"); // gid
    put(124, &format!("{:011o}", entry.data.len()));
    put(136, "00000000000"); // time
    put(148, "        "); // the checksum counts its own field as blanks
    put(156, "0"); // a regular file
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
