//! The links `/var/log/containers/<pod>_<ns>_<container>-<id>.log` (kubelet DIR-05, CRI-80, GC-12).

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// Makes the link, if the log file is there and the link is not right already.
///
/// # Errors
/// When the directory or the link cannot be made.
pub(crate) fn ensure_link(directory: &Path, name: &str, log: &Path) -> io::Result<()> {
    if !log.exists() {
        return Ok(());
    }
    let link = directory.join(name);
    match fs::read_link(&link) {
        Ok(target) if target == log => return Ok(()),
        Ok(_) => fs::remove_file(&link)?,
        Err(_) => {}
    }
    match symlink(log, &link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(directory)?;
            symlink(log, &link)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Removes a link; one that is gone is fine.
///
/// # Errors
/// When it is there and cannot be removed.
pub(crate) fn remove_link(directory: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(directory.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The links into `logs` whose file is gone (GC-12), each with that file. Links elsewhere are somebody else's.
///
/// # Errors
/// When the directory cannot be read; a missing one has no links.
pub(crate) fn dangling(directory: &Path, logs: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    Ok(entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let link = entry.path();
            let log = fs::read_link(&link).ok()?;
            (log.starts_with(logs) && !log.exists()).then_some((link, log))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_once_its_log_is_there_and_follows_a_new_log() {
        let root = tempfile::tempdir().unwrap();
        let links = root.path().join("containers");
        let (first, second) = (root.path().join("0.log"), root.path().join("1.log"));
        ensure_link(&links, "x.log", &first).unwrap();
        assert!(!links.exists());
        fs::write(&first, "").unwrap();
        fs::write(&second, "").unwrap();
        ensure_link(&links, "x.log", &first).unwrap();
        ensure_link(&links, "x.log", &second).unwrap();
        assert_eq!(fs::read_link(links.join("x.log")).unwrap(), second);
        remove_link(&links, "x.log").unwrap();
        remove_link(&links, "x.log").unwrap();
    }

    #[test]
    fn only_our_own_dangling_links_are_found() {
        let root = tempfile::tempdir().unwrap();
        let logs = root.path().join("pods");
        let gone = logs.join("gone.log");
        symlink(&gone, root.path().join("ours.log")).unwrap();
        symlink("/elsewhere/gone.log", root.path().join("theirs.log")).unwrap();
        assert_eq!(
            dangling(root.path(), &logs).unwrap(),
            [(root.path().join("ours.log"), gone)]
        );
    }
}
