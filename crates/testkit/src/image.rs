//! An image for tests, made without a registry.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
};

use crate::DockerEngine;

/// The name of [`test_image`].
pub const TEST_IMAGE: &str = "berth.test/busybox:1";
const BUSYBOX: &str = "/bin/busybox";

/// Makes sure that the engine has [`TEST_IMAGE`] and returns its name: a static busybox with all
/// its applets in `/bin`, users `root` and `nobody`, a `/tmp`, and `CMD ["sh"]`.
///
/// # Panics
/// When the machine has no static busybox, or the engine refuses.
pub fn test_image(engine: &DockerEngine) -> &'static str {
    // Of two tests that begin with it the containerd store refuses the second.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if engine
        .request("GET", &format!("/images/{TEST_IMAGE}/json"), None)
        .status
        == 200
    {
        return TEST_IMAGE;
    }
    let (repository, tag) = TEST_IMAGE.rsplit_once(':').expect("it has a tag");
    let path = format!(
        "/images/create?fromSrc=-&repo={repository}&tag={tag}&changes=CMD%20%5B%22sh%22%5D\
         &changes=ENV%20PATH%3D%2Fbin"
    );
    engine
        .request(
            "POST",
            &path,
            Some(("application/x-tar", &root_filesystem())),
        )
        .expect_success("import the test image");
    TEST_IMAGE
}

fn root_filesystem() -> Vec<u8> {
    let busybox = fs::read(BUSYBOX).unwrap_or_else(|error| {
        panic!("{BUSYBOX}: {error}; run .ci/install-engine, which installs busybox-static")
    });
    // A dynamic program names its loader near its beginning.
    let head = &busybox[..busybox.len().min(4096)];
    assert!(
        !head.windows(3).any(|bytes| bytes == b"ld-"),
        "{BUSYBOX} needs libraries, the test image has none; run .ci/install-engine"
    );
    let mut tar = Tar(tar::Builder::new(Vec::new()));
    for (name, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("proc", 0o755),
        ("root", 0o700),
        ("sys", 0o755),
        ("tmp", 0o1777),
        ("var", 0o755),
    ] {
        tar.add(tar::EntryType::Directory, name, mode, &[]);
    }
    tar.add(tar::EntryType::Regular, "bin/busybox", 0o755, &busybox);
    tar.add(
        tar::EntryType::Regular,
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    );
    tar.add(
        tar::EntryType::Regular,
        "etc/group",
        0o644,
        b"root:x:0:\nnogroup:x:65534:\n",
    );
    for applet in applets() {
        tar.link(&format!("bin/{applet}"), "busybox");
    }
    tar.finish()
}

fn applets() -> Vec<String> {
    #[expect(clippy::disallowed_methods, reason = "tests may start programs")]
    let output = Command::new(BUSYBOX)
        .arg("--list")
        .output()
        .expect("busybox runs");
    let list = String::from_utf8(output.stdout).expect("applets have plain names");
    list.lines()
        .filter(|applet| *applet != "busybox")
        .map(str::to_owned)
        .collect()
}

/// A tar in memory, whose every write succeeds.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn add(&mut self, kind: tar::EntryType, name: &str, mode: u32, content: &[u8]) {
        let mut header = header(kind, mode);
        header.set_size(content.len() as u64);
        self.0
            .append_data(&mut header, Path::new(name), content)
            .expect("memory takes it");
    }

    fn link(&mut self, name: &str, target: &str) {
        let mut header = header(tar::EntryType::Symlink, 0o777);
        header.set_size(0);
        self.0
            .append_link(&mut header, Path::new(name), target)
            .expect("memory takes it");
    }

    fn finish(self) -> Vec<u8> {
        let mut bytes = self.0.into_inner().expect("memory takes it");
        bytes.flush().expect("memory takes it");
        bytes
    }
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
