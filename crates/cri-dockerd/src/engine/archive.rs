//! Files out of a container's root file system.

use super::transport::{Call, segment};
use super::{Engine, EngineError};

/// A tar header and the unit of its content.
const BLOCK: usize = 512;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A file and its content.
    File(Vec<u8>),
    /// A link and where it leads.
    Link(String),
    /// Something else, or nothing we can read.
    Other,
}

impl Engine {
    /// `GET /containers/{id}/archive?path=`: a small file of a container, running or not; `None`
    /// when it has no such path. Links are not followed. Use it for files of some KiB only.
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn container_file(
        &self,
        id: &str,
        path: &str,
    ) -> Result<Option<Found>, EngineError> {
        let call = Call::get(format!("/containers/{}/archive", segment(id))).query("path", path);
        match self.fetch_bytes(call, self.timeout).await {
            Ok(tar) => Ok(Some(first_entry(&tar))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The first entry of a tar archive behind headers that only extend it.
fn first_entry(mut tar: &[u8]) -> Found {
    while let Some((header, rest)) = tar.split_at_checked(BLOCK) {
        let text = |from: usize, length: usize| {
            let bytes = &header[from..from + length];
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(length);
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        };
        let Ok(size) = usize::from_str_radix(text(124, 12).trim(), 8) else {
            return Found::Other;
        };
        let Some((content, _)) = rest.split_at_checked(size) else {
            return Found::Other;
        };
        match header[156] {
            b'0' | 0 => return Found::File(content.to_vec()),
            b'2' => return Found::Link(text(157, 100)),
            // Extended headers of the entry that follows.
            b'x' | b'g' => {
                let padded = size.div_ceil(BLOCK) * BLOCK;
                let Some((_, next)) = rest.split_at_checked(padded) else {
                    return Found::Other;
                };
                tar = next;
            }
            _ => return Found::Other,
        }
    }
    Found::Other
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(kind: u8, link: &str, content: &[u8]) -> Vec<u8> {
        let mut header = vec![0; BLOCK];
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.extend(content);
        header.resize(header.len().div_ceil(BLOCK) * BLOCK, 0);
        header
    }

    #[test]
    fn first_real_entry_counts() {
        let file = entry(b'0', "", b"root:x:0:0\n");
        assert_eq!(first_entry(&file), Found::File(b"root:x:0:0\n".to_vec()));
        let mut extended = entry(b'x', "", b"30 mtime=1.5\n");
        extended.extend(&file);
        assert_eq!(first_entry(&extended), first_entry(&file));
        assert_eq!(
            first_entry(&entry(b'2', "/usr/etc/passwd", b"")),
            Found::Link("/usr/etc/passwd".to_owned())
        );
        assert_eq!(first_entry(&entry(b'5', "", b"")), Found::Other);
        assert_eq!(first_entry(b"short"), Found::Other);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
            first_entry(&bytes);
        }
    }
}
