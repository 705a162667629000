//! Disks that are full or take no writes: an error that names the place, no loss, and on it goes
//! once the disk is well again.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use crate::{
    harness::{Node, Setup},
    lifecycle::pod,
};

fn node() -> Node {
    Node::set_up(Setup {
        small_disks: &["root", "cri", "logs"],
        ..Setup::default()
    })
}

/// What `f` does happens while the disk at `path` has no byte left.
fn while_full<T>(path: &Path, f: impl FnOnce() -> T) -> T {
    let filler = path.join("filler");
    let mut file = File::create(&filler).unwrap();
    // Whole pages first, then what is left of the last one.
    for size in [4096, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
    let value = f();
    fs::remove_file(filler).unwrap();
    value
}

/// What `f` does happens while the disk at `path` takes no writes.
fn while_read_only<T>(path: &Path, f: impl FnOnce() -> T) -> T {
    let remount = |flags| rustix::mount::mount_remount(path, flags, c"size=1m").unwrap();
    remount(rustix::mount::MountFlags::RDONLY);
    let value = f();
    remount(rustix::mount::MountFlags::empty());
    value
}

/// A pod that is wanted while `directory` is in trouble starts once the trouble is over; its error
/// names the directory and the kernel's reason; the pod that runs already does not notice.
#[track_caller]
fn waits_for_the_disk(
    node: &Node,
    name: &str,
    directory: &str,
    reason: &str,
    in_trouble: impl FnOnce(&Path, &dyn Fn()),
) {
    let before = node.container_ids("stays");
    let path = node.path(directory);
    in_trouble(&path, &|| {
        node.apply(&format!("{name}.yaml"), &pod(name, "x"));
        node.eventually("the error names place and reason", || {
            let log = std::fs::read_to_string(node.path("kubelet.log")).unwrap();
            let place = path.display().to_string();
            let is_it = |line: &&str| {
                line.contains(&format!("{name}-n"))
                    && line.contains(&place)
                    && line.contains(reason)
            };
            log.lines()
                .find(is_it)
                .map(drop)
                .ok_or_else(|| "not yet".to_owned())
        });
    });
    node.pod_runs_once(name);
    assert_eq!(node.container_ids("stays"), before);
    node.remove(&format!("{name}.yaml"));
    node.pod_is_gone(name);
}

#[test]
fn a_pod_waits_for_a_full_disk_and_the_others_run_on() {
    let node = node();
    node.apply("stays.yaml", &pod("stays", "x"));
    node.pod_runs("stays");
    let reason = "No space left on device";
    for (name, directory) in [("a", "cri"), ("b", "root")] {
        waits_for_the_disk(&node, name, directory, reason, |path, work| {
            while_full(path, work);
        });
    }
    // Removing needs no room.
    while_full(&node.path("cri"), || {
        while_full(&node.path("root"), || {
            node.remove("stays.yaml");
            node.pod_is_gone("stays");
        });
    });
}

#[test]
fn a_pod_waits_for_a_read_only_disk_and_the_others_run_on() {
    let mut node = node();
    node.apply("stays.yaml", &pod("stays", "x"));
    node.pod_runs("stays");
    let reason = "Read-only file system";
    for (name, directory) in [("a", "cri"), ("b", "root")] {
        waits_for_the_disk(&node, name, directory, reason, |path, work| {
            while_read_only(path, work);
        });
    }
    // A kubelet that is started then adopts what runs.
    let before = node.container_ids("stays");
    node.kubelet.kill();
    let root = node.path("root");
    while_read_only(&root, || {
        node.start_kubelet();
        node.pod_runs_once("stays");
        assert_eq!(node.container_ids("stays"), before);
    });
}

#[test]
fn a_kubelet_that_cannot_make_its_directories_ends_and_says_which_and_why() {
    let mut node = node();
    node.kubelet.kill();
    std::fs::remove_dir_all(node.path("root/pods")).unwrap();
    let (root, reason) = (node.path("root"), "Read-only file system");
    while_read_only(&root, || {
        let mut kubelet = node.try_kubelet();
        let code = node.eventually("the kubelet ends", || kubelet.ended());
        assert_eq!(code, Some(1));
    });
    let log = std::fs::read_to_string(node.path("kubelet.log")).unwrap();
    let place = root.join("pods").display().to_string();
    let errors: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(reason) && line.contains(&place))
        .collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    node.start_kubelet();
}

#[test]
fn a_log_goes_on_without_loss_or_repeat_after_its_disk_was_full() {
    let node = node();
    node.apply(
        "a.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         containers:\n  - name: c\n    image: IMAGE\n    command:\n    - sh\n    - -c\n    \
         - 'i=0; while :; do echo line $i; i=$((i+1)); sleep 0.05; done'\n",
    );
    node.log_has("a", "c", 0, "line 5\n");
    let last = || {
        let log = node.log("a", "c", 0);
        log.lines().count()
    };
    while_full(&node.path("logs"), || {
        node.eventually("the error is said", || {
            match node.said("No space left on device") {
                0 => Err("not yet".to_owned()),
                _ => Ok(()),
            }
        });
        // Ten seconds of it would be two hundred lines.
        assert!(node.said("No space left on device") < 20);
    });
    let behind = last();
    node.eventually("the log goes on", || {
        if last() > behind + 40 {
            Ok(())
        } else {
            Err(last().to_string())
        }
    });
    let log = node.log("a", "c", 0);
    let numbers: Vec<usize> = log
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(numbers.iter().copied().eq(0..numbers.len()), "{log}");
}
