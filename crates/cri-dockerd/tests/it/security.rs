//! Who a container is and what it may do, as the kernel shows it.

use std::time::Duration;

use cri_api::v1;
use cri_api::v1::SupplementalGroupsPolicy::{Merge, Strict};
use cri_api::v1::image_service_client::ImageServiceClient;
use serde_json::{Value, json};
use testkit::DockerEngine;

use crate::harness::{Pod, Server, engine_with_image, start, status};

/// Names a user with groups of its own in an image, made of the test image.
fn image_with_groups(engine: &DockerEngine, base: &str) -> String {
    let script = "echo alice:x:1000:1001::/:/bin/sh >>/etc/passwd; \
                  printf 'alice:x:1001:\\nextra:x:50000:alice\\n' >>/etc/group";
    let body = json!({ "Image": base, "Cmd": ["sh", "-c", script] });
    let id = engine.json("POST", "/containers/create", &body)["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    engine.json("POST", &format!("/containers/{id}/start"), &Value::Null);
    engine.json("POST", &format!("/containers/{id}/wait"), &Value::Null);
    let commit = format!("/commit?container={id}&repo=berth.test/groups&tag=1");
    let made = engine.json("POST", &commit, &json!({ "Cmd": ["sh"] }));
    engine
        .request("DELETE", &format!("/containers/{id}"), None)
        .expect_success("remove");
    made["Id"].as_str().unwrap().to_owned()
}

async fn said(server: &mut Server, id: &str, command: &[&str]) -> String {
    let request = v1::ExecSyncRequest {
        container_id: id.to_owned(),
        cmd: command.iter().map(|word| (*word).to_owned()).collect(),
        timeout: 10,
    };
    let answer = server.client.exec_sync(request).await.unwrap().into_inner();
    String::from_utf8(answer.stdout).unwrap().trim().to_owned()
}

fn with_context(
    mut config: v1::ContainerConfig,
    context: v1::LinuxContainerSecurityContext,
) -> v1::ContainerConfig {
    config.linux.as_mut().unwrap().security_context = Some(context);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn supplemental_groups_follow_the_policy() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let image = tokio::task::block_in_place(|| image_with_groups(&engine, crate::harness::IMAGE));
    let mut server = Server::start(&engine.host()).await;
    let features = server
        .client
        .status(v1::StatusRequest { verbose: true })
        .await
        .unwrap()
        .into_inner();
    assert!(features.features.unwrap().supplemental_groups_policy);
    assert!(features.info["config"].contains("sandboxImage"));
    assert!(features.info["docker"].contains("apiVersion"));
    let pod = Pod::run(&mut server, Pod::config("groups")).await;
    let int = |value| Some(v1::Int64Value { value });
    // Twice: the second time the image is known, and named by its id, as the kubelet does.
    for round in 0..2 {
        for (number, (group, policy, expected)) in [
            (None, Merge, vec![1001, 1234, 50000]),
            (None, Strict, vec![1001, 1234]),
            (int(7), Merge, vec![7, 1234, 50000]),
            (int(7), Strict, vec![7, 1234]),
        ]
        .into_iter()
        .enumerate()
        {
            let mut config = Pod::container(&format!("c{round}{number}"), "sleep 1000");
            config.image.as_mut().unwrap().image.clone_from(&image);
            let context = v1::LinuxContainerSecurityContext {
                run_as_user: int(1000),
                run_as_group: group,
                supplemental_groups: vec![1234],
                supplemental_groups_policy: policy.into(),
                ..Default::default()
            };
            let id = pod
                .create_with(&mut server, with_context(config, context))
                .await
                .unwrap();
            start(&mut server, &id).await;
            let mut groups: Vec<i64> = said(&mut server, &id, &["id", "-G"])
                .await
                .split(' ')
                .map(|group| group.parse().unwrap())
                .collect();
            groups.sort_unstable();
            assert_eq!(groups, expected, "{policy:?} {group:?}");
            // And in the status, as the kernel has them.
            let user = status(&mut server, &id).await.user.unwrap().linux.unwrap();
            assert_eq!(
                (user.uid, user.gid),
                (1000, group.map_or(1001, |group| group.value))
            );
            let mut all = user.supplemental_groups;
            all.push(user.gid);
            all.sort_unstable();
            all.dedup();
            assert_eq!(all, expected, "{policy:?} {group:?}");
        }
    }
    pod.remove(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restrictions_reach_the_process() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("limits")).await;
    let field = |text: &str, name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name).map(str::to_owned));
        line.unwrap().trim().to_owned()
    };
    let context = v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_capabilities: vec!["net_bind_service".to_owned()],
            drop_capabilities: vec!["ALL".to_owned()],
            ..Default::default()
        }),
        no_new_privs: true,
        readonly_rootfs: true,
        seccomp: Some(v1::SecurityProfile::default()),
        masked_paths: vec!["/proc/version".to_owned()],
        readonly_paths: vec!["/dev/shm".to_owned()],
        ..Default::default()
    };
    let config = with_context(Pod::container("locked", "sleep 1000"), context);
    let id = pod.create_with(&mut server, config).await.unwrap();
    start(&mut server, &id).await;
    let process = said(&mut server, &id, &["cat", "/proc/self/status"]).await;
    assert_eq!(field(&process, "NoNewPrivs:"), "1");
    assert_eq!(field(&process, "Seccomp:"), "2");
    assert_eq!(
        field(&process, "CapBnd:"),
        "0000000000000400",
        "net_bind_service alone"
    );
    assert_eq!(said(&mut server, &id, &["cat", "/proc/version"]).await, "");
    let script = "touch /x 2>&1; touch /dev/shm/x 2>&1";
    let refused = said(&mut server, &id, &["sh", "-c", script]).await;
    assert_eq!(
        refused.matches("Read-only file system").count(),
        2,
        "{refused}"
    );

    let directory = tempfile::tempdir().unwrap();
    let profile = directory.path().join("profile.json");
    let rules = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO" }],
    });
    std::fs::write(&profile, rules.to_string()).unwrap();
    let localhost = |path: &str| v1::LinuxContainerSecurityContext {
        seccomp: Some(v1::SecurityProfile {
            profile_type: v1::security_profile::ProfileType::Localhost.into(),
            localhost_ref: path.to_owned(),
        }),
        ..Default::default()
    };
    let config = with_context(
        Pod::container("own", "sleep 1000"),
        localhost(profile.to_str().unwrap()),
    );
    let id = pod.create_with(&mut server, config).await.unwrap();
    start(&mut server, &id).await;
    let refused = said(&mut server, &id, &["sh", "-c", "chmod 400 / 2>&1"]).await;
    assert!(refused.contains("Operation not permitted"), "{refused}");

    // What can't hold is refused at create, with the field.
    let ambient = v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_ambient_capabilities: vec!["NET_ADMIN".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let group = v1::LinuxContainerSecurityContext {
        run_as_group: Some(v1::Int64Value { value: 5 }),
        ..Default::default()
    };
    let missing = localhost("/no/such/profile.json");
    for (name, context, expected) in [
        ("ambient", ambient, "add_ambient_capabilities"),
        ("group", group, "runAsGroup"),
        ("missing", missing, "/no/such/profile.json"),
        ("relative", localhost("p.json"), "must be absolute"),
    ] {
        let config = with_context(Pod::container(name, "true"), context);
        let error = pod.create_with(&mut server, config).await.unwrap_err();
        assert!(error.message().contains(expected), "{error:?}");
    }
    let mut config = Pod::container("cdi", "true");
    config.cdi_devices = vec![v1::CdiDevice {
        name: "vendor.com/gpu=0".to_owned(),
    }];
    // Docker 28 and newer know CDI from the start, and look for the device as the container starts.
    let error = match pod.create_with(&mut server, config).await {
        Ok(container_id) => {
            let request = v1::StartContainerRequest { container_id };
            server.client.start_container(request).await.unwrap_err()
        }
        Err(error) => error,
    };
    assert!(error.message().contains("vendor.com/gpu=0"), "{error:?}");
    pod.remove(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verbose_status_is_what_people_look_for() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("verbose")).await;
    let mut config = Pod::container("web", "sleep 1000");
    config.envs = vec![v1::KeyValue {
        key: "A".to_owned(),
        value: b"b".to_vec(),
    }];
    let id = pod.create_with(&mut server, config).await.unwrap();
    start(&mut server, &id).await;
    let request = v1::ContainerStatusRequest {
        container_id: id.clone(),
        verbose: true,
    };
    let answer = server
        .client
        .container_status(request)
        .await
        .unwrap()
        .into_inner();
    let info: Value = serde_json::from_str(&answer.info["info"]).unwrap();
    assert_eq!(info["sandboxID"], pod.id);
    assert!(info["pid"].as_i64().unwrap() > 1);
    assert_eq!(
        info["runtimeSpec"]["process"]["args"],
        json!(["sh", "-c", "sleep 1000"])
    );
    assert_eq!(info["config"]["metadata"]["name"], "web");
    assert!(
        info["config"]["envs"]
            .as_array()
            .unwrap()
            .contains(&json!({ "key": "A", "value": "b" }))
    );
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: pod.id.clone(),
        verbose: true,
    };
    let answer = server
        .client
        .pod_sandbox_status(request)
        .await
        .unwrap()
        .into_inner();
    let info: Value = serde_json::from_str(&answer.info["info"]).unwrap();
    let namespaces = info["runtimeSpec"]["linux"]["namespaces"]
        .as_array()
        .unwrap();
    assert!(
        namespaces
            .iter()
            .any(|namespace| namespace["type"] == "network")
    );
    tokio::time::timeout(Duration::from_mins(1), pod.remove(&mut server))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn handler_names_a_runtime_of_dockers() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let status = server
        .client
        .status(v1::StatusRequest::default())
        .await
        .unwrap()
        .into_inner();
    let handlers: Vec<_> = status
        .runtime_handlers
        .into_iter()
        .map(|handler| handler.name)
        .collect();
    assert_eq!(handlers[0], "", "the default one");
    assert!(handlers.len() > 1, "{handlers:?}");
    let engine_default = engine.json("GET", "/info", &Value::Null)["DefaultRuntime"].clone();
    let engine_default = engine_default.as_str().unwrap();
    assert!(handlers.iter().any(|handler| handler == engine_default));
    let run = |handler: &str| v1::RunPodSandboxRequest {
        config: Some(Pod::config("handler")),
        runtime_handler: handler.to_owned(),
    };
    let request = run(engine_default);
    let config = request.config.clone().unwrap();
    let answer = server
        .client
        .run_pod_sandbox(request)
        .await
        .unwrap()
        .into_inner();
    let pod = Pod {
        config,
        id: answer.pod_sandbox_id,
    };
    pod.remove(&mut server).await;
    let mut images = ImageServiceClient::new(server.channel().await);
    let mut asks = async |handler: &str| {
        let image = v1::ImageSpec {
            image: "berth.test/busybox:1".to_owned(),
            runtime_handler: handler.to_owned(),
            ..Default::default()
        };
        let request = v1::ImageStatusRequest {
            image: Some(image),
            verbose: false,
        };
        images.image_status(request).await.map(drop)
    };
    asks("docker").await.unwrap();
    let error = asks("no-such").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error:?}");
    let error = server
        .client
        .run_pod_sandbox(run("no-such"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(
        error.message().contains("\"no-such\" not supported"),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn timed_out_command_is_gone_when_the_call_returns() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("timeout")).await;
    let id = pod.create(&mut server, "web", "sleep 1000").await;
    start(&mut server, &id).await;
    let request = v1::ExecSyncRequest {
        container_id: id.clone(),
        cmd: ["sleep", "4321"].map(str::to_owned).to_vec(),
        timeout: 1,
    };
    let error = server.client.exec_sync(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::DeadlineExceeded, "{error:?}");
    let processes = said(&mut server, &id, &["ps"]).await;
    assert!(
        processes.contains("sleep 1000") && !processes.contains("4321"),
        "{processes}"
    );
    pod.remove(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_timed_out_command_left_behind_is_gone_when_the_call_returns() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("orphan")).await;
    let id = pod.create(&mut server, "web", "sleep 1000").await;
    start(&mut server, &id).await;
    // One that holds no output of a command's outlives it.
    let script = "sleep 4322 >/dev/null 2>&1 & exit 0";
    said(&mut server, &id, &["sh", "-c", script]).await;
    let script = "sleep 4321 & exit 0";
    let request = v1::ExecSyncRequest {
        container_id: id.clone(),
        cmd: ["sh", "-c", script].map(str::to_owned).to_vec(),
        timeout: 1,
    };
    let error = server.client.exec_sync(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::DeadlineExceeded, "{error:?}");
    let processes = said(&mut server, &id, &["ps"]).await;
    assert!(
        processes.contains("4322") && !processes.contains("4321"),
        "{processes}"
    );
    pod.remove(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_started_is_told_within_the_timeout_of_a_probe() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("nosuch")).await;
    let id = pod.create(&mut server, "web", "sleep 1000").await;
    start(&mut server, &id).await;
    let timeout = testkit::allowance(Duration::from_secs(1)).as_secs();
    let request = v1::ExecSyncRequest {
        container_id: id.clone(),
        cmd: vec!["/no/such/program".to_owned()],
        timeout: timeout.cast_signed(),
    };
    let answer = server.client.exec_sync(request).await.unwrap();
    let exit_code = answer.into_inner().exit_code;
    assert!(matches!(exit_code, 126 | 127), "{exit_code}");
    pod.remove(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_dockers_own_directory_is_mounted_read_only() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("root")).await;
    let mut config = Pod::container("web", "sleep 1000");
    config.mounts = vec![v1::Mount {
        host_path: "/".to_owned(),
        container_path: "/host".to_owned(),
        readonly: true,
        ..v1::Mount::default()
    }];
    let id = pod.create_with(&mut server, config).await.unwrap();
    start(&mut server, &id).await;
    let made = said(&mut server, &id, &["sh", "-c", "touch /host/x 2>&1"]).await;
    assert!(made.contains("Read-only file system"), "{made}");
    let shown = status(&mut server, &id).await.mounts;
    assert!(shown[0].readonly && !shown[0].recursive_read_only);
    pod.remove(&mut server).await;
}
