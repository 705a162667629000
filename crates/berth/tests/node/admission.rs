//! Who is taken, where pods come from, and what is told of it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use crate::{harness::Node, lifecycle::pod};

const SLEEP: &str = "{name: c, image: IMAGE, command: [sleep, '1000']";

fn manifest(name: &str, spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n\
         spec: {{{spec}containers: [{SLEEP}{container}}}]}}\n"
    )
}

fn fails(node: &Node, name: &str, reason: &str) {
    node.pod_becomes(name, |status| {
        status["phase"] == "Failed"
            && status["reason"] == reason
            && status["message"]
                .as_str()
                .is_some_and(|message| message.starts_with("Pod was rejected: "))
    });
    assert!(node.containers(name).is_empty());
}

#[test]
fn refused_pods_say_why_the_others_run_and_a_restart_changes_nothing() {
    let mut node = Node::start();
    let port = ", ports: [{containerPort: 80, hostPort: 28081}]";
    node.apply("first.yaml", &manifest("first", "", port));
    node.pod_runs("first");
    node.apply(
        "apart.yaml",
        &manifest("apart", "nodeSelector: {no: where}, ", ""),
    );
    node.apply(
        "alien.yaml",
        &manifest("alien", "os: {name: windows}, ", ""),
    );
    let unsafe_sysctl = "securityContext: {sysctls: [{name: kernel.msgmax, value: '9000'}]}, ";
    node.apply("unsafe.yaml", &manifest("unsafe", unsafe_sysctl, ""));
    node.apply(
        "large.yaml",
        &manifest("large", "", ", resources: {requests: {cpu: 1000}}"),
    );
    // Comes before `first` in every order but that of who was there before.
    node.apply("a-second.yaml", &manifest("a-second", "", port));
    let look = |node: &Node| {
        fails(node, "apart", "NodeAffinity");
        fails(node, "alien", "PodOSNotSupported");
        fails(node, "unsafe", "SysctlForbidden");
        fails(node, "large", "UnexpectedAdmissionError");
        fails(node, "a-second", "NodePorts");
        node.pod_runs("first");
    };
    look(&node);
    let ids = node.container_ids("first");
    // In order, so that the last events are written down, too.
    node.kubelet.stop();
    node.start_kubelet();
    look(&node);
    assert_eq!(node.container_ids("first"), ids);
    let events = node.read_only("/events").unwrap();
    for reason in ["SysctlForbidden", "Started", "Starting", "NodeReady"] {
        assert!(
            events.contains(&format!("\"reason\":\"{reason}\"")),
            "{reason}: {events}"
        );
    }
    // Room is for who asks next.
    node.remove("first.yaml");
    node.pod_is_gone("first");
    node.apply("third.yaml", &manifest("third", "", port));
    node.pod_runs("third");
    fails(&node, "a-second", "NodePorts");
}

/// Answers every request with the same body.
fn serve(body: &Arc<Mutex<String>>) -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/pods", listener.local_addr().unwrap());
    let (body, ours) = (body.clone(), listener.try_clone().unwrap());
    thread::spawn(move || {
        while let Ok((mut stream, _)) = ours.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let body = body.lock().unwrap().clone();
            let status = if body.is_empty() { "500 X" } else { "200 OK" };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    (url, listener)
}

#[test]
fn directory_and_url_both_have_a_say_and_nothing_ends_before_both_have_spoken() {
    let body = Arc::new(Mutex::new(String::new()));
    let (url, _listener) = serve(&body);
    let mut node = Node::start_with(&format!("staticPodURL: {url}\nhttpCheckFrequency: 1s"));
    let by_url = pod("web", "x").replace("IMAGE", node.image);
    node.apply("file.yaml", &pod("file", "x"));
    node.pod_runs("file");
    body.lock().unwrap().clone_from(&by_url);
    let seen = node.pod_runs("web");
    let source = &seen["metadata"]["annotations"]["kubernetes.io/config.source"];
    assert_eq!(source, "http");
    // The URL fails while the kubelet is away: its pod goes on, and so does one without a file.
    node.kubelet.kill();
    body.lock().unwrap().clear();
    let (web, file) = (node.container_ids("web"), node.container_ids("file"));
    node.remove("file.yaml");
    node.start_kubelet();
    node.apply("late.yaml", &pod("late", "x"));
    node.pod_runs("late");
    assert_eq!(
        (node.container_ids("web"), node.container_ids("file")),
        (web.clone(), file)
    );
    body.lock().unwrap().clone_from(&by_url);
    node.pod_is_gone("file");
    node.pod_runs("web");
    assert_eq!(node.container_ids("web"), web);
}

#[test]
fn hostile_files_are_named_in_the_log_and_harm_nobody() {
    let node = Node::start();
    let put = |name: &str, bytes: &[u8]| {
        fs::write(node.path(&format!("manifests/{name}")), bytes).unwrap();
    };
    put("large.yaml", &vec![b'#'; 10 * 1024 * 1024 + 1]);
    put(
        "latin.yaml",
        b"apiVersion: v1\nkind: Pod\nmetadata: {name: \xe4}\n",
    );
    put("zeros.yaml", &[0; 4096]);
    put("bomb.yaml", {
        let mut text = "a0: &a0 [x]\n".to_owned();
        for n in 1..=12 {
            let before = vec![format!("*a{}", n - 1); 12].join(",");
            text.extend([format!("a{n}: &a{n} [{before}]\n")]);
        }
        text.leak().as_bytes()
    });
    put(
        "field.yaml",
        b"apiVersion: v1\nkind: Pod\nmetadata: {name: f}\nspec: {containers: 7}\n",
    );
    fs::create_dir(node.path("manifests/sub")).unwrap();
    let link = |to: &Path, name: &str| {
        std::os::unix::fs::symlink(to, node.path(&format!("manifests/{name}"))).unwrap();
    };
    link(&node.path("manifests/loop"), "loop");
    link(Path::new("/dev/zero"), "endless");
    node.apply("good.yaml", &pod("good", "x"));
    node.pod_runs("good");
    let log = fs::read_to_string(node.path("kubelet.log")).unwrap();
    for (file, word) in [
        ("large.yaml", "limit is 10485760"),
        ("latin.yaml", ""),
        ("zeros.yaml", ""),
        ("bomb.yaml", ""),
        ("field.yaml", "spec.containers"),
        ("sub", "directory"),
        ("loop", ""),
        ("endless", "device"),
    ] {
        // A file that is still being written may be told of once more, as what it was then.
        let told = log.lines().any(|line| {
            line.contains("Could not process manifest file")
                && line.contains(&format!("/{file}\""))
                && line.contains(word)
        });
        assert!(told, "no line about {file} says {word:?}");
    }
    assert_eq!(node.read_only("/healthz").unwrap(), "ok");
}
