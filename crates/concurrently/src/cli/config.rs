//! What to do, all decided: typed, defaulted, validated, immutable.

use std::time::Duration;

use crate::{
    behaviours::{restart::RestartPolicy, success::SuccessRule},
    expand::Expanded,
    output::{colour::ColourLevel, timestamp::TimestampFormat},
    signal::Signal,
};

/// Which ends of a command end the others (OPT-12, OPT-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KillOn {
    Never,
    Failure,
    AnyEnd,
}

/// How many commands run at a time; at least 1 (OPT-01).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum MaxProcesses {
    All,
    Count(usize),
    PercentOfProcessors(f64),
}

impl MaxProcesses {
    /// The number for a machine and a list of commands.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a float to integer cast saturates, and there are few processors"
    )]
    pub(crate) fn resolve(self, processors: usize, commands: usize) -> usize {
        let count = match self {
            Self::All => commands,
            Self::Count(count) => count,
            Self::PercentOfProcessors(percent) => {
                let share = (processors as f64 * percent / 100.0).round();
                if share == 0.0 || share.is_nan() {
                    commands
                } else {
                    share as usize
                }
            }
        };
        count.max(1)
    }
}

/// The whole configuration.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) commands: Vec<Expanded>,
    pub(crate) max_processes: MaxProcesses,
    pub(crate) success: SuccessRule,
    pub(crate) raw: bool,
    /// Names and indexes.
    pub(crate) hide: Vec<String>,
    pub(crate) group: bool,
    pub(crate) timings: bool,
    pub(crate) teardown: Vec<String>,
    pub(crate) prefix: Option<String>,
    /// One per command.
    pub(crate) prefix_colors: Vec<String>,
    pub(crate) prefix_length: usize,
    pub(crate) pad_prefix: bool,
    pub(crate) timestamp_format: TimestampFormat,
    pub(crate) colour: ColourLevel,
    /// The default target, if input is handled at all.
    pub(crate) input: Option<String>,
    pub(crate) kill_on: KillOn,
    pub(crate) kill_signal: Signal,
    pub(crate) kill_timeout: Option<Duration>,
    pub(crate) stop_grace: Duration,
    pub(crate) restart: RestartPolicy,
    /// `FORCE_COLOR` for the children, unless they have it from us already (CMD-06).
    pub(crate) force_color: Option<ColourLevel>,
    /// To be shown before anything starts.
    pub(crate) warnings: Vec<String>,
}

impl Config {
    pub(crate) fn is_hidden(&self, index: usize) -> bool {
        let name = &self.commands[index].name;
        self.hide
            .iter()
            .any(|hidden| hidden == name || *hidden == index.to_string())
    }
}
