//! The last lines of a container's log, for termination messages (kubelet CTR-50, CRI-81).

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// Reads at most this much from the end: far more than the message may hold, with the headers.
const WINDOW_BYTES: u64 = 64 * 1024;

/// The text of the last `max_lines` lines, cut to the last `max_bytes` bytes.
///
/// # Errors
/// When the log cannot be read.
pub(crate) fn last_lines(log: &Path, max_lines: usize, max_bytes: usize) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(WINDOW_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(WINDOW_BYTES).read_to_end(&mut bytes)?;
    if start > 0 {
        // The first line of the window is most likely cut.
        let first_whole = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        bytes.drain(..first_whole);
    }
    Ok(join_lines(&bytes, max_lines, max_bytes))
}

/// Takes the headers off the last lines. A line of neither format is taken as it is.
fn join_lines(log: &[u8], max_lines: usize, max_bytes: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut continues = false;
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        let (text, partial) = line_text(line);
        match lines.last_mut() {
            Some(last) if continues => last.push_str(&text),
            _ => lines.push(text),
        }
        continues = partial;
    }
    let joined = lines[lines.len().saturating_sub(max_lines)..].concat();
    let mut start = joined.len().saturating_sub(max_bytes);
    while !joined.is_char_boundary(start) {
        start += 1;
    }
    joined[start..].to_owned()
}

/// One line's text and whether the next goes on with it.
fn line_text(line: &[u8]) -> (String, bool) {
    if let Ok(record) = serde_json::from_slice::<DockerRecord>(line) {
        let partial = !record.log.ends_with('\n');
        return (record.log, partial);
    }
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    if let (Some(_time), Some(b"stdout" | b"stderr"), Some(tag), Some(text)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    {
        let partial = tag.first() == Some(&b'P');
        let text = if partial {
            text.strip_suffix(b"\n").unwrap_or(text)
        } else {
            text
        };
        return (String::from_utf8_lossy(text).into_owned(), partial);
    }
    (String::from_utf8_lossy(line).into_owned(), false)
}

/// A line of Docker's json-file.
#[derive(serde::Deserialize)]
struct DockerRecord {
    log: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cri_lines_lose_their_headers_and_partial_ones_are_joined() {
        let log = b"2026-01-01T00:00:00Z stdout F one\n\
                    2026-01-01T00:00:00Z stderr P tw\n\
                    2026-01-01T00:00:00Z stderr F o\n";
        assert_eq!(join_lines(log, 80, 2048), "one\ntwo\n");
        assert_eq!(join_lines(log, 1, 2048), "two\n");
    }

    #[test]
    fn docker_lines_are_read_too() {
        let log = b"{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}\n";
        assert_eq!(join_lines(log, 80, 2048), "one\n");
    }

    #[test]
    fn the_message_is_cut_at_its_start_on_a_character() {
        let log = "2026-01-01T00:00:00Z stdout F aäb\n".as_bytes();
        assert_eq!(join_lines(log, 80, 3), "b\n");
    }

    #[test]
    fn a_long_log_gives_its_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        let lines: Vec<String> = (0..5000)
            .map(|n| format!("2026-01-01T00:00:00Z stdout F line {n}\n"))
            .collect();
        std::fs::write(&log, lines.concat()).unwrap();
        assert_eq!(last_lines(&log, 2, 2048).unwrap(), "line 4998\nline 4999\n");
    }
}
