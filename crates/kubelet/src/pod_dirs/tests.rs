use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

fn dirs() -> (tempfile::TempDir, PodDirs) {
    let temporary = tempfile::tempdir().unwrap();
    let dirs = PodDirs::new(
        temporary.path().join("kubelet"),
        temporary.path().join("log/pods"),
    );
    (temporary, dirs)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn pod_directories_have_upstreams_modes() {
    let (_temporary, dirs) = dirs();
    dirs.ensure_pod("uid").unwrap();
    dirs.ensure_pod("uid").unwrap();
    assert_eq!(mode(&dirs.pod("uid")), 0o750);
    assert_eq!(mode(&dirs.volumes("uid")), 0o750);
    let logs = dirs
        .ensure_log_dirs("ns", "pod", "uid", Some("main"))
        .unwrap();
    assert!(logs.ends_with("log/pods/ns_pod_uid/main"));
    assert_eq!(mode(&logs), 0o755);
    assert_eq!(mode(logs.parent().unwrap()), 0o755);
    assert_eq!(mode(logs.parent().unwrap().parent().unwrap()), 0o750);
    assert_eq!(dirs.pods_on_disk().unwrap(), ["uid"]);
}

#[test]
fn names_that_leave_the_directory_are_refused() {
    let (temporary, dirs) = dirs();
    dirs.ensure_pod("uid").unwrap();
    for name in ["", ".", "..", "../..", "a/b", "a\0b"] {
        assert!(
            matches!(dirs.ensure_pod(name), Err(PodDirError::Name { .. })),
            "{name:?}"
        );
        assert!(
            matches!(dirs.remove_pod(name), Err(PodDirError::Name { .. })),
            "{name:?}"
        );
        assert!(dirs.new_termination_file("uid", name).is_err(), "{name:?}");
    }
    assert!(dirs.remove_logs("ns", "../../x", "uid").is_err());
    assert!(temporary.path().join("kubelet/pods/uid").is_dir());
}

#[test]
fn hosts_file_changes_in_place() {
    let (_temporary, dirs) = dirs();
    dirs.ensure_pod("uid").unwrap();
    let path = dirs.write_etc_hosts("uid", b"one\n").unwrap();
    let before = fs::metadata(&path).unwrap();
    dirs.write_etc_hosts("uid", b"two\n").unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    assert_eq!(mode(&path), 0o644);
    assert_eq!(
        before.ino(),
        after.ino(),
        "running containers have this file mounted"
    );
}

#[test]
fn each_start_gets_a_termination_file_of_its_own() {
    let (_temporary, dirs) = dirs();
    dirs.ensure_pod("uid").unwrap();
    let first = dirs.new_termination_file("uid", "main").unwrap();
    let second = dirs.new_termination_file("uid", "main").unwrap();
    assert_ne!(first, second);
    assert_eq!(mode(&first), 0o666);
    let name = first.file_name().unwrap().to_str().unwrap();
    assert!(
        name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{name}"
    );
}

#[test]
fn end_of_a_long_termination_message_is_read() {
    let (temporary, _dirs) = dirs();
    let path = temporary.path().join("message");
    let read = |limit| PodDirs::read_termination_message(&path, limit).unwrap();
    assert_eq!(read(4), None);
    fs::write(&path, "").unwrap();
    assert_eq!(read(4).as_deref(), Some(""));
    fs::write(&path, "0123456789").unwrap();
    assert_eq!(read(4).as_deref(), Some("6789"));
    assert_eq!(read(100).as_deref(), Some("0123456789"));
}

#[test]
fn termination_message_is_not_read_through_a_link() {
    let (temporary, _dirs) = dirs();
    let path = temporary.path().join("message");
    symlink("/etc/passwd", &path).unwrap();
    assert!(PodDirs::read_termination_message(&path, 100).is_err());
}

#[test]
fn pod_is_removed_with_all_but_the_content_of_volumes() {
    let (_temporary, dirs) = dirs();
    dirs.ensure_pod("uid").unwrap();
    dirs.new_termination_file("uid", "main").unwrap();
    dirs.write_etc_hosts("uid", b"x").unwrap();
    let volume = dirs
        .volumes_of("uid", "kubernetes.io/empty-dir")
        .join("data");
    assert!(volume.ends_with("volumes/kubernetes.io~empty-dir/data"));
    fs::create_dir_all(&volume).unwrap();
    fs::write(volume.join("file"), "precious").unwrap();
    assert!(
        matches!(dirs.remove_pod("uid"), Err(PodDirError::VolumeLeft { path }) if path == volume)
    );
    fs::remove_file(volume.join("file")).unwrap();
    dirs.remove_pod("uid").unwrap();
    dirs.remove_pod("uid").unwrap();
    assert!(!dirs.pod("uid").exists());
    assert_eq!(dirs.pods_on_disk().unwrap(), Vec::<String>::new());
}

#[test]
fn pod_logs_are_removed_and_what_they_link_to_is_kept() {
    let (temporary, dirs) = dirs();
    let kept = temporary.path().join("docker.log");
    fs::write(&kept, "x").unwrap();
    let logs = dirs
        .ensure_log_dirs("ns", "pod", "uid", Some("main"))
        .unwrap();
    symlink(&kept, logs.join("0.log")).unwrap();
    dirs.remove_logs("ns", "pod", "uid").unwrap();
    assert!(!logs.exists());
    assert!(kept.exists());
}
