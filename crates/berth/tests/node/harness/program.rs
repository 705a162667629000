//! One program of a node.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
};

/// What a tool writes on its standard output.
pub(super) fn output(tool: &str, arguments: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_berth"))
        .arg(tool)
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// One program of the node; killed when dropped.
pub(crate) struct Program {
    child: Child,
}

impl Program {
    /// Starts it; `log` takes what it says.
    pub(super) fn start(arguments: &[String], log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_berth"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }

    /// Its exit code, once it has ended by itself.
    pub(crate) fn ended(&mut self) -> Result<Option<i32>, String> {
        let status = self.child.try_wait().unwrap();
        status
            .map(|status| status.code())
            .ok_or_else(|| "it runs".to_owned())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it if it runs.
    pub(super) fn end(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}
