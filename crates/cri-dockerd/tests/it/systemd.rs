//! As a service: a socket that is handed over, and words to the manager (SYS-03 to SYS-05).

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Stdio;

use cri_api::v1;
use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use rustix::process::{Pid, Signal, kill_process};
use testkit::DockerEngine;

use crate::harness::{SOON, channel, engine_with_image, program};

#[tokio::test(flavor = "multi_thread")]
async fn inherited_socket_is_served_and_outlives_the_process() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cri.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let notify = directory.path().join("notify.sock");
    let manager = UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let arguments = [
        "--network-plugin=".to_owned(),
        format!("--docker-endpoint={}", engine.host()),
        "--container-runtime-endpoint=fd://".to_owned(),
        format!(
            "--cri-dockerd-root-directory={}",
            directory.path().join("root").display()
        ),
    ];
    let program = program(&arguments);
    // As systemd does it: the socket is descriptor 3, and the variables name the process.
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\" 3<&0 0</dev/null";
    #[expect(clippy::disallowed_methods, reason = "stands in for systemd")]
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", script])
        .arg(program.get_program())
        .args(program.get_args())
        .envs(
            program
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("NOTIFY_SOCKET", &notify)
        .stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())));
    let heard = || {
        let mut buffer = [0; 256];
        let size = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..size]).into_owned()
    };

    // Twice: while nobody serves, callers wait instead of failing (SYS-06).
    for _ in 0..2 {
        let mut process = shell.spawn().unwrap();
        assert_eq!(tokio::task::block_in_place(heard), "READY=1");
        let mut client = RuntimeServiceClient::new(channel(&path).await);
        let version = client.version(v1::VersionRequest::default()).await.unwrap();
        assert_eq!(version.into_inner().runtime_name, "docker");
        let id = i32::try_from(process.id()).unwrap();
        // HUP reloads and does not end it.
        for signal in [Signal::HUP, Signal::TERM] {
            kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
        }
        assert_eq!(tokio::task::block_in_place(heard), "STOPPING=1");
        let ended = tokio::task::block_in_place(|| process.wait().unwrap());
        assert!(ended.success(), "{ended:?}");
        assert!(path.exists(), "the socket is the manager's");
    }
}
