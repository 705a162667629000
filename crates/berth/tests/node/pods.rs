//! What a manifest says, happens: containers see the files, names and variables they are promised.

use crate::harness::Node;

#[test]
fn containers_see_their_volumes_hosts_names_and_variables() {
    let node = Node::start();
    std::fs::write(node.path("on-the-host"), "from the host\n").unwrap();
    node.apply(
        "a.yaml",
        &"apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: x}}\nspec:\n  hostAliases:\n  \
          - {ip: 10.1.2.3, hostnames: [alias.test]}\n  dnsPolicy: None\n  dnsConfig:\n    \
          nameservers: [10.9.8.7]\n    searches: [find.test]\n  containers:\n  - name: c\n    image: IMAGE\n    \
          env:\n    - {name: FIRST, value: one}\n    - {name: SECOND, value: '$(FIRST)-two'}\n    \
          - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n    \
          - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}\n    \
          - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}\n    \
          resources: {limits: {memory: 64Mi, cpu: 500m}}\n    \
          command: [sh, -c]\n    args:\n    - |\n      \
          echo env $SECOND $POD $MEMORY; cat /etc/hosts /etc/resolv.conf /host/on-the-host\n      \
          echo arg $(FIRST); hostname; stat -c 'mode %a' /disk; grep ' /memory ' /proc/mounts\n      \
          echo shared > /disk/file; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max\n      \
          sleep 1000\n    volumeMounts:\n    - {name: disk, mountPath: /disk}\n    \
          - {name: memory, mountPath: /memory}\n    - {name: host, mountPath: /host, readOnly: true}\n  \
          - name: d\n    image: IMAGE\n    command: [sh, -c, 'until cat /disk/file; do sleep 0.1; done; sleep 1000']\n    \
          volumeMounts: [{name: disk, mountPath: /disk}]\n  volumes:\n  - {name: disk, emptyDir: {}}\n  \
          - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}\n  \
          - {name: host, hostPath: {path: DIRECTORY, type: Directory}}\n"
            .replace("DIRECTORY", &node.path("").display().to_string()),
    );
    let pod = node.pod_runs("a");
    let ip = pod["status"]["podIP"].as_str().unwrap().to_owned();
    for expected in [
        "env one-two a-n 67108864",
        "10.1.2.3\talias.test",
        &format!("{ip}\ta-n"),
        "nameserver 10.9.8.7",
        "search find.test",
        "from the host",
        "arg one",
        "mode 777",
        "tmpfs /memory tmpfs",
        "67108864",
    ] {
        node.log_has("a", "c", 0, expected);
    }
    node.log_has("a", "d", 0, "shared");
    assert_eq!(pod["status"]["qosClass"], "Burstable");
    node.remove("a.yaml");
    node.pod_is_gone("a");
    assert!(node.path("on-the-host").exists());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(
        !mounts.contains(&node.path("root/pods").display().to_string()),
        "{mounts}"
    );
}

#[test]
fn init_containers_run_in_order_before_the_others() {
    let node = Node::start();
    node.apply(
        "a.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  initContainers:\n  \
         - {name: one, image: IMAGE, command: [sh, -c, 'sleep 0.3; echo one >> /v/order'], volumeMounts: [{name: v, mountPath: /v}]}\n  \
         - {name: two, image: IMAGE, command: [sh, -c, 'echo two >> /v/order'], volumeMounts: [{name: v, mountPath: /v}]}\n  \
         containers:\n  \
         - {name: c, image: IMAGE, command: [sh, -c, 'cat /v/order; sleep 1000'], volumeMounts: [{name: v, mountPath: /v}]}\n  \
         volumes: [{name: v, emptyDir: {}}]\n",
    );
    let pod = node.pod_runs("a");
    node.eventually("the order is in the log", || {
        let log = node.log("a", "c", 0);
        let words: Vec<&str> = log
            .lines()
            .filter_map(|line| line.split(' ').nth(3))
            .collect();
        if words == ["one", "two"] {
            Ok(())
        } else {
            Err(log)
        }
    });
    let init = pod["status"]["initContainerStatuses"].as_array().unwrap();
    assert!(
        init.iter()
            .all(|one| one["state"]["terminated"]["reason"] == "Completed"),
        "{init:?}"
    );
}

#[test]
fn a_pod_that_cannot_be_says_why_and_the_others_run() {
    let node = Node::start();
    node.apply(
        "a.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  \
         - {name: absent, image: 'berth.test/nothing:1', imagePullPolicy: Never}\n  \
         - {name: wrong, image: IMAGE, command: [/no/such/program]}\n  \
         - {name: root, image: IMAGE, securityContext: {runAsNonRoot: true}}\n  \
         - {name: fine, image: IMAGE, command: [sleep, '1000']}\n",
    );
    let pod = node.pod_becomes("a", |status| {
        let reason = |name: &str| {
            let all = status["containerStatuses"].as_array()?;
            let one = all.iter().find(|one| one["name"] == name)?;
            let waiting = &one["state"]["waiting"]["reason"];
            let running = &one["state"]["running"];
            Some(if running.is_object() {
                "running".to_owned()
            } else {
                waiting.as_str()?.to_owned()
            })
        };
        reason("absent").as_deref() == Some("ErrImageNeverPull")
            && reason("wrong").as_deref() == Some("CrashLoopBackOff")
            && reason("root").as_deref() == Some("CreateContainerConfigError")
            && reason("fine").as_deref() == Some("running")
    });
    let root = pod["status"]["containerStatuses"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "root")
        .unwrap();
    let message = root["state"]["waiting"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("container has runAsNonRoot and image will run as root"),
        "{message}"
    );
}

#[test]
fn the_read_only_port_lists_pods_and_numbers_and_refuses_the_rest() {
    let node = Node::start();
    node.apply("a.yaml", &crate::lifecycle::pod("a", "x"));
    node.pod_runs("a");
    let running = node.read_only("/runningpods/").unwrap();
    assert!(running.contains("\"name\":\"a-n\""), "{running}");
    let metrics = node.read_only("/metrics").unwrap();
    assert!(metrics.contains("kubelet_running_pods 1"), "{metrics}");
    assert!(metrics.contains("process_resident_memory_bytes"));
    assert_eq!(node.read_only("/healthz").unwrap(), "ok");
    assert!(
        node.read_only("/exec/default/a-n/c")
            .unwrap()
            .contains("Debug endpoints are disabled.")
    );
}
