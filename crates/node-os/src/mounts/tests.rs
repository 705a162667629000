use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;
use crate::namespace;

#[test]
fn tmpfs_options_are_written_as_the_kernel_reads_them() {
    let mut options = TmpfsOptions {
        size_bytes: None,
        mode: 0o1777,
        swap: Swap::Allowed,
    };
    assert_eq!(tmpfs_data(&options).to_str().unwrap(), "mode=1777");
    options = TmpfsOptions {
        size_bytes: Some(0),
        mode: 0o755,
        swap: Swap::Forbidden,
    };
    assert_eq!(
        tmpfs_data(&options).to_str().unwrap(),
        "mode=755,size=1,noswap"
    );
}

#[test]
fn directory_gets_its_mode_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    make_directory(&path, 0o777).unwrap();
    make_directory(&path, 0o777).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o777
    );
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(make_directory(&dir.path().join("file"), 0o755).is_err());
}

/// Runs a test in a mount namespace of its own, so that a failure leaves nothing behind.
fn in_own_namespace(work: impl FnOnce(&KernelMounts, &Path) + Send + 'static) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let outcome = namespace::with_own_mounts(move || work(&KernelMounts, &path));
    let missing = outcome
        .err()
        .map(|error| format!("no mount namespace: {error}"));
    testkit::prerequisite("root", missing);
}

#[test]
fn tmpfs_is_mounted_listed_and_removed() {
    in_own_namespace(|mounts, dir| {
        let target = dir.join("volume");
        make_directory(&target, 0o755).unwrap();
        assert!(!mounts.is_mount_point(&target).unwrap());
        let options = TmpfsOptions {
            size_bytes: Some(1 << 20),
            mode: 0o1777,
            swap: Swap::Allowed,
        };
        mounts.tmpfs(&target, &options).unwrap();
        assert!(mounts.is_mount_point(&target).unwrap());
        let metadata = fs::metadata(&target).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o1777);
        let info = mounts.list().unwrap();
        let info = mountinfo::mount_at(&info, &target).unwrap();
        assert_eq!(info.fs_type, "tmpfs");
        assert!(
            info.super_options.contains(&"size=1024k".to_owned()),
            "{info:?}"
        );

        let _busy = fs::File::create(target.join("file")).unwrap();
        assert!(
            mounts
                .unmount(&target, Unmount::Strict)
                .unwrap_err()
                .is_busy()
        );
        mounts.unmount(&target, Unmount::Lazy).unwrap();
        mounts.unmount(&target, Unmount::Strict).unwrap();
        mounts
            .unmount(&target.join("missing"), Unmount::Strict)
            .unwrap();
        assert!(!mounts.is_mount_point(&target).unwrap());
    });
}

#[test]
fn bind_mounts_show_the_source_and_can_be_read_only() {
    in_own_namespace(|mounts, dir| {
        let (source, target) = (dir.join("source"), dir.join("target"));
        make_directory(&source, 0o755).unwrap();
        make_directory(&target, 0o755).unwrap();
        mounts
            .bind(&source, &target, Depth::Recursive, Access::ReadOnly)
            .unwrap();
        let ino = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(ino(&source), ino(&target));
        assert!(fs::write(target.join("x"), "").is_err());
        fs::write(source.join("x"), "").unwrap();
        assert!(target.join("x").exists());
    });
}

#[test]
fn everything_below_a_directory_is_unmounted_newest_first() {
    in_own_namespace(|mounts, dir| {
        let options = TmpfsOptions {
            size_bytes: None,
            mode: 0o755,
            swap: Swap::Allowed,
        };
        let outer = dir.join("outer");
        make_directory(&outer, 0o755).unwrap();
        mounts.tmpfs(&outer, &options).unwrap();
        make_directory(&outer.join("inner"), 0o755).unwrap();
        mounts.tmpfs(&outer.join("inner"), &options).unwrap();
        mounts.unmount_below(&outer, Unmount::Strict).unwrap();
        assert!(!mounts.is_mount_point(&outer).unwrap());
    });
}

#[test]
fn propagation_shows_in_the_list() {
    in_own_namespace(|mounts, dir| {
        mounts
            .bind(dir, dir, Depth::Single, Access::ReadWrite)
            .unwrap();
        let shared = |mounts: &KernelMounts| {
            mountinfo::mount_at(&mounts.list().unwrap(), dir)
                .unwrap()
                .shared
        };
        assert_eq!(shared(mounts), None);
        mounts
            .set_propagation(dir, Propagation::Shared, Depth::Recursive)
            .unwrap();
        assert!(shared(mounts).is_some());
        assert!(
            mounts
                .set_propagation(&dir.join("x"), Propagation::Shared, Depth::Single)
                .is_err()
        );
    });
}

#[test]
fn probe_for_noswap_answers_and_cleans_up() {
    in_own_namespace(|mounts, dir| {
        let supported = mounts.supports_noswap(dir).unwrap();
        let kernel = crate::proc::kernel_version().unwrap();
        assert_eq!(supported, (kernel.major, kernel.minor) >= (6, 4));
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
    });
}
