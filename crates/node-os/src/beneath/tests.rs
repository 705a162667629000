use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use proptest::prelude::*;

use super::*;

fn find(base: &Path, path: &str) -> Result<Beneath, BeneathError> {
    Beneath::find(base, &[base], Path::new(path), Missing::Refuse)
}

#[test]
fn plain_path_is_found() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/b/file"), "content").unwrap();
    let found = find(dir.path(), "a/./b//file").unwrap();
    assert_eq!(found.relative(), Path::new("a/b/file"));
    assert!(!found.is_directory());
    assert_eq!(fs::read_to_string(found.proc_path()).unwrap(), "content");
    assert!(find(dir.path(), "").unwrap().is_directory());
}

#[test]
fn links_inside_are_followed_relative_and_absolute() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("v1/data")).unwrap();
    fs::create_dir_all(dir.path().join("links")).unwrap();
    symlink("../v1", dir.path().join("links/current")).unwrap();
    symlink(
        dir.path().join("links/current"),
        dir.path().join("absolute"),
    )
    .unwrap();
    assert_eq!(
        find(dir.path(), "links/current/data").unwrap().relative(),
        Path::new("v1/data")
    );
    assert_eq!(
        find(dir.path(), "absolute/data").unwrap().relative(),
        Path::new("v1/data")
    );
}

#[test]
fn whatever_leads_out_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    fs::create_dir_all(base.join("a")).unwrap();
    symlink("/etc", base.join("absolute")).unwrap();
    symlink("../../..", base.join("a/up")).unwrap();
    symlink("../base/a", base.join("out-and-in")).unwrap();
    for path in [
        "absolute/passwd",
        "a/up",
        "out-and-in",
        "..",
        "a/../..",
        "/etc",
    ] {
        let result = find(&base, path);
        assert!(
            matches!(result, Err(BeneathError::Escapes { .. })),
            "{path}: {result:?}"
        );
    }
}

#[test]
fn link_to_itself_ends() {
    let dir = tempfile::tempdir().unwrap();
    symlink("loop", dir.path().join("loop")).unwrap();
    assert!(matches!(
        find(dir.path(), "loop"),
        Err(BeneathError::TooManyLinks { .. })
    ));
}

#[test]
fn missing_directories_are_made_with_the_mode_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    symlink("real", dir.path().join("link")).unwrap();
    let missing = Missing::MakeDirectory { mode: 0o2777 };
    let found = Beneath::find(dir.path(), &[], Path::new("link/sub/deep"), missing).unwrap();
    assert_eq!(found.relative(), Path::new("real/sub/deep"));
    for made in ["real/sub", "real/sub/deep"] {
        let mode = fs::metadata(dir.path().join(made))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o2777, "{made}");
    }
}

#[test]
fn nothing_is_made_where_a_link_leads() {
    let dir = tempfile::tempdir().unwrap();
    symlink("nowhere", dir.path().join("link")).unwrap();
    let missing = Missing::MakeDirectory { mode: 0o777 };
    for path in ["link", "link/deep"] {
        let error = Beneath::find(dir.path(), &[], Path::new(path), missing).unwrap_err();
        assert!(matches!(error, BeneathError::Io { ref source, .. }
            if source.kind() == io::ErrorKind::AlreadyExists));
    }
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn missing_name_is_an_error_when_nothing_may_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let error = find(dir.path(), "a").unwrap_err();
    assert!(matches!(error, BeneathError::Io { ref source, .. }
        if source.kind() == io::ErrorKind::NotFound));
    assert_eq!(
        error.to_string(),
        format!("open a in {}", dir.path().display())
    );
}

#[test]
fn only_regular_files_are_opened_to_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    assert!(open_regular(&dir.path().join("file")).is_ok());
    assert!(open_regular(&dir.path().join("link")).is_err());
    assert!(open_regular(dir.path()).is_err());
}

#[test]
fn file_that_was_found_is_read_and_nothing_else() {
    use std::io::Read;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "content").unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    let open = |path| find(dir.path(), path).unwrap().open_regular();
    let mut text = String::new();
    open("link").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    assert!(open("dir").is_err());
}

/// Something put into a tree: a name below one of few directories, and what is there.
#[derive(Debug, Clone)]
enum Put {
    Directory,
    File,
    Link(String),
}

fn any_put() -> impl Strategy<Value = Put> {
    let hop = prop::sample::select(vec!["..", "a", "b", "c", "."]);
    let relative = prop::collection::vec(hop, 1..5).prop_map(|hops| hops.join("/"));
    // `BASE` and `OUT` become the directory and its neighbour.
    let absolute = prop::sample::select(vec![
        "/",
        "/nonexistent",
        "OUT",
        "OUT/secret",
        "BASE",
        "BASE/a",
    ]);
    prop_oneof![
        2 => Just(Put::Directory),
        1 => Just(Put::File),
        3 => relative.prop_map(Put::Link),
        2 => absolute.prop_map(|target| Put::Link(target.to_owned())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever links there are, what is found lies in the directory, and what is made too.
    #[test]
    fn nothing_is_found_or_made_outside(
        tree in prop::collection::vec(("([abc]/){0,2}[abc]", any_put()), 0..12),
        path in "([abc]|\\.\\.)(/([abc]|\\.\\.)){0,4}",
        make in any::<bool>(),
        root_alias in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (base, outside) = (root.join("base"), root.join("out"));
        fs::create_dir(&base).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        for (place, put) in &tree {
            // Through links of its own a tree must not grow out of the directory: only what lies in it counts.
            let parent = base.join(place);
            let parent = parent.parent().unwrap();
            if !parent.canonicalize().is_ok_and(|parent| parent.starts_with(&base)) {
                continue;
            }
            let place = base.join(place);
            // What is there already stays.
            let _ = match put {
                Put::Directory => fs::create_dir(place),
                // Never through a link that was put there before: tests run as root.
                Put::File => fs::File::create_new(place).map(drop),
                Put::Link(target) => {
                    let target = target
                        .replace("OUT", outside.to_str().unwrap())
                        .replace("BASE", base.to_str().unwrap());
                    symlink(target, place)
                }
            };
        }
        let aliases: &[&Path] = if root_alias { &[Path::new("/")] } else { &[&base] };
        let missing = if make { Missing::MakeDirectory { mode: 0o755 } } else { Missing::Refuse };
        if let Ok(found) = Beneath::find(&base, aliases, Path::new(&path), missing) {
            let real = fs::read_link(found.proc_path()).unwrap();
            prop_assert!(real.starts_with(&base), "{path} led to {}", real.display());
            prop_assert_eq!(&real, &base.join(found.relative()).components().collect::<PathBuf>());
        }
        let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        prop_assert_eq!(names, ["secret"]);
        prop_assert_eq!(fs::read_dir(&root).unwrap().count(), 2);
    }
}
