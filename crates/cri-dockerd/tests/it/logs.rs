//! Logs of real containers (LOG-04 to LOG-10).

use std::time::Duration;

use cri_api::v1;
use cri_api::v1::ContainerState;
use testkit::DockerEngine;

use crate::harness::{Pod, Server, engine_with_image, reaches, start};

/// Docker splits longer lines.
const PIECE: usize = 16 * 1024;
/// About what Docker's own copy holds twice; the default bound is 2 x 16 MiB.
const LINES: u64 = 150_000;

/// Runs a script to its end and answers its log.
async fn log_of(server: &mut Server, script: &str) -> String {
    let logs = tempfile::tempdir().unwrap();
    let mut config = Pod::config("logs");
    config.log_directory = logs.path().display().to_string();
    let pod = Pod::run(server, config).await;
    let mut config = Pod::container("c", script);
    "c.log".clone_into(&mut config.log_path);
    let id = pod.create_with(server, config).await.unwrap();
    start(server, &id).await;
    assert!(
        logs.path().join("c.log").exists(),
        "there when the start returns"
    );
    reaches(server, &id, ContainerState::ContainerExited).await;
    // EXITED is shown when the log is complete.
    let log = std::fs::read_to_string(logs.path().join("c.log")).unwrap();
    pod.remove(server).await;
    log
}

/// Stream, tag and text of each line.
fn parts(log: &str) -> Vec<(&str, &str, &str)> {
    let part = |line| {
        let mut words = str::splitn(line, 4, ' ').skip(1);
        (
            words.next().unwrap(),
            words.next().unwrap(),
            words.next().unwrap(),
        )
    };
    log.lines().map(part).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_every_kind_come_out_as_the_cri_says() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    // A line of two and a half pieces, an empty one, bytes that are no text, stderr, and no newline
    // at the end.
    let script = "head -c 40960 /dev/zero | tr '\\0' x; echo; echo; printf 'a\\377b\\n'; \
                  echo err >&2; printf end";
    let log = Box::pin(log_of(&mut server, script)).await;
    let mut parts = parts(&log);
    // Docker reads two pipes: which comes first is its own affair.
    parts.sort_by_key(|(stream, _, _)| *stream == "stderr");
    let tags: Vec<_> = parts
        .iter()
        .map(|(stream, tag, text)| (*stream, *tag, text.len()))
        .collect();
    assert_eq!(
        tags,
        [
            ("stdout", "P", PIECE),
            ("stdout", "P", PIECE),
            ("stdout", "F", 40960 - 2 * PIECE),
            ("stdout", "F", 0),
            ("stdout", "F", "a\u{fffd}b".len()),
            ("stdout", "P", 3),
            ("stderr", "F", 3),
        ]
    );
    assert_eq!((parts[4].2, parts[5].2), ("a\u{fffd}b", "end"));
    assert!(log.ends_with('\n'));
}

#[tokio::test(flavor = "multi_thread")]
async fn burst_loses_nothing_that_docker_recorded() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let before = cpu_ticks(server.pid());
    // An end is held back for two seconds at most: a slow machine gets what it can copy in those.
    let lines = LINES / testkit::allowance(Duration::from_secs(1)).as_secs();
    let log = Box::pin(log_of(&mut server, &format!("seq 1 {lines}"))).await;
    let used = cpu_ticks(server.pid()) - before;
    let numbers = log.lines().map(|line| line.rsplit(' ').next().unwrap());
    let expected = (1..=lines).map(|number| number.to_string());
    assert!(numbers.eq(expected), "{} lines", log.lines().count());
    // 100 000 lines a second for half a core is 5 us each; ticks are hundredths of a second, and the
    // tests are built to be quick to build.
    assert!(used < 300, "{used} ticks for {lines} lines");
    let request = v1::VersionRequest::default();
    server.client.version(request).await.unwrap();
}

/// CPU time of a process in clock ticks.
fn cpu_ticks(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = text
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
