//! The pump as a whole: real files, real inotify, no Docker.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use daemon::TaskGroup;
use tempfile::TempDir;

use super::*;
use crate::{engine::EngineConfig, paths::SameHost};

/// A root of Docker's, a directory of the kubelet's, and a pump between them.
struct Fixture {
    dir: TempDir,
    group: TaskGroup,
    pump: LogPump,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let group = TaskGroup::new("test");
        let pump = Self::start(&group, &dir.path().join("no-docker.sock"));
        Self { dir, group, pump }
    }

    fn start(group: &TaskGroup, socket: &Path) -> LogPump {
        let config = EngineConfig {
            endpoint: format!("unix://{}", socket.display()),
            request_timeout: Duration::from_secs(5),
        };
        let engine = Engine::new(&config).unwrap();
        LogPump::start(
            engine,
            Arc::new(SameHost),
            &group.spawner(),
            &Metrics::new(),
        )
        .unwrap()
    }

    fn docker_log(&self, id: &str) -> PathBuf {
        let dir = self.dir.path().join(id);
        fs::create_dir_all(&dir).unwrap();
        dir.join(format!("{id}-json.log"))
    }

    fn log(&self, id: &str) -> PathBuf {
        self.dir.path().join(format!("pods/{id}/0.log"))
    }

    fn follow(&self, id: &str, running: bool) {
        let (log, docker) = (self.log(id), self.docker_log(id));
        self.pump.started(
            id,
            LogOf {
                path: log.to_str().unwrap(),
                docker: docker.to_str().unwrap(),
                tty: false,
                running,
                created_at: 0,
            },
        );
    }

    fn say(&self, id: &str, number: usize) {
        let path = self.docker_log(id);
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        let line = format!(
            "{{\"log\":\"{number}\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-22T16:49:05.{number:09}Z\"}}\n"
        );
        file.write_all(line.as_bytes()).unwrap();
    }

    async fn drained(&self, id: &str) {
        tokio::time::timeout(Duration::from_secs(20), self.pump.drained(id))
            .await
            .expect("drains");
    }
}

fn expected(numbers: std::ops::Range<usize>) -> String {
    numbers.fold(String::new(), |mut lines, n| {
        writeln!(lines, "2026-11-22T16:49:05.{n:09}Z stdout F {n}").unwrap();
        lines
    })
}

/// Waits until a file has this content.
async fn has(path: &Path, content: &str) {
    let wait = async {
        while fs::read_to_string(path).ok().as_deref() != Some(content) {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .is_err()
    {
        panic!(
            "{} has {:?}, not {content:?}",
            path.display(),
            fs::read_to_string(path)
        );
    }
}

#[tokio::test]
async fn what_is_said_before_and_after_the_start_is_copied() {
    let t = Fixture::new();
    t.follow("a", true);
    has(&t.log("a"), "").await;
    for n in 0..100 {
        t.say("a", n);
    }
    has(&t.log("a"), &expected(0..100)).await;
    // Docker rotates.
    fs::rename(t.docker_log("a"), t.docker_log("a").with_extension("log.1")).unwrap();
    t.say("a", 100);
    has(&t.log("a"), &expected(0..101)).await;
    t.group.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn ended_container_is_complete_when_drained_returns() {
    let t = Fixture::new();
    t.follow("a", true);
    for n in 0..5000 {
        t.say("a", n);
    }
    t.follow("a", false);
    t.drained("a").await;
    assert_eq!(fs::read_to_string(t.log("a")).unwrap(), expected(0..5000));
    assert!(matches!(
        t.pump.reopen("a").await,
        Err(LogError::NotCopied(_))
    ));
    // Started again by hand: it goes on where it was.
    t.say("a", 5000);
    t.follow("a", true);
    has(&t.log("a"), &expected(0..5001)).await;
    // Nobody waits for the end of what is unknown.
    t.drained("b").await;
}

#[tokio::test]
async fn rotation_by_the_kubelet_splits_the_log_without_a_gap() {
    let t = Fixture::new();
    t.follow("a", true);
    let old = t.log("a").with_file_name("0.log.20261122-164905");
    t.say("a", 0);
    has(&t.log("a"), &expected(0..1)).await;
    fs::rename(t.log("a"), &old).unwrap();
    t.pump.reopen("a").await.unwrap();
    assert!(t.log("a").exists());
    t.say("a", 1);
    has(&t.log("a"), &expected(1..2)).await;
    assert_eq!(fs::read_to_string(old).unwrap(), expected(0..1));
}

#[tokio::test]
async fn next_process_goes_on_where_this_one_stopped() {
    let mut t = Fixture::new();
    t.follow("a", true);
    t.say("a", 0);
    has(&t.log("a"), &expected(0..1)).await;
    let group = std::mem::replace(&mut t.group, TaskGroup::new("next"));
    group.shutdown(Duration::from_secs(5)).await.unwrap();
    t.say("a", 1);
    t.pump = Fixture::start(&t.group, &t.dir.path().join("no-docker.sock"));
    t.follow("a", false);
    t.drained("a").await;
    assert_eq!(fs::read_to_string(t.log("a")).unwrap(), expected(0..2));
}

#[tokio::test]
async fn log_that_can_not_be_opened_is_tried_again() {
    let t = Fixture::new();
    fs::write(t.dir.path().join("pods"), "in the way").unwrap();
    t.follow("a", true);
    t.say("a", 0);
    assert!(t.pump.reopen("a").await.is_err());
    fs::remove_file(t.dir.path().join("pods")).unwrap();
    has(&t.log("a"), &expected(0..1)).await;
}

#[tokio::test]
async fn removed_container_is_let_go_and_its_log_stays() {
    let t = Fixture::new();
    t.follow("a", true);
    t.say("a", 0);
    has(&t.log("a"), &expected(0..1)).await;
    t.pump.removed("a");
    t.drained("a").await;
    assert!(matches!(
        t.pump.reopen("a").await,
        Err(LogError::NotCopied(_))
    ));
    assert_eq!(fs::read_to_string(t.log("a")).unwrap(), expected(0..1));
}

#[tokio::test]
async fn many_containers_are_copied_at_once() {
    let t = Fixture::new();
    let ids: Vec<String> = (0..50).map(|n| format!("c{n}")).collect();
    for id in &ids {
        t.follow(id, true);
    }
    for n in 0..20 {
        for id in &ids {
            t.say(id, n);
        }
    }
    for id in &ids {
        has(&t.log(id), &expected(0..20)).await;
    }
}
