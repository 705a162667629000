//! Histories of a container, a Docker that rotates, a kubelet that rotates, and a copier that is
//! killed at any byte.

use std::{fmt::Write as _, fs, io::Write as _, path::Path, time::Duration};

use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};

use super::*;
use crate::engine::StreamKind;

/// Size at which the model's Docker begins a new file.
const ROTATE_AT: u64 = 1500;

/// A container and its engine: writes as Docker's json-file driver does, with two files.
struct Docker {
    path: PathBuf,
    /// What the CRI log must be in the end.
    expected: String,
    clocks: [u64; 2],
    unfinished: [bool; 2],
    rotations: usize,
    /// In which files lie the first and last of the latest records with one time, per stream.
    span: [(usize, usize); 2],
}

impl Docker {
    fn new(directory: &Path) -> Self {
        let path = directory.join("c-json.log");
        Self {
            path,
            expected: String::new(),
            clocks: [0; 2],
            unfinished: [false; 2],
            rotations: 0,
            span: [(0, 0); 2],
        }
    }

    fn write(&mut self, stream: StreamKind, ticks: u64, text: &str, newline: bool) {
        let clock = &mut self.clocks[stream as usize];
        let before = *clock;
        let unfinished = &mut self.unfinished[stream as usize];
        // The pieces of a line carry the time of the first.
        *clock += if *unfinished { 0 } else { ticks };
        *unfinished = !newline;
        let span = &mut self.span[stream as usize];
        *span = (
            if *clock == before {
                span.0
            } else {
                self.rotations
            },
            self.rotations,
        );
        let stamp = format!("2026-11-22T16:49:05.{clock:09}");
        let stamp = stamp.trim_end_matches('0').trim_end_matches('.');
        let name = if stream == StreamKind::Stdout {
            "stdout"
        } else {
            "stderr"
        };
        let log = if newline {
            format!("{text}\n")
        } else {
            text.to_owned()
        };
        let line = serde_json::json!({ "log": log, "stream": name, "time": format!("{stamp}Z") });
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)
            .unwrap();
        writeln!(file, "{line}").unwrap();
        let tag = if newline { 'F' } else { 'P' };
        writeln!(
            self.expected,
            "2026-11-22T16:49:05.{clock:09}Z {name} {tag} {text}"
        )
        .unwrap();
    }

    /// Whether Docker begins a new file. Not while that drops the beginning of a line that goes
    /// on: such lines are over 16 MiB, and their pieces can't be counted.
    fn is_full(&self) -> bool {
        let cut = self
            .span
            .iter()
            .any(|(first, last)| first < last && *last + 1 > self.rotations);
        !cut && fs::metadata(&self.path).is_ok_and(|file| file.len() >= ROTATE_AT)
    }

    fn rotate(&mut self) {
        self.rotations += 1;
        fs::rename(&self.path, self.path.with_extension("log.1")).unwrap();
        fs::write(&self.path, "").unwrap();
    }
}

/// The copier: there or killed.
struct Copier {
    docker: PathBuf,
    log: PathBuf,
    tail: Option<Tail>,
    born: Option<Stamp>,
    scratch: Scratch,
    kubelet_rotations: usize,
    /// Docker's rotations when it last looked; `None` since it was killed.
    seen: Option<usize>,
}

impl Copier {
    fn new(directory: &Path, docker: &Docker) -> Self {
        Self {
            docker: docker.path.clone(),
            log: directory.join("pod/0.log"),
            tail: None,
            born: None,
            scratch: Scratch {
                read: vec![0; 700],
                lines: Vec::new(),
            },
            kubelet_rotations: 0,
            seen: None,
        }
    }

    fn tail(&mut self) -> &mut Tail {
        let open = || Tail::open(self.docker.clone(), &self.log, self.born).unwrap();
        self.tail.get_or_insert_with(open)
    }

    fn sweep(&mut self, docker: &Docker) {
        self.tail();
        let tail = self.tail.as_mut().unwrap();
        while tail.sweep(&mut self.scratch, 1, News::Anything).unwrap() == Progress::More {}
        self.seen = Some(docker.rotations);
    }

    /// Killed in the middle of copying: of what it last wrote, `part` of 100 reached the file.
    fn kill(&mut self, docker: &Docker, part: u64) {
        let length = |log: &Path| fs::metadata(log).map_or(0, |file| file.len());
        self.tail();
        let before = length(&self.log);
        self.sweep(docker);
        let after = length(&self.log);
        self.seen = None;
        self.tail = None;
        let file = fs::OpenOptions::new().write(true).open(&self.log).unwrap();
        file.set_len(before + (after - before) * part / 100)
            .unwrap();
    }

    fn rotate(&mut self) {
        self.tail();
        self.kubelet_rotations += 1;
        let rotated = format!("0.log.20261122-{:06}", self.kubelet_rotations);
        fs::rename(&self.log, self.log.with_file_name(rotated)).unwrap();
        self.tail().reopen().unwrap();
        assert!(self.log.exists());
    }

    fn text(&self) -> String {
        let mut paths = super::super::sink::rotated(&self.log).unwrap();
        paths.reverse();
        paths.push(self.log.clone());
        paths
            .iter()
            .map(|path| fs::read_to_string(path).unwrap())
            .collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write {
        stderr: bool,
        ticks: u64,
        text: String,
        newline: bool,
    },
    Sweep,
    Kill {
        part: u64,
    },
    KubeletRotates,
}

fn step() -> impl Strategy<Value = Step> {
    let text = prop_oneof!["[a-c é\"\\\\]{0,6}", "x{300}"];
    prop_oneof![
        8 => (any::<bool>(), 0..3_u64, text, prop::bool::weighted(0.7))
            .prop_map(|(stderr, ticks, text, newline)| Step::Write { stderr, ticks, text, newline }),
        2 => Just(Step::Sweep),
        2 => (0..=100_u64).prop_map(|part| Step::Kill { part }),
        1 => Just(Step::KubeletRotates),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_lost_or_repeated_whenever_it_is_killed(steps in prop::collection::vec(step(), 0..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut docker = Docker::new(dir.path());
        let mut copier = Copier::new(dir.path(), &docker);
        for step in steps {
            match step {
                Step::Write { stderr, ticks, text, newline } => {
                    if docker.is_full() {
                        // The backlog is two files: Docker drops one that was never looked at
                        // only in another test.
                        if copier.seen != Some(docker.rotations) {
                            copier.sweep(&docker);
                        }
                        docker.rotate();
                    }
                    let stream = if stderr { StreamKind::Stderr } else { StreamKind::Stdout };
                    docker.write(stream, ticks, &text, newline);
                }
                Step::Sweep => copier.sweep(&docker),
                Step::Kill { part } => copier.kill(&docker, part),
                Step::KubeletRotates => copier.rotate(),
            }
        }
        copier.sweep(&docker);
        prop_assert_eq!(copier.text(), docker.expected);
        let tally = copier.tail().take_tally();
        prop_assert_eq!(tally, Tally::default());
    }
}

#[test]
fn container_that_takes_over_a_log_misses_no_lines_and_marks_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut docker = Docker::new(dir.path());
    let mut copier = Copier::new(dir.path(), &docker);
    let before = "2026-11-22T16:49:04.999999999Z stdout F of the container before\n";
    fs::create_dir_all(copier.log.parent().unwrap()).unwrap();
    fs::write(&copier.log, before).unwrap();
    copier.born = Stamp::parse(b"2026-11-22T16:49:05Z");
    docker.write(StreamKind::Stderr, 1, "first", true);
    docker.write(StreamKind::Stdout, 1, "second", true);
    copier.sweep(&docker);
    // Another cri-dockerd goes on.
    copier.tail = None;
    docker.write(StreamKind::Stdout, 1, "third", true);
    copier.sweep(&docker);
    assert_eq!(copier.text(), format!("{before}{}", docker.expected));
    assert_eq!(copier.tail().take_tally(), Tally::default());
}

#[test]
fn clock_that_was_set_back_behind_the_creation_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut docker = Docker::new(dir.path());
    let mut copier = Copier::new(dir.path(), &docker);
    copier.born = Stamp::parse(b"2026-11-22T17:49:05Z");
    docker.write(StreamKind::Stdout, 1, "first", true);
    copier.sweep(&docker);
    copier.tail = None;
    docker.write(StreamKind::Stdout, 1, "second", true);
    copier.sweep(&docker);
    assert_eq!(copier.text(), docker.expected);
}

#[test]
fn lines_that_docker_dropped_are_marked_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut docker = Docker::new(dir.path());
    let mut copier = Copier::new(dir.path(), &docker);
    docker.write(StreamKind::Stdout, 1, "first", true);
    copier.sweep(&docker);
    copier.tail = None;
    for text in ["lost", "kept", "last"] {
        docker.rotate();
        docker.write(StreamKind::Stdout, 1, text, true);
    }
    copier.sweep(&docker);
    assert_eq!(copier.tail().take_tally().gaps, 1);
    let lines: Vec<String> = copier.text().lines().map(ToOwned::to_owned).collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(
        lines[0].ends_with("first") && lines[2].ends_with("kept"),
        "{lines:#?}"
    );
    assert!(
        lines[1].contains("stderr F [cri-dockerd: lines are missing here"),
        "{lines:#?}"
    );

    // Killed right behind the marker: it stands for no record.
    copier.tail = None;
    let text = fs::read_to_string(&copier.log).unwrap();
    let end = text
        .find("missing here")
        .and_then(|at| text[at..].find('\n').map(|n| at + n + 1));
    fs::write(&copier.log, &text[..end.unwrap()]).unwrap();
    copier.sweep(&docker);
    assert!(
        copier
            .text()
            .ends_with("kept\n2026-11-22T16:49:05.000000004Z stdout F last\n")
    );
}

#[test]
fn files_that_docker_drops_while_it_is_busy_are_read_to_their_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut docker = Docker::new(dir.path());
    let mut copier = Copier::new(dir.path(), &docker);
    for round in 0..4 {
        docker.write(StreamKind::Stdout, 1, &format!("line {round}"), true);
        copier.tail().notice_rotation().unwrap();
        docker.rotate();
        copier.tail().notice_rotation().unwrap();
    }
    copier.sweep(&docker);
    assert_eq!(copier.text(), docker.expected);
}

#[test]
fn file_that_is_emptied_in_place_is_read_from_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut docker = Docker::new(dir.path());
    let mut copier = Copier::new(dir.path(), &docker);
    docker.write(StreamKind::Stdout, 1, "a long first line", true);
    copier.sweep(&docker);
    fs::write(&docker.path, "").unwrap();
    docker.write(StreamKind::Stdout, 1, "next", true);
    copier.sweep(&docker);
    assert_eq!(copier.text(), docker.expected);
}

#[test]
fn lines_that_are_no_records_are_counted_and_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut docker = Docker::new(dir.path());
    let mut copier = Copier::new(dir.path(), &docker);
    docker.write(StreamKind::Stdout, 1, "one", true);
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(&docker.path)
        .unwrap();
    file.write_all(b"garbage\n").unwrap();
    file.write_all(&vec![b'x'; 3 * MAX_LINE]).unwrap();
    file.write_all(b"\n").unwrap();
    docker.write(StreamKind::Stdout, 1, "two", true);
    copier.sweep(&docker);
    assert_eq!(copier.text(), docker.expected);
    assert!(copier.tail().take_tally().malformed >= 2);
}

#[test]
fn links_of_the_original_are_replaced_by_the_whole_history() {
    let dir = tempfile::tempdir().unwrap();
    let mut docker = Docker::new(dir.path());
    docker.write(StreamKind::Stderr, 1, "from before", true);
    let mut copier = Copier::new(dir.path(), &docker);
    fs::create_dir(dir.path().join("pod")).unwrap();
    std::os::unix::fs::symlink(&docker.path, &copier.log).unwrap();
    copier.sweep(&docker);
    assert_eq!(copier.text(), docker.expected);
}

#[test]
fn another_file_is_looked_for_only_when_there_may_be_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut docker = Docker::new(dir.path());
    let mut copier = Copier::new(dir.path(), &docker);
    docker.write(StreamKind::Stdout, 1, "first", true);
    copier.sweep(&docker);
    docker.write(StreamKind::Stdout, 1, "second", true);
    let before = docker.expected.clone();
    docker.rotate();
    docker.write(StreamKind::Stdout, 1, "third", true);
    let mut scratch = Scratch::default();
    for (news, expected) in [
        (News::Lines, &before),
        (News::Lines, &before),
        (News::Anything, &docker.expected),
    ] {
        let progress = copier.tail().sweep(&mut scratch, usize::MAX, news);
        assert_eq!(progress.unwrap(), Progress::CaughtUp);
        assert_eq!(copier.text(), *expected);
    }
}

#[test]
fn reading_is_not_noted_by_the_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let mut docker = Docker::new(dir.path());
    let mut copier = Copier::new(dir.path(), &docker);
    docker.write(StreamKind::Stdout, 1, "first", true);
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1);
    let times = fs::FileTimes::new().set_accessed(long_ago);
    let file = fs::File::options().append(true).open(&docker.path).unwrap();
    file.set_times(times).unwrap();
    copier.sweep(&docker);
    assert_eq!(copier.text(), docker.expected);
    assert_eq!(file.metadata().unwrap().accessed().unwrap(), long_ago);
}

/// Not a benchmark, but an upper bound that only a mistake in the order of work would pass.
#[test]
fn hundred_thousand_lines_take_well_under_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c-json.log");
    let text = "x".repeat(80);
    let mut lines = String::new();
    for n in 0..100_000 {
        writeln!(
            lines,
            r#"{{"log":"{text}\n","stream":"stdout","time":"2026-11-22T16:49:05.{n:09}Z"}}"#
        )
        .unwrap();
    }
    fs::write(&path, lines).unwrap();
    let mut tail = Tail::open(path, &dir.path().join("0.log"), None).unwrap();
    let spent = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let before = spent();
    while tail
        .sweep(&mut Scratch::default(), usize::MAX, News::Anything)
        .unwrap()
        == Progress::More
    {}
    let spent = spent().saturating_sub(before);
    let limit = testkit::allowance(Duration::from_secs(1));
    assert!(spent < limit, "{spent:?}");
}
