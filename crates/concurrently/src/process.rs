//! Starting a command (CMD-05, CMD-06, DEC-32).
//!
//! A command that is one program with plain arguments is executed directly: no shell need exist, and the process is
//! the program itself, for signals and for its parent. Everything else is the shell's. Where executing directly
//! fails the shell has its turn, so that its message is the one shown ("not found") and scripts without `#!` run.

pub(crate) mod pipe;

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::Pid;

use self::pipe::InputPipe;
use crate::{
    expand::words::{self, Words},
    reap::{self, group::ProcessGroup},
};

const SHELL: &str = "/bin/sh";

/// What a child reads.
#[derive(Debug)]
pub(crate) enum Input {
    /// What we read.
    Inherited,
    Null,
    /// A pipe that stays open and silent (INP-05); this is its read end.
    Silent(OwnedFd),
    /// A pipe that we write to.
    Piped,
}

/// Where a child's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Out {
    Inherited,
    Null,
    /// Two pipes that we read.
    Piped,
}

/// How to start a command.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) text: &'a str,
    pub(crate) input: Input,
    pub(crate) out: Out,
    /// `FORCE_COLOR` to add.
    pub(crate) force_color: Option<u8>,
    /// Keep it in our process group, see [`ProcessGroup`].
    pub(crate) share_group: bool,
}

/// A started command.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) group: ProcessGroup,
    pub(crate) stdin: Option<InputPipe>,
    pub(crate) stdout: Option<File>,
    pub(crate) stderr: Option<File>,
}

/// A command that could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("cannot execute {program}")]
    Program { program: String, source: io::Error },
    #[error("cannot execute {SHELL}, which this command needs")]
    Shell(#[source] io::Error),
    #[error("cannot make a pipe for its input")]
    Pipe(#[source] io::Error),
}

impl SpawnError {
    /// What a shell would exit with: 127 for what is not there, else 126 (EXT-05).
    pub(crate) fn exit_code(&self) -> i32 {
        match self {
            Self::Program { source, .. } | Self::Shell(source)
                if source.kind() == io::ErrorKind::NotFound =>
            {
                127
            }
            _ => 126,
        }
    }
}

/// Starts a command.
///
/// # Errors
/// Neither the program nor a shell can be executed, or the kernel has no more processes or descriptors.
pub(crate) fn spawn(launch: Launch<'_>) -> Result<Child, SpawnError> {
    let (stdin, ours) = match launch.input {
        Input::Inherited => (StdinSource::Inherited, None),
        Input::Null => (StdinSource::Null, None),
        Input::Silent(read_end) => (StdinSource::Pipe(read_end), None),
        Input::Piped => {
            let (read_end, write_end) = pipe::input_pipe().map_err(SpawnError::Pipe)?;
            (StdinSource::Pipe(read_end), Some(write_end))
        }
    };
    let start = |program: &str, args: &[String]| {
        let mut command = command(program, args);
        command.stdin(stdin.to_stdio()?);
        let out = || match launch.out {
            Out::Inherited => Stdio::inherit(),
            Out::Null => Stdio::null(),
            Out::Piped => Stdio::piped(),
        };
        command.stdout(out()).stderr(out());
        if let Some(level) = launch.force_color {
            command.env("FORCE_COLOR", level.to_string());
        }
        if !launch.share_group {
            command.process_group(0);
        }
        reap::prepare_child(&mut command);
        command.spawn()
    };
    let start_shell = || start(SHELL, &["-c".to_owned(), launch.text.to_owned()]);
    let start_program = |words: &[String]| {
        start(&words[0], &words[1..]).map_err(|source| SpawnError::Program {
            program: words[0].clone(),
            source,
        })
    };

    let mut child = match words::split(launch.text) {
        Words::Builtin(words) if !Path::new(SHELL).exists() => start_program(&words)?,
        Words::Builtin(_) | Words::Shell => start_shell().map_err(SpawnError::Shell)?,
        Words::Program(words) => match start_program(&words) {
            Ok(child) => child,
            Err(error) if is_for_the_shell(&error) => start_shell().map_err(|_| error)?,
            Err(error) => return Err(error),
        },
    };
    // Not waited for through std: `reap` takes the status of every child.
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.expect("a started process has a positive number");
    Ok(Child {
        group: if launch.share_group {
            ProcessGroup::Shared(pid)
        } else {
            ProcessGroup::Own(pid)
        },
        stdin: ours,
        stdout: child
            .stdout
            .take()
            .map(|pipe| File::from(OwnedFd::from(pipe))),
        stderr: child
            .stderr
            .take()
            .map(|pipe| File::from(OwnedFd::from(pipe))),
    })
}

/// Whether a shell may know better: it finds nothing either, or it can read the file as a script. Not when the
/// machine is short of something.
fn is_for_the_shell(error: &SpawnError) -> bool {
    let SpawnError::Program { source, .. } = error else {
        return false;
    };
    matches!(
        source.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
    ) || source.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error())
}

#[expect(
    clippy::disallowed_methods,
    reason = "starting programs is what this program is for (DEC-54)"
)]
fn command(program: &str, args: &[String]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// A child's standard input in a form that two attempts can use.
enum StdinSource {
    Inherited,
    Null,
    Pipe(OwnedFd),
}

impl StdinSource {
    fn to_stdio(&self) -> io::Result<Stdio> {
        Ok(match self {
            Self::Inherited => Stdio::inherit(),
            Self::Null => Stdio::null(),
            Self::Pipe(read_end) => read_end.try_clone()?.into(),
        })
    }
}
