//! Plugins that hang, flood, crash, lie, or leave children behind.

use std::fs;
use std::time::{Duration, Instant};

use testkit::eventually_async;

use super::{ADDRESS, HAND_ON, Node, SOON, network, pod, running, text};

/// ADD with a plugin whose commands these are; answers the error's text.
async fn fails(add: &str) -> String {
    let node = Node::new();
    node.plugin("bad", add, "");
    node.configure("net.conflist", &network("1.0.0", &["bad"]));
    let cni = node.cni().await;
    let error = cni.set_up(&pod(), "/x", "").await.unwrap_err();
    assert!(node.cached().is_empty(), "nothing is kept of what failed");
    // Tearing down after it is always possible.
    cni.tear_down(&pod(), "/x").await.unwrap();
    text(&error)
}

#[tokio::test]
async fn failures_carry_all_that_the_plugin_said() {
    let start = "plugin type=\"bad\" failed (add): ";
    for (add, end) in [
        (
            r#"echo '{"code":11,"msg":"busy","details":"try later"}'; echo log >&2; exit 1"#,
            "busy; try later (stderr: \"log\")",
        ),
        ("echo oops >&2; exit 3", "netplugin failed: \"oops\""),
        (
            "exit 3",
            "netplugin failed with no error message: exit status: 3",
        ),
        (
            "kill -SEGV $$",
            "netplugin failed with no error message: signal: 11 (SIGSEGV)",
        ),
    ] {
        let said = fails(add).await;
        assert_eq!(said.strip_prefix(start), Some(end), "{said}");
    }
    let said = fails("echo garbage; exit 1").await;
    assert!(
        said.contains("error parsing its diagnostic message \"garbage\\n\""),
        "{said}"
    );
}

#[tokio::test]
async fn lies_are_not_taken_for_results() {
    for (add, part) in [
        ("echo done", "failed to unmarshal raw result \"done\\n\""),
        ("true", "failed to unmarshal raw result \"\""),
        (
            r#"echo '{"cniVersion":"7.0.0"}'"#,
            "unsupported CNI result version \"7.0.0\"",
        ),
        (
            r#"echo '{"ips":[{"address":"10.0.0.300/8"}]}'"#,
            "invalid CIDR address: 10.0.0.300/8",
        ),
    ] {
        let said = fails(add).await;
        assert!(said.contains(part) && said.contains("bad"), "{said}");
    }
}

#[tokio::test]
async fn hanging_plugin_is_killed_with_its_children_and_named() {
    let node = Node::new();
    node.plugin("slow", "sleep 1000 & echo $! > child; sleep 1000", "");
    node.configure("net.conflist", &network("1.0.0", &["slow"]));
    let mut cni = node.cni().await;
    cni.limit = Duration::from_secs(2);
    let error = text(&cni.set_up(&pod(), "/x", "").await.unwrap_err());
    assert!(
        error.contains("bin/slow did not end within ") && error.contains("killed"),
        "{error}"
    );
    let child = node.path("calls/child");
    eventually_async(SOON, || async {
        if running(&child) {
            Err("it runs")
        } else {
            Ok(())
        }
    })
    .await;
}

/// A plugin that gets its network from a slow server may use all the time that there is (CNI-11).
#[tokio::test]
async fn limit_of_one_plugin_is_for_teardown_alone() {
    let node = Node::new();
    let add = format!("sleep 2; {ADDRESS}");
    node.plugin("slow", &add, "sleep 1000");
    node.configure("net.conflist", &network("1.0.0", &["slow"]));
    let mut cni = node.cni().await;
    cni.plugins.limit = Duration::from_secs(1);
    cni.set_up(&pod(), "/x", "").await.unwrap();
    let error = text(&cni.tear_down(&pod(), "/x").await.unwrap_err());
    assert!(
        error.contains("bin/slow did not end within 1") && error.contains("killed"),
        "{error}"
    );
}

#[tokio::test]
async fn given_up_call_kills_its_plugin() {
    let node = Node::new();
    node.plugin("slow", "sleep 1000 & echo $! > child; wait", "");
    node.configure("net.conflist", &network("1.0.0", &["slow"]));
    let cni = node.cni().await;
    let child = node.path("calls/child");
    {
        let pod = pod();
        let mut call = std::pin::pin!(cni.set_up(&pod, "/x", ""));
        let started = eventually_async(SOON, || async {
            if running(&child) {
                Ok(())
            } else {
                Err("not yet")
            }
        });
        tokio::select! {
            _ = &mut call => panic!("it hangs"),
            () = started => {}
        }
    }
    eventually_async(SOON, || async {
        if running(&child) {
            Err("it runs")
        } else {
            Ok(())
        }
    })
    .await;
}

#[tokio::test]
async fn flood_is_cut_off() {
    let started = Instant::now();
    let said = fails("while :; do echo 0123456789012345678901234567890123456789; done").await;
    assert!(
        said.contains("printed more than 1048576 bytes and was killed"),
        "{said}"
    );
    assert!(started.elapsed() < SOON);
    // On stderr only the end is kept.
    let said =
        fails("i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1").await;
    assert!(
        said.contains("line 19999") && said.len() < 4096,
        "{} bytes",
        said.len()
    );
}

#[tokio::test]
async fn child_that_keeps_the_pipes_open_delays_nothing() {
    let node = Node::new();
    let add = format!("sleep 1000 & echo $! > child; {ADDRESS}");
    node.plugin("forks", &add, "");
    node.plugin("next", HAND_ON, "");
    node.configure("net.conflist", &network("1.0.0", &["forks", "next"]));
    let cni = node.cni().await;
    cni.set_up(&pod(), "/x", "").await.unwrap();
    // What a plugin that went well leaves behind is meant to stay.
    let child = node.path("calls/child");
    assert!(running(&child));
    let pid: i32 = fs::read_to_string(child).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn plugin_that_reads_nothing_and_one_that_is_no_program() {
    let node = Node::new();
    node.script("deaf", &format!(
        "#!/bin/sh\n[ $CNI_COMMAND = VERSION ] && echo '{{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"1.0.0\"]}}' || {ADDRESS}\n"
    ));
    let mut config = network("1.0.0", &["deaf"]);
    config["plugins"][0]["ballast"] = "x".repeat(500_000).into();
    node.configure("net.conflist", &config);
    let cni = node.cni().await;
    cni.set_up(&pod(), "/x", "").await.unwrap();

    node.script("deaf", "#!/no/such/interpreter\n");
    let error = text(&cni.tear_down(&pod(), "/x").await.unwrap_err());
    assert!(
        error.contains("bin/deaf: its interpreter or dynamic linker is not here")
            && error.contains("failed (delete)"),
        "{error}"
    );
    assert_eq!(node.cached().len(), 1, "kept for another try");
}
