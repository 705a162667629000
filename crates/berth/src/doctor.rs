//! `berth doctor`: what is missing before a node can run here, each with its fix (NODE-03, NODE-04).
//!
//! ```text
//! gather (reads the machine) ──▶ Facts ──findings (pure)──▶ Finding per check ──▶ lines, exit code
//! ```

mod facts;
mod finding;
mod findings;
mod gather;
mod holders;
mod sockets;

use std::{ffi::OsString, process::ExitCode};

use crate::{
    output,
    tool::{self, CRI_DOCKERD_ROOT, DOCKER_ENDPOINT, EXIT_USAGE, HELP, Tool},
};
use finding::{Finding, Level};
pub(crate) use holders::Holders;

/// `berth doctor`.
pub(crate) const TOOL: Tool = Tool {
    name: "doctor",
    about: "Usage: berth doctor [flags] [kubelet flags]

Looks whether a node can run here and says what to mend. Changes nothing.
Exits with 0 when nothing FAILs, else with 1.",
    flags: &[HELP, DOCKER_ENDPOINT, CRI_DOCKERD_ROOT],
    describes_node: true,
};

/// Runs the tool.
pub(crate) fn run(words: Vec<OsString>) -> ExitCode {
    let (parsed, rest) = match TOOL.split(words) {
        Ok(split) => split,
        Err(problem) => {
            output::complain(&format!("berth doctor: {problem}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if parsed.bool("help") {
        output::text(&TOOL.help());
        return ExitCode::SUCCESS;
    }
    let facts = gather::facts(&gather::Asked {
        settings: tool::node(rest),
        docker_endpoint: tool::docker_endpoint(&parsed),
        cri_dockerd_root: parsed.text(CRI_DOCKERD_ROOT.name).into(),
    });
    let findings = findings::findings(&facts);
    output::text(&report(&findings));
    if findings.iter().any(|finding| finding.level == Level::Fail) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// A line per finding, and a sum.
fn report(findings: &[Finding]) -> String {
    let rows: Vec<Vec<String>> = findings
        .iter()
        .map(|finding| {
            let fix = finding
                .fix
                .as_ref()
                .map(|fix| format!("; fix: {fix}"))
                .unwrap_or_default();
            let text = format!("{}{fix}", finding.text).replace('\n', " ");
            vec![
                finding.level.as_str().to_owned(),
                finding.check.to_owned(),
                text,
            ]
        })
        .collect();
    let count = |level| {
        findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    };
    let sum = format!(
        "{} ok, {} to look at, {} to mend\n",
        count(Level::Ok),
        count(Level::Warn),
        count(Level::Fail)
    );
    output::columns(&rows) + &sum
}
