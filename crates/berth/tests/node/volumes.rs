//! Volumes of every kind that a static pod may have, seen from inside the containers and from the disk.

use std::{fs, os::unix::fs::symlink, path::Path};

use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::harness::Node;

/// A pod with one container that runs `script` and then waits; `rest` is more of its spec.
fn pod(name: &str, meta: &str, script: &str, mounts: &str, volumes: &str, rest: &str) -> String {
    let script = script.replace('\n', "; ");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, uid: uid-{name}{meta}}}\nspec:\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - name: c\n    image: IMAGE\n    \
         command: [sh, -c, \"{script}; sleep 1000\"]\n    volumeMounts: [{mounts}]\n  \
         volumes: [{volumes}]\n{rest}"
    )
}

/// The directory of a pod's volume.
fn volume(node: &Node, pod: &str, plugin: &str, name: &str) -> std::path::PathBuf {
    node.path(&format!(
        "root/pods/uid-{pod}/volumes/kubernetes.io~{plugin}/{name}"
    ))
}

/// Waits until nothing is there.
#[track_caller]
fn becomes_gone(node: &Node, path: &Path) {
    node.eventually(&format!("{} is gone", path.display()), || {
        if path.exists() {
            Err("still there".to_owned())
        } else {
            Ok(())
        }
    });
}

#[test]
fn downward_files_follow_an_edit_in_place_and_nobody_else_writes_them() {
    let node = Node::start();
    let manifest = |label: &str| {
        pod(
            "a",
            &format!(", labels: {{l: {label}}}"),
            "ls -a /d | sed 's/^..[0-9_.]*$/stamp/'\ncat /d/l /p/deep/name\n\
             touch /d/x || echo may not write\nstat -L -c 'mode %a %g' /p/deep/name\n\
             until grep two /d/l; do sleep 0.1; done\necho seen",
            "{name: d, mountPath: /d}, {name: p, mountPath: /p}",
            "{name: d, downwardAPI: {items: [{path: l, fieldRef: {fieldPath: metadata.labels}}]}}, \
             {name: p, projected: {defaultMode: 256, sources: [{downwardAPI: {items: [{path: deep/name, \
             fieldRef: {fieldPath: metadata.name}}]}}]}}",
            "  securityContext: {fsGroup: 4321}\n",
        )
    };
    node.apply("a.yaml", &manifest("one"));
    node.pod_runs("a");
    for expected in [
        "l=\"one\"",
        "a-n",
        "may not write",
        "mode 440 4321",
        "..data",
    ] {
        node.log_has("a", "c", 0, expected);
    }
    assert!(
        volume(&node, "a", "downward-api", "d")
            .join("..data")
            .is_symlink()
    );
    node.apply("a.yaml", &manifest("two"));
    node.log_has("a", "c", 0, "seen");
    let pod = node.pod("a").unwrap();
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    node.remove("a.yaml");
    node.pod_is_gone("a");
    becomes_gone(&node, &node.path("root/pods/uid-a"));
}

#[test]
fn volumes_of_a_finished_pod_are_given_back_while_its_manifest_stays() {
    let node = Node::start();
    node.apply(
        "a.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: uid-a}\nspec:\n  restartPolicy: Never\n  \
         containers:\n  - {name: c, image: IMAGE, command: [sh, -c, 'echo x > /d/x; echo y > /m/y'], \
         volumeMounts: [{name: d, mountPath: /d}, {name: m, mountPath: /m}]}\n  \
         volumes: [{name: d, emptyDir: {}}, {name: m, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]\n",
    );
    node.pod_becomes("a", |status| status["phase"] == "Succeeded");
    becomes_gone(&node, &volume(&node, "a", "empty-dir", "d"));
    becomes_gone(&node, &volume(&node, "a", "empty-dir", "m"));
    assert_eq!(node.pod("a").unwrap()["status"]["phase"], "Succeeded");
}

#[test]
fn sub_paths_stay_in_their_volume() {
    let node = Node::start();
    let host = node.path("host");
    fs::create_dir_all(host.join("real/deep")).unwrap();
    fs::write(host.join("real/deep/file"), "inside\n").unwrap();
    symlink("/etc", host.join("out")).unwrap();
    symlink("real", host.join("in")).unwrap();
    let host_path = format!("{{name: h, hostPath: {{path: {}}}}}", host.display());
    let script = "cat /file\nstat -c 'made %a' /made";
    let mounts = "{name: h, mountPath: /file, subPath: in/deep/file}, \
                  {name: e, mountPath: /made, subPathExpr: '$(POD)/x'}";
    let good = pod("good", "", script, mounts, &format!("{host_path}, {{name: e, emptyDir: {{}}}}"), "")
        .replace(
            "    volumeMounts:",
            "    env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]\n    volumeMounts:",
        );
    let bad = pod(
        "bad",
        "",
        "true",
        "{name: h, mountPath: /x, subPath: out/passwd}",
        &host_path,
        "",
    );
    node.apply("good.yaml", &good);
    node.apply("bad.yaml", &bad);
    node.pod_runs("good");
    node.log_has("good", "c", 0, "inside");
    node.log_has("good", "c", 0, "made 777");
    assert!(
        volume(&node, "good", "empty-dir", "e")
            .join("good-n/x")
            .is_dir()
    );
    let bad = node.pod_becomes("bad", |status| {
        status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    });
    assert_eq!(
        bad["status"]["containerStatuses"][0]["state"]["waiting"]["message"],
        "failed to prepare subPath for volumeMount \"h\" of container \"c\""
    );
    node.remove("good.yaml");
    node.pod_is_gone("good");
    assert_eq!(
        fs::read_to_string(host.join("real/deep/file")).unwrap(),
        "inside\n"
    );
}

#[test]
fn mounts_reach_containers_that_asked_for_them_and_nothing_is_deleted_behind_one() {
    let node = Node::start();
    let outside = node.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "kept\n").unwrap();
    let manifest = pod(
        "a",
        "",
        "mkdir /v/place\nuntil cat /v/place/precious; do sleep 0.1; done\ntest -e /w/place/precious || echo not in w",
        "{name: v, mountPath: /v, mountPropagation: HostToContainer}, {name: v, mountPath: /w}",
        "{name: v, emptyDir: {}}",
        "",
    );
    node.apply("a.yaml", &manifest);
    node.pod_runs("a");
    let place = volume(&node, "a", "empty-dir", "v").join("place");
    node.eventually("the container made the place", || {
        if place.is_dir() {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
    bind(&outside, &place);
    node.log_has("a", "c", 0, "kept");
    // A mount without propagation does not take part.
    node.log_has("a", "c", 0, "not in w");
    node.remove("a.yaml");
    node.pod_is_gone("a");
    becomes_gone(&node, &place);
    assert_eq!(
        fs::read_to_string(outside.join("precious")).unwrap(),
        "kept\n"
    );
}

fn bind(source: &Path, target: &Path) {
    mount_bind(source, target).unwrap();
}

#[test]
fn a_pod_waits_for_its_volume_and_says_why() {
    let node = Node::start();
    let late = node.path("late");
    let host_path = format!(
        "{{name: h, hostPath: {{path: {}, type: Directory}}}}",
        late.display()
    );
    node.apply(
        "a.yaml",
        &pod(
            "a",
            "",
            "echo started",
            "{name: h, mountPath: /h}",
            &host_path,
            "",
        ),
    );
    node.apply(
        "b.yaml",
        &pod(
            "b",
            "",
            "true",
            "{name: share, mountPath: /s}",
            "{name: share, nfs: {server: x, path: /x}}",
            "",
        ),
    );
    for expected in [
        format!(
            "hostPath type check failed: {} is not a directory",
            late.display()
        ),
        "no volume plugin matched: volumes of type nfs are not served here".to_owned(),
    ] {
        node.eventually("the event tells of it", || {
            let log = fs::read_to_string(node.path("kubelet.log")).unwrap();
            if log.contains("FailedMount") && log.contains(&expected) {
                Ok(())
            } else {
                Err(format!("no {expected:?}"))
            }
        });
    }
    let waiting = node.pod("b").unwrap();
    assert_eq!(
        waiting["status"]["containerStatuses"][0]["state"]["waiting"]["reason"],
        "ContainerCreating"
    );
    fs::create_dir(&late).unwrap();
    node.log_has("a", "c", 0, "started");
}

#[test]
fn variables_come_from_a_file_that_an_init_container_wrote() {
    let node = Node::start_with("featureGates: {EnvFiles: true}");
    node.apply(
        "a.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  initContainers:\n  \
         - {name: i, image: IMAGE, command: [sh, -c, \"echo 'WORD = said ' > /v/vars\"], \
         volumeMounts: [{name: v, mountPath: /v}]}\n  containers:\n  \
         - {name: c, image: IMAGE, command: [sh, -c, 'echo it $WORD$NONE.; sleep 1000'], env: [\
         {name: WORD, valueFrom: {fileKeyRef: {volumeName: v, path: vars, key: WORD}}}, \
         {name: NONE, valueFrom: {fileKeyRef: {volumeName: v, path: vars, key: NONE, optional: true}}}]}\n  \
         volumes: [{name: v, emptyDir: {}}]\n",
    );
    node.pod_runs("a");
    node.log_has("a", "c", 0, "it said.");
}

#[test]
fn what_a_crash_left_of_a_pod_is_removed_and_never_through_a_mount() {
    let mut node = Node::start();
    node.kubelet.kill();
    let outside = node.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "kept").unwrap();
    let clean = node.path("root/pods/uid-clean/volumes/kubernetes.io~empty-dir/v");
    let foreign = node.path("root/pods/uid-foreign/volumes/kubernetes.io~nfs/share");
    for directory in [&clean, &foreign] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(clean.join("file"), "x").unwrap();
    bind(&outside, &foreign);
    node.start_kubelet();
    becomes_gone(&node, &node.path("root/pods/uid-clean"));
    assert_eq!(
        fs::read_to_string(foreign.join("precious")).unwrap(),
        "kept"
    );
    unmount(&foreign, UnmountFlags::DETACH).unwrap();
    node.kubelet.kill();
    node.start_kubelet();
    becomes_gone(&node, &node.path("root/pods/uid-foreign"));
    assert_eq!(
        fs::read_to_string(outside.join("precious")).unwrap(),
        "kept"
    );
}
