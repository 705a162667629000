//! Teardown without a daemon.

use super::*;

#[test]
fn a_sandbox_is_detached_by_its_cache_alone_when_no_daemon_runs() {
    let node = Node::new();
    node.plugin("one", ADDRESS, "");
    node.configure("net.conflist", &network("1.0.0", &["one"]));
    let runtime = daemon::runtime(1, "test").unwrap();
    runtime.block_on(async {
        let cni = node.cni().await;
        cni.set_up(&pod(), "/x", "engine-1").await.unwrap();
    });
    node.calls();
    fs::remove_dir_all(node.path("conf")).unwrap();

    let flags = [crate::CNI_BIN_DIR, crate::CNI_CACHE_DIR];
    let words = [
        format!("--cni-bin-dir={}", node.path("bin").display()),
        format!("--cni-cache-dir={}", node.path("cache").display()),
    ];
    let flags = daemon::pflag::FlagSet::new(&flags).parse(words).unwrap();
    let attachments = crate::Attachments::of(&flags).unwrap();
    let attachment = crate::Attachment {
        id: pod().id,
        pod: format!("{}/{}", pod().namespace, pod().name),
        engine: "engine-1".to_owned(),
    };
    assert_eq!(attachments.list(), [attachment]);
    // Nobody's process: the plugins go by the result.
    attachments.detach(&pod().id, None).unwrap();
    assert!(node.calls().contains(&"DEL one".to_owned()));
    assert!(attachments.list().is_empty() && node.cached().is_empty());
    attachments.detach(&pod().id, None).unwrap();
    assert_eq!(node.calls(), Vec::<String>::new());
}
