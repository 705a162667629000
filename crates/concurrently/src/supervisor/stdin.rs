//! Our standard input, and what the commands have for theirs (INP rows).

use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
};

use super::{Supervisor, managed::Managed};
use crate::{
    behaviours::input::{self, Routed, Router},
    cli::Config,
    process::{
        Input,
        pipe::{InputPipe, PipeState, silent_pipe},
    },
    reap::Role,
};

/// Our own input, if it is handled.
#[derive(Debug)]
pub(super) struct Stdin {
    pub(super) file: File,
    router: Router,
    /// Its end has not come.
    pub(super) open: bool,
}

impl Stdin {
    pub(super) fn open(config: &Config) -> io::Result<Option<Self>> {
        // With `--raw` the commands read our input themselves.
        let Some(target) = config.input.as_ref().filter(|_| !config.raw) else {
            return Ok(None);
        };
        let names = config
            .commands
            .iter()
            .map(|command| command.name.clone())
            .collect();
        let file = io::stdin().as_fd().try_clone_to_owned()?.into();
        Ok(Some(Self {
            file,
            router: Router::new(names, target.clone()),
            open: true,
        }))
    }
}

impl Supervisor {
    /// What a command that is about to start reads.
    pub(super) fn input_for(&mut self, raw: bool) -> io::Result<Input> {
        if raw {
            return Ok(Input::Inherited);
        }
        match &self.stdin {
            Some(stdin) if stdin.open => Ok(Input::Piped),
            Some(_) => Ok(Input::Null),
            // INI-12: a container's first process has no one at the keyboard.
            None if self.role == Role::Init => Ok(Input::Null),
            None => {
                let silence = match self.silence.take() {
                    Some(silence) => silence,
                    None => silent_pipe()?,
                };
                let read_end = silence.0.try_clone();
                self.silence = Some(silence);
                read_end.map(Input::Silent)
            }
        }
    }

    /// A command takes its input slower than it comes: read no more for now.
    pub(super) fn is_input_full(&self) -> bool {
        let mut children = self.commands.iter().filter_map(Managed::child);
        children.any(|child| child.stdin.as_ref().is_some_and(InputPipe::is_full))
    }

    pub(super) fn read_stdin(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        let routed = match stdin.file.read(&mut self.buffer) {
            Ok(count) if count > 0 => stdin.router.push(&self.buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Ok(_) | Err(_) => {
                stdin.open = false;
                stdin.router.finish()
            }
        };
        let at_end = !stdin.open;
        for piece in routed {
            self.send_input(piece);
        }
        if at_end {
            // INP-04: who waits for the end of input shall see it.
            for child in self.commands.iter_mut().filter_map(Managed::child_mut) {
                child.stdin.take_if(|pipe| pipe.close() == PipeState::Done);
            }
        }
    }

    fn send_input(&mut self, piece: Routed) {
        let target = match piece {
            Routed::Nowhere(target) => target,
            Routed::To(index, bytes) => {
                let stdin = self.commands[index]
                    .running_mut()
                    .and_then(|running| running.child.stdin.as_mut());
                if let Some(pipe) = stdin {
                    if pipe.write(&bytes) == PipeState::Done
                        && let Some(child) = self.commands[index].child_mut()
                    {
                        child.stdin = None;
                    }
                    return;
                }
                let name = &self.config.commands[index].name;
                if name.is_empty() {
                    index.to_string()
                } else {
                    name.clone()
                }
            }
        };
        self.output.global_event(&input::no_such_command(&target));
    }
}
