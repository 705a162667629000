//! A network of one test, made with the plugins that are installed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

/// Where Debian and others put them.
const PLUGIN_DIRS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// Whether the plugins are here (`.ci/install-engine` installs them).
pub(super) fn plugins_are_installed() -> bool {
    let found = |name: &str| {
        PLUGIN_DIRS
            .iter()
            .any(|dir| Path::new(dir).join(name).exists())
    };
    let missing = ["bridge", "host-local", "portmap"]
        .into_iter()
        .find(|name| !found(name));
    let reason = missing.map(|name| format!("CNI plugin {name} is not in {PLUGIN_DIRS:?}"));
    testkit::prerequisite("docker", reason)
}

pub(super) fn run(program: &str, args: &[&str]) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "looks at the machine as an operator would"
    )]
    let output = Command::new(program).args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// CNI directories and a bridge of one test; gone with the value.
pub(super) struct Network {
    directory: tempfile::TempDir,
    pub(super) bridge: String,
    /// The first three numbers of its addresses.
    pub(super) prefix: String,
}

impl Network {
    /// Configures a bridge with host ports; `more` are further plugins for the chain.
    pub(super) fn new(more: &[Value]) -> Self {
        Self::with(more, true)
    }

    pub(super) fn with(more: &[Value], masquerade: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id() * 8 + COUNT.fetch_add(1, Ordering::Relaxed);
        let network = Self {
            directory: tempfile::tempdir().unwrap(),
            bridge: format!("bcni{number}"),
            prefix: format!("10.{}.{}", 100 + number / 256 % 100, number % 256),
        };
        network.configure(more, masquerade);
        network
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn configure(&self, more: &[Value], masquerade: bool) {
        let mut plugins = vec![
            json!({
                "type": "bridge", "bridge": self.bridge, "isGateway": true, "ipMasq": masquerade,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": self.path("leases"),
                    "ranges": [[{"subnet": format!("{}.0/24", self.prefix)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }),
            json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}),
        ];
        plugins.extend(more.iter().cloned());
        let list = json!({"cniVersion": "0.4.0", "name": "berthtest", "plugins": plugins});
        fs::create_dir_all(self.path("net.d")).unwrap();
        fs::create_dir_all(self.path("bin")).unwrap();
        fs::write(self.path("net.d/10-test.conflist"), list.to_string()).unwrap();
    }

    /// Installs a plugin that does this on ADD and DEL.
    pub(super) fn plugin(&self, name: &str, commands: &str) {
        let dir = self.directory.path().display();
        let script = format!(
            "#!/bin/sh\ncat > /dev/null\ncd '{dir}' || exit 9\ncase $CNI_COMMAND in\n\
             VERSION) echo '{{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"0.4.0\"]}}';;\n\
             {commands}\nesac\n"
        );
        let path = self.path("bin").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(super) fn flags(&self) -> Vec<String> {
        let dirs: Vec<String> = std::iter::once(self.path("bin").display().to_string())
            .chain(PLUGIN_DIRS.map(str::to_owned))
            .collect();
        vec![
            "--network-plugin=cni".to_owned(),
            format!("--cni-conf-dir={}", self.path("net.d").display()),
            format!("--cni-bin-dir={}", dirs.join(",")),
            format!("--cni-cache-dir={}", self.path("cache").display()),
        ]
    }

    /// Addresses that are leased.
    pub(super) fn leases(&self) -> Vec<String> {
        let files = fs::read_dir(self.path("leases/berthtest"))
            .into_iter()
            .flatten();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.starts_with(&self.prefix))
            .collect()
    }

    /// All that is left of pods anywhere; `sandboxes` are their ids.
    pub(super) fn traces(&self, sandboxes: &[&str]) -> Vec<String> {
        let mut traces: Vec<String> = self
            .leases()
            .into_iter()
            .map(|l| format!("lease {l}"))
            .collect();
        let ports = run("ip", &["-o", "link", "show", "master", &self.bridge]);
        traces.extend(ports.lines().map(|port| format!("port {port}")));
        let results = fs::read_dir(self.path("cache/results"))
            .into_iter()
            .flatten();
        traces
            .extend(results.map(|file| format!("result {}", file.unwrap().file_name().display())));
        let rules = run("iptables-save", &["-t", "nat"]);
        for id in sandboxes {
            let own = rules.lines().filter(|rule| rule.contains(id));
            traces.extend(own.map(|rule| format!("rule {rule}")));
        }
        traces
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        run("ip", &["link", "delete", &self.bridge]);
    }
}
