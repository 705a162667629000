//! How much room a directory takes, counted without getting into anybody's way.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::namespace;

/// The lowest priority: what is counted here is never urgent.
const NICEST: i32 = 19;
/// `st_blocks` counts in these, whatever the file system's block size.
const BLOCK: u64 = 512;

/// Room taken by a directory and all below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes allocated; a file with several names counts once.
    pub bytes: u64,
    /// Files, directories and links, each once.
    pub inodes: u64,
}

/// Counts the trees one after the other on one thread of the lowest priority, and tells of each. What
/// vanishes meanwhile is not counted, and neither is what cannot be read. Stops when `each` or, asked
/// once a directory, `go_on` answers no. Blocks.
///
/// # Errors
/// When no thread can be had.
pub fn measure<'a>(
    trees: impl IntoIterator<Item = &'a Path> + Send,
    go_on: impl Fn() -> bool + Sync,
    mut each: impl FnMut(&'a Path, io::Result<DiskUsage>) -> bool + Send,
) -> io::Result<()> {
    namespace::on_own_thread(|| {
        // On Linux the priority is the thread's own, and the thread ends with the work. Without the
        // right to change it the work is done all the same.
        let _ = rustix::process::setpriority_process(None, NICEST);
        for tree in trees {
            let Some(usage) = walk(tree, &go_on).transpose() else {
                return;
            };
            if !each(tree, usage) {
                return;
            }
        }
    })
}

/// `None` when it was told to stop.
fn walk(tree: &Path, go_on: &impl Fn() -> bool) -> io::Result<Option<DiskUsage>> {
    let root = fs::symlink_metadata(tree)?;
    let mut usage = DiskUsage {
        bytes: root.blocks() * BLOCK,
        inodes: 1,
    };
    let mut seen = HashSet::new();
    let mut left: Vec<PathBuf> = vec![tree.to_owned()];
    while let Some(directory) = left.pop() {
        if !go_on() {
            return Ok(None);
        }
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.map_while(Result::ok) {
            // Does not follow links.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.dev() != root.dev() {
                continue;
            }
            let is_directory = metadata.is_dir();
            if !is_directory && metadata.nlink() > 1 && !seen.insert(metadata.ino()) {
                continue;
            }
            usage.bytes += metadata.blocks() * BLOCK;
            usage.inodes += 1;
            if is_directory {
                left.push(entry.path());
            }
        }
    }
    Ok(Some(usage))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(path: &Path) -> DiskUsage {
        let mut answer = None;
        measure(
            [path],
            || true,
            |_, usage| {
                answer = Some(usage.unwrap());
                true
            },
        )
        .unwrap();
        answer.unwrap()
    }

    #[test]
    fn room_is_what_is_allocated_and_names_of_one_file_count_once() {
        let dir = tempfile::tempdir().unwrap();
        let empty = usage(dir.path());
        assert_eq!(empty.inodes, 1);
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(dir.path().join("a/file"), dir.path().join("again")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let sparse = fs::File::create(dir.path().join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        let full = usage(dir.path());
        assert_eq!(full.inodes, 5, "itself, a, file, root, sparse");
        assert!(
            full.bytes >= empty.bytes + 100_000 && full.bytes < 1 << 20,
            "{full:?}"
        );
    }

    #[test]
    fn counting_stops_when_told_and_names_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let mut told = 0;
        measure(
            [dir.path()],
            || false,
            |_, _| {
                told += 1;
                true
            },
        )
        .unwrap();
        assert_eq!(told, 0);
        let gone = dir.path().join("gone");
        let mut error = None;
        measure(
            [gone.as_path(), dir.path()],
            || true,
            |_, usage| {
                error = usage.err();
                false
            },
        )
        .unwrap();
        assert_eq!(error.unwrap().kind(), io::ErrorKind::NotFound);
    }
}
