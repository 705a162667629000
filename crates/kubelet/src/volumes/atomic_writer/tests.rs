use kubelet_core::projection::ProjectedFile;
use proptest::prelude::*;

use super::*;

fn payload(files: &[(&str, &str)]) -> Payload {
    files
        .iter()
        .map(|(path, data)| {
            let file = ProjectedFile {
                data: data.as_bytes().to_vec(),
                mode: 0o640,
            };
            ((*path).to_owned(), file)
        })
        .collect()
}

/// What a reader finds behind `..data`.
fn behind_data(volume: &Path) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let data = fs::canonicalize(volume.join(DATA)).ok()?;
    read_files(&data, "", &mut files).ok()?;
    Some(files)
}

fn contents(payload: &Payload) -> BTreeMap<String, Vec<u8>> {
    payload
        .iter()
        .map(|(path, file)| (path.clone(), file.data.clone()))
        .collect()
}

/// Everything at the top, in order.
fn top(volume: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(volume)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn vol_55_layout_is_upstreams() {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path();
    write(
        volume,
        &payload(&[("labels", "a"), ("deep/er/file", "b")]),
        None,
    )
    .unwrap();
    let names = top(volume);
    let [stamp, data, deep, labels] = names.as_slice() else {
        panic!("{names:?}");
    };
    assert_eq!([data, deep, labels], ["..data", "deep", "labels"]);
    let parts: Vec<usize> = stamp[2..].split(['_', '.']).map(str::len).collect();
    assert_eq!(&parts[..6], [4, 2, 2, 2, 2, 2], "{stamp}");
    assert!(parts.len() == 7 && parts[6] > 0);
    let link = |name: &str| fs::read_link(volume.join(name)).unwrap();
    assert_eq!(link("..data"), Path::new(stamp));
    assert_eq!(link("labels"), Path::new("..data/labels"));
    assert_eq!(link("deep"), Path::new("..data/deep"));
    let mode = |path: &str| {
        let mode = fs::metadata(volume.join(path))
            .unwrap()
            .permissions()
            .mode();
        mode & 0o7777
    };
    assert_eq!(
        (mode("labels"), mode("deep/er"), mode(stamp)),
        (0o640, 0o755, 0o755)
    );
    assert_eq!(
        fs::read_to_string(volume.join("deep/er/file")).unwrap(),
        "b"
    );
}

#[test]
fn same_content_is_not_written_again_and_a_lost_link_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let files = payload(&[("a", "1"), ("b", "2")]);
    write(dir.path(), &files, None).unwrap();
    let before = top(dir.path());
    fs::remove_file(dir.path().join("a")).unwrap();
    write(dir.path(), &files, None).unwrap();
    assert_eq!(top(dir.path()), before);
}

#[test]
fn names_that_are_gone_lose_their_links_and_places_of_mounts_stay() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("nested")).unwrap();
    write(dir.path(), &payload(&[("a", "1"), ("b/c", "2")]), None).unwrap();
    write(dir.path(), &payload(&[("a", "3")]), None).unwrap();
    let names = top(dir.path());
    assert_eq!(names[1..], ["..data", "a", "nested"]);
    assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "3");
    write(dir.path(), &Payload::new(), None).unwrap();
    assert_eq!(top(dir.path())[1..], ["..data", "nested"]);
}

#[test]
fn vol_63_group_may_read_and_not_write() {
    let dir = tempfile::tempdir().unwrap();
    let gid = std::os::unix::fs::MetadataExt::gid(&fs::metadata(dir.path()).unwrap());
    let mut files = payload(&[("a", "1")]);
    files.get_mut("a").unwrap().mode = 0o400;
    write(dir.path(), &files, Some(gid)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&dir.path().join("a")), 0o440);
    let data = fs::canonicalize(dir.path().join(DATA)).unwrap();
    assert_eq!(mode(&data), 0o2755);
}

#[test]
fn files_that_cannot_stand_beside_each_other_leave_the_old_ones() {
    let dir = tempfile::tempdir().unwrap();
    let old = payload(&[("a", "1")]);
    write(dir.path(), &old, None).unwrap();
    assert!(write(dir.path(), &payload(&[("a", "2"), ("a/b", "3")]), None).is_err());
    assert_eq!(behind_data(dir.path()), Some(contents(&old)));
}

/// Payloads over few names, so that files and directories come and go.
fn any_payload() -> impl Strategy<Value = Payload> {
    let path = prop::sample::select(vec!["a", "b", "c/d", "c/e", "f/g/h"]);
    prop::collection::btree_map(path, "[xy]{0,2}", 0..5).prop_map(|files| {
        let files: Vec<_> = files
            .iter()
            .map(|(path, data)| (*path, data.as_str()))
            .collect();
        payload(&files)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A crash after any step of any write leaves all of the old files or all of the new ones, and the next
    /// write finds its way.
    #[test]
    fn crash_at_any_step_leaves_old_or_new(
        writes in prop::collection::vec((any_payload(), 0_usize..12), 1..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path();
        let mut stands: Option<Payload> = None;
        for (number, (wanted, crash_after)) in writes.iter().enumerate() {
            let steps = plan(&look(volume).unwrap(), wanted, None, &format!("..stamp.{number}"));
            for step in steps.iter().take(*crash_after) {
                apply(volume, wanted, step).unwrap();
                let found = behind_data(volume);
                let old = found == stands.as_ref().map(contents);
                let new = found == Some(contents(wanted));
                prop_assert!(old || new, "{step:?}: {found:?}");
            }
            if behind_data(volume) == Some(contents(wanted)) {
                stands = Some(wanted.clone());
            }
        }
        let wanted = writes.last().unwrap().0.clone();
        write(volume, &wanted, None).unwrap();
        prop_assert_eq!(behind_data(volume), Some(contents(&wanted)));
        for (path, file) in &wanted {
            prop_assert_eq!(&fs::read(volume.join(path)).unwrap(), &file.data);
        }
        let first: BTreeSet<&str> = wanted.keys().map(|path| path.split('/').next().unwrap()).collect();
        prop_assert_eq!(top(volume).len(), 2 + first.len(), "nothing is left over");
        prop_assert!(plan(&look(volume).unwrap(), &wanted, None, "..x").is_empty());
    }
}
