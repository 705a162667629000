//! `/proc/<pid>/mountinfo`, as proc_pid_mountinfo(5) describes it.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

/// One mount as the process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// Identifies the mount while it exists.
    pub id: u32,
    /// The mount it sits on.
    pub parent: u32,
    /// Major and minor number of the file system.
    pub device: (u32, u32),
    /// The directory of the file system that is mounted. For cgroups outside our cgroup namespace's
    /// root it begins with `/..`.
    pub root: PathBuf,
    /// Where it is mounted, seen from the process' root.
    pub mount_point: PathBuf,
    /// Options of this mount, such as `ro`.
    pub options: Vec<String>,
    /// The peer group that mounts and unmounts below it are shared with.
    pub shared: Option<u32>,
    /// The peer group that it receives them from.
    pub master: Option<u32>,
    /// The type, such as `ext4` or `cgroup2`.
    pub fs_type: String,
    /// What is mounted, such as a device; file-system specific.
    pub source: OsString,
    /// Options of the file system, such as a cgroup v1 controller.
    pub super_options: Vec<String>,
}

/// The mounts of a process could not be learned.
#[derive(Debug, thiserror::Error)]
pub enum MountInfoError {
    /// The file could not be read.
    #[error("read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// A line is not as the kernel documents it.
    #[error("line {number} of mountinfo is malformed: {line:?}")]
    Malformed {
        /// Counted from 1.
        number: usize,
        /// The line.
        line: String,
    },
}

/// The mounts of this process, in the order they were made at their places.
///
/// # Errors
/// When `/proc` is not mounted or says something unknown.
pub fn read_own() -> Result<Vec<MountInfo>, MountInfoError> {
    // The thread's own, since a thread may be in another namespace.
    read(Path::new("/proc/thread-self/mountinfo"))
}

/// The mounts listed in a file, such as `/proc/1/mountinfo`.
///
/// # Errors
/// When it cannot be read or says something unknown.
pub fn read(path: &Path) -> Result<Vec<MountInfo>, MountInfoError> {
    let bytes = fs::read(path).map_err(|error| MountInfoError::Read(path.to_owned(), error))?;
    parse(&bytes)
}

/// Reads the file's format.
///
/// # Errors
/// When a line is not as the kernel documents it.
pub fn parse(bytes: &[u8]) -> Result<Vec<MountInfo>, MountInfoError> {
    bytes
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| {
            parse_line(line).ok_or_else(|| MountInfoError::Malformed {
                number: index + 1,
                line: String::from_utf8_lossy(line).into_owned(),
            })
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Option<MountInfo> {
    let mut words = line.split(|byte| *byte == b' ');
    let id = number(words.next()?)?;
    let parent = number(words.next()?)?;
    let device = std::str::from_utf8(words.next()?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let root = path(words.next()?);
    let mount_point = path(words.next()?);
    let options = list(words.next()?);
    let (mut shared, mut master) = (None, None);
    // Optional fields, up to a lone dash; unknown ones are to be ignored.
    loop {
        match words.next()? {
            b"-" => break,
            field => {
                if let Some(group) = field.strip_prefix(b"shared:") {
                    shared = Some(number(group)?);
                } else if let Some(group) = field.strip_prefix(b"master:") {
                    master = Some(number(group)?);
                }
            }
        }
    }
    let fs_type = String::from_utf8_lossy(words.next()?).into_owned();
    let source = OsString::from_vec(unescape(words.next()?));
    // Some file systems have no options at all.
    let super_options = words.next().map(list).unwrap_or_default();
    Some(MountInfo {
        id,
        parent,
        device: (major.parse().ok()?, minor.parse().ok()?),
        root,
        mount_point,
        options,
        shared,
        master,
        fs_type,
        source,
        super_options,
    })
}

fn number(word: &[u8]) -> Option<u32> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn path(word: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(word)).into()
}

fn list(word: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(word)
        .split(',')
        .map(str::to_owned)
        .collect()
}

/// Blank, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        if let Some(byte) = code {
            out.push(byte);
            rest = &after[3..];
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}

/// The mount that a path lies on: the deepest mount point above it, and of several at one place the
/// last, which hides the others. `path` must be absolute and free of symbolic links.
pub fn mount_of<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.as_os_str().as_bytes().len())
}

/// The mount at exactly this place, if something is mounted there; the topmost of several.
pub fn mount_at<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    mounts.iter().rev().find(|mount| mount.mount_point == path)
}

/// Whether the topmost mount at this place is the place itself, mounted once more: what was there before.
pub fn is_on_itself(mounts: &[MountInfo], path: &Path) -> bool {
    mount_at(mounts, path).is_some_and(|mount| {
        let below = mounts.iter().find(|other| other.id == mount.parent);
        below.is_some_and(|below| {
            let inside = path.strip_prefix(&below.mount_point);
            below.device == mount.device
                && inside.is_ok_and(|inside| below.root.join(inside) == mount.root)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[u8] = b"\
36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 propagate_from:3 - ext3 /dev/root rw,errors=continue
27 1 254:0 / / rw,relatime shared:7 - ext4 /dev/vda rw
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
34 31 0:31 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw
47 27 0:4 net:[4026531833] /run/docker/netns/default rw - nsfs nsfs rw
";

    #[test]
    fn fields_and_escapes_are_read() {
        let mounts = parse(SAMPLE).unwrap();
        assert_eq!(mounts.len(), 5);
        let first = &mounts[0];
        assert_eq!(first.mount_point, Path::new("/mnt 2"));
        assert_eq!((first.id, first.parent, first.device), (36, 35, (98, 0)));
        assert_eq!((first.shared, first.master), (None, Some(1)));
        assert_eq!(first.super_options, ["rw", "errors=continue"]);
        assert_eq!(mounts[1].shared, Some(7));
        assert_eq!(mounts[3].root, Path::new("/../.."));
    }

    #[test]
    fn malformed_line_is_named() {
        let error = parse(b"27 1 254:0 / / rw - ext4 /dev/vda rw\n28 1 x\n").unwrap_err();
        assert!(
            matches!(error, MountInfoError::Malformed { number: 2, .. }),
            "{error}"
        );
    }

    #[test]
    fn path_lies_on_the_deepest_and_last_mount() {
        let mounts = parse(
            b"1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /var rw - ext4 b rw\n3 2 8:3 / /var rw - ext4 c rw\n",
        )
        .unwrap();
        assert_eq!(mount_of(&mounts, Path::new("/var/lib")).unwrap().id, 3);
        assert_eq!(mount_of(&mounts, Path::new("/variant")).unwrap().id, 1);
        assert_eq!(mount_at(&mounts, Path::new("/var")).unwrap().id, 3);
        assert_eq!(mount_at(&mounts, Path::new("/var/lib")), None);
    }

    #[test]
    fn own_mounts_have_a_root() {
        let mounts = read_own().unwrap();
        assert!(mount_at(&mounts, Path::new("/")).is_some());
    }

    proptest::proptest! {
        #[test]
        fn parser_never_panics(bytes: Vec<u8>) {
            drop(parse(&bytes));
        }

        #[test]
        fn escaped_bytes_come_back(name: Vec<u8>) {
            let escaped: Vec<u8> = name
                .iter()
                .flat_map(|byte| match byte {
                    b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
                    byte => vec![*byte],
                })
                .collect();
            proptest::prop_assert_eq!(unescape(&escaped), name);
        }
    }

    #[test]
    fn place_mounted_once_more_is_told_from_what_was_mounted_there() {
        let mounts = parse(
            b"1 0 8:1 / / rw - ext4 /dev/vda rw\n\
              2 1 8:1 /var/lib/kubelet /var/lib/kubelet rw shared:1 - ext4 /dev/vda rw\n\
              3 1 8:2 / /data rw - ext4 /dev/vdb rw\n\
              4 1 8:1 /srv /mnt rw - ext4 /dev/vda rw\n",
        )
        .unwrap();
        let on_itself = |path| is_on_itself(&mounts, Path::new(path));
        assert!(on_itself("/var/lib/kubelet"));
        for other in ["/data", "/mnt", "/var", "/"] {
            assert!(!on_itself(other), "{other}");
        }
    }
}
