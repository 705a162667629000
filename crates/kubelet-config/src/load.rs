//! From the command line to [`Settings`], in upstream's order (PROC-02, PROC-03).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use daemon::pflag::{self, ParseError, Parsed};

use crate::config::KubeletConfiguration;
use crate::fields::Field;
use crate::file::{self, DropInError, FileError, list};
use crate::flags::{self, Target, syntax};
use crate::gates::{self, FeatureGates, GateError};
use crate::settings::{self, LogLine, Settings, Severity};
use crate::validate::{HostFacts, logging_problems, validate};
use crate::version::{Request, Version};
use crate::{Status, names};

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Run a kubelet.
    Run(Box<Run>),
    /// Print this on stdout and exit with 0: help, a version.
    Print(String),
}

/// A kubelet to run.
#[derive(Debug)]
pub struct Run {
    /// How.
    pub settings: Settings,
    /// Deprecation notices: lines for stderr, before anything else.
    pub notices: Vec<String>,
    /// Every flag with its value, for the `FLAG: --name="value"` lines at V(1). Secrets are masked.
    pub flags: Vec<(&'static str, String)>,
}

/// A start that failed. Print `notices`, then the error; exit with 1.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failure {
    /// Deprecation notices that upstream has printed by then.
    pub notices: Vec<String>,
    /// Why, in one text with upstream's prefix.
    pub error: Box<LoadError>,
}

/// Why there are no settings. Each text is what upstream's `command failed` line says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The command line is malformed.
    #[error("failed to parse kubelet flag: {0}")]
    Flags(ParseError),
    /// There is an argument that is no flag.
    #[error("unknown command {0}")]
    Argument(String),
    /// A gate does not exist or can't be changed.
    #[error(
        "failed to set feature gates from initial flags-based config: {}",
        list(&_0.iter().map(ToString::to_string).collect::<Vec<_>>())
    )]
    Gates(Vec<GateError>),
    /// A flag without a field has a wrong value.
    #[error("failed to validate kubelet flags: {0}")]
    FlagValues(String),
    /// A flag asks for what does not stand yet (DEC-03).
    #[error("--{flag}: {reason}; without it the kubelet stands alone")]
    Refused {
        /// The flag.
        flag: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// `--config`
    #[error(
        "failed to load kubelet config file, path: {path}, error: failed to load Kubelet config \
         file {path}, error {error}"
    )]
    File {
        /// As given.
        path: String,
        /// What is wrong.
        error: FileError,
    },
    /// `--config-dir`
    #[error("failed to merge kubelet configs: {0}")]
    DropIns(DropInError),
    /// Nothing is wrong but the `logging` section.
    #[error("initialize logging: {}", list(.0))]
    Logging(Vec<String>),
    /// Everything that is wrong with the configuration.
    #[error(
        "failed to validate kubelet configuration, error: {}, path: {{{path}}}",
        list(problems)
    )]
    Invalid {
        /// One text per problem, with its field and range.
        problems: Vec<String>,
        /// Where it came from.
        path: String,
    },
    /// Valid, but not a kubelet that can start alone (PROC-33, PROC-09).
    #[error("failed to run Kubelet: {0}")]
    Start(String),
}

/// Reads the command line and the files it names.
///
/// `args` is without the program's name. Reads files, blocks, writes nothing.
///
/// # Errors
/// [`Failure`] with every problem that was found in the step that failed.
pub fn load(args: impl IntoIterator<Item = OsString>, host: HostFacts) -> Result<Command, Failure> {
    let early = |error| Failure {
        notices: Vec::new(),
        error: Box::new(LoadError::Flags(error)),
    };
    let args = pflag::utf8_args(args).map_err(early)?;
    let set = flags::flag_set();
    let parsed = set.parse(&args).map_err(|failure| Failure {
        notices: failure.notices,
        error: Box::new(LoadError::Flags(failure.error)),
    })?;
    let notices = parsed.notices().to_vec();
    match run(&set, &parsed, host) {
        Ok(Outcome::Print(text)) => Ok(Command::Print(text)),
        Ok(Outcome::Settings(settings)) => {
            let flags = parsed
                .dump()
                .map(|(name, value)| (name, mask(name, value)))
                .collect();
            Ok(Command::Run(Box::new(Run {
                settings: *settings,
                notices,
                flags,
            })))
        }
        Err(error) => Err(Failure {
            notices,
            error: Box::new(error),
        }),
    }
}

/// Values that may be secrets are not logged. Differs: upstream logs them.
fn mask(name: &str, value: String) -> String {
    let secret = matches!(name, "manifest-url-header" | "storage-driver-password");
    if secret && !value.is_empty() {
        "<masked>".to_owned()
    } else {
        value
    }
}

enum Outcome {
    Print(String),
    Settings(Box<Settings>),
}

fn run(set: &pflag::FlagSet, parsed: &Parsed, host: HostFacts) -> Result<Outcome, LoadError> {
    if let Some(argument) = parsed.positional().first() {
        return Err(LoadError::Argument(argument.clone()));
    }
    if parsed.bool("help") {
        return Ok(Outcome::Print(help(set)));
    }
    // The parser has judged the value already.
    let version = match Request::parse(parsed.text("version")) {
        Ok(Request::Print) => {
            return Ok(Outcome::Print(format!("{}\n", Version::built_in().line())));
        }
        Ok(Request::PrintRaw) => {
            return Ok(Outcome::Print(format!(
                "{}\n",
                Version::built_in().raw_line()
            )));
        }
        Ok(Request::Report(version)) => version,
        Ok(Request::Nothing) | Err(_) => Version::built_in(),
    };
    gates::check(parsed.bool_map("feature-gates")).map_err(LoadError::Gates)?;
    names::check_node_labels(syntax::labels(parsed.list("node-labels")).iter())
        .map_err(LoadError::FlagValues)?;
    refuse(parsed)?;

    let (mut config, mut fields, mut warnings) = read_files(parsed)?;
    flags::apply(&mut config, parsed);
    let none = BTreeMap::new();
    let set_gates = config.feature_gates.as_ref().unwrap_or(&none);
    gates::check(set_gates).map_err(LoadError::Gates)?;
    let gates = FeatureGates::resolve(set_gates);
    let notes = gates::notes(set_gates);
    warnings.extend(
        notes
            .iter()
            .map(|note| LogLine::new(Severity::Warning, note)),
    );

    let settings = judge(&config, parsed, gates, version, warnings, host)?;
    check_start(&config, parsed)?;
    fields.sort_by_key(|field| field.path);
    fields.dedup_by_key(|field| field.path);
    Ok(Outcome::Settings(Box::new(finish(
        settings, parsed, &fields,
    ))))
}

/// DEC-03: never silently standalone.
fn refuse(parsed: &Parsed) -> Result<(), LoadError> {
    for row in flags::rows() {
        if let (Target::Own(Status::Refused(reason)), name) = (row.target, row.flag.name)
            && !parsed.text(name).is_empty()
        {
            return Err(LoadError::Refused { flag: name, reason });
        }
    }
    Ok(())
}

type Files = (KubeletConfiguration, Vec<&'static Field>, Vec<LogLine>);

/// Configuration file, then drop-ins; legacy defaults without a file (PROC-12).
fn read_files(parsed: &Parsed) -> Result<Files, LoadError> {
    let mut warnings = Vec::new();
    let mut fields = Vec::new();
    let path = parsed.text("config");
    let mut config = if path.is_empty() {
        KubeletConfiguration::legacy_defaults()
    } else {
        let fail = |error| LoadError::File {
            path: path.to_owned(),
            error,
        };
        let absolute = std::path::absolute(path).map_err(|error| {
            fail(FileError::Read {
                path: path.to_owned(),
                reason: error.to_string(),
            })
        })?;
        let loaded = file::load(&absolute).map_err(fail)?;
        fields = loaded.set;
        if let Some(complaint) = loaded.lenient {
            let message = "Using lenient decoding as strict decoding failed";
            warnings.push(LogLine::new(Severity::Info, message).with("err", complaint));
        }
        loaded.config
    };
    let directory = parsed.text("config-dir");
    if !directory.is_empty() {
        let said = file::merge_drop_ins(&mut config, Path::new(directory));
        fields.extend(said.map_err(LoadError::DropIns)?);
    }
    Ok((config, fields, warnings))
}

/// All problems of a configuration at once, or its settings.
fn judge(
    config: &KubeletConfiguration,
    parsed: &Parsed,
    gates: FeatureGates,
    version: Version,
    warnings: Vec<LogLine>,
    host: HostFacts,
) -> Result<Settings, LoadError> {
    let mut problems = validate(config, &gates, host);
    let settings = settings::build(config, parsed, gates, version, warnings);
    problems.extend(settings.as_ref().err().into_iter().flatten().cloned());
    match settings {
        Ok(settings) if problems.is_empty() => Ok(settings),
        _ if problems == logging_problems(&config.logging, &gates) => {
            Err(LoadError::Logging(problems))
        }
        _ => Err(LoadError::Invalid {
            problems,
            path: origin(parsed),
        }),
    }
}

/// Where the configuration came from, for people. Differs: upstream prints a Go struct.
fn origin(parsed: &Parsed) -> String {
    let files: Vec<&str> = ["config", "config-dir"]
        .into_iter()
        .map(|flag| parsed.text(flag))
        .filter(|path| !path.is_empty())
        .collect();
    if files.is_empty() {
        "command line".to_owned()
    } else {
        files.join(", ")
    }
}

/// What upstream finds when it starts: what only an API server could answer (PROC-33), a lock without
/// a file (PROC-09).
fn check_start(config: &KubeletConfiguration, parsed: &Parsed) -> Result<(), LoadError> {
    let stop = |text: String| Err(LoadError::Start(text));
    if parsed.bool("exit-on-lock-contention") && parsed.text("lock-file").is_empty() {
        return stop("cannot exit on lock file contention: no lock file specified".to_owned());
    }
    if config.authentication.webhook.enabled == Some(true) {
        return stop("no client provided, cannot use webhook authentication".to_owned());
    }
    match config.authorization.mode.as_str() {
        "AlwaysAllow" => Ok(()),
        "Webhook" => stop("no client provided, cannot use webhook authorization".to_owned()),
        "" => stop("no authorization mode specified".to_owned()),
        other => stop(format!("unknown authorization mode {other}")),
    }
}

/// Adds what a user should know about a configuration that is otherwise fine.
fn finish(mut settings: Settings, parsed: &Parsed, fields: &[&'static Field]) -> Settings {
    let ignored = |option: String, reason: &str| {
        LogLine::new(Severity::Warning, "option has no effect")
            .with("option", option)
            .with("reason", reason)
    };
    let mut from_flags = Vec::new();
    for row in flags::rows().filter(|row| parsed.changed(row.flag.name)) {
        let Status::Ignored(reason) = row.status() else {
            continue;
        };
        settings
            .warnings
            .push(ignored(format!("--{}", row.flag.name), reason));
        if let Target::Field { path, .. } = row.target {
            from_flags.push(path);
        }
    }
    for field in fields.iter().filter(|field| !field.path.contains("[]")) {
        let Status::Ignored(reason) = field.status else {
            continue;
        };
        if !from_flags.contains(&field.path) {
            settings
                .warnings
                .push(ignored(field.path.to_owned(), reason));
        }
    }
    if parsed.text("config").is_empty()
        && let Some(address) = settings.servers.read_only
        && !address.ip().is_loopback()
    {
        settings.warnings.push(
            LogLine::new(
                Severity::Error,
                "started without --config: legacy defaults leave the read-only port open to \
                 everybody; set --read-only-port=0 or --address",
            )
            .with("address", address.to_string()),
        );
    }
    settings
}

/// The text of `--help`.
fn help(set: &pflag::FlagSet) -> String {
    const ABOUT: &str = "The kubelet runs the pods of one node. Standing alone, it takes them from \
        manifests\nin a directory (--pod-manifest-path, staticPodPath) and keeps their containers \
        running\nthrough a container runtime that speaks CRI v1 (--container-runtime-endpoint).";
    format!(
        "{ABOUT}\n\nUsage:\n  kubelet [flags]\n\nFlags:\n{}",
        set.usages_wrapped(2)
    )
}

#[cfg(test)]
mod tests;
