use super::*;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\n\
                   spec: {containers: [{name: c, image: busybox}]}\n";

fn manifest_of(name: &str) -> String {
    POD.replace("NAME", name)
}

struct Running {
    directory: tempfile::TempDir,
    sets: watch::Receiver<SourceSet>,
    files: watch::Receiver<Vec<ManifestFile>>,
    _tasks: daemon::TaskGroup,
}

fn start(check_frequency: Duration) -> Running {
    let directory = tempfile::tempdir().unwrap();
    start_at(directory, Path::to_path_buf, check_frequency)
}

fn start_at(
    directory: tempfile::TempDir,
    path: impl Fn(&Path) -> PathBuf,
    check_frequency: Duration,
) -> Running {
    let shown = watch::Sender::default();
    let files = shown.subscribe();
    let config = FileSourceConfig {
        path: path(directory.path()),
        check_frequency,
        node_name: "node".to_owned(),
    };
    let (source, sets) = FileSource::new(config, shown);
    let tasks = daemon::TaskGroup::new("test");
    let token = tasks.token().clone();
    tasks.spawn("file source", async move { source.run(token).await });
    Running {
        directory,
        sets,
        files,
        _tasks: tasks,
    }
}

impl Running {
    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    async fn names_become(&mut self, expected: &[&str]) {
        let names = |set: &SourceSet| -> Vec<String> {
            set.iter()
                .flat_map(|pods| pods.iter())
                .map(|pod| pod.metadata.name.clone().unwrap())
                .collect()
        };
        let arrived = tokio::time::timeout(
            Duration::from_mins(1),
            self.sets
                .wait_for(|set| set.is_some() && names(set) == expected),
        )
        .await
        .is_ok();
        let last = names(&self.sets.borrow());
        assert!(arrived, "expected {expected:?}, last {last:?}");
    }

    /// Name of the file, of its pod, and how the first of its errors begins.
    async fn files_become(&mut self, expected: &[(&str, Option<&str>, &str)]) {
        let is_as_expected =
            |file: &ManifestFile, (name, pod, error): &(&str, Option<&str>, &str)| {
                let shown = file
                    .pod
                    .as_ref()
                    .and_then(|pod| pod.metadata.name.as_deref());
                let told = file.errors.first().map_or("", String::as_str);
                file.path.ends_with(name)
                    && shown == *pod
                    && told.starts_with(error)
                    && told.is_empty() == error.is_empty()
            };
        let arrived = tokio::time::timeout(
            Duration::from_mins(1),
            self.files.wait_for(|files| {
                files.len() == expected.len()
                    && files
                        .iter()
                        .zip(expected)
                        .all(|(a, b)| is_as_expected(a, b))
            }),
        )
        .await
        .is_ok();
        assert!(
            arrived,
            "expected {expected:?}, last {:?}",
            self.files.borrow()
        );
    }
}

const NEVER: Duration = Duration::from_hours(1);

#[tokio::test]
async fn files_become_pods_when_written_and_go_when_removed() {
    let mut running = start(NEVER);
    running.names_become(&[]).await;
    running.write("b.yaml", &manifest_of("b"));
    running.write("a.json", &manifest_of("a"));
    running.names_become(&["a-node", "b-node"]).await;
    fs::remove_file(running.directory.path().join("b.yaml")).unwrap();
    running.names_become(&["a-node"]).await;
}

#[tokio::test]
async fn a_broken_edit_keeps_the_last_good_pod_until_it_is_mended() {
    let mut running = start(Duration::from_millis(20));
    running.write("a.yaml", &manifest_of("a"));
    running.names_become(&["a-node"]).await;
    running.write("a.yaml", "kind: [");
    running.write("b.yaml", &manifest_of("b"));
    running.names_become(&["a-node", "b-node"]).await;
    let broken = ("a.yaml", Some("a-node"), "couldn't parse as pod: ");
    let good = ("b.yaml", Some("b-node"), "");
    running.files_become(&[broken, good]).await;
    running.write("a.yaml", &manifest_of("A"));
    let invalid = ("a.yaml", Some("a-node"), "metadata.name: ");
    running.files_become(&[invalid, good]).await;
    running.write("a.yaml", &manifest_of("mended"));
    running.names_become(&["b-node", "mended-node"]).await;
    let mended = ("a.yaml", Some("mended-node"), "");
    running.files_become(&[mended, good]).await;
}

#[tokio::test]
async fn what_gives_no_pod_is_shown_with_the_reason() {
    let mut running = start(Duration::from_millis(20));
    running.write("1.yaml", &manifest_of("a"));
    running.write("2.yaml", &manifest_of("a"));
    running.write("3.yaml", "kind: [");
    fs::create_dir(running.directory.path().join("4")).unwrap();
    let second = running.directory.path().join("2.yaml");
    let first = format!("{} names the same pod", second.display());
    let fourth = "not a regular file: a directory (sub-directories are not read)";
    running
        .files_become(&[
            ("1.yaml", None, &first),
            ("2.yaml", Some("a-node"), ""),
            ("3.yaml", None, "couldn't parse as pod: "),
            ("4", None, fourth),
        ])
        .await;
}

#[tokio::test]
async fn of_two_files_with_one_uid_the_later_is_used_and_the_other_told_of() {
    let mut running = start(Duration::from_millis(20));
    let with_uid = |name: &str| manifest_of(name).replace("metadata: {", "metadata: {uid: one, ");
    running.write("1.yaml", &with_uid("a"));
    running.write("2.yaml", &with_uid("b"));
    let second = running.directory.path().join("2.yaml");
    let why = format!("{} has the same metadata.uid", second.display());
    running
        .files_become(&[("1.yaml", None, &why), ("2.yaml", Some("b-node"), "")])
        .await;
    running.names_become(&["b-node"]).await;
    fs::remove_file(second).unwrap();
    running.names_become(&["a-node"]).await;
}

#[tokio::test]
async fn a_vanished_directory_keeps_its_pods() {
    let outer = tempfile::tempdir().unwrap();
    fs::create_dir(outer.path().join("m")).unwrap();
    fs::write(outer.path().join("m/a.yaml"), manifest_of("a")).unwrap();
    let mut running = start_at(outer, |path| path.join("m"), NEVER);
    running.names_become(&["a-node"]).await;
    let away = running.directory.path().join("away");
    fs::rename(running.directory.path().join("m"), &away).unwrap();
    fs::write(away.join("b.yaml"), manifest_of("b")).unwrap();
    running.names_become(&["a-node"]).await;
    let gone = ("m", None, "No such file or directory");
    let a = ("a.yaml", Some("a-node"), "");
    running.files_become(&[gone, a]).await;
    fs::rename(&away, running.directory.path().join("m")).unwrap();
    running.names_become(&["a-node", "b-node"]).await;
    running
        .files_become(&[a, ("b.yaml", Some("b-node"), "")])
        .await;
}

#[tokio::test]
async fn of_two_files_with_one_pod_name_the_later_wins_and_the_earlier_takes_over() {
    let mut running = start(NEVER);
    running.write("1.yaml", &manifest_of("a"));
    running.names_become(&["a-node"]).await;
    let first = running.sets.borrow().as_ref().unwrap()[0].clone();
    running.write("2.yaml", &manifest_of("a"));
    let changed = running.sets.changed();
    tokio::time::timeout(Duration::from_secs(10), changed)
        .await
        .unwrap()
        .unwrap();
    let second = running.sets.borrow().as_ref().unwrap()[0].clone();
    assert_ne!(first.metadata.uid, second.metadata.uid);
    fs::remove_file(running.directory.path().join("2.yaml")).unwrap();
    tokio::time::timeout(Duration::from_secs(10), running.sets.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        running.sets.borrow().as_ref().unwrap()[0].metadata.uid,
        first.metadata.uid
    );
}

#[tokio::test]
async fn a_single_file_may_be_the_whole_source() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("one.yaml"), manifest_of("one")).unwrap();
    fs::write(directory.path().join("two.yaml"), manifest_of("two")).unwrap();
    let mut running = start_at(directory, |path| path.join("one.yaml"), NEVER);
    running.names_become(&["one-node"]).await;
    running.write("one.yaml", &manifest_of("uno"));
    running.names_become(&["uno-node"]).await;
}

#[test]
fn a_file_that_changed_within_this_tick_is_not_known_yet() {
    let stamp = Stamp {
        device: 1,
        inode: 2,
        bytes: 3,
        changed: (100, 999_000_000),
    };
    let at = |seconds, millis: i32| jiff::Timestamp::new(seconds, millis * 1_000_000).unwrap();
    for (now, known) in [
        (at(100, 999), false),
        (at(101, 9), false),
        (at(101, 20), true),
        (at(90, 0), false),
    ] {
        assert_eq!(stamp.tells_later_writes(now), known, "{now}");
    }
}

#[tokio::test]
async fn a_linked_file_is_read_though_nobody_closes_it() {
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("real"), manifest_of("a")).unwrap();
    let mut running = start(NEVER);
    running.names_become(&[]).await;
    let link = running.directory.path().join("a.yaml");
    std::os::unix::fs::symlink(elsewhere.path().join("real"), link).unwrap();
    running.names_become(&["a-node"]).await;
}

#[tokio::test]
async fn half_a_manifest_is_not_taken_for_a_whole_one() {
    use std::io::Write;
    let mut running = start(NEVER);
    running.write("a.yaml", &manifest_of("a"));
    running.names_become(&["a-node"]).await;
    // Anew and in the place of a known one, both open while another one is finished.
    let open = |name: &str| fs::File::create(running.directory.path().join(name)).unwrap();
    let mut rewritten = open("a.yaml");
    let mut fresh = open("c.yaml");
    rewritten.write_all(manifest_of("half").as_bytes()).unwrap();
    fresh.write_all(manifest_of("fresh").as_bytes()).unwrap();
    running.write("b.yaml", &manifest_of("b"));
    running.names_become(&["a-node", "b-node"]).await;
    rewritten.write_all(b"# done\n").unwrap();
    drop(rewritten);
    running.names_become(&["b-node", "half-node"]).await;
    drop(fresh);
    running
        .names_become(&["b-node", "fresh-node", "half-node"])
        .await;
}

#[tokio::test]
async fn a_file_that_is_never_closed_is_read_at_the_check_interval() {
    use std::io::Write;
    let mut running = start(Duration::from_millis(20));
    running.names_become(&[]).await;
    let mut open = fs::File::create(running.directory.path().join("a.yaml")).unwrap();
    open.write_all(manifest_of("a").as_bytes()).unwrap();
    running.names_become(&["a-node"]).await;
}

#[tokio::test]
async fn a_fifo_a_loop_and_a_directory_do_not_stop_the_others() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("sub")).unwrap();
    let path = directory.path();
    rustix_mkfifo(&path.join("fifo"));
    std::os::unix::fs::symlink(path.join("loop"), path.join("loop")).unwrap();
    fs::write(path.join("z.yaml"), manifest_of("z")).unwrap();
    let mut running = start_at(directory, Path::to_path_buf, NEVER);
    running.names_become(&["z-node"]).await;
}

fn rustix_mkfifo(path: &Path) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
}

#[tokio::test]
async fn hostile_files_do_not_stop_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    let mut bomb = "a0: &a0 [x]\n".to_owned();
    for n in 1..=12 {
        let before = vec![format!("*a{}", n - 1); 12].join(",");
        bomb.extend([format!("a{n}: &a{n} [{before}]\n")]);
    }
    write("bomb", bomb.as_bytes());
    write("deep", "[".repeat(200_000).as_bytes());
    write(
        "latin",
        b"apiVersion: v1\nkind: Pod\nmetadata: {name: \xe4}\n",
    );
    write("large", &vec![b'#'; 11 * 1024 * 1024]);
    write("nothing", b"");
    write("zeros", &vec![0; 1024 * 1024]);
    let annotated = manifest_of("annotated").replace(
        "{name: annotated}",
        &format!(
            "{{name: annotated, annotations: {{a: {}}}}}",
            "x".repeat(300 * 1024)
        ),
    );
    write("annotated", annotated.as_bytes());
    std::os::unix::fs::symlink("/dev/zero", directory.path().join("endless")).unwrap();
    std::os::unix::fs::symlink("/dev/null", directory.path().join("null")).unwrap();
    write("a", manifest_of("a").as_bytes());
    write("z", manifest_of("z").as_bytes());
    let mut running = start_at(directory, Path::to_path_buf, NEVER);
    running.names_become(&["a-node", "z-node"]).await;
}

#[tokio::test]
async fn a_thousand_files_become_a_thousand_pods() {
    let directory = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..1000).map(|number| format!("p{number:03}")).collect();
    for name in &names {
        fs::write(directory.path().join(name), manifest_of(name)).unwrap();
    }
    let mut running = start_at(directory, Path::to_path_buf, NEVER);
    let expected: Vec<String> = names.iter().map(|name| format!("{name}-node")).collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    running.names_become(&expected).await;
}

/// Upstream, `extractFromFile`: what its log line has behind `err=`.
#[test]
fn src_05_a_bad_file_is_told_in_upstreams_words() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.yaml");
    let source = StaticSource {
        node_name: "node".to_owned(),
        origin: Origin::File("/m/x.yaml".to_owned()),
        first_seen: jiff::Timestamp::UNIX_EPOCH,
    };
    let refused = |text: &str| {
        fs::write(&path, text).unwrap();
        ErrorChain(&load(&path, &source).unwrap_err()).to_string()
    };
    assert_eq!(
        refused("{a: 1}"),
        "/m/x.yaml: couldn't parse as pod(couldn't get version/kind; json parse error: invalid character 'a' \
         looking for beginning of object key string), please check config file"
    );
    assert_eq!(
        refused(&manifest_of("a").replace("name: c, ", "")),
        "invalid pod: [spec.containers[0].name: Required value]"
    );
    assert_eq!(
        refused(&manifest_of("''")),
        "invalid pod: name is needed for the pod"
    );
}
